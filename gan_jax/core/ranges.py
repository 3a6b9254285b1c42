"""The range of each number of a recipe, by its name."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from gan_jax.core.bind import Schedule, dotted, leaves
from gan_jax.core.errors import UserError


class Limits(NamedTuple):
    """Where a number may lie: [low, high), or [low, high] if `closed`, without low if `open`."""

    low: float = 0.0
    high: float = np.inf
    closed: bool = False
    open: bool = False

    def outside(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        above = value > self.high if self.closed else value >= self.high
        return ~np.isfinite(value) | (value < self.low) | above | (self.open & (value == self.low))

    def __str__(self) -> str:
        if self.high == np.inf:
            return ("be positive" if self.open else "not be negative") if self.low == 0 else "be a number"
        return f"lie in {'(' if self.open else '['}{self.low:g}, {self.high:g}{']' if self.closed else ')'}"


# By name, or by field and name. Any other number must be finite and not negative. Where 0 would
# switch a player off in silence (a gradient clipped to nothing), the number must be positive.
RANGES = dict.fromkeys(("dropout", "smoothing", "ema_decay", "b1", "b2", "decay"), Limits(0.0, 1.0)) | {
    "momentum": Limits(-1.0, 1.0),
    "max_norm": Limits(open=True),
    "limit": Limits(open=True),
    "latent.threshold": Limits(open=True),
    "controllers.horizon": Limits(open=True),
    "augment.p": Limits(0.0, 1.0, closed=True),
    "loss.share": Limits(0.0, 1.0, closed=True),
    "controllers.target": Limits(-np.inf),
}
ENDS = ("start", "stop", "before", "after", "floor")  # numbers of a schedule with the range of its leaf


def limits(path: str, schedules: Iterable[str] = ()) -> Limits:
    """The range of the number at this path. schedules: the paths of leaves that are schedules. The
    ends of a schedule, and the bounds of a controller, have the range of the leaf itself."""
    owner, _, name = path.rpartition(".")
    if owner in schedules and name in ENDS:
        return limits(owner, schedules)
    field = path.partition(".")[0]
    if field == "controllers" and name in ("low", "high"):
        return limits(owner.removeprefix("controllers."), schedules)
    return RANGES.get(f"{field}.{name}") or RANGES.get(name) or Limits()


def check_numbers(knobs: Any) -> None:
    """Raises UserError for a number outside its range or not finite, with path and value, and for
    what is no number in the place of one."""
    flat, _ = jax.tree_util.tree_flatten_with_path(knobs, is_leaf=lambda x: isinstance(x, Schedule))
    schedules = {dotted(path) for path, leaf in flat if isinstance(leaf, Schedule)}
    for path, value in leaves(knobs).items():
        if np.asarray(value).dtype.kind in "OUSc":
            name, what = getattr(value, "__name__", "function"), getattr(value, "__name__", None) or repr(value)
            raise UserError(f"{path} is {what}: give a number, or a function with its numbers by gan.bind({name}, ...)")
        allowed = limits(path, schedules)
        if np.any(bad := allowed.outside(value)):
            shown = float(np.asarray(value)[bad].ravel()[0])
            raise UserError(f"{path} is {shown:g}: it must be finite and {allowed}")
