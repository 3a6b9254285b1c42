"""Randomness: every draw is a pure function of a key, a name, the step and the example's index.

Draws are keyed by name, so that adding a regulariser changes no other draw. They are keyed by the
index of the example in the whole batch, so that a run does not depend on the number of devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

MAX_POSITION = 2**31 - 1  # examples that one run may draw: positions are int32


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of a named draw: the words of the key, changed by a hash of the name.

    A counter-based generator gives unrelated streams for any two keys. `fold_in` for each name and
    example would give the same, and took two fifths of the time to compile a step.
    """
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    words = jax.random.key_data(key)
    return _rekeyed(key, words ^ digest[: words.shape[-1]])


def indexed(key: Key[Array, ""], index: Int[Array, ""]) -> Key[Array, ""]:
    """The key of one example's draw: each word changed by a bijection of the example's index."""
    words = jax.random.key_data(key)
    place = jnp.arange(1, 1 + words.shape[-1], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return _rekeyed(key, words ^ _mix(jnp.asarray(index, jnp.uint32) + place))


def _rekeyed(key, words):
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def in_a_row(draw: Callable, key: Key[Array, ""], shape: tuple[int, ...], *arguments) -> Array:
    """The numbers of `draw(key, shape, *arguments)`, drawn on one axis and then reshaped.

    On a CPU, XLA compiles a draw of several axes up to twenty times more slowly.
    """
    return draw(key, (int(np.prod(shape)),), *arguments).reshape(shape)


class Draws(struct.PyTreeNode):
    """The draws of one batch. index: [b] position of each example in the whole batch.

    What is drawn for an example depends on its index, and is sharded as the index is. Names add up
    to a path, which enters the key where something is drawn.
    """

    key: Key[Array, ""]
    index: Int[Array, "b"]
    path: str = struct.field(pytree_node=False, default="")

    def named(self, *names: str) -> Draws:
        return self.replace(path="/".join([self.path, *names]))

    def per_example(self, draw: Callable[[Key[Array, ""]], Array]) -> Array:
        """`draw(key)` for each example, stacked on the first axis."""
        key = named(self.key, self.path)
        return jax.vmap(lambda i: draw(indexed(key, i)))(self.index)

    def normal(self, shape=(), dtype=jnp.float32) -> Float[Array, "b *shape"]:
        return self.per_example(lambda key: in_a_row(jax.random.normal, key, shape, dtype))

    def uniform(self, shape=(), dtype=jnp.float32, low=0.0, high=1.0) -> Float[Array, "b *shape"]:
        return self.per_example(lambda key: in_a_row(jax.random.uniform, key, shape, dtype)) * (high - low) + low

    def integers(self, high, shape=()) -> Int[Array, "b *shape"]:
        return self.per_example(lambda key: in_a_row(jax.random.randint, key, shape, 0, high))


def _mix(x):
    """A 32-bit finaliser (the constants of Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


ROUNDS = 24  # with 8 fewer than ten examples came in visibly unequal orders


def feistel(x, a, b, keys):
    """The Feistel network of `_shuffled`: a bijection of the a x b grid, in uint32 of JAX or NumPy."""
    left, right = x % a, x // a
    for i in range(0, ROUNDS, 2):
        left = (left + _mix(right ^ keys[i])) % a
        right = (right + _mix(left ^ keys[i + 1]) % b) % b  # reduced first: the sum must not wrap at 2^32
    return right * a + left


def round_keys(key):
    """The keys of the rounds of `feistel`, uint32 [ROUNDS]."""
    return jax.random.bits(key, (ROUNDS,), jnp.uint32)


def _shuffled(j, n, key):
    """The example at position j of an epoch: a keyed bijection of [0, n), with n traced.

    A Feistel network permutes an a x b grid of at least n cells. A value outside [0, n) is permuted
    again until it is inside, which keeps the map a bijection. Integer arithmetic gives the same
    order on every kind of device.
    """
    bits = 32 - jax.lax.clz(jnp.maximum(n, 1) - jnp.uint32(1))
    a = jnp.uint32(1) << ((bits + 1) // 2)
    once = partial(feistel, a=a, b=(n + a - 1) // a, keys=round_keys(key))
    return jax.lax.while_loop(lambda x: x >= n, once, once(j))


def order(key: Key[Array, ""], position: Int[Array, ""], n: Int[Array, ""]) -> Int[Array, ""]:
    """The example at `position` of an endless sequence of shuffled epochs of [0, n).

    Each epoch visits every example once, in its own order. position: below 2**31; n: at least 1,
    may be traced.
    """
    position, n = jnp.asarray(position, jnp.uint32), jnp.asarray(n, jnp.uint32)
    epoch = jax.random.fold_in(key, position // n)
    return _shuffled(position % n, n, epoch).astype(jnp.int32)
