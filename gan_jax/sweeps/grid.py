"""The settings of a sweep: named recipes that differ in some numbers, on a grid or drawn from
ranges."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_jax.arguments import refuse
from gan_jax.core.bind import with_leaves
from gan_jax.core.errors import UserError


def named_settings(settings: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """{name: recipe}; the recipes of a list are named by their positions. Raises UserError for no
    recipe, for a name that no table can hold, and for what is no recipe."""
    if not isinstance(settings, Mapping):
        if not isinstance(settings, Sequence) or isinstance(settings, (str, bytes)):
            raise UserError(f"settings are {{name: recipe}} or a list of recipes, not a {type(settings).__name__}")
        settings = {f"setting {i}": recipe for i, recipe in enumerate(settings)}
    if not settings:
        raise UserError("a sweep without settings: give at least one recipe")
    for name, recipe in settings.items():
        if not isinstance(name, str):
            refuse(name, "the name of a setting", f"text, such as {str(name)!r}")
        if set(name) & {"\r", "\0"} or any("\ud800" <= c <= "\udfff" for c in name):
            raise UserError(f"the setting {name!r} has a character that no table can hold: name it otherwise")
        if recipe is None or isinstance(recipe, (str, bytes, int, float, np.generic, np.ndarray)):
            refuse(recipe, f"the setting {name!r}", "a recipe")
    return dict(settings)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn uniformly or, with `log`, uniformly in the logarithm.
    Raises UserError where it is empty, or where `low` has no logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise UserError(f"a range from {self.low:g} to {self.high:g} is empty: give low < high")
        if self.log and self.low <= 0:
            raise UserError(f"a log range from {self.low:g} has no logarithm: start above 0")

    def at(self, share: np.ndarray) -> np.ndarray:
        """The numbers at these shares, in [0, 1), of the range."""
        if self.log:
            return np.exp(np.log(self.low) + share * (np.log(self.high) - np.log(self.low)))
        return self.low + share * (self.high - self.low)


def grid(recipe: Any, values: Mapping[str, Iterable[float]]) -> dict[str, Any]:
    """{name: recipe} for every combination of values. values: {dotted path of a leaf: its values}.

    Raises UserError for a path that names no leaf, and for a leaf without values.
    """
    return _settings(recipe, _combined(values))


def _combined(values: Mapping[str, Iterable[float]]) -> list[dict[str, float]]:
    listed = {path: list(options) for path, options in values.items()}
    for path, options in listed.items():
        if not options:
            raise UserError(f"{path} has no values to sweep: give at least one")
    return [dict(zip(listed, chosen, strict=True)) for chosen in itertools.product(*listed.values())]


def draw(recipe: Any, ranges: Mapping[str, Range], n: int, *, method: str = "latin_hypercube", seed: int = 0) -> dict[str, Any]:
    """{name: recipe} for n recipes with numbers drawn from ranges of leaves, by dotted path.

    method: 'latin_hypercube' (McKay et al. 1979: one number in each of n equal slices of every
    range) or 'random' (independent numbers).
    Raises UserError for a path that names no leaf, another method, and n < 1.
    """
    return _settings(recipe, _drawn(ranges, n, method, seed))


def _drawn(ranges: Mapping[str, Range], n: int, method: str, seed: int) -> list[dict[str, float]]:
    from scipy.stats import qmc

    if n < 1:
        raise UserError(f"{n} draws asked for: ask for at least 1")
    if method not in ("latin_hypercube", "random"):
        raise UserError(f"unknown way to draw {method!r}: use 'latin_hypercube' or 'random'")
    rng, size = np.random.default_rng(seed), len(ranges)
    shares = qmc.LatinHypercube(size, rng=rng).random(n) if method == "latin_hypercube" else rng.random((n, size))
    numbers = {path: span.at(shares[:, i]) for i, (path, span) in enumerate(ranges.items())}
    return [{path: float(x[i]) for path, x in numbers.items()} for i in range(n)]


def _settings(recipe: Any, chosen: list[dict[str, float]]) -> dict[str, Any]:
    short = short_names(list(chosen[0]))
    named: dict[str, Any] = {}
    for values in chosen:
        name = ", ".join(f"{short[path]}={value:.4g}" for path, value in values.items()) or "default"
        while name in named:  # values that differ beyond the digits shown
            name += "'"
        named[name] = with_leaves(recipe, values)
    return named


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """{dotted path: as few of its last parts as distinguish it from the other paths}."""
    short = {}
    for path in paths:
        parts = path.split(".")
        tails = [".".join(parts[-k:]) for k in range(1, len(parts) + 1)]
        rivals = lambda tail: sum(f".{other}".endswith(f".{tail}") for other in paths)
        short[path] = next((tail for tail in tails if rivals(tail) == 1), path)
    return short


def from_text(recipe: Any, vary: Sequence[str], number: int, method: str, seed: int = 0) -> dict[str, Any]:
    """Settings from a command line: 'path=0.1,1,10' lists values, 'path=0.1:100' and
    'path=log:0.1:100' are ranges.

    Lists are combined with each other, and with each of `number` draws from the ranges. Raises
    UserError for a text of another form, and for a path that is given twice.
    """
    lists, ranges = {}, {}
    for text in vary:
        path, equals, values = text.partition("=")
        if path in lists or path in ranges:
            raise UserError(f"{path} is there twice: write its values in one place")
        log = values.startswith("log:")
        try:
            if not equals or not values:
                raise ValueError
            if ":" not in values:
                lists[path] = [float(value) for value in values.split(",")]
                continue
            low, high = (float(end) for end in values.removeprefix("log:").split(":"))
        except ValueError:
            raise UserError(f"cannot read {text!r}: write path=0.1,1,10 or path=0.1:100 or path=log:0.1:100") from None
        ranges[path] = Range(low, high, log)
    drawn = _drawn(ranges, number, method, seed) if ranges else [{}]
    return _settings(recipe, [some | others for some in drawn for others in _combined(lists)])
