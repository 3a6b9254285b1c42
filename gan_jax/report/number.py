"""One number of the report beside its controls, and the protocol that states whether two numbers
may be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.report.controls import CONTROLS, REAL
from gan_jax.report.metric_specs import METRIC_SPECS, MetricSpec
from gan_jax.report.numbers import Measured

VERSION = 2  # of the numbers' definitions: part of every protocol
CLEAR = 2.0  # standard errors by which a control has to come out worse than real data


@dataclass(frozen=True)
class Number:
    """One number of the report.

    low, high: its 95 % interval as far as it is possible, or None. controls: the same number of
    each control. protocol: all that the number depends on. caveat: that of `Measured`.
    """

    kind: MetricSpec
    label: str
    value: float
    low: float | None
    high: float | None
    controls: Mapping[str, Measured]
    protocol: Mapping[str, Any]
    caveat: str = ""

    @cached_property
    def why(self) -> str:
        """Why the number is no evidence here, or ''."""
        if self.caveat:
            return self.caveat
        if not np.isfinite(self.value):
            return "it is not finite"
        if REAL not in self.controls:
            return ""
        real = self.controls[REAL]
        for name in self.kind.sees:
            control = self.controls[name]
            worse = (control.value - real.value) * (1 if self.kind.worse == "higher" else -1)
            if not worse > CLEAR * (real.error**2 + control.error**2) ** 0.5:
                return f"{name} {control.value:.3g} is not told from real data {real.value:.3g}"
        return ""

    @property
    def informative(self) -> bool:
        """Whether every control that the number has to detect comes out worse than real data."""
        return not self.why

    def minus(self, other: "Number") -> float:
        """The difference of the values. Raises UserError where the protocols differ."""
        if differing := different(self.protocol, other.protocol):
            raise UserError(f"{self.label} cannot be compared: {differing}")
        return self.value - other.value

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.kind.row, "label": self.label, "value": _plain(self.value),
            "interval": [_plain(self.low), _plain(self.high)], "null": self.kind.null,
            "controls": {name: _plain(c.value) for name, c in self.controls.items()},
            "informative": self.informative, "why_not": self.why, "protocol": dict(self.protocol),
        }  # fmt: skip


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first key in which two protocols differ, with both values; '' where they agree."""
    for key in dict(one) | dict(other):
        if one.get(key) != other.get(key):
            return f"{key} is {_brief(one.get(key))} in one and {_brief(other.get(key))} in the other"
    return ""


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


def numbers_of(
    measured: Mapping[str, Measured],
    controls: Mapping[str, Mapping[str, Measured]],
    held_out: str,
    protocol: Mapping[str, Any],
    train: Mapping[str, Any],
) -> dict[str, Number]:
    """Numbers beside their controls. train: the protocol's additions for numbers that involve the
    training images."""
    numbers = {}
    for key, found in measured.items():
        kind = METRIC_SPECS[key]
        scores = {name: controls[name][key] for name in CONTROLS if key in controls.get(name, {})}
        own = dict(protocol) | (dict(train) if kind.train else {})
        label = kind.label.replace("{H}", held_out)
        least, most = kind.ends
        low = None if found.low is None else min(max(found.low, least), found.value)
        high = None if found.high is None else max(min(found.high, most), found.value)
        numbers[key] = Number(kind, label, found.value, low, high, scores, own, found.caveat)
    return numbers
