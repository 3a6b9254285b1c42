"""The order of the data in NumPy, for processes that read data and have no device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from gan_jax.core.rng import feistel, round_keys


@dataclass(frozen=True, eq=False)
class HostOrder:
    """`core.rng.order` for some epochs, in NumPy: the same integers.

    keys:  uint32 [epochs, rounds], the round keys of the epochs from `first` on
    n:     examples of an epoch
    first: the first epoch
    """

    keys: np.ndarray
    n: int
    first: int

    @classmethod
    def between(cls, key: Key[Array, ""], start: int, stop: int, n: int) -> HostOrder:
        """The order of the epochs that hold the positions from `start` to `stop` - 1."""
        first, last = start // n, max(start, stop - 1) // n
        epochs = jnp.arange(first, last + 1, dtype=jnp.uint32)
        keys = jax.jit(jax.vmap(lambda epoch: round_keys(jax.random.fold_in(key, epoch))))(epochs)
        return cls(np.asarray(keys), n, first)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The examples [m] at these positions [m]."""
        epoch, place = np.divmod(np.asarray(positions, np.int64), self.n)
        a = 1 << ((self.n - 1).bit_length() + 1) // 2
        permute = partial(feistel, a=np.uint32(a), b=np.uint32((self.n + a - 1) // a))
        keys = self.keys[epoch - self.first].T
        found = permute(place.astype(np.uint32), keys=keys)
        while (outside := found >= self.n).any():
            found[outside] = permute(found[outside], keys=keys[:, outside])
        return found.astype(np.int64)
