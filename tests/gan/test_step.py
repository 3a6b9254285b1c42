"""Known answers: one step of a game small enough to write down by hand, and what each turn may see
and change."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import energy_distance
from sklearn.metrics import roc_auc_score

import gan_jax as gan
from gan_jax.core.net import Net, cast
from gan_jax.gan.forward import discriminate_both
from gan_jax.networks import mlp
from gan_jax.optimizers import sgd
from gan_jax.penalties import remembers
from gan_jax.training.chunk import gather_batch, single_chunk
from gan_jax.training.placement import place
from tests.tiny_games import assert_close

RATE = float(np.float32(0.1))  # of plain gradient descent; the numbers of a recipe are float32
STEP = jax.jit(gan.train_step)


# ---- a game by hand: G(z) = a z + b, D(x) = c x + e x^2 ----------------------------------------


def counted(stats, mode, values):
    """Statistics that tell how often a network ran in training, and a running mean of what it
    said."""
    if not mode.train:
        return stats
    old = stats["running"]
    return {"running": {"passes": old["passes"] + 1, "mean": 0.75 * old["mean"] + 0.25 * values.mean()}}


FRESH = {"running": {"passes": jnp.float32(0), "mean": jnp.float32(0)}}


@dataclass(frozen=True)
class Line:
    """The generator. In evaluation its running mean is added, which shows which statistics were
    used."""

    def init(self, key, z, labels, numbers):
        return {"a": jnp.float32(0.5), "b": jnp.float32(-1.0)}, FRESH

    def apply(self, params, stats, z, labels, mode, numbers, compute_dtype=None):
        images = line(params, z)
        return images if mode.train else images + stats["running"]["mean"], counted(stats, mode, images)


@dataclass(frozen=True)
class Parabola:
    """The discriminator. A label is added to its logit, which shows under which label an example
    was judged."""

    def init(self, key, images, labels, numbers):
        return {"c": jnp.float32(0.7), "e": jnp.float32(-0.2)}, FRESH

    def apply(self, params, stats, images, labels, mode, numbers, compute_dtype=None):
        logits = parabola(params, images)[:, 0] + (0 if labels is None else labels)
        return gan.DiscriminatorOutput(logits), counted(stats, mode, logits)


def line(params, z):
    return params["a"] * z + params["b"]


def parabola(params, x):
    return params["c"] * x + params["e"] * x**2


def ramp(draws, labels, dtype):
    """Latents 1, 2, 3, ... that depend on the example alone."""
    return 1 + draws.index[:, None].astype(dtype)


def shift(images, labels, draws, *, by):
    """An augmentation that can be followed by hand."""
    return images + jnp.asarray(by, images.dtype)


def game(d_penalties=None, g_penalties=None, rates=(0.1, 0.1), loss="non_saturating", **fields):
    defaults = {
        "latent": gan.bind(ramp), "fake_labels": gan.bind(gan.latents.batch_labels), "play": gan.bind(gan.alternating),
        "dtype": "float64", "batch_size": 4,
    }  # fmt: skip
    return gan.Recipe(
        generator=gan.Side(net=Line(), optimizer=sgd(rates[0]), penalties=g_penalties or {}),
        discriminator=gan.Side(net=Parabola(), optimizer=sgd(rates[1]), penalties=d_penalties or {}),
        loss=gan.losses.LOSSES[loss],
        **defaults | fields,
    )


def batch_of(x, **fields):
    x = jnp.asarray(x)
    return gan.Batch(x[:, None] if x.ndim == 1 else x, jnp.arange(len(x)), **fields)


X = np.array([0.3, -1.2, 0.8, 2.0])
Z = np.arange(1.0, 5.0)


def d_loss(d, g, x, z, weights=1.0, by=0.0):
    """-log D(x) - log(1 - D(G(z))) of logits."""
    real, fake = parabola(d, x + by), parabola(d, line(g, z) + by)
    return (weights * jnp.logaddexp(0, -real) + jnp.logaddexp(0, fake)).mean()


def g_loss(g, d, z, by=0.0):
    return jnp.logaddexp(0, -parabola(d, line(g, z) + by)).mean()


def descend(loss, params, *args, **kwargs):
    return jax.tree.map(lambda p, g: p - RATE * g, params, jax.grad(loss)(params, *args, **kwargs))


def start_of(recipe):
    return gan.init(recipe, jax.random.key(0))


def players(state):
    return state.generator.params, state.discriminator.params


def close(got, expected):
    assert_close(got, jax.tree.map(jnp.asarray, expected), 1e-12)


def test_alternating_moves_d_and_then_g_against_the_new_d(x64):
    start = start_of(game())
    g, d = players(start)
    state, metrics = STEP(game(), start, batch_of(X))
    new_d = descend(d_loss, d, g, X, Z)
    new_g = descend(g_loss, g, new_d, Z)
    close(players(state), (new_g, new_d))
    gradients = jax.grad(d_loss)(d, g, X, Z), jax.grad(g_loss)(g, new_d, Z)
    expected = {
        "discriminator/loss": d_loss(d, g, X, Z), "generator/loss": g_loss(g, new_d, Z),
        "discriminator/real_logit": parabola(d, X).mean(), "discriminator/fake_logit": parabola(d, line(g, Z)).mean(),
        "discriminator/gradient_norm": jnp.hypot(*gradients[0].values()),
        "generator/gradient_norm": jnp.hypot(*gradients[1].values()),
        "discriminator/real_sign": np.sign(parabola(d, X)).mean(),
    }  # fmt: skip
    assert set(metrics) == set(expected)
    close(metrics, expected)


def test_simultaneous_moves_both_from_the_same_point(x64):
    recipe = game(play=gan.bind(gan.simultaneous))
    start = start_of(recipe)
    g, d = players(start)
    state, metrics = STEP(recipe, start, batch_of(X))
    close(players(state), (descend(g_loss, g, d, Z), descend(d_loss, d, g, X, Z)))
    close(metrics["generator/loss"], g_loss(g, d, Z))
    assert state.generator.stats["running"]["passes"] == 1 and state.discriminator.stats["running"]["passes"] == 2


def test_simultaneous_play_refuses_several_discriminator_turns():
    recipe = game(play=gan.bind(gan.simultaneous), d_steps=2, dtype="float32")
    with pytest.raises(gan.UserError, match="not d_steps = 2"):
        gan.train_step(recipe, start_of(recipe), batch_of(np.float32([*X, *X])))


def test_discriminator_turns_are_dealt_the_examples_in_turn(x64):
    """Turn i sees examples i, i + 3, i + 6, ...: each turn starts from the last one's result, then
    G moves once."""
    recipe = game(d_steps=3)
    start = start_of(recipe)
    g, d = players(start)
    x = np.random.default_rng(0).normal(size=12)
    state, metrics = STEP(recipe, start, batch_of(x))
    losses = []
    for i in range(3):
        losses.append(d_loss(d, g, x[i::3], Z))
        d = descend(d_loss, d, g, x[i::3], Z)
    close(players(state), (descend(g_loss, g, d, Z), d))
    close(metrics["discriminator/loss"], np.mean(losses))
    assert state.step == 1


def test_examples_that_cannot_be_dealt_evenly_are_refused():
    recipe = game(d_steps=3, dtype="float32")
    with pytest.raises(gan.UserError, match="4 examples cannot be dealt in 3"):
        gan.train_step(recipe, start_of(recipe), batch_of(np.float32(X)))


def test_the_discriminator_sees_reals_and_fakes_augmented_alike(x64):
    recipe = game(augment={"shift": gan.bind(shift, by=0.5)})
    start = start_of(recipe)
    g, d = players(start)
    state, _ = STEP(recipe, start, batch_of(X))
    new_d = descend(d_loss, d, g, X, Z, by=0.5)
    close(players(state), (descend(g_loss, g, new_d, Z, by=0.5), new_d))


def test_penalties_look_through_the_augmentation(x64):
    """R1 of D(x + s): half gamma (c + 2 e (x + s))^2, weighted into D's loss."""
    recipe = game({"r1": gan.bind(gan.penalties.r1, gamma=3.0)}, augment={"shift": gan.bind(shift, by=0.5)})
    start = start_of(recipe)
    g, d = players(start)
    r1 = lambda d: 1.5 * ((d["c"] + 2 * d["e"] * (X + 0.5)) ** 2).mean()
    state, metrics = STEP(recipe, start, batch_of(X))
    close(players(state)[1], descend(lambda d: d_loss(d, g, X, Z, by=0.5) + r1(d), d))
    close((metrics["discriminator/r1"], metrics["discriminator/loss"]), (r1(d), d_loss(d, g, X, Z, by=0.5)))


