"""Regularisation in closed loop: a controller moves one number of the recipe until what is measured comes to a target.

    recipe.replace(controllers={"discriminator.penalties.r1.gamma": drive("D/train_validation_auc", 0.55, high=100, log=True)})

The recipe's own value is the start; the live one is `state.memory["live"][path]`, is logged as `live/<path>`, and takes the
number's place wherever the recipe is used. A statistic is any name that training logs. Those of a step (`discriminator/...`,
`generator/...`) are averaged over `every` steps; those of the evaluation on V (`D/...`, `G/...`) move the number once each time
they are logged. Any number can be driven: a rate, a weight, a strength, a probability. Structure is swept, not driven.

Instances: ADA's p is `{"augment.<name>.p": ada()}` (Karras et al., 2020), APA's `{"augment.apa.p": ada()}` (Jiang et al.,
2021), adaptive dropout `{"discriminator.numbers.dropout": ada(high=0.9)}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gan_jax.errors import UserError
from gan_jax.recipe import Bound, Recipe, bind, defaults, leaves

R_T = "discriminator/real_sign"
R_V = "D/r_v"


def fixed_steps(value, error, share, low, high, *, lowers: bool = True, log: bool = False) -> Array:
    """value + share of the range, against the sign of the error: ADA's rule (Karras et al., 2020, section 3.1)."""
    return _moved(value, jnp.sign(error) * share, low, high, lowers, log)


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

    horizon:   real images in which it would cross its whole range, low ... high, at full speed; above 0
    low, high: bounds, in the range that the number itself has (.9 for a dropout rate, not 1); low is 0, or high / 10,000 with
               `log`
    ramp:      real images over which the speed grows from nothing to full
    every:     steps over which a statistic of the step is averaged
    lowers:    that a higher number lowers the statistic; False for a number that raises it (D's learning rate)
    log:       equal factors instead of equal steps, for rates and weights
    rule:      `fixed_steps`, `proportional`, or (value, error, share of the range, low, high, *, lowers, log) -> value
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
    """ADA's controller: r_t = E[sign D(real)] is brought to .6, p crosses [0, 1] in 500,000 images at most (Karras et al.,
    2020b, and their code).

    The sign means something where the loss has a boundary; elsewhere (Wasserstein, relativistic) it is taken from halfway
    between reals and fakes, and `statistic=R_V, target=.5` (their r_v, on held-out images) is the sounder choice.
    """
    return drive(statistic, target, horizon=horizon, high=high, **fields)


# ---- what the game does with them -------------------------------------------------------------------------------------


def initial_memory(recipe: Recipe) -> dict[str, Any]:
    """The live values at the start, and the statistics summed so far. Empty without controllers."""
    if not recipe.controllers:
        return {}
    check_paths(recipe)
    numbers = leaves(recipe)
    live = {path: jnp.asarray(numbers[path], recipe.dtype) for path in recipe.controllers}
    return {"live": live, "summed": {path: jnp.zeros((), recipe.dtype) for path in recipe.controllers}}


def check_paths(recipe: Recipe) -> None:
    """Raises UserError for a controller of what is no number of the recipe."""
    names = [name for name in leaves(recipe) if not name.startswith("controllers.")]
    if unknown := [path for path in recipe.controllers if path not in names]:
        raise UserError(f"no such number to control: {unknown[0]!r}; the recipe has {', '.join(names)}")


def check_statistics(recipe: Recipe, logged: set[str]) -> None:
    """Raises UserError for a controller of a statistic that training does not log."""
    for path, controller in recipe.controllers.items():
        if (name := controller.options["statistic"]) not in logged:
            known = ", ".join(sorted(logged))
            raise UserError(f"the controller of {path} follows {name!r}, which is not logged: use one of {known}")


def steer(recipe: Recipe, state: Any, metrics: Mapping[str, Array]) -> tuple[Any, dict]:
    """(state, metrics) after a step: controllers of the step's statistics move their numbers every few steps."""
    if not recipe.controllers:
        return state, dict(metrics)
    live, summed = dict(state.memory["live"]), dict(state.memory["summed"])
    shown = {f"live/{path}": value for path, value in live.items()}
    for path, controller in recipe.controllers.items():
        every = controller.options["every"]
        if (name := controller.options["statistic"]) in metrics:
            summed[path] = summed[path] + metrics[name]
            due = (state.step + 1) % every == 0
            moved = _move(recipe, state, controller, live[path], summed[path] / every, every)
            live[path], summed[path] = jnp.where(due, moved, live[path]), jnp.where(due, 0, summed[path])
    return state.replace(memory=state.memory | {"live": live, "summed": summed}), dict(metrics) | shown


def observe(recipe: Recipe, state: Any, row: Mapping[str, Array], steps) -> dict:
    """The memory after an evaluation: controllers of its statistics move their numbers, once for `steps` steps."""
    live = dict(state.memory["live"])
    for path, controller in recipe.controllers.items():
        if (name := controller.options["statistic"]) in row:
            live[path] = _move(recipe, state, controller, live[path], row[name], steps).astype(live[path].dtype)
    return state.memory | {"live": live}


def _move(recipe: Recipe, state: Any, controller: Bound, value, measured, steps) -> Array:
    images = recipe.batch_size * recipe.d_steps
    return controller(value, measured, images * steps, images * state.step.astype(jnp.float32))
