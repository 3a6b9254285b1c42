"""The theory of the Dirac-GAN (Mescheder et al., 2018), and what is measured of its paths: for
`dirac_gan.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import gan_jax as gan

START = (1, -1)
WEIGHT, STD = 0.35, 1.0  # of WGAN-GP (.7 in Mescheder's code, where it multiplies the gradient) and of instance noise


class Regulariser(NamedTuple):
    """One row of a program: the strength of each regulariser; 0 is absence."""

    name: str
    r1: float = 0.0
    gp: float = 0.0
    noise: float = 0.0


# ---- what theory says --------------------------------------------------------------------------


class Slopes:
    """The derivatives of a loss by its logits, of which all of the theory is made."""

    def __init__(self, loss: str):
        import jax
        import jax.numpy as jnp

        def terms(real, fake):
            return gan.recipes.loss(loss)(gan.DiscriminatorOutput(real[None]), gan.DiscriminatorOutput(fake[None]), None)

        def discriminator(real, fake):
            found = terms(real, fake)
            return (found.real + found.fake)[0]

        zero = jnp.zeros(())
        slope = jax.grad(lambda fake: terms(zero, fake).generator[0])
        self.generator = lambda logit: float(slope(jnp.asarray(logit, float)))
        self.up = float(jax.grad(discriminator, 1)(zero, zero))
        self.down = -self.generator(0.0)
        self.curvature = sum(float(jax.grad(jax.grad(discriminator, i), i)(zero, zero)) for i in (0, 1))

    def matrix(self, play: str, h: float, kind: Regulariser) -> np.ndarray:
        """One step near (0, 0): how (theta, psi) after it depends on (theta, psi) before it."""
        damping = kind.r1 + self.curvature * kind.noise**2
        discriminate = np.array([[1, 0], [-h * self.up, 1 - h * damping]])
        generate = np.array([[1, h * self.down], [0, 1]])
        return generate @ discriminate if play == "alternating" else generate + discriminate - np.eye(2)


def law(loss: str, kind: Regulariser, play: str, h: float, steps: int) -> float | None:
    """The last radius, where it follows from more than the matrix (to first order in h)."""
    start, together = math.hypot(*START), play == "simultaneous"
    match loss, kind.name.split()[0]:
        case "non_saturating", "none":
            return math.sqrt(2 * h) if together else math.sqrt(8 / (h * steps + 8 / start**2))
        case "wasserstein", "none" if together:
            return float(start * np.float64(1 + h * h) ** (steps / 2))
        case "wasserstein", "WGAN-GP":  # the amplitude at which the push out and the pull in spend equal energy
            growth = h / (2 * WEIGHT) if together else 0.0
            return 4 / math.pi / (1 - growth) if growth < 1 else None
    return None


MESCHEDER = {  # after 500 steps of .2 in Mescheder's code: alternating (G first), simultaneous
    ("minimax", "none"): (1.42, 3.10),
    ("non_saturating", "none"): (0.284, 0.640),
    ("wasserstein", "none"): (1.40, 2.56e4),
    ("wasserstein", "WGAN-GP 0.35"): (1.22, 1.80),
    ("minimax", "R1 0.3"): (2.30e-7, 2.64e-6),
    ("minimax", "R1 1"): (7.48e-17, 9.53e-22),
    ("minimax", "R1 2"): (1.93e-6, 1.33e-6),
    ("non_saturating", "R1 0.3"): (1.50e-7, 2.21e-6),
}


# ---- what was measured -------------------------------------------------------------------------


def radius(points: np.ndarray) -> Any:
    return np.hypot(points[..., 0], points[..., 1])


def contraction(points: np.ndarray, eigenvalues: np.ndarray) -> float | None:
    """The factor of the radius per step near (0, 0), over whole turns of the path; None if it is
    too short for that.

    points: the path less the one that starts at rest, so that instance noise, the same in both,
        cancels.
    """
    r = radius(points)
    near = (r > 1e-13) & (r < 0.1)  # above rounding, below what is not linear
    last = int(np.argmin(near)) - 1 if not near.all() else len(r) - 1
    if last < 20:
        return None
    first, angle = last // 2, abs(np.angle(eigenvalues[0]))
    angle = min(angle, np.pi - angle)  # the radius looks the same after half a turn
    if abs(eigenvalues[0] - eigenvalues[1]) < 1e-6:  # a double eigenvalue: n * factor^n
        r = r / np.maximum(np.arange(len(r)), 1)
    elif angle > 0:  # a complex pair
        turns = np.arange(first, last + 1) * angle / np.pi
        if turns[-1] < 1:
            return None
        first, last = 0, first + int(np.argmin(np.abs(turns - np.round(turns))))
    return float((r[last] / r[first]) ** (1 / (last - first)))


OUTCOMES = {  # Okabe and Ito's colours
    "converges": "#009E73",
    "converges slowly": "#56B4E9",
    "keeps moving": "#0072B2",
    "stops off target": "#E69F00",
    "diverges": "#D55E00",
    "too short to tell": "#777777",
}


def outcome(path: np.ndarray) -> str:
    """What becomes of a run, from the largest radius in its last tenth and in the tenth before its
    middle."""
    r, tenth = radius(path), len(path) // 10
    if len(path) < 50:
        return "too short to tell"
    middle, end = r[len(r) // 2 - tenth : len(r) // 2].max(), r[-tenth:].max()
    moved, moves = np.ptp(path, 0).max(), np.ptp(path[-tenth:], 0).max()
    if not np.isfinite(end) or end > max(1.1 * middle, r[0]):
        return "diverges"
    if moves < 0.01 * min(end, moved) and end > 1e-6 * r[0]:
        return "stops off target"
    if end < 0.1 * r[0]:
        return "converges"
    return "converges slowly" if end < min(0.9 * middle, 0.5 * r[0]) else "keeps moving"
