"""What a sweep was asked for: settings become members, and what cannot be meant is refused before a
step is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.ranges import check_numbers
from gan_jax.core.text import shorten
from gan_jax.data.order import MAX_POSITION
from gan_jax.data.splits import Splits, as_integer
from gan_jax.gan.game import game_of
from gan_jax.sweeps.layout import abstract_batch, possible_shares
from gan_jax.sweeps.population import Member
from gan_jax.training.feed import evaluation_sets
from gan_jax.training.fit import check_origin, origin_of
from gan_jax.training.run import Run

GAP = "D/train_validation_auc"  # the metric that ranks settings by default


def named_settings(settings: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """{name: recipe}; the recipes of a list are named by their positions. Raises UserError for no
    recipe, and for a name that no table can hold."""
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


def members_of(settings: dict[str, Any], data: Splits, seeds: int | Sequence[int], sizes: Sequence[int] | None) -> list[Member]:
    """Settings x sizes x seeds. Raises UserError where one of the three is empty, for a seed or size
    that is given twice, and for a size that the data do not have."""
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


def check_sweep(
    game: Game | None, structures: list[list[Member]], data: Splits, steps: int, order: str, baseline: str | None,
    most: int | None,
) -> None:  # fmt: skip
    """Refuse an unknown order or baseline, too many steps, and recipes that their game or the ranges
    of their numbers refuse."""
    settings = {member.setting: member.recipe for members in structures for member in members}
    if order not in ("shared", "own"):
        raise UserError(f"unknown order {order!r}: use 'shared' (one for all members) or 'own' (one for each seed)")
    if baseline is not None and baseline not in settings:
        raise UserError(f"the baseline {baseline!r} is no setting of this sweep: it has {listed(settings)}")
    if most is not None and most < 1:
        raise UserError(f"members_per_program is {most}: it must be at least 1")
    for members in structures:
        recipe = members[0].recipe
        one = game_of(recipe, game)
        if steps * one.examples(recipe) > MAX_POSITION:
            raise UserError(f"{steps} steps of {one.examples(recipe)} examples are over {MAX_POSITION}: take fewer")
        if one.check:
            one.check(recipe, data.subset(min(member.n for member in members)))
    for setting, recipe in settings.items():
        with _of_setting(setting):
            check_numbers(recipe)


@contextmanager
def _of_setting(setting: str) -> Iterator[None]:
    """Names the setting in a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"setting {setting!r}: {error}") from None


def origin_for(
    structures: list[list[Member]], data: Splits, game: Game | None, warm_start: Run | str | Path | None, trusted: Sequence[str]
) -> Run | None:
    """The run that every member begins from, or None. Raises UserError where there is no such run,
    or it has other networks than a setting."""
    if warm_start is None:
        return None
    run = origin_of(warm_start, data, trusted)
    for member in (members[0] for members in structures):
        with _of_setting(member.setting):
            check_origin(run, member.recipe, game_of(member.recipe, game))
    return run


def check_shares(game: Game | None, structures: list[list[Member]], data: Splits, devices: int, per_member: int | None) -> None:
    """Refuse a number of devices that cannot share every member's batch."""
    for recipe in [members[0].recipe for members in structures] if per_member is not None else ():
        possible_shares(game_of(recipe, game), recipe, data, devices, per_member)


def check_metric(game: Game | None, structures: list[list[Member]], data: Splits, metric: str) -> None:
    """Refuse to rank by a metric that no setting measures. Where nothing measures the default,
    nothing is ranked."""
    known: dict[str, None] = {}
    for members in structures if metric != GAP else ():
        recipe = members[0].recipe
        known |= dict.fromkeys(_metrics(game_of(recipe, game), recipe, data, min(member.n for member in members)))
        if metric in known:
            return
    if known:
        raise UserError(f"rank_by: no setting measures {metric!r}; there are {listed(sorted(known))}")


def _metrics(game: Game, recipe: Any, data: Splits, n: int) -> list[str]:
    """Names of what a step and an evaluation of it measure; nothing is run."""
    state = jax.eval_shape(game.init, recipe, jax.random.key(0))
    found = jax.eval_shape(lambda *x: game.step(recipe, *x)[1], state, abstract_batch(game, recipe, data))
    sets = evaluation_sets(data.subset(n), n) if game.evaluate else None
    if sets is not None:
        found |= jax.eval_shape(lambda s: game.evaluate(recipe, s, *sets), state)  # pyright: ignore[reportOptionalCall]
    return list(found)
