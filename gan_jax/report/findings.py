"""What a report found, as data: the verdict, the numbers, and what was examined."""

from dataclasses import dataclass, field
from typing import Any

from gan_jax.report.metric_specs import ROWS
from gan_jax.report.number import Number
from gan_jax.report.verdict import Verdict


@dataclass
class Findings:
    """What `overfitting_report` found.

    judged: the verdict with its reasons. numbers: by the keys of `metric_specs.METRIC_SPECS`.
    about: the run and the data. protocol: all that the numbers depend on.
    evidence: arrays and rows for the pictures. not_measured: {row: why it has no number}.
    """

    judged: Verdict
    numbers: dict[str, Number]
    about: dict[str, Any]
    protocol: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict, repr=False)
    not_measured: dict[int, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One of the seven phrases of `verdict.PHRASES`."""
        return self.judged.phrase

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences that decided the verdict."""
        return self.judged.reasons

    def rows(self) -> list[tuple[int, str, list[Number], str]]:
        """The twelve rows: number, title, its numbers, and why it has none."""
        by_row: dict[int, list[Number]] = {}
        for number in self.numbers.values():
            by_row.setdefault(number.kind.row, []).append(number)
        return [(row, title, by_row.get(row, []), self.not_measured.get(row, "")) for row, title in ROWS.items()]

    def verdict_line(self) -> str:
        """The verdict, the numbers that decided it, and what else was found."""
        line = f"verdict: {self.verdict}" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")
        lines = [line, *(f"also: {sentence}" for sentence in self.judged.also)]
        if (times := len(self.about.get("openings", []))) > 1:
            lines.append(f"S has been opened {times} times for this run: what it says is no longer fresh")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, ready for JSON."""
        return {
            "verdict": self.verdict, "reasons": list(self.reasons), "also": list(self.judged.also), "about": self.about,
            "protocol": self.protocol, "numbers": {key: number.to_json() for key, number in self.numbers.items()},
            "not_measured": {str(row): why for row, why in self.not_measured.items()},
        }  # fmt: skip
