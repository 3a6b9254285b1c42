"""First weights and draws are JAX's own numbers, in whatever shape they are asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core.rng import Draws, in_a_row
from gan_jax.networks import initializers

KEY = jax.random.key(5)


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (6, 7)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (initializers.glorot, jax.nn.initializers.glorot_uniform()),
        (initializers.he, jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")),
        (initializers.normal(0.02), jax.nn.initializers.normal(0.02)),
    ],
)
def test_first_weights_are_those_of_jax(ours, theirs, shape):
    np.testing.assert_allclose(ours(KEY, shape), theirs(KEY, shape), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_draw_in_a_row_is_the_same_draw(dtype):
    for draw in (jax.random.normal, jax.random.uniform):
        np.testing.assert_array_equal(in_a_row(draw, KEY, (4, 3, 2), dtype), draw(KEY, (4, 3, 2), dtype))
    np.testing.assert_array_equal(in_a_row(jax.random.randint, KEY, (4, 3), 0, 9), jax.random.randint(KEY, (4, 3), 0, 9))
    assert in_a_row(jax.random.normal, KEY, ()).shape == ()


def test_an_example_draws_an_image_as_it_draws_a_row():
    draws = Draws(KEY, jnp.arange(3)).named("x")
    np.testing.assert_array_equal(draws.normal((2, 5, 1)).reshape(3, -1), draws.normal((10,)))
