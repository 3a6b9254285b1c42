"""MisGAN: a whole step against NumPy on linear players; what each weight joins, what hides, one
program for many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax.core.batch import Feed
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput, Net
from gan_jax.core.rng import Draws
from gan_jax.data import missing
from gan_jax.games.imputation import misgan, training
from gan_jax.networks import mlp
from gan_jax.sweeps.population import by_structure
from gan_jax.training.chunk import compiled_chunk, single_chunk
from gan_jax.training.placement import place
from tests.tiny_games import assert_close

D, LATENT, N, RATE = 3, 2, 4, 0.1


class Linear(nn.Module):
    """x W, weights of scale 2, so that some masks are clipped."""

    features: int

    @nn.compact
    def __call__(self, x, labels, mode):
        return x @ self.param("w", nn.initializers.normal(2.0), (x.shape[-1], self.features), x.dtype)


class Critic(nn.Module):
    """w x."""

    @nn.compact
    def __call__(self, x, labels, mode):
        return DiscriminatorOutput(Linear(1, name="linear")(x, labels, mode)[:, 0])


def linear(dtype="float64", **fields):
    """A MisGAN of linear players that take plain gradient steps."""
    knobs = misgan.recipe((D,), latent_dim=LATENT, batch_size=N, dtype=dtype, **fields)
    side = lambda module: gan.Side(net=Net(module), optimizer=gan.optimizers.sgd(RATE))
    sides = dict.fromkeys(knobs.players(misgan.CRITICS), side(Critic()))
    return knobs.replace(**sides, **dict.fromkeys(knobs.players(misgan.GENERATORS), side(Linear(D))))


def batch_of(n=2 * N, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.random((n, D)) < 0.6
    return gan.Batch(jnp.asarray(rng.random(mask.shape)), jnp.arange(n), mask=jnp.asarray(mask))


jitted = jax.jit(misgan.step)


# ---- one step, by hand -------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ByHand:
    """Linear players in NumPy: their weights, and what they see of one hand of a batch."""

    def __init__(self, knobs, state):
        weights = lambda name: np.asarray(jax.tree.leaves(getattr(state, name).params)[0])
        self.w = {name: weights(name)[:, 0] if name in misgan.CRITICS else weights(name) for name in knobs.players()}
        self.k = {name: float(getattr(knobs, name)) for name in ("alpha", "beta", "gamma", "tau", "gp", "noise")}
        self.T, self.s = float(knobs.temperature), float(knobs.stretch)
        self.key = jax.random.fold_in(state.key, 0)

    def take_turn(self, turn, index, x, m):
        draws = Draws(self.key, index).named(turn)
        of = lambda name, what: draws.named(name).named(what)
        self.x, self.m = x, m
        self.z, self.e = (
            np.asarray(of(name, "latent").normal((LATENT,), jnp.float64)) for name in ("data_generator", "mask_generator")
        )
        noise = self.k["noise"] * np.asarray(of("imputer", "noise").uniform((D,), jnp.float64))
        self.data = sigmoid(self.z @ self.w["data_generator"])
        self.sure = sigmoid(self.e @ self.w["mask_generator"] / self.T)
        self.loose = self.sure * (1 + 2 * self.s) - self.s
        self.masks = np.clip(self.loose, 0, 1)
        self.seen = np.concatenate([m * x + (1 - m) * noise, m], 1)
        self.made = sigmoid(self.seen @ self.w["imputer"])

    def f(self, x, m):
        return m * x + (1 - m) * self.k["tau"]

    def critics(self):
        pairs = {
            "data_critic": (self.f(self.x, self.m), self.f(self.data, self.masks)),
            "mask_critic": (self.m, self.masks),
            "imputer_critic": (self.data, self.m * self.x + (1 - self.m) * self.made),
        }
        losses = {}
        for name, (real, fake) in pairs.items():
            w, norm = self.w[name], np.linalg.norm(self.w[name])
            losses[name] = ((fake - real) @ w).mean(), self.k["gp"] * (norm - 1) ** 2
            self.w[name] = w - RATE * ((fake - real).mean(0) + 2 * self.k["gp"] * (norm - 1) * w / norm)
        return losses

    def generators(self):
        w, k = self.w, self.k
        to_data = -w["data_critic"] * self.masks + k["beta"] * w["imputer_critic"]
        to_masks = -w["mask_critic"] - k["alpha"] * w["data_critic"] * (self.data - k["tau"])
        slope = (1 + 2 * self.s) * self.sure * (1 - self.sure) / self.T * ((self.loose > 0) & (self.loose < 1))
        mismatch = 2 * self.m * (self.made - self.x) / np.maximum(self.m.sum(1, keepdims=True), 1)
        to_made = -w["imputer_critic"] * (1 - self.m) + k["gamma"] * mismatch
        n = len(self.x)
        w["data_generator"] = w["data_generator"] - RATE * self.z.T @ (to_data * self.data * (1 - self.data)) / n
        w["mask_generator"] = w["mask_generator"] - RATE * self.e.T @ (to_masks * slope) / n
        w["imputer"] = w["imputer"] - RATE * self.seen.T @ (to_made * self.made * (1 - self.made)) / n


@pytest.mark.parametrize("d_steps", [1, 2])
def test_a_step_is_the_papers_step(x64, d_steps):
    """The critics on one hand after the other, then all generators from one point; a row without
    observed cells included."""
    numbers = {"alpha": 0.3, "beta": 0.7, "gamma": 0.5, "tau": 0.4, "gp": 2.0, "noise": 0.8}
    knobs, batch = linear(d_steps=d_steps, ema_decay=0.05, **numbers), batch_of(d_steps * N)
    batch = batch.replace(mask=batch.mask.at[-1].set(False))
    state = misgan.init(knobs, jax.random.key(1))
    new, metrics = jitted(knobs, state, batch)
    hand, by_hand, losses = batch, ByHand(knobs, state), []
    for i in range(d_steps):
        hand = [np.asarray(part)[i::d_steps] for part in (batch.index, batch.images, batch.mask.astype(float))]
        by_hand.take_turn("critics", *hand)
        losses.append(by_hand.critics())
    by_hand.take_turn("generators", *hand)
    assert ((by_hand.loose < 0) | (by_hand.loose > 1)).any()  # clipping is tried
    by_hand.generators()
    for name in knobs.players():
        (found,) = jax.tree.leaves(getattr(new, name).params)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(np.squeeze(found), by_hand.w[name], rtol=1e-7, atol=1e-9, err_msg=name)
    for name in misgan.CRITICS:
        loss, gp = np.mean([output[name] for output in losses], 0)
        assert metrics[f"{name}/loss"] == pytest.approx(loss, rel=1e-7) and metrics[f"{name}/gp"] == pytest.approx(gp, rel=1e-6)
    for name, averaged in new.ema["params"].items():  # decay min(.05, 1 / 10)
        old, latest = (jax.tree.leaves(getattr(s, name).params)[0] for s in (state, new))
        np.testing.assert_allclose(jax.tree.leaves(averaged)[0], 0.05 * old + 0.95 * latest, rtol=1e-6)


def test_the_gradient_penalty_of_a_linear_critic_is_that_of_its_slope(x64):
    w = np.array([[1.0], [-2.0], [2.0]])
    real, fake = np.random.default_rng(0).random((2, 5, D))
    draws = Draws(jax.random.key(0), jnp.arange(5))
    pair = jnp.asarray(real), jnp.asarray(fake)
    terms, _ = misgan.critic_terms(linear(), "mask_critic", pair, draws, {"linear": {"w": w}})
    np.testing.assert_allclose(terms["gp"], np.full(5, 10 * (3 - 1) ** 2), rtol=1e-9)
    np.testing.assert_allclose(terms["loss"], ((fake - real) @ w)[:, 0], rtol=1e-9)


# ---- what each weight joins --------------------------------------------------------------------


turn = jax.jit(lambda knobs, state: misgan.generators_turn(knobs, state, batch_of(), Draws(state.key, jnp.arange(2 * N)))[0])


@pytest.mark.parametrize(
    ("weight", "generator", "critic"),
    [("alpha", "mask_generator", "data_critic"), ("beta", "data_generator", "imputer_critic")],
)
def test_a_weight_of_zero_parts_a_generator_from_another_s_critic(x64, weight, generator, critic):
    knobs = linear()
    state = misgan.init(knobs, jax.random.key(0))
    other = state.replace(**{critic: jax.tree.map(lambda x: -3 * x, getattr(state, critic))})
    updated = lambda w, s: jax.tree.leaves(getattr(turn(knobs.replace(**{weight: jnp.float32(w)}), s), generator).params)[0]
    np.testing.assert_array_equal(updated(0.0, state), updated(0.0, other))
    assert np.abs(np.asarray(updated(0.1, state) - updated(0.1, other))).max() > 1e-4


def test_without_an_imputer_the_others_play_as_beside_one_without_weight(x64):
    beside, alone = linear(beta=0.0, d_steps=2), linear(impute=False, d_steps=2)
    assert alone.players() == ["data_generator", "mask_generator", "data_critic", "mask_critic"]
    (a, _), (b, metrics) = (jitted(knobs, misgan.init(knobs, jax.random.key(0)), batch_of()) for knobs in (beside, alone))
    for name in alone.players():
        assert_close(getattr(b, name), getattr(a, name), 1e-12)
    assert b.imputer is None and "imputer" not in b.ema["params"] and not any("imput" in name for name in metrics)
    with pytest.raises(UserError, match="no imputer"):
        misgan.impute(alone, b.ema["params"], jnp.zeros((1, D)), jnp.zeros((1, D)))


def test_what_stands_in_cells_that_were_not_observed_does_not_matter(x64):
    knobs, batch = linear(d_steps=2, gamma=1.0), batch_of()
    state = misgan.init(knobs, jax.random.key(0))
    holed = batch.replace(images=jnp.where(batch.mask, batch.images, jnp.nan))
    pair = gan.Batch(jnp.stack([holed.images, batch.mask.astype(batch.images.dtype)], 1), batch.index)
    plain = jitted(knobs, state, batch)
    assert all(np.isfinite(value) for value in plain[1].values())
    for same in (holed, pair):
        assert_close(jitted(knobs, state, same), plain, 0)
    filled = misgan.impute(knobs, state.ema["params"], holed.images, batch.mask)
    np.testing.assert_array_equal(filled, misgan.impute(knobs, state.ema["params"], batch.images, batch.mask))
    assert filled.shape == batch.images.shape and np.isfinite(filled).all()


# ---- what it makes -----------------------------------------------------------------------------


def test_a_sample_is_its_own_place_s_and_images_come_out_as_bytes():
    knobs = misgan.recipe((8, 8, 3), width=4, latent_dim=4, shared_mask=True, impute=False)
    key = jax.random.key(0)

    @jax.jit
    def made(key):
        state = misgan.init(knobs, key)
        later = misgan.sample(knobs, state, key, 2, first=3)
        return state.replace(key=None), misgan.sample(knobs, state, key, 6), misgan.sample_masks(knobs, state, key, 6), later

    state, data, masks, later = made(key)
    assert data.shape == masks.shape == (6, 8, 8, 3) and data.min() > 0 and data.max() < 1
    np.testing.assert_array_equal(masks, np.broadcast_to(masks[..., :1], masks.shape))
    np.testing.assert_allclose(later, data[3:5], rtol=1e-5)
    bytes_ = gan.Run(knobs, state, None).samples(6)
    assert bytes_.dtype == np.uint8
    assert np.abs(bytes_ - 255 * np.asarray(data)).max() < 1.01


def test_the_default_networks_have_the_sizes_that_they_say():
    knobs = misgan.recipe((28, 28, 1))
    state = jax.eval_shape(lambda key: misgan.init(knobs, key), jax.random.key(0))
    size = lambda name: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(getattr(state, name).params))
    assert size("imputer") == 1568 * 784 + 2 * 784 * 784 + 784 * 784 + 4 * 784
    assert size("data_generator") == size("mask_generator") == 128 * 7 * 7 * 128 + 25 * (128 * 64 + 64) + 64 + 1
    assert misgan.recipe((6,)).game.examples(knobs) == 320


# ---- many at once ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_loop_a_sweep_and_a_population_of_tables_train_the_same_misgan():
    rng = np.random.default_rng(0)
    rows = (rng.random((64, 1)) ** np.arange(1, 1 + D)).astype(np.float32)
    data = missing.incomplete(gan.from_arrays(rows), 0.3)
    settings = {f"alpha {a}": linear("float32", alpha=a, d_steps=2) for a in (0.0, 1.0)}
    swept = gan.sweep(settings, data, steps=3, seeds=1, rank_by="G/validation_rmse", log_every=3, devices=1, progress=False)
    assert len(by_structure(swept.members)) == 1
    train = data.train.images
    tables = [(train[:20, 0], train[:20, 1] > 0), (train[:, 0], train[:, 1] > 0)]
    state, _ = training.train(list(settings.values()), tables, [4, 0], steps=3)
    run = swept.run("alpha 1.0")
    for a, b in zip(jax.tree.leaves(run.state.ema), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_allclose(a, b[1], atol=2e-6)
    params = jax.tree.map(lambda x: x[1], state.ema["params"])
    values, mask = np.moveaxis(data.validation.images, 1, 0)
    output = np.asarray(misgan.impute(settings["alpha 1.0"], params, jnp.asarray(values), jnp.asarray(mask)))
    error = np.sqrt(((output - values)[mask == 0] ** 2).mean())
    assert run.history[-1]["G/validation_rmse"] == pytest.approx(error, rel=1e-4)
    assert 0 <= run.history[-1]["D/train_validation_auc"] <= 1 and run.samples(3).shape == (3, D)


@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_four_devices_are_one(x64, style):
    knobs, batch = linear(d_steps=2), batch_of(30)
    feed = Feed(batch.images, None, jnp.int32(30), jax.random.key(5), mask=batch.mask)
    four, one = place(4, style, N), place(1)
    start = misgan.init(knobs, jax.random.key(0))
    alone = jax.jit(single_chunk, static_argnums=(0, 1, 2))(misgan.MISGAN, 3, one, knobs, start, feed)
    copy = four.replicate(jax.tree.map(jnp.copy, start))
    together = compiled_chunk(misgan.MISGAN, 3, four)(knobs, copy, four.replicate(feed))
    assert_close(together, alone, 1e-9)


@pytest.mark.slow
def test_columns_that_are_never_seen_together_are_learnt():
    """Each column's law from its observed half: .8 and .3 +- .05, where a GAN of the masked rows
    would make .4 and .15."""
    rng = np.random.default_rng(0)
    values = np.array([0.8, 0.3]) + 0.05 * rng.standard_normal((256, 2))
    first = rng.random(256) < 0.5
    mask = np.stack([first, ~first], 1)
    adam = gan.optimizers.adam(2e-3, 0.5, 0.9)
    numbers = {"gp": 1.0, "ema_decay": 0.98, "latent_dim": 2, "batch_size": 32}
    knobs = misgan.recipe((2,), width=32, depth=2, impute=False, optimizer=adam, **numbers)
    state, _ = training.train([knobs], [(np.where(mask, values, np.nan).astype(np.float32), mask)], [0], steps=300)
    state = jax.tree.map(lambda x: jnp.asarray(x)[0], state.replace(key=None))
    made = misgan.sample(knobs, state, jax.random.key(1), 500)
    masks = misgan.sample_masks(knobs, state, jax.random.key(1), 500)
    np.testing.assert_allclose(made.mean(0), [0.8, 0.3], atol=0.05)
    np.testing.assert_allclose(made.std(0), [0.05, 0.05], atol=0.04)
    np.testing.assert_allclose(masks.mean(0), [0.5, 0.5], atol=0.15)
    assert np.abs(masks[:, 0] - masks[:, 1]).mean() > 0.9  # one of the two, for nearly every example


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (28, 20, 1)}, "image_shape is"),
        ({"image_shape": (13, 13, 1)}, "image size 13 is not supported"),
        ({"tau": 1.5}, "tau is 1.5"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"alpha": -1.0}, "alpha is -1"),
        ({"ema_decay": 1.0}, "ema_decay is 1"),
        ({"d_steps": 0}, "d_steps=0"),
        ({"width": 0}, "width=0"),
    ],
)
def test_a_number_out_of_its_range_gets_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as raised:
        misgan.recipe(**{"image_shape": (3,)} | arguments)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused():
    data = gan.from_arrays(np.random.default_rng(0).random((40, 5)).astype(np.float32))
    with pytest.raises(UserError, match="values and mask"):
        misgan.check(misgan.recipe((5,)), data)
    with pytest.raises(UserError, match="5 cells an example, the MisGAN 4"):
        misgan.check(misgan.recipe((4,)), missing.incomplete(data, 0.2))
    normed = misgan.recipe((D,), imputer=Net(mlp.Generator(D, 4, norm="batch")))
    with pytest.raises(UserError, match="the imputer has running statistics"):
        jax.eval_shape(lambda key: misgan.init(normed, key), jax.random.key(0))
    state = jax.eval_shape(lambda key: misgan.init(linear("float32"), key), jax.random.key(0))
    with pytest.raises(UserError, match="cannot be dealt"):
        jax.eval_shape(misgan.step, linear("float32"), state, batch_of(3))
