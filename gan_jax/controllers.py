"""Controllers: regularisation in closed loop. A controller changes one number of the recipe until a
statistic of training meets its target.

    path = "discriminator.penalties.r1.gamma"
    controller = drive("D/train_validation_auc", 0.55, high=100, log=True)
    recipe.replace(controllers={path: controller})

The recipe's own value is the start. The live value, `state.memory["live"][path]`, is logged as
`live/<path>`. Any number can be controlled, but no structure. A statistic is any name that training
logs. Statistics of a step (`discriminator/...`, `generator/...`) are averaged over `every` steps;
those of an evaluation (`D/...`, `G/...`) change the number each time they are logged.

ADA's p is `{"augment.<name>.p": ada()}` (Karras et al., 2020b), APA's is `{"augment.apa.p": ada()}`
(Jiang et al., 2021), and adaptive dropout is `{"discriminator.numbers.dropout": ada(high=0.9)}`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gan_jax.core.bind import Bound, bind, defaults
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part

R_T = "discriminator/real_sign"
R_V = "D/r_v"


@part("controllers")
def fixed_steps(value, error, share, low, high, *, lowers: bool = True, log: bool = False) -> Array:
    """value + share of the range, in the error's direction (Karras et al., 2020b, section 3.1)."""
    return _changed(value, jnp.sign(error) * share, low, high, lowers, log)


@part("controllers")
def proportional(value, error, share, low, high, *, gain=1.0, lowers: bool = True, log: bool = False) -> Array:
    """value + gain * error * share of the range, which slows down near the target. gain: > 0,
    default 1. No paper: the plainest rule of control beside ADA's."""
    return _changed(value, gain * error * share, low, high, lowers, log)


def _changed(value, share, low, high, lowers, log):
    share = jnp.where(jnp.isfinite(share), share if lowers else -share, 0.0)  # a statistic that is not finite changes nothing
    if log:
        return jnp.clip(value * (high / low) ** share, low, high)
    return jnp.clip(value + share * (high - low), low, high)


@part("controllers", "drive")
def _control(value, measured, images, seen, *, rule: Any, target, horizon, ramp, statistic: str, every: int, **rest) -> Array:
    speed = images / horizon * jnp.where(seen < ramp, seen / jnp.maximum(ramp, 1.0), 1.0)
    return rule(value, measured - target, speed, **rest)


def drive(
    statistic: str,
    target: float,
    *,
    horizon: float = 500_000,
    low: float | None = None,
    high: float = 1.0,
    ramp: float = 0.0,
    every: int = 4,
    lowers: bool = True,
    log: bool = False,
    rule: Any = fixed_steps,
) -> Bound:
    """A controller that raises the number while `statistic` is above `target`, else lowers it.

    horizon:   real images in which the number would cross low ... high at full speed; > 0
    low, high: bounds, within the range of the number itself (.9 for a dropout rate, not 1). low is
               0, or high / 10,000 with `log`.
    ramp:      real images over which the speed grows from nothing to full
    every:     steps over which a statistic of the step is averaged; >= 1
    lowers:    whether a higher number lowers the statistic; False for D's learning rate
    log:       equal factors instead of equal steps, for rates and weights
    rule:      `fixed_steps`, `proportional`, or a function with their parameters

    Raises UserError for bounds, a horizon or a number of steps that are out of range.
    """
    rule = bind(rule) if not isinstance(rule, Bound) and defaults(rule) else rule  # its own numbers are leaves
    made = bind(
        _control, rule=rule, statistic=statistic, every=every, target=target, horizon=horizon, low=low or 0.0, high=high,
        ramp=ramp, lowers=lowers, log=log,
    )  # fmt: skip
    low = (high / 10_000 if log else 0.0) if low is None else low
    if not low < high or (log and low <= 0):
        raise UserError(f"a controller's bounds are {low:g} ... {high:g}: give low < high, and low > 0 with log")
    if not horizon > 0 or every < 1:
        raise UserError(f"a controller's horizon is {horizon:g} images and every {every} steps: both must be positive")
    return made.replace(low=low)


def ada(target: float = 0.6, *, horizon: float = 500_000, high: float = 1.0, statistic: str = R_T, **fields: Any) -> Bound:
    """ADA's controller (Karras et al., 2020b, and their code): r_t = E[sign D(real)] is kept at .6.

    p crosses [0, 1] in 500,000 images at the fastest. Where the loss has no decision boundary
    (Wasserstein, relativistic losses), the boundary is taken halfway between reals and fakes, and
    `statistic=R_V, target=.5`, their r_v on held-out images, is the sounder choice.
    """
    return drive(statistic, target, horizon=horizon, high=high, **fields)
