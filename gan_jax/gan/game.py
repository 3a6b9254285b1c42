"""The GAN as a `Game`: the functions that training, sweeps and reports call."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax.checks import has_own
from gan_jax.core.batch import Batch, Feed
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.data.checks import check_fit
from gan_jax.gan import control
from gan_jax.gan.evaluate import evaluate
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State
from gan_jax.gan.step import init, init_generator, sample, train_step
from gan_jax.sampling import class_table


def observe(recipe: Recipe, state: State, row: dict[str, Array], steps) -> dict:
    """The fields of the state that an evaluation changes: the memory of the controllers."""
    return {"memory": control.observe(recipe, state, row, steps)} if recipe.controllers else {}


def check_data(recipe: Recipe, data) -> None:
    """Raises UserError for a recipe that does not fit the data, naming both sides."""
    made = jax.eval_shape(lambda key: init_generator(recipe, key)[1], jax.random.key(0)).shape[1:]
    check_fit("recipe", recipe, made, data)
    jax.eval_shape(lambda key: game_of(recipe).init(recipe, key), jax.random.key(0))
    if recipe.sampling is not None:
        _check_sampling(recipe.sampling.options.get("classes"), data)
    if recipe.controllers or has_own(recipe):  # a step by its shapes alone, before anything is written
        control.check_statistics(recipe, _logged(recipe, data))


def sampler(recipe: Recipe, feed: Feed) -> Any:
    """The recipe's choice of reals for these data; None keeps the order of the data."""
    if recipe.sampling is None or feed.labels is None:
        return None
    table = class_table(feed.labels, feed.size, recipe.sampling.options["classes"])

    def choose(state: State, draws: Draws, rows: Array) -> Array:
        return control.resolved(recipe, state).sampling(draws, rows, feed.labels, table)

    return choose


def _check_sampling(classes: int | None, data) -> None:
    if data.train.labels is None:
        raise UserError(f"the recipe draws reals by their class, but {data.name} has no labels")
    if classes != data.classes:
        raise UserError(f"the recipe's sampling is of {classes} classes, but {data.name} has {data.classes}")


def _logged(recipe: Recipe, data) -> set[str]:
    """The names of all metrics that training logs."""
    game: Any = game_of(recipe)
    examples, labels = _examples(recipe), (lambda n: jnp.zeros(n, jnp.int32) if data.classes else None)
    rows = jnp.zeros((2, *data.image_shape), recipe.dtype), labels(2)

    def names(key):
        state = game.init(recipe, key)
        images = jnp.zeros((examples, *data.image_shape), recipe.dtype)
        batch = Batch(images, jnp.arange(examples), labels(examples))
        return game.step(recipe, state, batch)[1] | game.evaluate(recipe, state, rows, rows)

    return set(jax.eval_shape(names, jax.random.key(0)))


def _examples(recipe: Recipe) -> int:
    return recipe.batch_size * recipe.d_steps


GAN = part("gan", "GAN")(
    Game(
        init,
        train_step,
        _examples,
        lambda recipe: recipe.dtype,
        check_data,
        evaluate=evaluate,
        observe=observe,
        sample=sample,
        sampler=sampler,
    )  # fmt: skip
)


def game_of(knobs: Any, game: Game | None = None) -> Game:
    """The game given, or `knobs.game`, or the GAN for a Recipe. Raises UserError for no Game."""
    found = getattr(knobs, "game", None) or (GAN if isinstance(knobs, Recipe) else None) if game is None else game
    if not isinstance(found, Game):
        what = f"{type(knobs).__name__} does not say of which game it is" if game is None else f"game={game!r:.60} is no Game"
        raise UserError(f"{what}: give game= a gan.Game")
    return found
