"""Has the discriminator memorised its training images? Exact tests of its logits, in float64.

Logits are those of evaluation mode, without augmentation. Members are images that D was trained on,
others are not. Scores and logits that are missing or not finite raise UserError.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import finite_vector

FPR = 0.01  # the false-positive rate at which membership inference is usually quoted (Carlini et al., 2022)


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """P(member > other) + P(member = other) / 2, the area under the ROC curve, in [0, 1].

    members [n], others [m]: scores. It is Mann-Whitney's U / (n m) (Hanley & McNeil 1982), as a
    membership test LOGAN (Hayes et al. 2019). Independent data of one distribution have .5 on
    average, with the standard deviation `auc_null_error(n, m)`.
    """
    return float(_placements(members, others)[0].mean())


def auc_error(members: ArrayLike, others: ArrayLike) -> float:
    """The standard error of `auc`, valid at any AUC (DeLong, DeLong & Clarke-Pearson 1988).

    The interval auc +- 1.96 auc_error is too narrow below some 30 scores. Raises UserError for
    fewer than 2 members or others.
    """
    of_members, of_others = _placements(members, others, least=2)
    return math.sqrt(of_members.var(ddof=1) / len(of_members) + of_others.var(ddof=1) / len(of_others))


def auc_null_error(n: int, m: int) -> float:
    """The standard deviation of the AUC of n and m independent scores without ties."""
    return math.sqrt((n + m + 1) / (12 * n * m))


def _placements(members: ArrayLike, others: ArrayLike, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The share of others below each member, and the share of members above each other."""
    from scipy.stats import rankdata

    members, others = finite_vector(members, "scores of members", least), finite_vector(others, "scores of others", least)
    n, m = len(members), len(others)
    # A rank among all less the rank in one's own sample counts the other sample's scores below.
    rank = rankdata(np.concatenate([members, others]))
    below = (rank[:n] - rankdata(members)) / m
    return below, 1 - (rank[n:] - rankdata(others)) / n


def tpr_at_fpr(members: ArrayLike, others: ArrayLike, fpr: float = FPR) -> float:
    """The share of members accepted at the lowest threshold that accepts at most `fpr` of others.

    Tied scores are accepted together or not at all. It shows a few members that are recognised with
    certainty, which the AUC averages away. The null value is `tpr_null(m, fpr)`, above `fpr` where
    m < 1 / fpr. Raises UserError where `fpr` is not in [0, 1).
    """
    members, others = finite_vector(members, "scores of members"), finite_vector(others, "scores of others")
    return _accepted(members, others, _allowed(len(others), fpr))


def tpr_error(members: ArrayLike, others: ArrayLike, fpr: float = FPR) -> float:
    """The standard error of `tpr_at_fpr`, over draws of members and of others.

    sqrt(p (1 - p) / n + s^2), with p = (accepted + 1) / (n + 2), as a share of 0 would have none,
    and s half the change of the share where the threshold, the r-th highest of the others, moves by
    sqrt(r) ranks to either side. The interval is that of as many independent members.
    """
    members, others = finite_vector(members, "scores of members"), finite_vector(others, "scores of others")
    n, allowed = len(members), _allowed(len(others), fpr)
    share = (_accepted(members, others, allowed) * n + 1) / (n + 2)
    more, less = (_accepted(members, others, allowed + side * math.sqrt(allowed + 1)) for side in (1, -1))
    return math.sqrt(share * (1 - share) / n + ((more - less) / 2) ** 2)


def _accepted(members: np.ndarray, others: np.ndarray, allowed: float) -> float:
    """The share of members above the highest of the others that is refused: `allowed` are above."""
    place = len(others) - 1 - min(max(round(allowed), 0), len(others) - 1)
    return float((members > np.sort(others)[place]).mean())


def tpr_null(m: int, fpr: float = FPR) -> float:
    """The mean `tpr_at_fpr` of independent data of one distribution without ties."""
    return (_allowed(m, fpr) + 1) / (m + 1)


def _allowed(m: int, fpr: float) -> int:
    """The false positives that `fpr` allows among m. Rounded: .29 * 100 is 28.999999999999996."""
    if not 0 <= fpr < 1:
        raise UserError(f"fpr, the rate of false positives, must be in [0, 1), not {fpr}")
    return math.floor(round(fpr * m, 9))


def overfitting_heuristics(
    train: ArrayLike, validation: ArrayLike, fake: ArrayLike, boundary: float | None = 0.0
) -> dict[str, float]:
    """The overfitting heuristics of Karras et al. (2020, ADA, equation 1) and their parts.

    train, validation, fake: logits [n], [m], [g]. boundary: the logit at which D is undecided
    (`gan_jax.losses.boundary`); None, for a critic, is midway between the means of train and fake.

        r_t: E[sign(D(train) - boundary)], in [-1, 1]: 0 where D cannot tell, 1 at worst; ADA holds
          it at .6. A D that is merely good raises it too
        r_v: (E D(train) - E D(validation)) / max(E D(train) - E D(fake), 1e-8): 0 (the null value)
          where D scores held-out images like training images, 1 where it scores them like fakes;
          meaningless where D does not score training images above fakes
        {train, validation, fake}_accuracy, _logit: share strictly on the right side, mean logit
    """
    given = {"train": train, "validation": validation, "fake": fake}
    logits = {name: finite_vector(x, f"logits of {name} images") for name, x in given.items()}
    mean = {name: float(x.mean()) for name, x in logits.items()}
    undecided = (mean["train"] + mean["fake"]) / 2 if boundary is None else boundary
    right = {name: (x < undecided) if name == "fake" else (x > undecided) for name, x in logits.items()}
    return {
        "r_t": float(np.sign(logits["train"] - undecided).mean()),
        "r_v": (mean["train"] - mean["validation"]) / max(mean["train"] - mean["fake"], 1e-8),
        **{f"{name}_accuracy": float(x.mean()) for name, x in right.items()},
        **{f"{name}_logit": x for name, x in mean.items()},
    }


def discriminator_gap(
    train: ArrayLike, validation: ArrayLike, fake: ArrayLike, boundary: float | None = 0.0, fpr: float = FPR
) -> dict[str, float]:
    """How well D's logits tell training images from held-out ones, by all tests of this file.

    auc, auc_error, auc_null_error, tpr (at `fpr`), tpr_error and tpr_null compare train with
    validation; all else is that of `overfitting_heuristics`.
    """
    heuristics = overfitting_heuristics(train, validation, fake, boundary)
    n, m = len(np.asarray(train)), len(np.asarray(validation))
    return {
        "auc": auc(train, validation),
        "auc_error": auc_error(train, validation),
        "auc_null_error": auc_null_error(n, m),
        "tpr": tpr_at_fpr(train, validation, fpr),
        "tpr_error": tpr_error(train, validation, fpr),
        "tpr_null": tpr_null(m, fpr),
        **heuristics,
    }
