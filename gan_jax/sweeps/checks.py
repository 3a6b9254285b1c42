"""What a sweep is asked: settings made members, and refused where they cannot be meant, before a
step is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.ranges import check_numbers
from gan_jax.core.text import shorten
from gan_jax.data.order import MAX_POSITION
from gan_jax.data.splits import as_integer
from gan_jax.gan.game import game_of
from gan_jax.sweeps.layout import abstract_batch, possible_shares
from gan_jax.sweeps.population import Member, by_structure
from gan_jax.training.feed import judged_of
from gan_jax.training.fit import check_origin, origin_of
from gan_jax.training.run import Run

GAP = "D/train_validation_auc"  # what settings are ranked by when nothing is said


def named_settings(settings: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """{name: recipe}, a list's by their numbers. Raises UserError where there is none, or a name
    that no table can hold."""
    if not isinstance(settings, Mapping):
        if not isinstance(settings, Sequence):
            raise UserError(f"settings are {{name: recipe}} or a list of recipes, not a {type(settings).__name__}")
        settings = {f"setting {i}": recipe for i, recipe in enumerate(settings)}
    if not settings:
        raise UserError("a sweep without settings: give at least one recipe")
    if wrong := [str(name) for name in settings if set(str(name)) & {"\r", "\0"}]:
        raise UserError(f"the setting {wrong[0]!r} has a character that no table can hold: name it otherwise")
    return {str(name): recipe for name, recipe in settings.items()}


def listed(names: Iterable[str]) -> str:
    """Names for a message, long ones shortened."""
    return ", ".join(shorten(name, 60) for name in names)


def members_of(settings: dict[str, Any], data: Any, seeds: int | Sequence[int], sizes: Sequence[int] | None) -> list[Member]:
    """Settings x sizes x seeds. Raises UserError for none, for one given twice, and for sizes that
    the data have not."""
    seeds = [as_integer(seed, "seed", least=0) for seed in (range(seeds) if isinstance(seeds, (int, np.integer)) else seeds)]
    sizes = [len(data.train)] if sizes is None else list(sizes)
    if not seeds or not sizes:
        raise UserError(f"{len(seeds)} seeds and {len(sizes)} sizes make no member: give at least one of each")
    for what, values in {"seed": seeds, "size": sizes}.items():
        if repeated := [v for v in values if values.count(v) > 1]:
            raise UserError(f"{what} {repeated[0]} is there twice: give each once")
    for n in sizes:
        data.subset(n)  # refuses what the data do not have
    return [Member(name, recipe, int(seed), int(n)) for name, recipe in settings.items() for n in sizes for seed in seeds]


def check(
    chosen: Game | None, members: list[Member], data: Any, steps: int, order: str, baseline: str | None, most: int | None
) -> None:
    """Refuse an unknown order or baseline, too many steps, and recipes that their game or their
    numbers' ranges refuse."""
    if order not in ("shared", "own"):
        raise UserError(f"unknown order {order!r}: use 'shared' (one for all members) or 'own' (one for each seed)")
    if baseline is not None and baseline not in (names := dict.fromkeys(m.setting for m in members)):
        raise UserError(f"the baseline {baseline!r} is no setting of this sweep: it has {listed(names)}")
    if most is not None and most < 1:
        raise UserError(f"members_per_program is {most}: it must be at least 1")
    for indices in by_structure(members):
        first, fewest = members[indices[0]], min(members[i].n for i in indices)
        game = game_of(first.recipe, chosen)
        if steps * game.examples(first.recipe) > MAX_POSITION:
            raise UserError(f"{steps} steps of {game.examples(first.recipe)} examples are over {MAX_POSITION}: take fewer")
        if game.check:
            game.check(first.recipe, data.subset(fewest))
    for member in {m.setting: m for m in members}.values():
        try:
            check_numbers(member.recipe)
        except UserError as error:
            raise UserError(f"setting {member.setting!r}: {error}") from None


def origin_for(members: list[Member], data: Any, game: Game | None, warm_start: Any, trusted: Sequence[str]) -> Run | None:
    """The run that every member begins from, or None. Raises UserError where there is none, or
    networks are others."""
    if warm_start is None:
        return None
    run = origin_of(warm_start, data, trusted)
    first = {members[indices[0]].setting: members[indices[0]].recipe for indices in by_structure(members)}
    for setting, recipe in first.items():
        try:
            check_origin(run, recipe, game_of(recipe, game))
        except UserError as error:
            raise UserError(f"setting {setting!r}: {error}") from None
    return run


def check_shares(chosen: Game | None, members: list[Member], data: Any, devices: int, per_member: int | None) -> None:
    """Refuse a number of devices that cannot share every member's batch."""
    for indices in by_structure(members) if per_member is not None else ():
        recipe = members[indices[0]].recipe
        possible_shares(game_of(recipe, chosen), recipe, data, devices, per_member)


def check_metric(chosen: Game | None, members: list[Member], data: Any, metric: str) -> None:
    """Refuse to rank by what no setting measures. The default may be measured by none: then nothing
    is ranked."""
    known: dict[str, None] = {}
    for indices in by_structure(members) if metric != GAP else ():
        first, fewest = members[indices[0]], min(members[i].n for i in indices)
        game = game_of(first.recipe, chosen)
        known |= dict.fromkeys(_metrics(game, first.recipe, data, fewest))
        if metric in known:
            return
    if known:
        raise UserError(f"rank_by: no setting measures {metric!r}; there are {listed(sorted(known))}")


def _metrics(game: Game, recipe: Any, data: Any, n: int) -> list[str]:
    """Names of what a step and an evaluation of it measure; nothing is run."""
    state = jax.eval_shape(game.init, recipe, jax.random.key(0))
    found = jax.eval_shape(lambda *x: game.step(recipe, *x)[1], state, abstract_batch(game, recipe, data))
    judged = judged_of(data.subset(n), n) if game.evaluate else None
    if judged is not None:
        found |= jax.eval_shape(lambda s: game.evaluate(recipe, s, *judged), state)  # pyright: ignore[reportOptionalCall]
    return list(found)
