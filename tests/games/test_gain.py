"""GAIN: its hint, its losses and a whole training step against NumPy; what hides, what is reported,
one program for many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.errors import UserError
from gan_jax.core.rng import Draws
from gan_jax.data import missing
from gan_jax.games.imputation import gain, training
from gan_jax.sweeps.population import by_structure

N, D = 7, 4


def batch_of(groups=(1,) * D, seed=0, n=N):
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random((n, len(groups))) < 0.6, groups, 1)
    return gan.Batch(jnp.asarray(rng.random(mask.shape)), jnp.arange(n), mask=jnp.asarray(mask))


def seen_by(batch, **numbers):
    knobs = gain.recipe((1,) * batch.images.shape[1], **numbers)
    return gain.view(knobs, batch, Draws(jax.random.key(3), batch.index))


# ---- what the players see ----------------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_the_hint_is_the_mask_or_its_filler(fill):
    batch = batch_of(n=400)
    all_revealed = seen_by(batch, hint_rate=1.0, hint_fill=fill)
    np.testing.assert_array_equal(all_revealed.hint, all_revealed.shown)
    np.testing.assert_array_equal(seen_by(batch, hint_rate=0.0, hint_fill=fill).hint, np.full((400, D), fill, np.float32))
    seen = seen_by(batch, hint_rate=0.9, hint_fill=fill)
    revealed = np.asarray(seen.hint == seen.shown)
    if fill:
        assert revealed.mean() == pytest.approx(0.9, abs=0.03)
        assert set(np.unique(np.asarray(seen.hint)[~revealed])) == {fill}
    else:  # the authors' H = M * Bernoulli(hint_rate)
        assert np.asarray(seen.hint)[np.asarray(seen.shown) == 1].mean() == pytest.approx(0.9, abs=0.03)
        assert (np.asarray(seen.hint)[np.asarray(seen.shown) == 0] == 0).all()


def test_missing_cells_hold_small_noise_and_observed_ones_their_value():
    batch = batch_of(n=200)
    seen, mask = seen_by(batch, noise=0.01), np.asarray(batch.mask)
    noisy = np.asarray(seen.noisy)
    np.testing.assert_array_equal(noisy[mask], np.asarray(batch.images)[mask])
    assert noisy[~mask].min() >= 0 and noisy[~mask].max() < 0.01 and noisy[~mask].mean() == pytest.approx(0.005, abs=5e-4)
    assert float(seen.share) == pytest.approx(mask.mean())


def test_hiding_takes_cells_from_the_players_and_none_from_the_reconstruction():
    batch = batch_of(n=500)
    plain, hiding = seen_by(batch), seen_by(batch, hide=0.3)
    np.testing.assert_array_equal(plain.shown, plain.mask)
    np.testing.assert_array_equal(hiding.mask, plain.mask)
    assert (np.asarray(hiding.shown) <= np.asarray(plain.shown)).all()
    assert 1 - np.asarray(hiding.shown)[np.asarray(batch.mask)].mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(np.asarray(hiding.x), np.asarray(plain.x))


def test_the_cells_of_a_category_go_together():
    batch = batch_of((1, 3), n=100)
    seen = gain.view(gain.recipe((1, 3), hide=0.5, hint_rate=0.5), batch, Draws(jax.random.key(3), batch.index))
    for part in (seen.shown, seen.hint):
        assert (np.ptp(np.asarray(part)[:, 1:], 1)[np.asarray(seen.shown)[:, 1] == 1] == 0).all()
    made = gain.fill(
        gain.recipe((1, 3)), gain.init(gain.recipe((1, 3)), jax.random.key(0)).generator.params, seen.x, seen.shown
    )
    np.testing.assert_allclose(np.asarray(made)[:, 1:].sum(1), 1, rtol=1e-6)


def test_what_stands_in_cells_that_were_not_observed_does_not_matter():
    batch = batch_of()
    holed = batch.replace(images=jnp.where(batch.mask, batch.images, jnp.nan))
    pair = gan.Batch(jnp.stack([holed.images, batch.mask.astype(batch.images.dtype)], 1), batch.index)
    paired = gain.view(gain.recipe(D), pair, Draws(jax.random.key(3), batch.index))
    for a, b, c in zip(seen_by(batch), seen_by(holed), paired, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


# ---- one step, by hand -------------------------------------------------------------------------


class ByHand:
    """A network of two hidden layers in NumPy: its output, and the gradient of a loss given that of
    its output."""

    def __init__(self, params):
        self.p = {k: np.asarray(v, np.float64) for k, v in gan.leaves(params).items()}

    def __call__(self, x):
        self.inputs = []
        for i in range(3):
            self.inputs.append(x)
            x = x @ self.p[f"Dense_{i}.kernel"] + self.p[f"Dense_{i}.bias"]
            x = np.maximum(x, 0) if i < 2 else x
        return x

    def back(self, g):
        grads = {}
        for i in (2, 1, 0):
            grads[f"Dense_{i}.kernel"], grads[f"Dense_{i}.bias"] = self.inputs[i].T @ g, g.sum(0)
            g = g @ self.p[f"Dense_{i}.kernel"].T
            g = g * (self.inputs[i] > 0) if i else g
        return grads, g

    def adam_once(self, grads, rate=1e-3):
        """The first step of Adam: both moments are corrected to g and g^2."""
        self.p = {k: v - rate * grads[k] / (np.abs(grads[k]) + 1e-8) for k, v in self.p.items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_step_is_the_authors_step():
    """D then G, losses summed cell by cell and gradients by hand, float64; alpha 10 and hidden
    cells included."""
    with jax.enable_x64(True):
        knobs, batch = gain.recipe(D, alpha=10.0, hide=0.3, hint_fill=0.5, dtype="float64"), batch_of()
        state = gain.init(knobs, jax.random.key(1))
        new, metrics = jax.jit(gain.step)(knobs, state, batch)
        seen = gain.view(knobs, batch, Draws(jax.random.fold_in(state.key, 0), batch.index))
        x, mask, shown, noisy, hint = (np.asarray(part, np.float64) for part in seen[:5])
        g, d = ByHand(state.generator.params), ByHand(state.discriminator.params)
        new, metrics = jax.device_get((new.replace(key=None), metrics))
    made = sigmoid(g(np.concatenate([noisy, shown], 1)))
    filled = shown * x + (1 - shown) * made
    p = sigmoid(d(np.concatenate([filled, hint], 1)))
    loss = 0.0
    for i in range(N):
        for j in range(D):
            loss -= np.log(p[i, j] if shown[i, j] else 1 - p[i, j]) / (N * D)
    assert metrics["discriminator/loss"] == pytest.approx(loss, rel=1e-9)
    d.adam_once(d.back((p - shown) / (N * D))[0])
    p = sigmoid(d(np.concatenate([filled, hint], 1)))
    adversarial = reconstruction = 0.0
    for i in range(N):
        for j in range(D):
            adversarial -= (1 - shown[i, j]) * np.log(p[i, j]) / (N * D)
            reconstruction += mask[i, j] * (x[i, j] - made[i, j]) ** 2 / mask.sum()
    assert metrics["generator/adversarial"] == pytest.approx(adversarial, rel=1e-9)
    assert metrics["generator/reconstruction"] == pytest.approx(reconstruction, rel=1e-9)
    assert metrics["generator/loss"] == pytest.approx(adversarial + 10 * reconstruction, rel=1e-9)
    through_d = d.back(-(1 - shown) * (1 - p) / (N * D))[1][:, :D] * (1 - shown)
    g.adam_once(g.back((through_d + 20 * mask * (made - x) / mask.sum()) * made * (1 - made))[0])
    for network, player in ((g, new.generator), (d, new.discriminator)):
        for name, leaf in gan.leaves(player.params).items():
            np.testing.assert_allclose(leaf, network.p[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_the_first_weights_are_the_authors():
    params = gain.init(gain.recipe(200), jax.random.key(0)).generator.params
    for i, inputs in enumerate((400, 200, 200)):
        kernel = np.asarray(params[f"Dense_{i}"]["kernel"])
        assert kernel.std() == pytest.approx(np.sqrt(2 / inputs), rel=0.02)
        assert not np.asarray(params[f"Dense_{i}"]["bias"]).any()


# ---- many at once ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_loop_a_sweep_and_a_population_of_tables_train_the_same_gain():
    """A sweep over alpha is one structure; its member equals the one of a population in which
    another has fewer rows."""
    rng = np.random.default_rng(0)
    rows = (rng.random((64, 1)) ** np.arange(1, 4)).astype(np.float32)
    data = missing.incomplete(gan.from_arrays(rows), 0.3)
    settings = {f"alpha {a}": gain.recipe(3, alpha=a, batch_size=16, ema_decay=0.5) for a in (1.0, 50.0)}
    swept = gan.sweep(settings, data, steps=3, seeds=1, rank_by="G/validation_rmse", log_every=3, devices=1, progress=False)
    assert len(by_structure(swept.members)) == 1
    train = data.train.images
    tables = [(train[:20, 0], train[:20, 1] > 0), (train[:, 0], train[:, 1] > 0)]
    state, metrics = training.train(list(settings.values()), tables, [4, 0], steps=3)
    run = swept.run("alpha 50.0")
    for a, b in zip(jax.tree.leaves(run.state.ema), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_allclose(a, b[1], atol=2e-6)
    assert np.isfinite(metrics["generator/loss"]).all() and metrics["generator/loss"].shape == (2,)
    row, ema = run.history[-1], jax.tree.map(lambda x: x[1], state.ema["params"])
    errors = {}
    for name in ("train", "validation"):
        values, mask = np.moveaxis(getattr(data, name).images[: len(data.validation)], 1, 0)
        output = np.asarray(gain.impute(settings["alpha 50.0"], ema, jnp.asarray(values), jnp.asarray(mask)))
        errors[name] = np.sqrt(((output - values)[mask == 0] ** 2).mean())
        assert row[f"G/{name}_rmse"] == pytest.approx(errors[name], rel=1e-4)
        assert row[f"G/{name}_observed_rmse"] == pytest.approx(np.sqrt(((output - values)[mask == 1] ** 2).mean()), rel=1e-4)
    assert row["G/rmse_gap"] == pytest.approx(errors["validation"] - errors["train"], abs=1e-5)


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hint_rate": 1.5}, "hint_rate is 1.5"),
        ({"hide": -0.1}, "hide is -0.1"),
        ({"hint_fill": 2.0}, "hint_fill is 2"),
        ({"features": (1, 0)}, "features is"),
        ({"features": 0}, "features is"),
        ({"alpha": -1.0}, "alpha is -1"),
        ({"alpha": np.nan}, "alpha is nan"),
        ({"noise": -1.0}, "noise is -1"),
        ({"ema_decay": 1.0}, "ema_decay is 1"),
        ({"optimizer": gan.optimizers.adam(-1.0)}, "learning_rate is -1"),
        ({"depth": 0}, "depth=0"),
        ({"width": 0}, "width=0"),
        ({"width": 2.5}, "width=2.5"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_a_number_out_of_its_range_gets_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        gain.recipe(**{"features": 3} | arguments)


def test_steps_in_several_calls_are_the_steps_of_one(monkeypatch):
    rng = np.random.default_rng(0)
    table = rng.random((40, D)).astype(np.float32), rng.random((40, D)) < 0.7
    many = lambda: training.train([gain.recipe(D, batch_size=8)], [table], [3, 4], steps=12)
    whole, last = many()
    assert training._chunks(12) == [12] and training._chunks(10_000) == [500] * 20 and training._chunks(1013) == [500, 500, 13]
    monkeypatch.setattr(training, "MOST", 5)
    assert training._chunks(12) == [5, 5, 2]
    parts, again = many()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        (whole.generator.params, last),
        (parts.generator.params, again),
    )
    assert (np.asarray(whole.step) == 12).all() and (np.asarray(parts.step) == 12).all()


def test_data_without_masks_or_of_another_width_are_refused():
    rows = np.random.default_rng(0).random((40, 5)).astype(np.float32)
    data = gan.from_arrays(rows)
    with pytest.raises(UserError, match="values and mask"):
        gain.check(gain.recipe(5), data)
    with pytest.raises(UserError, match="5 cells an example, the GAIN 4"):
        gain.check(gain.recipe(4), missing.incomplete(data, 0.2))
    with pytest.raises(UserError, match="tables for 3 members"):
        training.train([gain.recipe(5)], [(rows, rows > 0)] * 2, [0, 1, 2], steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"seeds": []}, "no seeds"),
        ({"knobs": [gain.recipe(D), gain.recipe(D).replace(alpha=-1.0)]}, "alpha is -1"),
    ],
)
def test_a_population_that_cannot_be_trained_gets_one_line(arguments, message):
    rows = np.random.default_rng(0).random((40, D)).astype(np.float32)
    with pytest.raises(UserError, match=message) as raised:
        training.train(**{"knobs": [gain.recipe(D)], "tables": [(rows, rows > 0.5)], "seeds": [0, 1], "steps": 1} | arguments)
    assert "\n" not in str(raised.value)
