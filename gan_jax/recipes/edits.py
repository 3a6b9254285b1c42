"""Edits of a recipe: pure functions that return a new recipe, which differs in one thing.

    recipe = with_penalty(recipes.dcgan((32, 32, 3)), "r1", gamma=1.0)
    recipe = with_fields(recipe, augment=augment.diffaugment())

A field that is a dict (penalties, numbers, augment, controllers) keeps its other entries.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import Net
from gan_jax.core.parts import find
from gan_jax.gan.recipe import Recipe, Side

Edited = TypeVar("Edited", Recipe, Side)
PlayerName = Literal["generator", "discriminator"]


def _replaced(edited: Edited, changed: dict[str, Any]) -> Edited:
    known = [field.name for field in dataclasses.fields(edited)]
    if unknown := [name for name in changed if name not in known]:
        raise UserError(f"there is no field {unknown[0]!r}; the fields are {', '.join(known)}")
    joined = {k: getattr(edited, k) | v if isinstance(v, dict) else v for k, v in changed.items()}
    return edited.replace(**joined)


def with_fields(recipe: Recipe, **changed: Any) -> Recipe:
    """Sets fields of the recipe. Raises UserError for a field that Recipe does not have."""
    return _replaced(recipe, changed)


def with_side(recipe: Recipe, player: PlayerName = "discriminator", **changed: Any) -> Recipe:
    """Sets fields of one player's Side. Raises UserError for a field that Side does not have."""
    return recipe.replace(**{player: _replaced(getattr(recipe, player), changed)})


def with_penalty(recipe: Recipe, name: str, player: PlayerName = "discriminator", **numbers: Any) -> Recipe:
    """Adds a penalty of `gan_jax.penalties` to one player, under its own name. Raises UserError for
    an unknown name. A penalty of yours is added by `with_side(recipe, player, penalties={...})`."""
    return with_side(recipe, player, penalties={name: bind(find(f"penalties.{name}"), **numbers)})


def with_optimizer(recipe: Recipe, optimizer: Bound, player: PlayerName | None = None) -> Recipe:
    """Sets the optimizer of one player, or of both players when `player` is left out."""
    for name in ("generator", "discriminator") if player is None else (player,):
        recipe = with_side(recipe, name, optimizer=optimizer)
    return recipe


def with_network(recipe: Recipe, player: PlayerName, change: Callable[[Any], Any]) -> Recipe:
    """Puts `change` of a player's network in its place: a wrapper such as `SpectralNorm`."""
    return with_side(recipe, player, net=change(getattr(recipe, player).net))


def with_module(recipe: Recipe, player: PlayerName = "discriminator", **changed: Any) -> Recipe:
    """Sets fields of a player's flax module, such as `norm`. Raises TypeError for others."""
    return with_network(recipe, player, lambda net: Net(net.module.clone(**changed)))


def without_classes(recipe: Recipe) -> Recipe:
    """The recipe without classes, for a method that takes no labels."""
    for player in ("generator", "discriminator"):
        recipe = with_module(recipe, player, classes=0)
    return recipe.replace(classes=0)
