"""Rejection sampling by the discriminator D of a trained GAN."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import expit

from gan_jax.core.errors import UserError
from gan_jax.report.runs import logits_of
from gan_jax.training.run import Run


def acceptance(logits: ArrayLike, highest: float | None = None, percentile: float = 80.0) -> Float[np.ndarray, "n"]:
    """Probability [n] that each sample passes discriminator rejection sampling (Azadi et al., 2019,
    equations 7 and 8).

    sigma(F - gamma) with F = d - M - log(1 - exp(d - M - 1e-8)), d the logits [n], M the `highest`
    known logit (at least that of these), and gamma the `percentile` of F (80 is theirs on
    ImageNet): about 1 - percentile / 100 of the samples pass. For the optimal D of the
    non-saturating game d = log p / q, and without gamma the samples that pass have the distribution
    of the data. Raises UserError for a percentile outside [0, 100], or no finite logits.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 1 or not len(logits) or not np.isfinite(logits).all() or not 0 <= percentile <= 100:
        raise UserError(f"acceptance wants finite logits [n] and a percentile in 0 to 100, not {logits.shape}, {percentile}")
    below = logits - max(float(logits.max()), -np.inf if highest is None else highest)
    odds = below - np.log(-np.expm1(below - 1e-8))
    return expit(odds - np.percentile(odds, percentile))


def rejection_samples(
    run: Run, labels: ArrayLike | None = None, n: int | None = None, *, percentile: float = 80.0, seed: int = 0, pool: int = 10
) -> np.ndarray:
    """Samples like those of `run.samples(n, labels=labels)` that passed D's rejection sampling, of
    `pool` times as many.

    A conditional GAN is sampled class by class, with M and gamma of that class, so that the classes
    are as frequent as asked. Where too few pass, the likeliest of the others are added. Raises
    UserError where neither labels nor n are given (or both), or pool < 1.
    """
    if (labels is None) == (n is None) or pool < 1:
        raise UserError(f"rejection_samples wants labels, or n of an unconditional GAN, and pool >= 1, not {pool}")
    wanted = np.zeros(n or 0, np.int64) if labels is None else np.asarray(labels)
    chosen: dict[int, list[np.ndarray]] = {}
    for label in np.unique(wanted).tolist():
        count = int((wanted == label).sum())
        own = None if labels is None else np.full(count * pool, label, np.int32)
        made = run.samples(count * pool, labels=own, seed=seed + label)
        passing = acceptance(logits_of(run, made, own), percentile=percentile)
        passed = np.random.Generator(np.random.PCG64([seed, label])).random(len(passing)) < passing
        first = np.lexsort((np.where(passed, 0, -passing), ~passed))  # those that passed, in the order of their latents
        chosen[label] = list(made[first[:count]])
    return np.stack([chosen[label].pop(0) for label in wanted.tolist()])