def test_weights_scale_the_reals_in_d_s_loss_alone(x64):
    start, weights = start_of(game()), np.array([2.0, 0.0, 1.5, 0.5])
    g, d = players(start)
    state, _ = STEP(game(), start, batch_of(X, weights=jnp.asarray(weights)))
    new_d = descend(d_loss, d, g, X, Z, weights)
    close(players(state), (descend(g_loss, g, new_d, Z), new_d))
    even, _ = STEP(game(), start, batch_of(X, weights=jnp.ones(4)))
    close(players(even), players(STEP(game(), start, batch_of(X))[0]))


# ---- statistics, the moving average, live values -----------------------------------------------


@pytest.mark.parametrize("fields, passes", [({}, 2), ({"d_steps": 3}, 6), ({"judge_together": True}, 1)],
                         ids=["apart", "three_turns", "together"])  # fmt: skip
def test_running_statistics_move_in_their_player_s_own_turn_alone(x64, fields, passes):
    """Neither the other player's turn nor a penalty's look counts."""
    recipe = game({"r1": gan.bind(gan.penalties.r1, gamma=1.0)}, **fields)
    x = np.resize(X, 4 * recipe.d_steps)
    state, _ = STEP(recipe, start_of(recipe), batch_of(x))
    assert state.generator.stats["running"]["passes"] == 1
    assert state.discriminator.stats["running"]["passes"] == passes


