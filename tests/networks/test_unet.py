"""The U-Net of images with missing pixels: whose neighbourhood a pixel's answer is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.errors import UserError
from gan_jax.core.net import EVALUATION
from gan_jax.core.rng import Draws
from gan_jax.games.imputation import gain
from gan_jax.networks.unet import UNet

SHAPE = (16, 16, 2)


@pytest.mark.slow
def test_a_pixel_is_answered_from_its_neighbourhood_values_and_mask_alike():
    """One halving: 3 x 3, 4 x 4 of stride 2, 3 x 3, its transpose, 3 x 3 twice reach 9 pixels at
    most."""
    net = UNet(SHAPE, width=4, halvings=1)
    x = jnp.asarray(np.random.default_rng(0).random((1, 2 * 16 * 16 * 2)), jnp.float32)
    params = net.init(jax.random.key(0), x, None, EVALUATION)
    slopes = jax.jacrev(lambda x: net.apply(params, x, None, EVALUATION)[0].reshape(SHAPE)[8, 8, 0])(x).reshape(2, *SHAPE)
    reach = np.abs(np.asarray(slopes)) > 0
    assert reach[:, 8, 8].all()  # both channels of the pixel itself, its values and its mask
    rows = np.flatnonzero(reach.any((0, 2, 3)))
    assert 3 <= 8 - rows.min() <= 9 and 3 <= rows.max() - 8 <= 9


@pytest.mark.slow
def test_a_gain_of_unets_answers_every_cell_and_trains():
    knobs = gain.recipe(16 * 16 * 2, image_shape=SHAPE, width=4, depth=1, hide=0.1)
    state = gain.init(knobs, jax.random.key(0))
    rng = np.random.default_rng(0)
    values, mask = rng.random((5, 16 * 16 * 2)), rng.random((5, 16 * 16 * 2)) < 0.5
    batch = gan.Batch(jnp.asarray(values, jnp.float32), jnp.arange(5), mask=jnp.asarray(mask))
    seen = gain.view(knobs, batch, Draws(jax.random.key(1), batch.index))
    loss = lambda p: gain.generator_terms(knobs, p, state.discriminator.params, seen)["loss"].mean()
    slopes = jax.grad(loss)(state.generator.params)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(slopes))
    made = gain.impute(knobs, state.generator.params, batch.images, batch.mask)
    assert made.shape == (5, 16 * 16 * 2) and float(made.min()) > 0 and float(made.max()) < 1


def test_what_does_not_fit_is_said_in_one_line():
    with pytest.raises(UserError, match="give as many"):
        gain.recipe(10, image_shape=SHAPE)
    for shape, cells, message in (((10, 10, 1), 200, "divisible by 4"), ((8, 8, 1), 100, "rows of 128")):
        with pytest.raises(UserError, match=message):
            UNet(shape).init(jax.random.key(0), jnp.zeros((1, cells)), None, EVALUATION)
