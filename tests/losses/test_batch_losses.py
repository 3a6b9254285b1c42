"""Known answers of losses that compare examples, or have parts: MMD, dual contrastive, top-k, and
the law of devices."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.bind import resolve
from gan_jax.losses import LOSSES, kernel_values, least_squares, mmd, non_saturating, top_k, wasserstein, witness

RNG = np.random.default_rng(0)
REALS, FAKES = 2 * RNG.normal(size=(2, 6))
FEATURES = RNG.normal(size=(2, 6, 3))
WEIGHTS = np.array([0.5, 2.0, 0.5, 1.5, 1.0, 0.5])
EVEN = np.ones(6)


def batch(n=6, weights=None):
    return gan.Batch(jnp.zeros((n, 1)), jnp.arange(n), weights=None if weights is None else jnp.asarray(weights))


def terms(loss, reals=REALS, fakes=FAKES, features=FEATURES, weights=None):
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    said = (gan.DiscriminatorOutput(jnp.asarray(x), features=f) for x, f in zip((reals, fakes), features, strict=True))
    return loss(*said, batch(len(reals), weights))


def totals(found, weights=1.0):
    """(D's loss, G's), as the step takes them."""
    return (weights * found.real + found.fake).mean(), found.generator.mean()


# ---- MMD ---------------------------------------------------------------------------------------


def rational_quadratic(a, b):
    return sum((1 + ((a - b) ** 2).sum() / (2 * alpha)) ** -alpha for alpha in (0.1, 1, 10))


def rbf(a, b):
    return sum(np.exp(-((a - b) ** 2).sum() / (2 * sigma**2)) for sigma in (2, 5, 10, 20, 40, 80))


def mmd_by_loop(k, x, y, w=EVEN):
    n, m = len(x), len(y)
    xx = sum(w[i] * w[j] * k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(w[i] * k(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("dot", [0.0, 0.5])
@pytest.mark.parametrize("on", ["logits", "features"])
@pytest.mark.parametrize("kernel", [rational_quadratic, rbf])
def test_mmd_is_the_double_loop(x64, kernel, on, dot, weights):
    x, y = (REALS[:, None], FAKES[:, None]) if on == "logits" else FEATURES
    expected = mmd_by_loop(lambda a, b: kernel(a, b) + dot * a @ b, x, y, EVEN if weights is None else weights)
    found = terms(gan.bind(mmd, kernel=kernel.__name__, on=on, dot=dot), weights=weights)
    assert found.real.shape == found.fake.shape == found.generator.shape == (6,)
    np.testing.assert_allclose(totals(found, EVEN if weights is None else weights), (-expected, expected), rtol=1e-10)


def test_mmd_of_two_halves_of_one_sample_is_zero_on_average(x64):
    """Over 400 splits, within 4 standard errors; with an example's pairs with itself it would be
    about .3."""
    samples = jnp.asarray(np.random.default_rng(1).normal(size=(400, 2, 8)))
    one = lambda pair: terms("mmd", *pair).generator.mean()
    values = np.asarray(jax.vmap(one)(samples))
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error < 0.1


def test_mmd_of_two_far_clusters_is_known(x64):
    """Points within a cluster alike, clusters out of each other's sight: k(x, x) + k(y, y) of six
    unit kernels."""
    found = terms(gan.bind(mmd, kernel="rbf"), np.zeros(4), np.full(4, 1e4), (None, None))
    np.testing.assert_allclose(found.generator.mean(), 12, rtol=1e-12)


def test_the_witness_is_the_derivative_of_mmd_by_a_shift_of_mass(x64):
    """The mean witness of reals minus that of fakes is the biased MMD^2."""
    x, y = FEATURES
    gap = witness(x, x, y).mean() - witness(y, x, y).mean()
    biased = kernel_values(x, x, "rational_quadratic").mean() + kernel_values(y, y, "rational_quadratic").mean()
    np.testing.assert_allclose(gap, biased - 2 * kernel_values(x, y, "rational_quadratic").mean(), rtol=1e-12)
    assert witness(jnp.zeros((1, 1)), jnp.zeros((2, 1)), jnp.full((3, 1), 9.0)) > 0, "high near reals"


def test_generator_s_gradient_of_mmd_pulls_fakes_towards_reals(x64):
    reals = np.array([2.0, 2.5, 3.0])
    gradient = jax.grad(lambda f: terms("mmd", reals, f, (None, None)).generator.mean())(jnp.array([-1.0, -0.8, -1.2]))
    assert gradient.sum() < 0


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (gan.bind(mmd, kernel="cubic"), "unknown kernel 'cubic'"),
        (gan.bind(mmd, on="pixels"), "not 'pixels'"),
        (gan.bind(mmd, on="features"), "DiscriminatorOutput has features"),
    ],
)
def test_mmd_refuses_what_is_not_there(loss, said):
    with pytest.raises(gan.UserError, match=said):
        terms(loss, features=(None, None))


def test_mmd_refuses_a_batch_of_one():
    with pytest.raises(gan.UserError, match="at least 2"):
        terms("mmd", REALS[:1], FAKES[:1], (None, None))


# ---- dual contrastive --------------------------------------------------------------------------


def contrast_by_loop(high, low, w_high=EVEN, w_low=EVEN):
    """The mean over both sides of -log of an example's share among all of the other side."""
    one = np.mean([w * -np.log(np.exp(h) / (np.exp(h) + w_low @ np.exp(low))) for w, h in zip(w_high, high, strict=True)])
    two = np.mean([w * -np.log(np.exp(-x) / (np.exp(-x) + w_high @ np.exp(-high))) for w, x in zip(w_low, low, strict=True)])
    return one + two


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_dual_contrastive_is_the_loop_over_both_sides(x64, weights):
    w = EVEN if weights is None else weights
    expected = contrast_by_loop(REALS, FAKES, w_high=w)
    np.testing.assert_allclose(totals(terms("dual_contrastive", weights=weights), w), (expected, -expected), rtol=1e-12)
    mirrored = terms(LOSSES["dual_contrastive"].replace(saturating=False), weights=weights)
    np.testing.assert_allclose(totals(mirrored, w), (expected, contrast_by_loop(FAKES, REALS, w_low=w)), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 5])
