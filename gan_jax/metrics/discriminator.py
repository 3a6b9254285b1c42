"""Has the discriminator memorised its training images? Tests of its logits, exactly and in float64
on the host.

Logits are those of evaluation mode, without augmentation, of images that D was trained on (members)
and was not (others).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gan_jax.core.errors import UserError

FPR = 0.01  # the false-positive rate at which membership inference is usually quoted (Carlini et al., 2022)


def finite_vector(values: npt.ArrayLike, what: str, least: int = 1) -> np.ndarray:
    """`values` as float64 [n], n >= `least`. Raises UserError that begins with `what` otherwise."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise UserError(f"{what}: expected numbers of shape [n], not {list(array.shape)}: flatten them")
    if len(array) < least:
        raise UserError(f"{what}: there are {len(array)}, and at least {least} are needed")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise UserError(f"{what}: number {bad} is {array[bad]}: leave it out, or find out why it is not finite")
    return array


def auc(members: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """P(member > other) + P(member = other) / 2 = U / (n m): area under the ROC curve of telling
    members [n] from others [m].

    Mann-Whitney's U (Hanley & McNeil 1982; as a membership test, LOGAN of Hayes et al. 2019). In
    [0, 1]; .5 on average for independent data of one distribution, with the standard deviation
    `auc_null_error(n, m)`; 1 where every member has a higher score. Unlike accuracy it depends on
    no threshold and on no base rate. Cost: one sort of n + m numbers.
    Raises UserError where a score is missing or not finite.
    """
    return float(_placements(members, others)[0].mean())


def auc_error(members: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The standard error of `auc` (DeLong, DeLong & Clarke-Pearson 1988), valid at any value of the
    AUC.

        sqrt(var_i(V_i) / n + var_j(V_j) / m), V_i = share of others below member i (ties half), V_j
        = of members above other j

    Unbiased variances. auc +- 1.96 auc_error is a 95 % interval, too narrow below some 30 scores,
    and of width 0 where the two are told apart perfectly. For independent data it is
    `auc_null_error(n, m)` on average, nearly. Cost: a few sorts.
    Raises UserError with fewer than 2 members or others, or where a score is not finite.
    """
    of_members, of_others = _placements(members, others, least=2)
    return math.sqrt(of_members.var(ddof=1) / len(of_members) + of_others.var(ddof=1) / len(of_others))


def auc_null_error(n: int, m: int) -> float:
    """sqrt((n + m + 1) / (12 n m)): the standard deviation of the AUC of n and m independent scores
    without ties."""
    return math.sqrt((n + m + 1) / (12 * n * m))


def _placements(members: npt.ArrayLike, others: npt.ArrayLike, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """For each member the share of others below it, for each other the share of members above it;
    ties count half."""
    from scipy.stats import rankdata

    members, others = finite_vector(members, "scores of members", least), finite_vector(others, "scores of others", least)
    n, m = len(members), len(others)
    rank = rankdata(np.concatenate([members, others]))  # less the rank within one's own sample: how many of the other's
    below = (rank[:n] - rankdata(members)) / m
    return below, 1 - (rank[n:] - rankdata(others)) / n


def tpr_at_fpr(members: npt.ArrayLike, others: npt.ArrayLike, fpr: float = FPR) -> float:
    """The share of members recognised at a threshold that wrongly accepts at most the share `fpr`
    of others.

    Rule: accepted is what scores at least t; of all t with #(others >= t) <= fpr m the lowest is
    taken; no interpolation, so that tied scores are accepted together or not at all. In [0, 1]. It
    sees a few members given away with certainty, which the AUC averages away. Null value:
    `tpr_null(m, fpr)`, which with m < 1 / fpr others is above `fpr`.
    Cost: one sort. Raises UserError where a score is missing or not finite, or `fpr` is not in [0,
        1).
    """
    members, others = finite_vector(members, "scores of members"), finite_vector(others, "scores of others")
    allowed = _allowed(len(others), fpr)
    first_refused = np.sort(others)[len(others) - 1 - allowed]  # with it, one too many would be accepted
    return float((members > first_refused).mean())


def tpr_null(m: int, fpr: float = FPR) -> float:
    """The mean `tpr_at_fpr` of independent data of one distribution without ties: (floor(fpr m) +
    1) / (m + 1)."""
    return (_allowed(m, fpr) + 1) / (m + 1)


def _allowed(m: int, fpr: float) -> int:
    """How many false positives `fpr` allows among m. Rounded, since .07 * 100 is 7.000000000000001
    and .29 * 100 is 28.99."""
    if not 0 <= fpr < 1:
        raise UserError(f"fpr, the rate of false positives, must be in [0, 1), not {fpr}")
    return math.floor(round(fpr * m, 9))


def overfitting_heuristics(
    train: npt.ArrayLike, validation: npt.ArrayLike, fake: npt.ArrayLike, boundary: float | None = 0.0
) -> dict[str, float]:
    """The overfitting heuristics of Karras et al. (2020, ADA, equation 1) and what they are made
    of.

    train, validation, fake: logits [n], [m], [g]. boundary: the logit at which D is undecided
    (`gan_jax.losses.boundary`); None, for a critic, takes the middle of the mean logits of train
    and fake.

        r_t   E[sign(D(train) - boundary)], in [-1, 1]: 0 where D cannot tell, 1 at worst; ADA holds
              it at .6. It rises with a D that is merely good, so that it says overfitting only
              beside r_v
        r_v   (E D(train) - E D(validation)) / max(E D(train) - E D(fake), 1e-8): 0 where held-out
              images are to D like training images (its null value), 1 where they are to it like
              fakes. Without meaning, and huge, where D does not put training images above fakes
        train_accuracy, validation_accuracy, fake_accuracy   strictly on the right side of the
                                                             boundary, in [0, 1]
        train_logit, validation_logit, fake_logit            means

    Raises UserError where logits are missing or not finite.
    """
    said = {"train": train, "validation": validation, "fake": fake}
    said = {name: finite_vector(x, f"logits of {name} images") for name, x in said.items()}
    mean = {name: float(x.mean()) for name, x in said.items()}
    undecided = (mean["train"] + mean["fake"]) / 2 if boundary is None else boundary
    right = {name: (x < undecided) if name == "fake" else (x > undecided) for name, x in said.items()}
    return {
        "r_t": float(np.sign(said["train"] - undecided).mean()),
        "r_v": (mean["train"] - mean["validation"]) / max(mean["train"] - mean["fake"], 1e-8),
        **{f"{name}_accuracy": float(x.mean()) for name, x in right.items()},
        **{f"{name}_logit": x for name, x in mean.items()},
    }


def discriminator_gap(
    train: npt.ArrayLike, validation: npt.ArrayLike, fake: npt.ArrayLike, boundary: float | None = 0.0, fpr: float = FPR
) -> dict[str, float]:
    """All of the above of one discriminator: how well its logits tell training images from held-out
    ones.

    auc, auc_error, auc_null_error, tpr (at `fpr`) and tpr_null: train against validation; the rest:
    `overfitting_heuristics`, which describes the arguments. Without overfitting auc is .5, tpr is
    tpr_null and r_v is 0 on average.
    Raises UserError as they do.
    """
    heuristics = overfitting_heuristics(train, validation, fake, boundary)
    return {
        "auc": auc(train, validation),
        "auc_error": auc_error(train, validation),
        "auc_null_error": auc_null_error(len(np.asarray(train)), len(np.asarray(validation))),
        "tpr": tpr_at_fpr(train, validation, fpr),
        "tpr_null": tpr_null(len(np.asarray(validation)), fpr),
        **heuristics,
    }
