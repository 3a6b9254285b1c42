"""Randomness: every draw is a pure function of a key, a name, the step and the example's index.

Thus adding a regulariser changes no other draw, and a run does not depend on the number of devices,
as the index is that of the example in the whole batch.
"""

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key


def named(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of a named draw: the words of the key, changed by a hash of the name. A counter-based
    generator gives unrelated streams for any two keys. `fold_in` for each name and example would do
    as well, but was two fifths of a step's compile time."""
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    words = jax.random.key_data(key)
    return _rekeyed(key, words ^ digest[: words.shape[-1]])


def indexed(key: Key[Array, ""], index: Int[Array, ""]) -> Key[Array, ""]:
    """The key of one example's draw: each word changed by a bijection of the example's index."""
    words = jax.random.key_data(key)
    place = jnp.arange(1, 1 + words.shape[-1], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return _rekeyed(key, words ^ mix(jnp.asarray(index, jnp.uint32) + place))


def _rekeyed(key, words):
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def in_a_row(draw: Callable, key: Key[Array, ""], shape: tuple[int, ...], *arguments) -> Array:
    """The numbers of `draw(key, shape, *arguments)`, drawn on one axis and then reshaped. On a CPU,
    XLA compiles a draw of several axes up to twenty times more slowly."""
    return draw(key, (int(np.prod(shape)),), *arguments).reshape(shape)


class Draws(struct.PyTreeNode):
    """The draws of one batch. index: [b] position of each example in the whole batch. What is drawn
    for an example depends on its index, and is sharded as the index is. `named` only extends a path
    of names; the path is hashed into the key where something is drawn."""

    key: Key[Array, ""]
    index: Int[Array, "b"]
    path: str = struct.field(pytree_node=False, default="")

    def named(self, *names: str) -> "Draws":
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


def mix(x):
    """An integer hash, a bijection of uint32 (Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
