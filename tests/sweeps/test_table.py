"""The table of a sweep finds its rows by the numbers that were written."""

import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.sweeps.population import Member
from gan_jax.sweeps.result import Sweep, _decimal


@pytest.mark.parametrize(
    "leaf, value",
    [
        (np.float32(2e-4), 2e-4),
        (jnp.float32(0.1), 0.1),
        (1e-3, 1e-3),
        (np.float64(1 / 3), 1 / 3),
        (3, 3.0),
        (True, 1.0),
        (np.float32(np.nan), np.nan),
        (np.float32(1.5e38), 1.5e38),
    ],
)
def test_a_number_is_the_shortest_that_is_stored_as_it_is(leaf, value):
    np.testing.assert_equal(_decimal(leaf), value)


def test_rows_are_found_by_a_number_of_their_recipe():
    rates = (2e-4, 3e-4, 0.1)
    plain = gan.recipes.for_data((2,), width=8)
    recipes = {
        f"lr={rate}": plain.replace(generator=plain.generator.replace(optimizer=gan.optimizers.adam(rate))) for rate in rates
    }
    members = [Member(name, recipe, 0, 100) for name, recipe in recipes.items()]
    swept = Sweep(members, None, None, "lr=0.0002", "fd")  # type: ignore[arg-type]
    swept.rows = {i: [{"step": 1, "diverged": False}] for i in range(3)}
    (column,) = [name for name in swept.table.columns if name.startswith("generator.")]
    for rate in rates:
        assert swept.table[swept.table[column] == rate]["setting"].tolist() == [f"lr={rate}"]
