"""The imputing VAE against a linear model's closed form with cells missing, and laws of what its
encoder may see."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gan_jax as gan
from gan_jax import likelihoods
from gan_jax.core.bind import bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.rng import Draws
from gan_jax.data import missing
from gan_jax.games import vae as complete
from gan_jax.games.imputation import training, vae
from gan_jax.gan.recipe import Side
from gan_jax.optimizers import adam
from gan_jax.sweeps.population import by_structure

K, LATENT, SIGMA = 5, 2, 0.4
W = np.array([[1.0, 0], [-0.7, 0], [0.5, 0], [0, 1.2], [0, 0.8]])  # one factor each: the posterior is diagonal for any mask
MU = np.array([0.3, -0.2, 0.5, 0.1, 0.0])
LAW = stats.multivariate_normal(MU, W @ W.T + SIGMA**2 * np.eye(K))
MASKS = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]], bool)
KEY = jax.random.key(4)
INDEX = jnp.arange(len(MASKS))

init, terms, observe, shown_of = (jax.jit(f) for f in (vae.init, vae.terms, vae.observe, vae.shown_of))  # one program for all
impute = jax.jit(vae.impute, static_argnames="draws")
bound = jax.jit(vae.log_likelihood, static_argnames="draws")


# ---- a linear model ----------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearEncoder:
    """[x m, m] -> p(z|x_obs) of x = W z + mu + sigma e, its log variance off by `spread` and its
    mean by `shift`."""

    features: bool = False

    def init(self, key, inputs, labels, numbers):
        return {"spread": jnp.float64(0), "shift": jnp.float64(0)}, {}

    def apply(self, params, stats, inputs, labels, mode, numbers, compute_dtype=None):
        if self.features:  # of complete rows
            inputs = jnp.concatenate([inputs, jnp.ones_like(inputs)], -1)
        x, mask = jnp.split(inputs, 2, axis=-1)
        precision = 1 + mask @ W**2 / SIGMA**2
        mean = ((x - mask * MU) @ W / SIGMA**2) / precision + params["shift"]
        output = jnp.concatenate([mean, params["spread"] - jnp.log(precision)], -1)
        return (DiscriminatorOutput(output[:, 0], features=output) if self.features else output), stats


@dataclass(frozen=True)
class LinearDecoder:
    def init(self, key, inputs, labels, numbers):
        return {}, {}

    def apply(self, params, stats, z, labels, mode, numbers, compute_dtype=None):
        return (z @ W.T + MU, jnp.full(K, np.log(SIGMA))), stats


def linear(spread=0.0, shift=0.0, **numbers):
    """(knobs, params) of the linear model; its encoder is exact by default."""
    knobs = vae.recipe(K, latent_dim=LATENT, **{"floor": 0.0, "hide": 0.0, "dtype": "float64"} | numbers)
    knobs = knobs.replace(encoder=Side(LinearEncoder(), adam()), decoder=Side(LinearDecoder(), adam()))
    return knobs, {"encoder": {"spread": jnp.float64(spread), "shift": jnp.float64(shift)}, "decoder": {}}


def rows():
    """Rows of the law with NaN where MASKS is False."""
    return np.where(MASKS, LAW.rvs(len(MASKS), random_state=0), np.nan)


def closed_form(x, mask):
    """(log p(x_obs), E[x|x_obs], Cov[x|x_obs] with a new normal noise on observed cells too) by
    Gaussian conditioning."""
    seen, loadings = np.flatnonzero(mask), W @ W.T
    if not len(seen):
        return 0.0, MU, LAW.cov
    inner = LAW.cov[np.ix_(seen, seen)]
    gain = loadings[:, seen] @ np.linalg.inv(inner)
    mean = MU + gain @ (x[seen] - MU[seen])
    covariance = loadings - gain @ loadings[seen] + SIGMA**2 * np.eye(K)
    return stats.multivariate_normal(MU[seen], inner).logpdf(x[seen]), mean, covariance


def truth():
    return (np.stack(part) for part in zip(*map(closed_form, rows(), MASKS), strict=True))


@pytest.mark.parametrize("draws", [1, 10])
def test_with_the_true_posterior_the_bound_is_the_likelihood_of_what_was_observed(x64, draws):
    likelihood, _, _ = truth()
    knobs, params = linear(draws=draws)
    output = bound(knobs, params, rows(), MASKS, jax.random.key(draws), draws=draws)
    np.testing.assert_allclose(output, likelihood, rtol=1e-9, atol=1e-12)
    if draws > 1:
        step = terms(knobs, params, np.where(MASKS, rows(), 0), MASKS, Draws(KEY, INDEX))
        np.testing.assert_allclose(step["bound"], likelihood, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(step["loss"], -likelihood, rtol=1e-9, atol=1e-12)


def test_with_one_draw_the_bound_in_training_is_the_elbo_in_the_mean(x64):
    knobs, params = linear(spread=0.7)
    n, x, masks = 4000, *(np.tile(part, (4000, 1)) for part in (np.where(MASKS, rows(), 0), MASKS))
    bounds = np.asarray(terms(knobs, params, x, masks, Draws(KEY, np.arange(len(x))))["bound"]).reshape(n, -1)
    off = 0.5 * LATENT * (np.exp(0.7) - 1 - 0.7)  # KL(q || p(z|x_obs)) of a variance e^.7 too large
    likelihood, _, _ = truth()
    assert (np.abs(bounds.mean(0) - (likelihood - off)) < 4.5 * bounds.std(0) / n**0.5 + 1e-12).all()


def test_imputation_is_the_conditional_mean(x64):
    """Exactly so of a row without any observed cell too: the mean of the prior. What is missing is
    NaN throughout."""
    _, mean, _ = truth()
    output = impute(*linear(), rows(), MASKS, draws=20_000)
    np.testing.assert_allclose(output, mean, atol=0.03)


@pytest.mark.parametrize(("wrong", "draws"), [({}, 1), ({"spread": 0.6, "shift": 0.2}, 60)])
def test_multiple_draws_have_the_conditional_mean_and_covariance(x64, wrong, draws):
    """With the true posterior one candidate is enough; otherwise the weights correct the encoder's
    error."""
    _, mean, covariance = truth()
    x, masks = (np.tile(part, (4000, 1)) for part in (rows(), MASKS))
    output = np.asarray(jax.jit(vae.draw, static_argnums=5)(*linear(**wrong), x, masks, KEY, draws)).reshape(4000, -1, K)
    np.testing.assert_allclose(output.mean(0), mean, atol=0.1)
    for i in range(len(MASKS)):
        np.testing.assert_allclose(np.cov(output[:, i].T), covariance[i], atol=0.15)


def test_a_wrong_encoder_bounds_from_below_and_more_draws_come_nearer(x64):
    """Importance weights then make the imputation right as well, that of an empty row included."""
    likelihood, mean, _ = truth()
    knobs, params = linear(spread=1.0, shift=0.5)
    x, masks = (np.tile(part, (100, 1)) for part in (rows(), MASKS))
    one, ten, hundred = (float(bound(knobs, params, x, masks, KEY, draws=k).mean()) for k in (1, 10, 100))
    assert one < ten - 0.05 < hundred - 0.05 < likelihood.mean()
    assert hundred == pytest.approx(likelihood.mean(), abs=0.03)
    far, near = (np.abs(impute(knobs, params, rows(), MASKS, draws=k) - mean).max() for k in (1, 20_000))
    assert near < 0.05 < far


def test_of_complete_rows_it_is_the_plain_vae(x64):
    """The weights of `gan_jax.games.vae`, its ELBO and its importance-weighted bound, from the same
    draws."""
    knobs, params = linear(spread=0.5, shift=-0.3)
    plain = complete.VAE(
        Side(LinearEncoder(features=True), adam()), Side(LinearDecoder(), adam()), bind(likelihoods.gaussian),
        latent_dim=LATENT, dtype="float64",
    )  # fmt: skip
    player = lambda name: complete.Player(params[name], {}, None)
    averages = {name: {"params": params[name], "stats": {}} for name in params}
    state = complete.VAEState(jnp.int32(0), KEY, player("encoder"), player("decoder"), averages)
    x, seen = LAW.rvs(len(MASKS), random_state=1), np.ones_like(MASKS)
    output = bound(knobs, params, x, seen, KEY, draws=10)
    np.testing.assert_allclose(output, complete.importance(plain, state, x, None, KEY, 10), rtol=1e-10)

    @jax.jit
    def weighed(x):
        draws = Draws(KEY, INDEX)
        posterior, noise = vae.encode(knobs, params, x, seen), draws.named("posterior").normal((LATENT,), x.dtype)
        likelihood, ratio, _ = vae.weigh(knobs, params, posterior, noise, x, seen)
        return (likelihood + ratio, likelihood - posterior.kl().sum(-1)), complete.log_weights(plain, state, x, None, draws)

    for mine, its in zip(*weighed(x), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-10)


# ---- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 10])
def test_beta_weighs_the_divergence_in_training_alone(x64, draws):
    """The loss at K = 1 is linear in beta with the KL as its slope; at 0 only the likelihood
    counts; the bound is as it was."""
    knobs, params = linear(spread=0.5, draws=draws)
    x = np.where(MASKS, rows(), 0)
    loss = lambda beta: terms(knobs.replace(beta=beta), params, x, MASKS, Draws(KEY, INDEX))
    none, one, two = (loss(jnp.float32(b)) for b in (0, 1, 2))
    np.testing.assert_array_equal(none["bound"], two["bound"])
    if draws == 1:
        np.testing.assert_allclose(none["loss"], -none["log_likelihood"])
        np.testing.assert_allclose(two["loss"] - one["loss"], one["kl"])
    else:
        assert (np.asarray(none["loss"]) <= -np.asarray(none["log_likelihood"]) + 1e-12).all()  # the log of a mean
        assert (np.asarray(two["loss"]) != np.asarray(one["loss"])).any()


def test_hiding_takes_columns_from_the_encoder_alone():
    knobs = vae.recipe((1, 3, 1), hide=0.3)
    mask = jnp.asarray(np.repeat(np.random.default_rng(0).random((500, 3)) < 0.6, (1, 3, 1), 1))
    draws = Draws(KEY, jnp.arange(500))
    shown = np.asarray(shown_of(knobs, mask, draws))
    assert not (shown & ~np.asarray(mask)).any() and (shown[:, 1:4] == shown[:, 1:2]).all()
    assert 1 - shown[np.asarray(mask)].mean() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(shown_of(vae.recipe((1, 3, 1), hide=0.0), mask, draws), mask)


def test_with_everything_hidden_the_likelihood_is_still_of_all_observed_cells(x64):
    knobs, params = linear(hide=1.0)
    x = np.where(MASKS, rows(), 0)
    output = terms(knobs, params, x, MASKS, Draws(KEY, INDEX))
    np.testing.assert_allclose(output["kl"], 0, atol=1e-12)  # the encoder sees nothing and returns the prior
    z = Draws(KEY, INDEX).named("posterior").normal((1, LATENT), jnp.float64)[:, 0]
    density = stats.norm.logpdf(x, np.asarray(z) @ W.T + MU, SIGMA)
    np.testing.assert_allclose(output["log_likelihood"], (density * MASKS).sum(1))


def test_what_stands_in_cells_that_were_not_observed_does_not_matter():
    """Not to the step, which takes its gradients; not as NaN; nor whether the mask comes with the
    values or by itself."""
    groups = (1, 3, 1)
    knobs, rng = vae.recipe(groups, width=8, latent_dim=2, draws=3), np.random.default_rng(0)
    mask = np.repeat(rng.random((6, 3)) < 0.6, groups, 1)
    values = rng.random(mask.shape).astype(np.float32)
    state, step = init(knobs, KEY), jax.jit(vae.step)
    first, metrics = step(knobs, state, gan.Batch(jnp.asarray(values), jnp.arange(6), mask=jnp.asarray(mask)))
    assert all(np.isfinite(v) for v in metrics.values())
    holed = np.where(mask, values, np.nan)
    pair = gan.Batch(jnp.asarray(np.stack([holed, mask], 1).astype(np.float32)), jnp.arange(6))
    second, _ = step(knobs, state, pair)
    jax.tree.map(np.testing.assert_array_equal, first.replace(key=0), second.replace(key=0))
    params = first.ema["params"]
    holed = holed.astype(np.float32)
    np.testing.assert_array_equal(impute(knobs, params, values, mask), impute(knobs, params, holed, mask))


def test_the_density_of_a_category_is_its_log_softmax(x64):
    knobs = vae.recipe((1, 3), dtype="float64", width=8, latent_dim=2)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)) * 5)
    mean = jnp.concatenate([jnp.full((4, 1), 0.3), jax.nn.softmax(logits)], 1)
    x = jnp.concatenate([jnp.full((4, 1), 0.5), jnp.eye(3)[np.array([0, 2, 1, 1])]], 1)
    output = vae.cell_densities(knobs, mean, jnp.full(4, -1.0), x)
    np.testing.assert_allclose(output[:, 0], stats.norm.logpdf(0.5, 0.3, np.exp(-1)))
    np.testing.assert_allclose(
        output[:, 1:].sum(1), jax.nn.log_softmax(logits)[np.arange(4), np.array([0, 2, 1, 1])], rtol=1e-9
    )


def test_draws_of_a_category_are_one_hot_by_its_probabilities():
    knobs, shares = vae.recipe((1, 3)), np.array([0.2, 0.5, 0.3])
    mean = jnp.tile(jnp.asarray([0.4, *shares], jnp.float32), (5000, 1))
    output = np.asarray(observe(knobs, mean, np.full(4, np.log(0.1), np.float32), Draws(KEY, jnp.arange(5000))))
    assert set(np.unique(output[:, 1:])) == {0, 1} and (output[:, 1:].sum(1) == 1).all()
    np.testing.assert_allclose(output[:, 1:].mean(0), shares, atol=0.03)
    assert output[:, 0].mean() == pytest.approx(0.4, abs=0.01) and output[:, 0].std() == pytest.approx(0.1, abs=0.01)


def test_a_scale_stays_above_its_floor():
    knobs = vae.recipe(2, width=4, latent_dim=1, floor=0.05)
    params = init(knobs, KEY).ema["params"]
    start = vae.decode(knobs, params, jnp.zeros((1, 1)))[1]
    np.testing.assert_allclose(start, np.log(np.exp(-2) + 0.05), rtol=1e-5)
    params["decoder"]["log_scale"] = jnp.asarray([-50.0, 0.0])
    np.testing.assert_allclose(vae.decode(knobs, params, jnp.zeros((1, 1)))[1][0], np.log(0.05), rtol=1e-5)


# ---- answers and populations -------------------------------------------------------------------


def test_a_rows_answer_is_its_own_wherever_it_stands():
    knobs = vae.recipe((1, 3), width=8, latent_dim=2)
    params, x = init(knobs, KEY).ema["params"], jax.random.uniform(KEY, (6, 4))
    mask = jnp.asarray(np.random.default_rng(1).random((6, 4)) < 0.5)
    output = impute(knobs, params, x, mask, draws=9)
    turned = x[::-1].at[3:].set(0.5)
    np.testing.assert_allclose(impute(knobs, params, turned, mask[::-1], draws=9)[:3], output[::-1][:3], rtol=1e-5)
    np.testing.assert_allclose(output[:, 1:].sum(1), 1, rtol=1e-5)
    assert (np.asarray(impute(knobs, params, x, mask, jax.random.key(9), draws=9)) != np.asarray(output)).any()


@pytest.mark.slow
def test_the_loop_a_sweep_and_a_population_of_tables_train_the_same_vae():
    """A sweep over beta is one structure; its member equals the one of a population in which
    another has fewer rows."""
    table = (np.random.default_rng(0).random((64, 1)) ** np.arange(1, 4)).astype(np.float32)
    data = missing.incomplete(gan.from_arrays(table), 0.3)
    settings = {f"beta {b}": vae.recipe(3, width=8, latent_dim=2, beta=b, batch_size=16) for b in (0.5, 1.0)}
    swept = gan.sweep(settings, data, steps=3, seeds=1, rank_by="G/validation_rmse", log_every=3, devices=1, progress=False)
    assert len(by_structure(swept.members)) == 1
    train = data.train.images
    tables = [(train[:20, 0], train[:20, 1] > 0), (train[:, 0], train[:, 1] > 0)]
    state, metrics = training.train(list(settings.values()), tables, [4, 0], steps=3)
    run = swept.run("beta 1.0")
    for a, b in zip(jax.tree.leaves(run.state.ema), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_allclose(a, b[1], atol=2e-6)
    assert np.isfinite(metrics["vae/loss"]).all() and metrics["vae/loss"].shape == (2,)
    row, knobs, params = run.history[-1], settings["beta 1.0"], jax.tree.map(lambda x: x[1], state.ema["params"])
    for name in ("train", "validation"):
        values, mask = np.moveaxis(getattr(data, name).images[: len(data.validation)], 1, 0)
        output = np.asarray(impute(knobs, params, values, mask, draws=vae.EVALUATION_DRAWS))
        assert row[f"G/{name}_rmse"] == pytest.approx(np.sqrt(((output - values)[mask == 0] ** 2).mean()), rel=1e-3)
        likely = bound(knobs, params, values, mask, draws=vae.EVALUATION_DRAWS).mean()
        assert row[f"VAE/{name}_bound"] == pytest.approx(float(likely), rel=1e-3, abs=1e-3)
    assert row["VAE/bound_gap"] == pytest.approx(row["VAE/train_bound"] - row["VAE/validation_bound"], abs=1e-5)


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hide": 1.5}, "hide is 1.5"),
        ({"beta": -1.0}, "beta is -1"),
        ({"floor": -0.1}, "floor is -0.1"),
        ({"ema_decay": 2.0}, "ema_decay is 2"),
        ({"features": (1, 0)}, "features is"),
        ({"features": 0}, "features is"),
        ({"ema_decay": 1.0}, "ema_decay is 1"),
        ({"beta": np.nan}, "beta is nan"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"draws": 0}, "draws=0"),
        ({"draws": 1.5}, "draws=1.5"),
        ({"depth": 0}, "depth=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_a_number_out_of_its_range_gets_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        vae.recipe(**{"features": 3} | arguments)


def test_data_without_masks_or_of_another_width_are_refused():
    data = gan.from_arrays(np.random.default_rng(0).random((40, 5)).astype(np.float32))
    with pytest.raises(UserError, match="values and mask"):
        vae.check(vae.recipe(5), data)
    with pytest.raises(UserError, match="5 cells an example, the VAE 4"):
        vae.check(vae.recipe(4), missing.incomplete(data, 0.2))
