"""Regularisation in closed loop: a controller moves one number of the recipe until what is measured
comes to a target.

    recipe.replace(controllers={"discriminator.penalties.r1.gamma": drive("D/train_validation_auc",
    0.55, high=100, log=True)})

The recipe's own value is the start; the live one is `state.memory["live"][path]`, is logged as
`live/<path>`, and takes the number's place wherever the recipe is used. A statistic is any name
that training logs. Those of a step (`discriminator/...`, `generator/...`) are averaged over `every`
steps; those of the evaluation on V (`D/...`, `G/...`) move the number once each time they are
logged. Any number can be driven: a rate, a weight, a strength, a probability. Structure is swept,
not driven.

Instances: ADA's p is `{"augment.<name>.p": ada()}` (Karras et al., 2020), APA's `{"augment.apa.p":
ada()}` (Jiang et al., 2021), adaptive dropout `{"discriminator.numbers.dropout": ada(high=0.9)}`.
"""

from __future__ import annotations

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
    """value + share of the range, against the sign of the error: ADA's rule (Karras et al., 2020,
    section 3.1)."""
    return _moved(value, jnp.sign(error) * share, low, high, lowers, log)


@part("controllers")
def proportional(value, error, share, low, high, *, gain=1.0, lowers: bool = True, log: bool = False) -> Array:
    """value + gain * error * share of the range: slower as it comes near the target. gain: above 0.

    No paper: the plainest rule of control beside ADA's.
    """
    return _moved(value, gain * error * share, low, high, lowers, log)


def _moved(value, share, low, high, lowers, log):
    share = jnp.where(jnp.isfinite(share), share if lowers else -share, 0.0)  # what could not be measured moves nothing
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
    """A controller: the number goes up while `statistic` is above `target`, and down while below.

    horizon:   real images in which it would cross its whole range, low ... high, at full speed;
               above 0
    low, high: bounds, in the range that the number itself has (.9 for a dropout rate, not 1); low
               is 0, or high / 10,000 with `log`
    ramp:      real images over which the speed grows from nothing to full
    every:     steps over which a statistic of the step is averaged
    lowers:    that a higher number lowers the statistic; False for a number that raises it (D's
               learning rate)
    log:       equal factors instead of equal steps, for rates and weights
    rule:      `fixed_steps`, `proportional`, or (value, error, share of the range, low, high, *,
               lowers, log) -> value
    Raises UserError for bounds or speeds that cannot be meant.
    """
    low = (high / 10_000 if log else 0.0) if low is None else low
    if not low < high or (log and low <= 0):
        raise UserError(f"a controller's bounds are {low:g} ... {high:g}: give low < high, and low > 0 with log")
    if horizon <= 0 or every < 1:
        raise UserError(f"a controller's horizon is {horizon:g} images and every {every} steps: both must be positive")
    rule = bind(rule) if not isinstance(rule, Bound) and defaults(rule) else rule  # its own numbers are leaves
    return bind(
        _control, rule=rule, statistic=statistic, every=every, target=target, horizon=horizon, low=low, high=high, ramp=ramp,
        lowers=lowers, log=log,
    )  # fmt: skip


def ada(target: float = 0.6, *, horizon: float = 500_000, high: float = 1.0, statistic: str = R_T, **fields: Any) -> Bound:
    """ADA's controller: r_t = E[sign D(real)] is brought to .6, p crosses [0, 1] in 500,000 images
    at most (Karras et al., 2020b, and their code).

    The sign means something where the loss has a boundary; elsewhere (Wasserstein, relativistic) it
    is taken from halfway between reals and fakes, and `statistic=R_V, target=.5` (their r_v, on
    held-out images) is the sounder choice.
    """
    return drive(statistic, target, horizon=horizon, high=high, **fields)