def test_running_statistics_see_the_reals_first_and_then_the_fakes(x64):
    start = start_of(game())
    g, d = players(start)
    state, _ = STEP(game(), start, batch_of(X))
    real, fake = parabola(d, X).mean(), parabola(d, line(g, Z)).mean()
    close(state.discriminator.stats["running"]["mean"], 0.75 * 0.25 * real + 0.25 * fake)
    close(state.generator.stats["running"]["mean"], 0.25 * line(g, Z).mean())


def test_the_moving_average_ramps_up_to_its_decay(x64):
    """decay_t = min(decay, (1 + t) / (10 + t)), over parameters and statistics alike."""
    decay = float(np.float32(0.15))
    recipe = game(ema_decay=decay)
    state = start_of(recipe)
    average = {"params": state.generator.params, "stats": state.generator.stats}
    close(state.ema, average)
    for t in range(4):
        state, _ = STEP(recipe, state, batch_of(X))
        latest = {"params": state.generator.params, "stats": state.generator.stats}
        keep = min(decay, (1 + t) / (10 + t))
        average = jax.tree.map(lambda a, x: keep * a + (1 - keep) * x, average, latest)  # noqa: B023
        assert_close(state.ema, average, 1e-8)  # the decay is a float32


def test_a_state_shares_no_buffers_so_that_it_can_be_donated():
    recipe = gan.recipes.mlp((2,), width=4, depth=1)
    leaves = [x for x in jax.tree.leaves(start_of(recipe).replace(key=None))]
    pointers = [x.unsafe_buffer_pointer() for x in leaves]
    assert len(set(pointers)) == len(pointers)


def test_live_values_stand_in_for_their_leaves(x64):
    live = {"discriminator.optimizer.learning_rate": jnp.float64(0), "generator.optimizer.learning_rate": jnp.float64(0.2)}
    start = start_of(game())
    controlled, _ = STEP(game(), start.replace(memory={"live": live}), batch_of(X))
    written, _ = STEP(game(rates=(0.2, 0.0)), start, batch_of(X))
    assert_close(players(controlled), players(written), 1e-8)
    close(players(controlled)[1], players(start)[1])
    close(controlled.memory, {"live": live})


# ---- penalties that remember, and lazy ones ----------------------------------------------------


@remembers(average=1.0, steps=0.0)
def toward_average(turn, *, weight):
    """The squared distance of each real's logit from a moving average of the mean logit."""
    logits = turn.critic(turn.reals, turn.real_labels).logits
    average = turn.memory["average"] / 2 + turn.mean(logits) / 2
    return weight * (logits - average) ** 2, {"average": average, "steps": turn.memory["steps"] + 1}


@remembers(now=0.0, before=0.0)
def latents_seen(turn, *, weight):
    return weight * turn.z[:, 0], {"now": turn.z.mean(), "before": turn.memory["now"]}


