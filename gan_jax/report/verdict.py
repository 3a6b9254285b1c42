"""The rule that turns numbers into one phrase, and the sentences that say which numbers decided it.

T are the training images and D is the discriminator. The phrases are tried in this order. The first
that holds is the verdict, and the others that hold are listed beside it:

    diverged                 training stopped at a loss that is not finite, or a parameter is not
                             finite
    mode loss                the samples have collapsed: their variance is below ONE_POINT of that
                             of held-out images
    generator memorises      samples are copies of T: exactly, nearly, or up to a change of place,
                             size or light (`gan_jax.report.copying`; the tests together err for at
                             most 1 in 100 generators that never saw T)
    discriminator overfits   D tells T from held-out images with an AUC that is surely above .5 and
                             exceeds .5 by more than GAP
    mode loss                more than LOST of the held-out images lie in cells (k-means of T's
                             features) that samples hardly reach, or samples cover less than COVERED
                             of what real data cover; and the samples are at least PRECISE as
                             precise as real data: real images of half of the classes are .99 as
                             precise, mirrored real images .5 to .9 (of imprecise samples one cannot
                             tell what is missing from what is misplaced, and they underfit)
    underfits                a nearest neighbour tells samples from held-out images more often than
                             it tells real data from them, by more than MISFIT, or precision is
                             below that of real data by more than MISFIT
    cannot tell              none holds, but one could not be judged: its numbers do not tell the
                             controls apart here
    healthy                  none holds

A number is uninformative where its controls do not come out in their order; such a number decides
nothing. `experiments/planted_truths.py` shows what the thresholds do on planted cases, and how they
were frozen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gan_jax.report.number import Number

HEALTHY, D_OVERFITS, MEMORISES, MODE_LOSS = "healthy", "discriminator overfits", "generator memorises", "mode loss"
UNDERFITS, DIVERGED, CANNOT_TELL = "underfits", "diverged", "cannot tell"
PHRASES = (HEALTHY, D_OVERFITS, MEMORISES, MODE_LOSS, UNDERFITS, DIVERGED, CANNOT_TELL)

Finding = tuple[bool | None, str]  # whether it holds (None: the numbers do not decide), and why

# thresholds of the rule above; shares, but COPIES is a factor
GAP = 0.05
LOST = 0.1
COVERED = 0.7
PRECISE = 0.9
MISFIT = 0.1
ONE_POINT = 1e-3


@dataclass(frozen=True)
class Verdict:
    """phrase: one of PHRASES; reasons: the sentences that decided it; also: what else holds, or
    could not be decided."""

    phrase: str
    reasons: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def decide(
    numbers: Mapping[str, Number], copying: Finding = (False, ""), diverged: str | None = None, collapsed: str | None = None
) -> Verdict:
    """The verdict. copying: whether the generator memorises, see `copying.Copying.finding`;
    diverged, collapsed: why the run diverged, how the samples collapsed, or None."""
    if diverged:
        return Verdict(DIVERGED, (diverged,))
    found = {MODE_LOSS: (True, collapsed)} if collapsed else {}
    found |= {
        MEMORISES: copying,
        D_OVERFITS: discriminator_overfits(numbers),
        MODE_LOSS: found.get(MODE_LOSS) or mode_loss(numbers),
        UNDERFITS: underfits(numbers),
    }
    held = [phrase for phrase, (holds, _) in found.items() if holds]
    unknown = [(phrase, sentence) for phrase, (holds, sentence) in found.items() if holds is None]
    if held:
        first, *others = held
        also = tuple(f"{phrase}: {found[phrase][1]}" for phrase in others)
        return Verdict(first, (found[first][1],), also + tuple(f"{p}: cannot tell: {sentence}" for p, sentence in unknown))
    if unknown:
        return Verdict(CANNOT_TELL, tuple(f"{phrase}: {sentence}" for phrase, sentence in unknown))
    return Verdict(HEALTHY, tuple(sentence for _, sentence in found.values() if sentence))


def _usable(numbers: Mapping[str, Number], *keys: str) -> list[Number]:
    return [numbers[key] for key in keys if key in numbers and numbers[key].informative]


def _low(number: Number) -> float:
    """The lower end of the interval; -inf where there is none, so that nothing is sure."""
    return -math.inf if number.low is None else number.low


def discriminator_overfits(numbers: Mapping[str, Number]) -> Finding:
    if "d_auc" not in numbers:
        return False, ""
    auc = numbers["d_auc"]
    holds = _low(auc) > 0.5 and auc.value > 0.5 + GAP
    return holds, f"D tells T from held-out images with AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}; chance is .500)"


def mode_loss(numbers: Mapping[str, Number]) -> Finding:
    missing, covered = _usable(numbers, "missing"), _usable(numbers, "coverage")
    if not missing and not covered:
        return None, "half of the modes would not show here"
    precision = numbers["precision"]
    precise = precision.value >= PRECISE * precision.controls["real"].value
    outcomes = []
    if missing:
        lost = missing[0].value
        outcomes.append((lost > LOST, f"{lost:.0%} of the held-out images lie in cells that the samples hardly reach"))
    if covered:
        coverage, real = covered[0].value, covered[0].controls["real"].value
        outcomes.append(
            (coverage < COVERED * real, f"the samples cover {coverage:.2f} of the held-out images, real data {real:.2f}")
        )
    holds, sentence = max(outcomes, key=lambda found: found[0])
    return holds and precise, sentence


def collapse(samples: np.ndarray, held_out: np.ndarray) -> str | None:
    """How samples [n, d] have collapsed: their variance is less than ONE_POINT of that of held-out
    examples [m, d] of the same features; None where it is not."""
    spread, real = (float(x.var(0, dtype=np.float64).sum()) for x in (samples, held_out))
    if spread >= ONE_POINT * real:
        return None
    part = f"{spread / real:.1g} of that of real data (one point has 0)"
    return f"the generator has collapsed: the variance of all {len(samples)} samples is {part}"


def underfits(numbers: Mapping[str, Number]) -> Finding:
    usable = _usable(numbers, "one_nn_generated", "precision")
    if not usable:
        return None, "blurred images would not show here"
    outcomes = []
    for number in usable:
        real = number.controls["real"].value
        excess = (number.value - real) * (-1 if number.kind.worse == "lower" else 1)
        outcomes.append((excess, f"{number.label}: {number.value:.2f}, of real data {real:.2f}"))
    excess, sentence = max(outcomes)
    return excess > MISFIT, sentence
