"""PacGAN (Lin et al., 2018): a discriminator of several examples, which sees a lack of variety."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part


@part("networks")
@dataclass(frozen=True)
class Packed:
    """A discriminator of packets: `size` consecutive examples of the batch, joined as channels of
    images or features of points (section 2.1).

    It takes the place of a Net: `Packed(Net(Discriminator()), 4)`. Its DiscriminatorOutput has one
    row for each packet (b / size), and gradient penalties are those of the packet. In evaluation,
    examples that fill no packet are left out.

    size:    2 to 4 in the paper; 1 is no packing
    classes: number of labels, which the paper lacks. Each example is joined with its one-hot label
             as `classes` more channels (or features), and `net` has no classes.
    Raises UserError for labels without `classes`, and for a batch that does not divide into
    packets."""

    net: Any
    size: int
    classes: int = 0

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        one = self._labelled(inputs[:1], None if labels is None else labels[:1])
        return self.net.init(key, jnp.zeros((2, *self._packets(one.repeat(self.size, 0)).shape[1:])), None, numbers)

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        n, inputs = len(inputs), self._labelled(inputs, labels)
        if mode.train and n % self.size:
            raise UserError(f"a batch of {n} does not divide into packets of {self.size}: change the batch size")
        packets = self._packets(inputs[: n // self.size * self.size])
        if mode.draws is not None:
            mode = mode.replace(draws=mode.draws.replace(index=mode.draws.index[:: self.size]))
        return self.net.apply(params, stats, packets, None, mode, numbers, compute_dtype)

    def _labelled(self, examples: Float[Array, "b *shape"], labels) -> Float[Array, "b *more"]:
        """[b, ..., c] -> [b, ..., c + classes]"""
        if (labels is not None) != bool(self.classes):
            raise UserError("a packed discriminator of labels is Packed(net, size, classes), of a net without classes")
        if labels is None:
            return examples
        maps = jax.nn.one_hot(labels, self.classes, dtype=examples.dtype)
        maps = maps.reshape(len(maps), *[1] * (examples.ndim - 2), self.classes)
        return jnp.concatenate([examples, jnp.broadcast_to(maps, (*examples.shape[:-1], self.classes))], -1)

    def _packets(self, examples: Float[Array, "b *shape"]) -> Float[Array, "b_packets *packed"]:
        """[b, ..., c] -> [b / size, ..., size * c]"""
        apart = examples.reshape(-1, self.size, *examples.shape[1:])
        return jnp.concatenate([apart[:, i] for i in range(self.size)], -1)