@pytest.mark.parametrize("play", [gan.alternating, gan.simultaneous], ids=lambda play: play.__name__)
def test_what_a_penalty_remembers_goes_from_step_to_step(x64, play):
    """Each player's penalties have a memory of their own; the gradient sees this step's average,
    not its past."""
    penalty = {"near": gan.bind(toward_average, weight=1.0)}
    recipe = game(penalty, penalty, rates=(0.0, 0.1), play=gan.bind(play))
    state = start_of(recipe)
    fresh = {"near": {"average": jnp.float64(1), "steps": jnp.float64(0)}}
    close(state.memory, {"discriminator": fresh, "generator": fresh})
    averages, d = {"discriminator": 1.0, "generator": 1.0}, players(state)[1]
    for t in range(1, 4):
        g, before = players(state)

        def objective(d):
            logits = parabola(d, X)
            return d_loss(d, g, X, Z) + ((logits - averages["discriminator"] / 2 - logits.mean() / 2) ** 2).mean()  # noqa: B023

        d = descend(objective, before)
        seen_by = {"discriminator": before, "generator": d if play is gan.alternating else before}
        averages = {k: a / 2 + parabola(seen_by[k], X).mean() / 2 for k, a in averages.items()}
        state, _ = STEP(recipe, state, batch_of(X))
        close(players(state)[1], d)
        expected = {k: {"near": {"average": jnp.asarray(a), "steps": jnp.float64(t)}} for k, a in averages.items()}
        close(state.memory, expected)


def test_each_discriminator_turn_remembers_and_has_latents_of_its_own(x64):
    recipe = game({"seen": gan.bind(latents_seen, weight=0.0)}, d_steps=2)
    recipe = recipe.replace(latent=gan.bind(gan.latents.normal, dimension=1))
    state, _ = STEP(recipe, start_of(recipe), batch_of([*X, *X]))
    seen = state.memory["discriminator"]["seen"]
    assert 0 != seen["before"] != seen["now"] != 0


def test_a_lazy_penalty_comes_every_k_steps_k_times_stronger_and_remembers_in_between(x64):
    """With both players at rest its value is known at every step, and its mean is the penalty's
    own."""
    penalties = {
        "lazy": gan.lazy(gan.bind(gan.penalties.r1, gamma=2.0), 3), "eager": gan.bind(gan.penalties.r1, gamma=2.0),
        "seldom": gan.lazy(gan.bind(toward_average, weight=1.0), 2),
    }  # fmt: skip
    recipe = game(penalties, rates=(0.0, 0.0))
    state = start_of(recipe)
    r1 = ((0.7 - 0.4 * X) ** 2).mean()
    said, counts = [], []
    for _ in range(6):
        state, metrics = STEP(recipe, state, batch_of(X))
        said.append((metrics["discriminator/lazy"], metrics["discriminator/eager"]))
        counts.append(float(state.memory["discriminator"]["seldom"]["steps"]))
    np.testing.assert_allclose(said, [(3 * r1, r1), (0, r1), (0, r1)] * 2, rtol=1e-6)
    assert counts == [1, 1, 2, 2, 3, 3]


# ---- batch statistics, labels and dtypes with real networks ------------------------------------


