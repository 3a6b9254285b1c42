"""Losses: functions (output of D on reals, output of D on fakes, batch) -> Terms, with one value
per example for each player to minimise.

In the formulae d_r and d_f are the logits of reals and fakes. The training step weights the terms
and takes their mean. A new loss is one new file here: a function marked `@part("losses")` becomes
`losses.<name>`, which recipes and command lines know by its name.
"""

import inspect

from gan_jax.core.bind import bind
from gan_jax.core.parts import parts_of
from gan_jax.losses.blending import blend
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
from gan_jax.losses.terms import Terms, boundary, decides_at, places, real_weights
from gan_jax.losses.weighting import class_weighted

__all__ = [
    "LOSSES", "POINTWISE", "Terms", "auxiliary_classifier", "blend", "boundary", "class_weighted", "decides_at",
    "dual_contrastive", "hinge", "kernel_values", "least_squares", "minimax", "mmd", "multi_class", "multi_hinge",
    "non_saturating", "places", "real_weights", "relativistic_average", "relativistic_average_hinge",
    "relativistic_average_least_squares", "relu", "representation", "rpgan", "softplus", "top_k", "wasserstein", "witness",
]  # fmt: skip

POINTWISE = {f.__name__: bind(f) for f in (non_saturating, minimax, least_squares, wasserstein, hinge)}
"""The losses whose terms each depend on one logit alone."""

_found = {f.__name__: f for f in parts_of("losses").values() if not f.__name__.startswith("_")}
globals().update(_found)  # also those of files that are not imported above


def _stands_alone(loss) -> bool:
    """Whether a loss takes (real, fake, batch) and needs no number: it is around no other loss."""
    parameters = inspect.signature(loss).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return [p.kind for p in needed] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3


LOSSES = POINTWISE | {name: bind(f) for name, f in _found.items() if _stands_alone(f) and name not in POINTWISE}
LOSSES |= {f.__name__: f(non_saturating) for f in (auxiliary_classifier, top_k)}
"""The losses that recipes and command lines know by name; those around another are around
`non_saturating`."""