def test_dual_contrastive_of_equal_logits_is_log_1_plus_n(x64, n):
    found = terms("dual_contrastive", np.full(n, 0.7), np.full(n, 0.7), (None, None))
    np.testing.assert_allclose(found.real, np.log(1 + n), rtol=1e-12)
    np.testing.assert_allclose(found.fake, np.log(1 + n), rtol=1e-12)


def test_dual_contrastive_of_single_examples_is_rpgan_twice(x64):
    found, pair = (terms(loss, REALS[:1], FAKES[:1], (None, None)) for loss in ("dual_contrastive", "rpgan"))
    np.testing.assert_allclose(found.real + found.fake, 2 * pair.real, rtol=1e-12)


def test_dual_contrastive_does_not_change_with_a_constant_and_stays_finite(x64):
    np.testing.assert_allclose(terms("dual_contrastive", REALS + 500, FAKES + 500), terms("dual_contrastive"), rtol=1e-10)
    huge = jnp.array([-1e4, 1e4], jnp.float32)
    assert all(np.isfinite(t).all() for t in terms("dual_contrastive", huge, huge[::-1], (None, None)))


@pytest.mark.parametrize("saturating", [True, False])
def test_dual_contrastive_moves_the_logits_the_right_way(x64, saturating):
    loss = LOSSES["dual_contrastive"].replace(saturating=saturating)
    slope = lambda player, side: jax.grad(lambda *x: totals(terms(loss, *x))[player], side)(REALS, FAKES)
    assert (slope(0, 0) < 0).all() and (slope(0, 1) > 0).all() and (slope(1, 1) < 0).all()


def test_only_the_mirrored_generator_learns_where_d_is_sure(x64):
    slope = lambda saturating: jax.grad(
        lambda f: terms(LOSSES["dual_contrastive"].replace(saturating=saturating), np.full(4, 20.0), f, (None, None))
        .generator.mean()
    )(jnp.full(4, -20.0))  # fmt: skip
    assert np.abs(slope(True)).max() < 1e-15 and np.abs(slope(False)).min() > 0.2


# ---- top-k -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "kept"), [(1.0, 6), (0.84, 5), (0.5, 3), (0.34, 2), (0.01, 1)])
def test_top_k_is_the_mean_over_the_fakes_of_highest_logits(x64, share, kept):
    plain, found = terms("non_saturating"), terms(top_k(non_saturating, share))
    best = np.argsort(-FAKES)[:kept]
    np.testing.assert_allclose(found.generator.mean(), np.asarray(plain.generator)[best].mean(), rtol=1e-12)
    assert (found.generator != 0).sum() == kept
    np.testing.assert_array_equal(found.real, plain.real)
    np.testing.assert_array_equal(found.fake, plain.fake)


def test_top_k_of_all_is_the_loss_itself(x64):
    np.testing.assert_array_equal(terms(top_k(least_squares, 1.0)).generator, terms("least_squares").generator)


