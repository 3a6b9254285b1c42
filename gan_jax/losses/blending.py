"""A weighted sum of losses: which loss becomes a number, so that one program trains a sweep over
losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at


def blend(*losses: Any, **weights: float) -> Bound:
    """Each loss times its weight, summed: `blend(hinge, rpgan, hinge=1.0)`.

    losses: functions, bound functions. weights: by the function's name, at least 0; 0 for a loss
    not named. They are leaves, so a grid over them (`loss.hinge=0,1`) is one structure. No paper:
    it is what sweeps losses in one program. Logged accuracies take the middle of reals and fakes as
    D's boundary. Raises UserError for two losses of one name, or a weight of none.
    """
    parts = [bind(loss) for loss in losses]
    names = [part.name for part in parts]
    if len(set(names)) < len(names) or (unknown := [name for name in weights if name not in names]):
        wrong = f"no loss {unknown[0]!r} in it" if len(set(names)) == len(names) else "two losses of one name"
        raise UserError(f"cannot blend {', '.join(names)}: {wrong}")
    return bind(blended, *parts, **(dict.fromkeys(names, 0.0) | weights))


@part("losses")
@decides_at(None)
def blended(*args: Any, **weights: Any) -> Terms:
    """(losses..., real, fake, batch) -> the weighted sum of their terms."""
    *parts, real, fake, batch = args
    scale = lambda terms, weight: jax.tree.map(lambda x: jnp.asarray(weight, x.dtype) * x, terms)
    scaled = [scale(part(real, fake, batch), weights[part.name]) for part in parts]
    return jax.tree.map(lambda *terms: sum(terms), *scaled)
