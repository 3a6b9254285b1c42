"""A U-Net (Ronneberger et al., 2015) for images with missing pixels, on the rows of imputation.

Each halving is a strided convolution. Each doubling is its transpose, whose output is joined with
the features of the same size.
"""

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.conv import Conv, ConvTranspose


@part("networks")
class UNet(nn.Module):
    """[b, 2 h w c], values and what is known of them (a mask, a hint) -> a logit for each cell [b,
    h w c], or its sigmoid with `squash`.

    shape: (h, w, c), h and w divisible by 2^halvings
    width: channels at the full size, twice as many after each halving
    Raises UserError for another shape, and for rows of another length."""

    shape: tuple[int, int, int]
    width: int = 16
    halvings: int = 2
    squash: bool = False

    @nn.compact
    def __call__(self, x, labels, mode: Mode):
        h, w, c = self.shape
        if h % 2**self.halvings or w % 2**self.halvings:
            raise UserError(f"a U-Net that halves {self.halvings} times wants sides divisible by {2**self.halvings}: {h} x {w}")
        if x.shape[-1] != 2 * h * w * c:
            raise UserError(f"a U-Net for images {self.shape} wants rows of {2 * h * w * c} numbers, not {x.shape[-1]}")
        x = jnp.moveaxis(x.reshape(-1, 2, h, w, c), 1, -2).reshape(-1, h, w, 2 * c)
        hidden = lambda x: nn.relu(nn.LayerNorm(dtype=x.dtype)(x))  # over channels: without it the sigmoids soon saturate
        x = hidden(Conv(self.width, 3)(x))
        features = []
        for i in range(self.halvings):
            features.append(x)
            x = hidden(Conv(self.width * 2 ** (i + 1), 4, 2)(x))
        x = hidden(Conv(x.shape[-1], 3)(x))
        for before in reversed(features):
            x = hidden(ConvTranspose(before.shape[-1], 4, 2)(x))
            x = hidden(Conv(before.shape[-1], 3)(jnp.concatenate([x, before], -1)))
        logits = Conv(c, 3)(x).reshape(len(x), -1)
        return nn.sigmoid(logits) if self.squash else logits
