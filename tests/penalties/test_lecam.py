"""Known answers: LeCam's averages against a loop, its value and gradient in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.penalties import evaluate, initial_memory, lecam
from tests.penalties.test_gradient import turn


def look(real, fake, step=2000, memory=(0.0, 0.0), **numbers):
    """(values, memory) with these logits of reals and fakes."""
    memory = dict(zip(("real", "fake"), memory, strict=True))
    said = {"real": gan.DiscriminatorOutput(jnp.asarray(real)), "fake": gan.DiscriminatorOutput(jnp.asarray(fake))}
    return evaluate(gan.bind(lecam, **numbers), turn(lambda x: x[:, 0], step=jnp.int32(step), memory=memory, **said))


def test_the_memory_and_the_values_follow_the_recursion(x64):
    rng, memory, known = np.random.default_rng(0), initial_memory(gan.bind(lecam, weight=1.0)), None
    memory = (memory["real"], memory["fake"])
    for step in range(8):
        real, fake = rng.normal(1, 1, 5), rng.normal(-1, 2, 5)
        values, after = look(real, fake, step, memory, weight=0.3, decay=0.75, start=3)
        now = real.mean(), fake.mean()
        known = now if step <= 3 else tuple(0.75 * a + 0.25 * b for a, b in zip(known, now, strict=True))
        memory = (after["real"], after["fake"])
        np.testing.assert_allclose(memory, known, rtol=1e-12)
        cost = np.maximum(real - known[1], 0) ** 2 + np.maximum(known[0] - fake, 0) ** 2
        np.testing.assert_allclose(values, 0.3 * cost if step >= 3 else 0 * cost, rtol=1e-6)


def test_answers_at_their_averages_cost_twice_the_squared_gap(x64):
    values, _ = look(np.full(4, 2.0), np.full(4, -1.0), memory=(2.0, -1.0), weight=0.5)
    np.testing.assert_allclose(values, 0.5 * 2 * 9, rtol=1e-12)


def test_reals_below_the_fakes_average_and_fakes_above_the_reals_cost_nothing(x64):
    values, _ = look(np.array([-6.0, -5.0]), np.array([5.0, 6.0]), memory=(-5.5, 5.5), weight=1.0)
    np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_the_averages_are_constants_for_the_gradient(x64, decay):
    """The derivative by one real logit is 2 (d_r - a_f), by one fake logit -2 (a_r - d_f), whatever
    share of a it is."""
    real, fake = jnp.array([2.0, 3.0]), jnp.array([-1.0, 0.5])
    numbers = {"memory": (1.0, -1.0), "weight": 1.0, "decay": decay}
    _, after = look(real, fake, **numbers)
    by_real = jax.grad(lambda x: look(x, fake, **numbers)[0].sum())(real)
    by_fake = jax.grad(lambda x: look(real, x, **numbers)[0].sum())(fake)
    np.testing.assert_allclose(by_real, 2 * (real - after["fake"]), rtol=1e-6)
    np.testing.assert_allclose(by_fake, -2 * (after["real"] - fake), rtol=1e-6)


def test_the_start_may_be_swept_in_one_program():
    @jax.jit
    def at(start):
        return look(np.ones(2, np.float32), -np.ones(2, np.float32), 10, (1.0, -1.0), weight=1.0, start=start)[0]

    np.testing.assert_allclose(at(5.0), 8)
    np.testing.assert_allclose(at(10.0), 8)
    np.testing.assert_array_equal(at(11.0), 0)
    assert at._cache_size() == 1
