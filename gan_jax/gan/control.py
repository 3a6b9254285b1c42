"""Controllers in the step: the live values of controlled leaves, and when they change."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gan_jax.core.bind import Bound, leaves, resolve
from gan_jax.core.errors import UserError
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State


def resolved(recipe: Recipe, state: State) -> Recipe:
    """The recipe at this step: schedules evaluated, controlled leaves at their live values."""
    return resolve(recipe, state.step, state.memory.get("live"))


def initial_memory(recipe: Recipe) -> dict[str, Any]:
    """The live values at the start, and the statistics summed so far. Empty without controllers."""
    if not recipe.controllers:
        return {}
    check_paths(recipe)
    numbers = leaves(recipe)
    live = {path: jnp.asarray(numbers[path], recipe.dtype) for path in recipe.controllers}
    return {"live": live, "summed": {path: jnp.zeros((), recipe.dtype) for path in recipe.controllers}}


def check_paths(recipe: Recipe) -> None:
    """Raises UserError for a controller whose path names no number of the recipe."""
    names = [name for name in leaves(recipe) if not name.startswith("controllers.")]
    if unknown := [path for path in recipe.controllers if path not in names]:
        raise UserError(f"no such number to control: {unknown[0]!r}; the recipe has {', '.join(names)}")


def check_statistics(recipe: Recipe, logged: set[str]) -> None:
    """Raises UserError for a controller of a statistic that training does not log."""
    for path, controller in recipe.controllers.items():
        if (name := controller.options["statistic"]) not in logged:
            known = ", ".join(sorted(logged))
            raise UserError(f"the controller of {path} follows {name!r}, which is not logged: use one of {known}")


def steer(recipe: Recipe, state: State, metrics: Mapping[str, Array]) -> tuple[State, dict]:
    """(state, metrics) after a step. Every `every` steps a controller changes its number, by the
    mean of its statistic over them. The metrics show the values before the change."""
    if not recipe.controllers:
        return state, dict(metrics)
    live, summed = dict(state.memory["live"]), dict(state.memory["summed"])
    shown = {f"live/{path}": value for path, value in live.items()}
    for path, controller in recipe.controllers.items():
        every = controller.options["every"]
        if (name := controller.options["statistic"]) in metrics:
            summed[path] = summed[path] + metrics[name]
            due = (state.step + 1) % every == 0
            value = _next_value(recipe, state, controller, live[path], summed[path] / every, every)
            live[path], summed[path] = jnp.where(due, value, live[path]), jnp.where(due, 0, summed[path])
    return state.replace(memory=state.memory | {"live": live, "summed": summed}), dict(metrics) | shown


def observe(recipe: Recipe, state: State, row: Mapping[str, Array], steps) -> dict:
    """The memory after an evaluation, `steps` steps after the last one: controllers that follow a
    statistic of the evaluation change their numbers."""
    live = dict(state.memory["live"])
    for path, controller in recipe.controllers.items():
        if (name := controller.options["statistic"]) in row:
            live[path] = _next_value(recipe, state, controller, live[path], row[name], steps).astype(live[path].dtype)
    return state.memory | {"live": live}


def _next_value(recipe: Recipe, state: State, controller: Bound, value, measured, steps) -> Array:
    """The controller's new value: it is called with (value, measured, images since the last change,
    images since the start)."""
    per_step = recipe.batch_size * recipe.d_steps
    return controller(value, measured, per_step * steps, per_step * state.step.astype(jnp.float32))
