"""MisGAN's `recipe`: it puts together the players and the numbers. The game is in `game.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from gan_jax.core.bind import Bound
from gan_jax.core.errors import UserError
from gan_jax.core.net import Net
from gan_jax.data.splits import as_integer
from gan_jax.games.imputation.gain import Cells
from gan_jax.games.imputation.misgan.game import MisGAN, check_knobs
from gan_jax.gan.recipe import Side
from gan_jax.networks import dcgan, mlp
from gan_jax.optimizers import adam


def recipe(
    image_shape: tuple[int, ...],
    *,
    width: int | None = None,
    depth: int = 3,
    generator_norm: str | None = None,
    shared_mask: bool = False,
    impute: bool = True,
    imputer: Net | None = None,
    imputer_width: int | None = None,
    optimizer: Bound | None = None,
    imputer_optimizer: Bound | None = None,
    **fields: Any,
) -> MisGAN:
    """A MisGAN for examples of this shape: images (side, side, 1 or 3) or rows (features,).

    The numbers are those of the authors' code.

    width:          of the networks, which are those of `dcgan` for images (64; the authors' are
                    similar, with one more convolution in the critics) and of `mlp` for rows (128)
    depth:          hidden layers of the networks for rows
    generator_norm: of the hidden layers of both generators: none, as theirs. The critics have none,
                    for the sake of the gradient penalty.
    shared_mask:    whether the mask generator makes one channel for all channels of the image (as
                    `data.missing.blocks` makes masks), or as many as the image has
    impute:         False leaves out the imputer and its critic, and learns the distribution alone.
                    The authors' script for that has alpha .2 and stretch 0.
    imputer:        another network (see `MisGAN`), without running statistics. None is a perceptron
                    of 3 hidden layers of `imputer_width` (the number of cells): the authors'
                    MaskImputer. Their default, ComplementImputer, does not see the mask.
    optimizer:      of the generators and their critics: Adam(1e-4, .5, .9)
    imputer_optimizer: of the imputer and its critic: Adam(2e-4, .5, .9)
    fields:         latent_dim 128, batch_size 64, d_steps 5 (turns of the critics for one turn of
                    the generators), dtype, and the numbers below

    alpha:     weight of D_x in the mask generator's loss, >= 0: .1. With 0 the masks alone teach
               it.
    beta:      weight of D_i in the data generator's loss, >= 0: .1
    gamma:     weight of the imputer's error on observed cells, >= 0: 0
    tau:       the value that D_x sees in missing cells, in [0, 1]: 0, as in the code. The paper
               allows any constant.
    gp:        weight of the gradient penalties, >= 0: 10
    noise:     U(0, noise) stands in missing cells for the imputer, >= 0: 1
    temperature, stretch: the logit l of the mask generator becomes sigmoid(l / temperature), is
               stretched to [-stretch, 1 + stretch] and clipped to [0, 1]: .66 (> 0) and .1, their
               "fusion". A stretch of 0 is their "sigmoid".
    ema_decay: of the moving average of the generators and the imputer, in [0, 1): .999. The authors
               have none.

    Raises UserError for a number out of its range, or a structure that cannot be built.
    """
    image_shape = tuple(int(k) for k in image_shape)
    for name, value in {"width": width, "imputer_width": imputer_width}.items():
        as_integer(1 if value is None else value, f"misgan: {name}", least=1)
    as_integer(depth, "misgan: depth", least=0)
    cells = _checked(image_shape, fields)
    made, judge = _networks(image_shape, width, depth, generator_norm)
    optimizer, imputer_optimizer = optimizer or adam(1e-4, 0.5, 0.9), imputer_optimizer or adam(2e-4, 0.5, 0.9)
    masks = made.clone(channels=1) if shared_mask and len(image_shape) == 3 else made
    side = lambda net: Side(net=net, optimizer=optimizer)
    extra = lambda net: Side(net=net, optimizer=imputer_optimizer) if impute else None
    imputer = imputer or Net(Cells(cells, imputer_width or cells, 3))
    knobs = MisGAN(
        side(Net(made)), side(Net(masks)), extra(imputer), side(Net(judge)), side(Net(judge)), extra(Net(judge)),
        image_shape=image_shape, **fields,
    )  # fmt: skip
    check_knobs(knobs)
    return knobs


def _checked(image_shape: tuple[int, ...], fields: dict) -> int:
    """The number of cells of an example. Raises UserError for a bad shape or structure."""
    rows = len(image_shape) == 1
    square = len(image_shape) == 3 and image_shape[0] == image_shape[1] and image_shape[2] in (1, 3)
    if not (rows or square) or min(image_shape) < 1:
        raise UserError(f"misgan: image_shape is {image_shape}: give (side, side, 1 or 3), or (features,) for rows")
    for name in ("latent_dim", "batch_size", "d_steps"):
        as_integer(fields.get(name, 1), f"misgan: {name}", least=1)
    return int(np.prod(image_shape))


def _networks(image_shape: tuple[int, ...], width: int | None, depth: int, norm: str | None) -> tuple[Any, Any]:
    """(a generator of logits, a critic)."""
    if len(image_shape) == 1:
        width = width or 128
        return mlp.Generator(image_shape[0], width, depth, norm), mlp.Discriminator(width, depth)
    dcgan.stages(image_shape[0])
    width = width or 64
    return dcgan.Generator(image_shape[0], image_shape[2], width, norm, squash=False), dcgan.Discriminator(width)
