"""PacGAN: a discriminator that judges several examples at once, so that a lack of variety can be seen (Lin et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.errors import UserError
from gan_jax.networks.net import Mode


@dataclass(frozen=True)
class Packed:
    """A discriminator whose examples are packets: `size` consecutive examples of the batch, joined on their last axis.

    Takes the place of a Net: `Packed(Net(Discriminator()), 4)`. Its Judgement has one row for each packet (b / size): a logit
    is the packet's. Images are stacked as channels, points as features, as in the paper (section 2.1). In evaluation, examples
    that fill no packet are left out. size: 2 to 4 in the paper; 1 is no packing. The penalties of gradients then hold for a
    packet as a whole. Raises UserError for labels, or for a batch that does not divide into packets.
    """

    net: Any
    size: int

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        return self.net.init(key, jnp.zeros((2, *self._packets(inputs[:1].repeat(self.size, 0)).shape[1:])), None, numbers)

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        if labels is not None:
            raise UserError("a packed discriminator sees no labels: leave out the classes, or the packing")
        n = len(inputs)
        if mode.train and n % self.size:
            raise UserError(f"a batch of {n} does not divide into packets of {self.size}: change the batch size")
        packets = self._packets(inputs[: n // self.size * self.size])
        if mode.draws is not None:
            mode = mode.replace(draws=mode.draws.replace(index=mode.draws.index[:: self.size]))
        return self.net.apply(params, stats, packets, None, mode, numbers, compute_dtype)

    def _packets(self, examples: Float[Array, "b *shape"]) -> Float[Array, "b_packets *packed"]:
        """[b, ..., c] -> [b / size, ..., size * c]"""
        apart = examples.reshape(-1, self.size, *examples.shape[1:])
        return jnp.concatenate([apart[:, i] for i in range(self.size)], -1)