def test_judging_together_shares_batch_statistics_and_apart_does_not(x64):
    """By hand: apart, reals and fakes are each normalised by their own mean and variance; together,
    by that of both."""
    module = mlp.Discriminator(3, 1, norm="batch")
    recipe = gan.recipes.mlp((2,), width=4, depth=1, batch_size=5, dtype="float64")
    reals, fakes = np.random.default_rng(0).normal(size=(2, 5, 2)) + np.array([0, 3])[:, None, None]
    params, stats = cast(Net(module).init(jax.random.key(1), jnp.asarray(reals), None, {}), "float64")
    dense, scale, out = params["Dense_0"], params["Norm_0"]["BatchNorm_0"], params["Dense_1"]

    def by_hand(*groups):
        means, logits = [], []
        for group in groups:
            hidden = group @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
            means.append(hidden.mean(0))
            x = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-3) * scale["scale"] + scale["bias"]
            logits.append((np.where(x > 0, x, 0.2 * x) @ np.asarray(out["kernel"]) + np.asarray(out["bias"]))[:, 0])
        running = 0
        for mean in means:
            running = 0.99 * running + 0.01 * mean
        return np.concatenate(logits), running

    for together, groups in [(False, (reals, fakes)), (True, (np.concatenate([reals, fakes]),))]:
        setting = recipe.replace(judge_together=together)
        setting = setting.replace(discriminator=setting.discriminator.replace(net=Net(module)))
        draws = gan.Draws(jax.random.key(0), jnp.arange(5))
        args = setting, params, stats, batch_of(reals), jnp.asarray(fakes), draws
        real, fake, new = jax.jit(lambda *args: discriminate_both(*args, None))(*args)
        logits, running = by_hand(*groups)
        np.testing.assert_allclose(jnp.concatenate([real.logits, fake.logits]), logits, rtol=1e-9)
        np.testing.assert_allclose(new["batch_stats"]["Norm_0"]["BatchNorm_0"]["mean"], running, rtol=1e-9)


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
def test_reals_and_fakes_have_draws_of_their_own(together):
    noise = gan.bind(gan.augment.instance_noise, std=1.0)
    recipe = game(judge_together=together, augment={"noise": noise}, dtype="float32")
    draws, zeros = gan.Draws(jax.random.key(0), jnp.arange(4)), np.zeros(4, np.float32)
    params = {"c": 1.0, "e": 0.0}
    real, fake, _ = discriminate_both(recipe, params, FRESH, batch_of(zeros), batch_of(zeros).images, draws, None)
    assert len(np.unique([*real.logits, *fake.logits])) == 8


def small(width=4, **fields):
    recipe = gan.recipes.mlp((2,), width=width, depth=1, batch_size=4, **fields)
    sides = (side.replace(optimizer=sgd(0.1)) for side in (recipe.generator, recipe.discriminator))
    return recipe.replace(**dict(zip(("generator", "discriminator"), sides, strict=True)))


ROWS = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


def test_labels_reach_both_networks():
    """Only the vectors of labels that are in the batch move, in both networks."""
    recipe = small(classes=3)
    start = start_of(recipe)
    state, _ = STEP(recipe, start, batch_of(ROWS, labels=jnp.array([0, 2, 2, 0])))
    other, _ = STEP(recipe, start, batch_of(ROWS, labels=jnp.array([2, 0, 0, 2])))
    for player in ("generator", "discriminator"):
        before, after, swapped = (getattr(s, player).params["label"]["embedding"] for s in (start, state, other))
        moved = (before != after).any(1)
        assert moved.tolist() == [True, False, True], player
        assert not np.allclose(after, swapped), player


@remembers(reals=-1.0, fakes=-1.0, critic=-1.0)
def labels_seen(turn, *, weight):
    said = turn.critic(0 * turn.reals, turn.real_labels).logits
    seen = {"reals": turn.real_labels.mean(), "fakes": turn.fake_labels.mean(), "critic": said.mean()}
    return weight * turn.z[:, 0], seen


@pytest.mark.parametrize("play", [gan.alternating, gan.simultaneous], ids=lambda play: play.__name__)
@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
def test_every_example_is_judged_under_its_own_label(play, together):
    """Reals under the data's labels; fakes under those that the recipe draws, each turn its own."""
    seen = {"seen": gan.bind(labels_seen, weight=0.0)}
    fields = {"classes": 100, "dtype": "float32", "play": gan.bind(play), "judge_together": together}
    recipe = game(seen, seen, **fields, fake_labels=gan.bind(gan.latents.uniform_labels))
    start = start_of(recipe)
    state, metrics = STEP(recipe, start, batch_of(np.zeros(4, np.float32), labels=jnp.full(4, 7)))
    g, d = players(start)
    fakes = [state.memory[player]["seen"]["fakes"] for player in ("discriminator", "generator")]
    for player in ("generator", "discriminator"):
        assert state.memory[player]["seen"]["reals"] == state.memory[player]["seen"]["critic"] == 7
    np.testing.assert_allclose(metrics["discriminator/real_logit"], 7, rtol=1e-6)
    expected = parabola(d, line(g, Z)).mean() + fakes[0]
    np.testing.assert_allclose(metrics["discriminator/fake_logit"], expected, rtol=1e-6)
    assert fakes[0] != fakes[1] and all(0 < label < 99 for label in fakes)


def test_fakes_may_have_the_labels_of_the_reals():
    seen = {"seen": gan.bind(labels_seen, weight=0.0)}
    recipe = game(seen, seen, classes=100, dtype="float32")
    state, _ = STEP(recipe, start_of(recipe), batch_of(np.float32(X), labels=jnp.full(4, 7)))
    assert [state.memory[player]["seen"]["fakes"] for player in ("generator", "discriminator")] == [7, 7]


