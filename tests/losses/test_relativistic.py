"""Known answers: relativistic losses against loops in NumPy, and that only differences of logits
count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit

import gan_jax as gan
from gan_jax.losses import LOSSES

RNG = np.random.default_rng(0)
REALS, FAKES = 2 * RNG.normal(size=(2, 6))
WEIGHTS = np.array([0.5, 2.0, 0.5, 1.5, 1.0, 0.5])

COSTS = {
    "relativistic_average": lambda margin: -log_expit(margin),
    "relativistic_average_least_squares": lambda margin: (margin - 1) ** 2,
    "relativistic_average_hinge": lambda margin: max(0.0, 1 - margin),
}
LOSSES_HERE = ["rpgan", *COSTS]


def batch(n=6, weights=None):
    return gan.Batch(jnp.zeros((n, 1)), jnp.arange(n), weights=None if weights is None else jnp.asarray(weights))


def terms(loss, reals=REALS, fakes=FAKES, weights=None):
    judgements = (gan.DiscriminatorOutput(jnp.asarray(x)) for x in (reals, fakes))
    return LOSSES[loss](*judgements, batch(len(reals), weights))


def totals(found, weights=1.0):
    """(D's loss, G's), as the step takes them."""
    return (weights * found.real + found.fake).mean(), found.generator.mean()


def average_by_loop(cost, weights):
    """(D's loss, G's) of the expectations over reals (weighted) and fakes."""
    n = len(REALS)
    mean_r, mean_f = sum(w * r for w, r in zip(weights, REALS, strict=True)) / n, sum(FAKES) / n
    d = sum(w * cost(r - mean_f) for w, r in zip(weights, REALS, strict=True)) + sum(cost(mean_r - f) for f in FAKES)
    g = sum(w * cost(mean_f - r) for w, r in zip(weights, REALS, strict=True)) + sum(cost(f - mean_r) for f in FAKES)
    return d / n / 2, g / n / 2


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", COSTS)
def test_average_losses_are_a_loop_over_examples_against_the_other_side_s_mean(x64, loss, weights):
    found = totals(terms(loss, weights=weights), 1.0 if weights is None else weights)
    np.testing.assert_allclose(found, average_by_loop(COSTS[loss], np.ones(6) if weights is None else weights), rtol=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_rpgan_is_a_loop_over_pairs_of_one_place(x64, weights):
    w = np.ones(6) if weights is None else weights
    d = np.mean([w[i] * -log_expit(REALS[i] - FAKES[i]) for i in range(6)])
    g = np.mean([w[i] * -log_expit(FAKES[i] - REALS[i]) for i in range(6)])
    found = terms("rpgan", weights=weights)
    np.testing.assert_allclose(totals(found, w), (d, g), rtol=1e-12)
    np.testing.assert_array_equal(found.fake, 0)


@pytest.mark.parametrize("loss", LOSSES_HERE)
def test_a_weight_is_the_same_as_that_many_copies_of_the_real(x64, loss):
    """Reals a and b, a twice as heavy: as a, a, b, each with every fake's equal."""
    reals, fakes = np.array([0.3, -1.1]), np.array([0.7, 0.7])
    weights = np.array([4 / 3, 2 / 3])
    few = totals(terms(loss, reals, fakes, weights), weights)
    many = totals(terms(loss, np.array([0.3, 0.3, -1.1]), np.full(3, 0.7)))
    np.testing.assert_allclose(few, many, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES_HERE)
def test_a_constant_added_to_all_logits_changes_nothing(x64, loss):
    np.testing.assert_allclose(terms(loss, REALS + 7.0, FAKES + 7.0), terms(loss), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES_HERE)
def test_exchanging_reals_and_fakes_exchanges_the_players_losses(x64, loss):
    d, g = totals(terms(loss))
    np.testing.assert_allclose(totals(terms(loss, FAKES, REALS)), (g, d), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES_HERE)
def test_minimising_moves_the_logits_the_right_way(x64, loss):
    near = 0.1 * jnp.asarray(REALS), 0.1 * jnp.asarray(FAKES)
    slope = lambda player, side: jax.grad(lambda *x: totals(terms(loss, *x))[player], side)(*near)
    assert (slope(0, 0) < 0).all() and (slope(0, 1) > 0).all(), "D raises reals and lowers fakes"
    assert (slope(1, 1) < 0).all(), "G raises fakes"


@pytest.mark.parametrize(("loss", "at_equal"), [("rpgan", np.log(2)), *zip(COSTS, (np.log(2), 1.0, 1.0), strict=True)])
def test_equal_logits_cost_both_players_the_same(x64, loss, at_equal):
    np.testing.assert_allclose(totals(terms(loss, np.full(4, 3.0), np.full(4, 3.0))), at_equal, rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES_HERE)
def test_huge_logits_stay_finite_and_so_do_their_gradients(loss):
    logits = jnp.array([-1e4, -100.0, 100.0, 1e4], jnp.float32)
    total = lambda x: sum(t.sum() for t in terms(loss, x, x[::-1]))
    value, gradient = jax.value_and_grad(total)(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
