"""A weighted sum of losses: the choice of the loss becomes a number that one program can sweep."""

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at


def blend(*losses: Any, **weights: float) -> Bound:
    """The sum of losses, each times its weight: `blend(hinge, rpgan, hinge=1.0)`.

    losses: functions, or bound functions. weights: by the function's name, >= 0; a loss that is not
    named has weight 0. A grid over the weights (`loss.hinge=0,1`) is one structure. A blend has no
    decision boundary of its own: see `decides_at(None)`. No paper: it serves sweeps over losses in
    one program. Raises UserError for two losses of one name, and for a weight of no loss.
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
    """(losses..., real, fake, batch) -> the weighted sum of the losses' terms."""
    *parts, real, fake, batch = args
    scale = lambda terms, weight: jax.tree.map(lambda x: jnp.asarray(weight, x.dtype) * x, terms)
    scaled = [scale(part(real, fake, batch), weights[part.name]) for part in parts]
    return jax.tree.map(lambda *terms: sum(terms), *scaled)
