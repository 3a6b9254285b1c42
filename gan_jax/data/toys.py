"""Two-dimensional mixtures of Gaussians with a known density: the 8-mode ring and the 25-mode grid.

The sizes, modes and widths are those of PacGAN (Lin et al., 2018, arXiv:1712.04086).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gan_jax.arguments import count
from gan_jax.data.splits import NAMES, Split, Splits, seed_sequence


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of isotropic Gaussians of equal weight.

    modes: float64 [k, d]; sigma: standard deviation of every mode
    """

    modes: np.ndarray
    sigma: float

    def log_density(self, x: npt.ArrayLike) -> np.ndarray:
        """The natural logarithm of the density, float64 [n], at points x [n, d]."""
        x = np.asarray(x, np.float64)
        k, d = self.modes.shape
        squared = ((x[:, None, :] - self.modes) ** 2).sum(-1)
        exponent = -squared / (2 * self.sigma**2)
        top = exponent.max(1, keepdims=True)  # subtracted, or far from every mode the sum underflows to 0
        log_sum = top[:, 0] + np.log(np.exp(exponent - top).sum(1))
        return log_sum - np.log(k) - d / 2 * np.log(2 * np.pi * self.sigma**2)

    def sample(self, n: int, seed: int) -> np.ndarray:
        """`n` independent points, float32 [n, d]."""
        return self.draw(count(n, "n", least=0), seed_sequence(seed, "sample")).images

    def draw(self, n: int, sequence: np.random.SeedSequence) -> Split:
        """`n` independent points (float32 [n, d]), labelled with their mode."""
        rng = np.random.Generator(np.random.PCG64(sequence))
        labels = rng.integers(len(self.modes), size=n, dtype=np.int32)
        points = self.modes[labels] + self.sigma * rng.standard_normal((n, self.modes.shape[1]))
        return Split(points.astype(np.float32), labels)


def ring() -> Mixture:
    """8 modes on the unit circle, sigma 0.01."""
    angle = 2 * np.pi * np.arange(8) / 8
    return Mixture(np.stack([np.cos(angle), np.sin(angle)], 1), 0.01)


def grid() -> Mixture:
    """25 modes at {-4, -2, 0, 2, 4} x {-4, -2, 0, 2, 4}, sigma 0.05."""
    axis = np.arange(-4.0, 5.0, 2.0)
    return Mixture(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), 0.05)


def toy_splits(name: str, density: Mixture, seed: int) -> Splits:
    """100,000 training points and 10,000 in each other split, independently from `density`."""
    seed = count(seed, "seed", least=0)
    sizes = dict.fromkeys(NAMES, 10_000) | {"train": 100_000}
    parts = (density.draw(sizes[part], seed_sequence(seed, f"{name} {part}")) for part in NAMES)
    class_names = tuple(str(i) for i in range(len(density.modes)))
    return Splits(name, seed, *parts, class_names=class_names, duplicates=dict.fromkeys(NAMES, 0), density=density)
