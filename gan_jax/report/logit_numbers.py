"""Row 10 of the report, from logits of a discriminator D, or bounds of a likelihood."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.metrics import discriminator
from gan_jax.metrics.memorization import share_interval
from gan_jax.report.measured import Measured, around, share_around, wilson_interval


def likelihood_numbers(train: np.ndarray, held_out: np.ndarray) -> dict[str, Measured]:
    """Row 10 of a game with a likelihood, from bounds of the log density [n] of either set, in
    nats. Intervals are over draws of both sets."""
    error = (train.var(ddof=1) / len(train) + held_out.var(ddof=1) / len(held_out)) ** 0.5
    return {"elbo_auc": _auc(train, held_out), "elbo_gap": around(train.mean() - held_out.mean(), error)}


def _auc(train: np.ndarray, held_out: np.ndarray) -> Measured:
    found, error = discriminator.auc(train, held_out), discriminator.auc_error(train, held_out)
    return share_around(found, error, min(len(train), len(held_out)))


def discriminator_numbers(logits: Mapping[str, ArrayLike], boundary: float = 0.0) -> dict[str, Measured]:
    """Row 10, from the logits [n] of a discriminator D for {"train", "held_out", "samples"}; D is
    undecided at `boundary`. Intervals are over draws of the three sets, D being what it is."""
    if missing := [name for name in ("train", "held_out", "samples") if name not in logits]:
        raise UserError(f"logits lack {missing[0]!r}: give D's logits of 'train', 'held_out' and 'samples'")
    t, h, g = (np.asarray(logits[name], np.float64).ravel() for name in ("train", "held_out", "samples"))
    found = discriminator.discriminator_gap(t, h, g, boundary)
    spread, r_v, r_t = found["train_logit"] - found["fake_logit"], found["r_v"], found["r_t"]
    share, tpr = (found["tpr"] * len(t) + 1) / (len(t) + 2), found["tpr"]
    positive = wilson_interval((1 + r_t) / 2, 0, len(t))
    low, high = share_interval(tpr, share * (1 - share) / found["tpr_error"] ** 2)
    numbers = {
        "d_auc": _auc(t, h),
        "d_tpr": Measured(tpr, low, high),
        "d_r_v": Measured(math.nan),  # a share of nothing, where D does not take T for more real than samples
        "d_r_t": Measured(r_t, 2 * positive[0] - 1, 2 * positive[1] - 1),
    }
    if spread > 0:
        error = sum(weight**2 * x.var(ddof=1) / len(x) for weight, x in ((1 - r_v, t), (1, h), (r_v, g))) ** 0.5
        numbers["d_r_v"] = around(r_v, error / spread)
    return numbers