def dtypes(tree):
    return {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_state_keeps_its_dtype(x64, dtype):
    recipe = gan.recipes.mlp((2,), width=4, depth=1, batch_size=4, dtype=dtype, ema_decay=0.5)
    start = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    state, _ = jax.eval_shape(gan.train_step, recipe, start, batch_of(ROWS.astype(dtype)))
    assert dtypes(start) == dtypes(state) == {jnp.dtype(dtype)}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), start) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert jax.eval_shape(lambda s: gan.sample(recipe, s, s.key, 3), start).dtype == jnp.dtype(dtype)


def test_what_a_penalty_remembers_keeps_its_dtype(x64):
    """The mean of whole numbers is a float64 here; the state is not."""
    recipe = game({"seen": gan.bind(labels_seen, weight=0.0)}, classes=3, dtype="float32")
    start = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    state, _ = jax.eval_shape(gan.train_step, recipe, start, batch_of(np.float32(X), labels=jnp.zeros(4, jnp.int64)))
    assert dtypes(start.memory) == dtypes(state.memory) == {jnp.dtype("float32")}


def test_a_narrow_compute_dtype_keeps_a_float32_state_and_nearly_the_same_step():
    """One step of gradient descent; G's batch norm makes statistics, which stay in float32 too."""
    wide = small()
    wide = wide.replace(generator=wide.generator.replace(net=Net(mlp.Generator(2, 4, 1, norm="batch"))))
    narrow = wide.replace(compute_dtype="bfloat16")
    start = start_of(wide)
    (a, _), (b, metrics) = (STEP(recipe, start, batch_of(ROWS)) for recipe in (wide, narrow))
    assert dtypes(b) == dtypes(metrics) == {jnp.dtype("float32")}
    assert_close(b, a, 0.02)
    change = lambda state: np.concatenate([
        np.ravel(x - y) for x, y in zip(*map(jax.tree.leaves, (players(state), players(start))), strict=True)
    ])  # fmt: skip
    assert 0 < np.abs(change(a) - change(b)).max(), "it did compute in bfloat16"
    assert np.corrcoef(change(a), change(b))[0, 1] > 0.99


# ---- samples -----------------------------------------------------------------------------------


def test_pieces_of_a_sample_are_the_whole():
    recipe = gan.recipes.mlp((2,), width=4, depth=1, classes=3)
    state = start_of(recipe)
    draw = jax.jit(lambda n, first: gan.sample(recipe, state, jax.random.key(4), n, first=first), static_argnums=0)
    whole = draw(7, 0)
    np.testing.assert_allclose(np.concatenate([draw(3, 0), draw(3, 3), draw(1, 6)]), whole, rtol=1e-6, atol=1e-7)
    assert len(np.unique(whole, axis=0)) == 7
    labels = jnp.arange(7) % 3
    same = gan.sample(recipe, state, jax.random.key(4), 7, labels)
    np.testing.assert_allclose(same, whole, rtol=1e-5, atol=1e-6)


def test_samples_come_from_the_moving_average_in_evaluation_or_from_the_generator_as_it_is(x64):
    state = start_of(game())
    ema = {"params": {"a": jnp.float64(2), "b": jnp.float64(3)}, "stats": {"running": {"mean": jnp.float64(10)}}}
    state = state.replace(ema=ema)
    averaged, raw = (gan.sample(game(), state, jax.random.key(0), 3, ema=flag) for flag in (True, False))
    np.testing.assert_allclose(averaged[:, 0], [15, 17, 19])
    np.testing.assert_allclose(raw[:, 0], [-0.5, 0, 0.5])


# ---- what goes wrong ---------------------------------------------------------------------------


