"""The rule that turns numbers into one phrase, and the sentences that say which numbers decided it.

In this order, the first that holds is the verdict and the others that hold are told beside it:

    diverged                 training stopped at a loss that is not finite, or samples are not finite
    generator memorises      near-copies of T, in features or in pixels, surely (lower end of the interval) more than COPIES
                             times the false-positive rate, and samples surely nearer to T than to held-out images
    discriminator overfits   D tells T from held-out images with an AUC surely above .5 and by more than GAP
    mode loss                more than LOST of the held-out images lie in cells that samples hardly reach, or samples cover
                             less than COVERED of what real data cover; and the samples are in the modes that they have: at
                             least PRECISE as precise as real data (else what is missing and what is misplaced look alike)
    underfits                samples alone are told from held-out images by their nearest neighbour more often than real data
                             by more than MISFIT, or precision is below that of real data by more than MISFIT
    cannot tell              none holds, but one could not be judged: its numbers do not tell the controls apart here
    healthy                  none holds

An uninformative number (its controls do not come out in their order) decides nothing. What the
thresholds do on planted cases, and how they were frozen, is in `experiments/planted_truths.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEALTHY, D_OVERFITS, MEMORISES, MODE_LOSS = "healthy", "discriminator overfits", "generator memorises", "mode loss"
UNDERFITS, DIVERGED, CANNOT_TELL = "underfits", "diverged", "cannot tell"
PHRASES = (HEALTHY, D_OVERFITS, MEMORISES, MODE_LOSS, UNDERFITS, DIVERGED, CANNOT_TELL)

COPIES = 3.0
GAP = 0.05
LOST = 0.1
COVERED = 0.7
PRECISE = 0.5
MISFIT = 0.1


@dataclass(frozen=True)
class Verdict:
    """phrase: one of PHRASES; reasons: the sentences that decided it; also: what else holds, or
    could not be judged."""

    phrase: str
    reasons: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def decide(numbers: Mapping[str, Any], rate: float, diverged: str | None = None) -> Verdict:
    """The verdict on numbers ({key: Number}), whose near-copies have the false-positive rate
    `rate`. diverged: why, or None."""
    if diverged:
        return Verdict(DIVERGED, (diverged,))
    found = {
        MEMORISES: _memorises(numbers, rate),
        D_OVERFITS: _discriminator(numbers),
        MODE_LOSS: _mode_loss(numbers),
        UNDERFITS: _underfits(numbers),
    }
    held = [phrase for phrase, (holds, _) in found.items() if holds]
    unknown = [(phrase, said) for phrase, (holds, said) in found.items() if holds is None]
    if held:
        first, *others = held
        also = tuple(f"{phrase}: {found[phrase][1]}" for phrase in others)
        return Verdict(first, (found[first][1],), also + tuple(f"{p}: cannot tell: {said}" for p, said in unknown))
    if unknown:
        return Verdict(CANNOT_TELL, tuple(f"{phrase}: {said}" for phrase, said in unknown))
    return Verdict(HEALTHY, tuple(said for _, said in found.values() if said))


def _usable(numbers: Mapping[str, Any], *keys: str) -> list[Any]:
    return [numbers[key] for key in keys if key in numbers and numbers[key].informative]


def _memorises(numbers: Mapping[str, Any], rate: float) -> tuple[bool | None, str]:
    near = _usable(numbers, "near_copies", "near_copies_pixels")
    share = numbers.get("copy_share")
    if not near or share is None:
        return None, "near-copies of T are not told from real images here"
    worst = max(near, key=lambda number: number.low)
    holds = worst.low > COPIES * rate and share.low > 0
    return holds, (
        f"{worst.value:.1%} of the samples are near-copies of T (95 % interval {worst.low:.1%} to {worst.high:.1%}; "
        f"of fresh real images {rate:.0%} would be), and {share.value:+.2f} more than chance are nearest to T"
    )


def _discriminator(numbers: Mapping[str, Any]) -> tuple[bool | None, str]:
    if "d_auc" not in numbers:
        return False, ""
    auc = numbers["d_auc"]
    holds = auc.low > 0.5 and auc.value > 0.5 + GAP
    return holds, f"D tells T from held-out images with AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}; chance is .500)"


def _mode_loss(numbers: Mapping[str, Any]) -> tuple[bool | None, str]:
    missing, covered = _usable(numbers, "missing"), _usable(numbers, "coverage")
    if not missing and not covered:
        return None, "half of the modes would not show here"
    precision = numbers["precision"]
    precise = precision.value >= PRECISE * precision.controls["real"].value
    said = []
    if missing:
        lost = missing[0].value
        said.append((lost > LOST, f"{lost:.0%} of the held-out images lie in cells that the samples hardly reach"))
    if covered:
        coverage, real = covered[0].value, covered[0].controls["real"].value
        said.append(
            (coverage < COVERED * real, f"the samples cover {coverage:.2f} of the held-out images, real data {real:.2f}")
        )
    holds, sentence = max(said, key=lambda found: found[0])
    return holds and precise, sentence


def _underfits(numbers: Mapping[str, Any]) -> tuple[bool | None, str]:
    usable = _usable(numbers, "one_nn_generated", "precision")
    if not usable:
        return None, "blurred images would not show here"
    said = []
    for number in usable:
        excess = number.value - number.controls["real"].value
        if number.kind.worse == "lower":
            excess = -excess
        said.append((excess, f"{number.label}: {number.value:.2f}, of real data {number.controls['real'].value:.2f}"))
    excess, sentence = max(said)
    return excess > MISFIT, sentence
