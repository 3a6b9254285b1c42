"""The order of the data: endless shuffled epochs, as a pure function of key and position.

`order` runs on the device; `HostOrder` gives the same integers to processes that have no device.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from gan_jax.core.rng import mix

MAX_POSITION = 2**31 - 1  # examples that one run may draw: positions are int32
ROUNDS = 24  # with 8 fewer than ten examples came in visibly unequal orders


def feistel(x, a, b, keys):
    """A Feistel network: a bijection of the a x b grid, of integers uint32 of JAX or NumPy."""
    left, right = x % a, x // a
    for i in range(0, ROUNDS, 2):
        left = (left + mix(right ^ keys[i])) % a
        right = (right + mix(left ^ keys[i + 1]) % b) % b  # reduced first: the sum must not wrap at 2^32
    return right * a + left


def round_keys(key):
    """The keys of the rounds of `feistel`, uint32 [ROUNDS]."""
    return jax.random.bits(key, (ROUNDS,), jnp.uint32)


def order(key: Key[Array, ""], position: Int[Array, ""], n: Int[Array, ""]) -> Int[Array, ""]:
    """The example at `position` of an endless sequence of shuffled epochs of [0, n).

    Each epoch visits every example once, in its own order: a Feistel network permutes an a x b grid
    of at least n cells, and permutes a value outside [0, n) again until it is inside, which keeps
    the map a bijection. Integer arithmetic gives the same order on every kind of device.

    position: below 2**31; n: at least 1, may be traced
    """
    position, n = jnp.asarray(position, jnp.uint32), jnp.asarray(n, jnp.uint32)
    epoch = jax.random.fold_in(key, position // n)
    bits = 32 - jax.lax.clz(jnp.maximum(n, 1) - jnp.uint32(1))
    a = jnp.uint32(1) << ((bits + 1) // 2)
    once = partial(feistel, a=a, b=(n + a - 1) // a, keys=round_keys(epoch))
    return jax.lax.while_loop(lambda x: x >= n, once, once(position % n)).astype(jnp.int32)


@dataclass(frozen=True, eq=False)
class HostOrder:
    """`order` in NumPy, the same integers, for epochs of n examples from the epoch `first` on.

    keys: uint32 [epochs, ROUNDS], the round keys of each epoch
    """

    keys: np.ndarray
    n: int
    first: int

    @classmethod
    def between(cls, key: Key[Array, ""], start: int, stop: int, n: int) -> "HostOrder":
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
