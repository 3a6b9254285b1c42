"""Losses: (DiscriminatorOutput of reals, DiscriminatorOutput of fakes, batch) -> Terms, one value
per example for each player to minimise.

Formulae: d_r, d_f are the logits of reals and fakes. The step weights the terms and takes their
mean; losses that compare examples return terms whose mean is the loss. A loss may name the logit at
which D is undecided (`boundary`), which the accuracies logged during training use; 0 unless said.
"""

from __future__ import annotations

from gan_jax.core.bind import Bound, bind
from gan_jax.losses.blending import blend, blended
from gan_jax.losses.classes import auxiliary_classifier, multi_class, multi_hinge
from gan_jax.losses.contrastive import dual_contrastive
from gan_jax.losses.kernels import kernel_values, mmd, representation, witness
from gan_jax.losses.pointwise import hinge, least_squares, minimax, non_saturating, relu, softplus, wasserstein
from gan_jax.losses.relativistic import (
    relativistic_average,
    relativistic_average_hinge,
    relativistic_average_least_squares,
    rpgan,
)
from gan_jax.losses.selection import top_k
from gan_jax.losses.terms import Terms, places, real_weights
from gan_jax.losses.weighting import class_weighted

__all__ = [
    "BOUNDARIES", "LOSSES", "POINTWISE", "Terms", "auxiliary_classifier", "blend", "boundary", "class_weighted",
    "dual_contrastive", "hinge", "kernel_values", "least_squares", "minimax", "mmd", "multi_class", "multi_hinge",
    "non_saturating", "places", "real_weights", "relativistic_average", "relativistic_average_hinge",
    "relativistic_average_least_squares", "relu", "representation", "rpgan", "softplus", "top_k", "wasserstein", "witness",
]  # fmt: skip

POINTWISE = {f.__name__: bind(f) for f in (non_saturating, minimax, least_squares, wasserstein, hinge)}
"""The losses whose terms each depend on one logit alone."""

COMPARING = (
    rpgan, relativistic_average, relativistic_average_least_squares, relativistic_average_hinge, mmd, dual_contrastive,
)  # fmt: skip
BOUNDARIES = dict.fromkeys((wasserstein, blended, *COMPARING)) | {least_squares: 0.5}
"""None where a zero means nothing, as only differences of logits count: halfway between reals and
fakes instead."""

LOSSES = POINTWISE | {f.__name__: bind(f) for f in (*COMPARING, multi_class, multi_hinge)}
LOSSES |= {f.__name__: f(non_saturating) for f in (auxiliary_classifier, top_k)}
"""The losses that a command line knows by name."""


def boundary(loss: Bound) -> float | None:
    """The logit at which D is undecided under this loss; None where it has no meaning of its
    own."""
    if loss.function in BOUNDARIES:
        return BOUNDARIES[loss.function]
    return boundary(loss.parts[0]) if loss.parts else 0.0