def test_top_k_teaches_nothing_by_the_others(x64):
    gradient = jax.grad(lambda f: terms(top_k(wasserstein, 0.5), fakes=f).generator.mean())(jnp.asarray(FAKES))
    np.testing.assert_allclose(gradient, np.where(FAKES >= np.sort(FAKES)[3], -1 / 3, 0), rtol=1e-12)


def test_top_k_keeps_ties_and_their_mean(x64):
    found = terms(top_k(wasserstein, 0.5), np.zeros(4), np.array([1.0, 0.5, 0.5, 0.5]), (None, None)).generator
    np.testing.assert_allclose(found.mean(), -2.5 / 4, rtol=1e-12)


def test_the_share_of_top_k_may_be_traced_and_scheduled(x64):
    shares = jnp.array([1.0, 0.5])
    found = jax.vmap(lambda share: terms(top_k(non_saturating, share)).generator.mean())(shares)
    np.testing.assert_allclose(found, [terms(top_k(non_saturating, s)).generator.mean() for s in (1.0, 0.5)], rtol=1e-12)
    schedule = gan.schedules.geometric(1.0, 0.99, 10, 0.5)
    wrapped = top_k(non_saturating, schedule)
    np.testing.assert_allclose(resolve(wrapped, jnp.int32(25)).numbers["share"], 0.99**2, rtol=1e-6)


def test_a_geometric_schedule_is_a_loop_of_multiplications():
    schedule, share = gan.schedules.geometric(1.0, 0.99, 3, 0.5), 1.0
    steps, expected = np.arange(300), []
    for step in steps:
        if step and step % 3 == 0:
            share = max(0.99 * share, 0.5)
        expected.append(share)
    np.testing.assert_allclose(jax.vmap(schedule)(steps), expected, rtol=1e-5)
    assert expected[-1] == 0.5


# ---- devices -----------------------------------------------------------------------------------

GLOBAL = {
    **{name: loss for name, loss in LOSSES.items() if name.startswith(("rpgan", "relativistic", "mmd", "dual", "top"))},
    "mmd_features": gan.bind(mmd, on="features", kernel="rbf"),
    "mirrored": LOSSES["dual_contrastive"].replace(saturating=False),
    "top_k_relativistic": top_k(gan.losses.relativistic_average, 0.6),
}
IMAGES, MADE = np.random.default_rng(2).normal(size=(2, 8, 3))
SHARES = np.array([0.5, 2.0, 0.5, 1.5, 1.0, 0.5, 1.2, 0.8])


def players_loss(loss, params, images, made, weights, axis_name):
    """D's and twice G's mean over these examples, of a critic and a generator with one matrix
    each."""

    def judged(x):
        features = jnp.tanh(x @ params["d"])
        return gan.DiscriminatorOutput(2 * features.sum(-1), features=features)

    seen = gan.Batch(images, jnp.arange(len(images)), weights=weights, axis_name=axis_name)
    d, g = totals(loss(judged(images), judged(jnp.sin(made @ params["g"])), seen), weights)
    return d + 2 * g  # of opposite sign in a zero-sum game


@cache
def on_one_and_on_four():
    """({loss: value}, {loss: gradient}) of one device and of four, in one program each; every loss
    has its own parameters."""
    rng = np.random.default_rng(3)
    params = {name: {side: jnp.asarray(rng.normal(size=(3, 3))) for side in ("d", "g")} for name in GLOBAL}

    def look(images, made, weights, axis_name=None):
        def total(params):
            values = {name: players_loss(GLOBAL[name], params[name], images, made, weights, axis_name) for name in GLOBAL}
            return sum(values.values()), values

        gradient, values = jax.grad(total, has_aux=True)(params)
        return (values, gradient) if axis_name is None else jax.lax.pmean((values, gradient), axis_name)

    given = IMAGES, MADE, SHARES
    split = [jnp.asarray(x).reshape(4, 2, *x.shape[1:]) for x in given]
    four = jax.pmap(lambda *x: look(*x, axis_name="devices"), axis_name="devices")(*split)
    return jax.jit(look)(*map(jnp.asarray, given)), jax.tree.map(lambda x: x[0], four)


@pytest.mark.parametrize("loss", GLOBAL)
def test_four_devices_have_the_loss_and_the_gradient_of_one(x64, loss):
    (value, gradient), (value4, gradient4) = ([part[loss] for part in side] for side in on_one_and_on_four())
    np.testing.assert_allclose(value4, value, rtol=1e-9, atol=1e-12)
    for side in ("d", "g"):
        np.testing.assert_allclose(gradient4[side], gradient[side], rtol=1e-9, atol=1e-9)
        assert np.abs(gradient[side]).max() > 1e-3