def test_a_chunk_keeps_the_last_good_state_and_its_metrics_show_where_it_broke():
    recipe = game(dtype="float32")
    rows = np.random.default_rng(1).normal(size=(40, 1)).astype(np.float32)
    feed = gan.Feed(jnp.asarray(rows), None, jnp.int32(40), jax.random.key(2))
    rows[gan.order(feed.key, 4 * 3 + 1, 40)] = np.nan  # the second example of the fourth step
    broken = feed.replace(images=jnp.asarray(rows))
    start = start_of(recipe)
    state, metrics = jax.jit(single_chunk, static_argnums=(0, 1, 2))(gan.GAN, 7, place(1), recipe, start, broken)
    finite = np.isfinite(metrics["discriminator/loss"])
    assert finite.tolist() == [True] * 3 + [False] * 4
    assert state.step == 3
    good = start
    for step in range(3):
        good, _ = STEP(recipe, good, gather_batch(feed, jnp.int32(step), 4, "float32", place(1)))
    assert_close(state, good, 1e-6)


# ---- evaluation --------------------------------------------------------------------------------


ON_REALS = {
    "non_saturating": lambda x: np.log1p(np.exp(-x)), "minimax": lambda x: np.log1p(np.exp(-x)),
    "least_squares": lambda x: (x - 1) ** 2 / 2, "wasserstein": lambda x: -x, "hinge": lambda x: np.maximum(1 - x, 0),
}  # fmt: skip


@pytest.mark.parametrize("loss", ON_REALS)
def test_evaluation_says_what_d_thinks_without_augmentation(x64, loss):
    """Accuracies at the loss's boundary, and the area under the curve with ties, as scikit-learn
    has it."""
    recipe = game(loss=loss, augment={"shift": gan.bind(shift, by=100.0)})
    state = start_of(recipe)
    g, d = players(state)
    rng = np.random.default_rng(3)
    train, validation = (np.round(rng.normal(mean, 1, size=(60, 1)), 1) for mean in (0.6, 0.2))
    row = gan.GAN.evaluate(recipe, state, (jnp.asarray(train), None), (jnp.asarray(validation), None))
    logits = {"train": parabola(d, train)[:, 0], "validation": parabola(d, validation)[:, 0]}
    logits["fake"] = parabola(d, line(g, np.arange(1.0, 61.0)))
    boundary = {"least_squares": 0.5, "wasserstein": (logits["train"].mean() + logits["fake"].mean()) / 2}.get(loss, 0.0)
    expected = {f"D/{name}_logit": x.mean() for name, x in logits.items()}
    expected |= {f"D/{name}_accuracy": (x > boundary).mean() for name, x in logits.items()}
    expected["D/fake_accuracy"] = (logits["fake"] < boundary).mean()
    scores = np.concatenate([logits["train"], logits["validation"]])
    assert len(np.unique(scores)) < 120, "there are ties"
    expected["D/train_validation_auc"] = roc_auc_score(np.repeat([1, 0], 60), scores)
    t, v, f = (logits[name].mean() for name in ("train", "validation", "fake"))
    expected["D/r_v"] = (t - v) / max(t - f, 1e-8)
    expected["D/loss_gap"] = ON_REALS[loss](logits["validation"]).mean() - ON_REALS[loss](logits["train"]).mean()
    made = np.asarray(line(g, np.arange(1.0, 61.0))).ravel()
    of_itself = lambda x: np.abs(x[:, None] - x[None, :]).sum() / (len(x) ** 2 * (len(x) - 1))  # what SciPy's has too much
    for name, held in {"G/train_energy": train[:, 0], "G/validation_energy": validation[:, 0]}.items():
        expected[name] = energy_distance(made, held) ** 2 - of_itself(made) - of_itself(held)
    for name, held in {"G/train_fd": train[:, 0], "G/validation_fd": validation[:, 0]}.items():  # of two normals, in 1-D
        expected[name] = (made.mean() - held.mean()) ** 2 + (made.std(ddof=1) - held.std(ddof=1)) ** 2
    expected["G/fd_gap"] = expected["G/validation_fd"] - expected["G/train_fd"]
    to_train = lambda x: np.abs(x[:, None] - train[:, 0]).min(1)
    expected["G/near_copies"] = (to_train(made) < np.sort(to_train(validation[:, 0]))[2]).mean()  # 5 % of 60: the third
    assert set(row) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(row[name], value, rtol=1e-10, err_msg=name)


def test_evaluation_scales_bytes_as_training_does():
    images = np.array([[0], [128], [255], [64]], np.uint8)
    row = gan.GAN.evaluate(game(dtype="float32"), start_of(game(dtype="float32")), (images, None), (images[:2], None))
    unit = images / 127.5 - 1
    np.testing.assert_allclose(row["D/train_logit"], (0.7 * unit - 0.2 * unit**2).mean(), rtol=1e-5)
