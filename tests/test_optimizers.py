"""Known answers: the first steps of every optimizer by hand, optax's others as they are, rates that
are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax as gan
from gan_jax import optimizers
from gan_jax.core import bind
from gan_jax.gan.turns import PlayerGradient, apply_gradient

START = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.25)}
GRADIENTS = [
    {"w": np.array([0.3, -4.0, 0.0], np.float32), "b": np.array(2.0, np.float32)},
    {"w": np.array([-0.1, 1.0, 0.2], np.float32), "b": np.array(-3.0, np.float32)},
    {"w": np.array([0.5, 0.5, -0.5], np.float32), "b": np.array(0.1, np.float32)},
]


def player(optimizer, params=START):
    return gan.Player(params, {}, optimizer().init(params))


def stepped(optimizer, who, gradient):
    """The player after one move along this gradient."""
    recipe = gan.recipes.dirac()
    recipe = recipe.replace(discriminator=recipe.discriminator.replace(optimizer=optimizer))
    state = gan.State(step=0, key=None, generator=None, discriminator=who, ema=None, memory={})
    return apply_gradient(recipe, state, "discriminator", PlayerGradient(gradient, {}, {}, {}))[0].discriminator


def path(optimizer, gradients=GRADIENTS, params=START):
    """The parameters after each move."""
    who, seen = player(optimizer, params), []
    for gradient in gradients:
        who = stepped(optimizer, who, gradient)
        seen.append(who.params)
    return seen


def assert_path(got, expected):
    for a, b in zip(got, expected, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7), a, b)


def by_hand(rule, gradients=GRADIENTS):
    """The parameters after each step of `rule(leaf's parameters, gradient so far) -> change`."""
    seen, params = [], START
    for t in range(1, len(gradients) + 1):
        change = {k: rule(np.asarray(params[k]), [g[k] for g in gradients[:t]]) for k in params}
        params = {k: np.asarray(params[k]) + change[k] for k in params}
        seen.append(params)
    return seen


def adam_change(rate, b1, b2, gradients):
    """Kingma & Ba (2015), algorithm 1, from all gradients so far."""
    t = len(gradients)
    m = sum((1 - b1) * b1 ** (t - 1 - i) * g for i, g in enumerate(gradients)) / (1 - b1**t)
    v = sum((1 - b2) * b2 ** (t - 1 - i) * g**2 for i, g in enumerate(gradients)) / (1 - b2**t)
    return -rate * m / (np.sqrt(v) + 1e-8)


# ---- ours --------------------------------------------------------------------------------------


def test_sgd_steps_along_the_gradient():
    assert_path(path(optimizers.sgd(0.5)), by_hand(lambda p, gs: -0.5 * gs[-1]))


def test_adam_is_kingma_and_ba_s():
    expected = by_hand(lambda p, gs: adam_change(0.01, 0.5, 0.9, gs))
    assert_path(path(optimizers.adam(0.01, 0.5, 0.9)), expected)


def test_the_first_step_of_adam_is_the_rate_against_the_sign():
    first = path(optimizers.adam(0.01), GRADIENTS[:1])[0]
    np.testing.assert_allclose(first["w"], np.asarray(START["w"]) - 0.01 * np.sign(GRADIENTS[0]["w"]), rtol=1e-6)


def test_adam_s_defaults_are_the_article_s():
    numbers = {k: float(v) for k, v in optimizers.adam().numbers.items()}
    assert numbers == pytest.approx({"learning_rate": 2e-4, "b1": 0.5, "b2": 0.999})


def test_adamw_decays_the_weights_apart_from_the_gradient():
    expected = by_hand(lambda p, gs: adam_change(0.01, 0.5, 0.9, gs) - 0.01 * 0.1 * p)
    assert_path(path(optimizers.adamw(0.01, 0.5, 0.9, weight_decay=0.1)), expected)


def test_a_clipped_gradient_has_the_norm_allowed_and_its_own_direction():
    norm = np.sqrt(sum((g**2).sum() for g in GRADIENTS[0].values()))
    clip = lambda limit: optimizers.chain(optimizers.clip_gradient(limit), optimizers.sgd(1.0))
    assert_path(path(clip(0.1), GRADIENTS[:1]), by_hand(lambda p, gs: -0.1 * gs[-1] / norm, GRADIENTS[:1]))
    assert_path(path(clip(100.0), GRADIENTS[:1]), by_hand(lambda p, gs: -gs[-1], GRADIENTS[:1]))


def test_clipped_weights_stay_within_the_limit():
    clipped = optimizers.chain(optimizers.sgd(1.0), optimizers.clip_weights(0.6))
    expected = by_hand(lambda p, gs: np.clip(p - gs[-1], -0.6, 0.6) - p)
    assert_path(path(clipped), expected)
    for params in path(clipped):
        assert all(np.abs(x).max() <= 0.6 * (1 + 1e-6) for x in params.values())


def test_a_chain_runs_in_its_order():
    """Clipping before Adam scales the gradient, which Adam undoes; after it, it bounds the step."""

    def length(optimizer):
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, path(optimizer, GRADIENTS[:1])[0], START)))

    before = optimizers.chain(optimizers.clip_gradient(1e-3), optimizers.adam(1.0))
    after = optimizers.chain(optimizers.adam(1.0), optimizers.clip_gradient(1e-3))
    assert length(before) == pytest.approx(np.sqrt(3), rel=1e-3)
    assert length(after) == pytest.approx(1e-3, rel=1e-3)


def test_a_chain_names_its_numbers_by_place():
    chain = optimizers.chain(optimizers.clip_gradient(1.0), optimizers.adam(0.5))
    assert gan.leaves(chain) == {"0.max_norm": 1.0, "1.b1": 0.5, "1.b2": np.float32(0.999), "1.learning_rate": 0.5}


# ---- optax's own -------------------------------------------------------------------------------

OPTAX = {
    "rmsprop": (optax.rmsprop, {"decay": 0.9}),
    "momentum": (optax.sgd, {"momentum": 0.9, "nesterov": True}),
    "lion": (optax.lion, {"b1": 0.9}),
    "adabelief": (optax.adabelief, {"b1": 0.5}),
    "radam": (optax.radam, {"threshold": 1.5}),
    "yogi": (optax.yogi, {}),
    "nadam": (optax.nadam, {"b1": 0.5}),
    "adagrad": (optax.adagrad, {}),
    "optimistic": (optax.optimistic_gradient_descent, {"alpha": 1.0, "beta": 1.0}),
}


@pytest.mark.parametrize("name", OPTAX)
def test_any_optimizer_of_optax_steps_as_it_does_by_itself(name):
    """Bound to traced numbers, inside jit, it takes the steps that it takes with Python numbers."""
    factory, numbers = OPTAX[name]
    bound = gan.bind(factory, learning_rate=0.01, **numbers)
    step = jax.jit(stepped)
    who, seen = player(bound), []
    for gradient in GRADIENTS:
        who = step(bound, who, gradient)
        seen.append(who.params)
    plain = factory(learning_rate=0.01, **numbers)
    state, params, expected = plain.init(START), START, []
    for gradient in GRADIENTS:
        updates, state = plain.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        expected.append(params)
    assert_path(seen, expected)
    assert all(not np.array_equal(a["w"], b["w"]) for a, b in zip(seen, [START, *seen], strict=False))


def test_a_game_trains_with_an_optimizer_of_optax():
    recipe = gan.recipes.dirac()
    rmsprop = gan.bind(optax.rmsprop, learning_rate=1e-3, decay=0.9)
    g, d = (side.replace(optimizer=rmsprop) for side in (recipe.generator, recipe.discriminator))
    recipe = recipe.replace(generator=g, discriminator=d)
    start = gan.init(recipe, jax.random.key(0))
    state, metrics = jax.jit(gan.train_step)(recipe, start, gan.Batch(jnp.zeros((2, 1)), jnp.arange(2)))
    assert all(np.isfinite(x) for x in metrics.values())
    step = 1e-3 / np.sqrt(0.1)  # RMSProp's first, against the sign
    np.testing.assert_allclose(state.generator.params["theta"], 1 + step, rtol=1e-5)
    np.testing.assert_allclose(state.discriminator.params["psi"], 1 - step, rtol=1e-5)


# ---- rates that are traced ---------------------------------------------------------------------


def test_every_number_of_an_optimizer_can_be_swept_in_one_program():
    rates = [0.0, 0.1, 1.0]
    step = jax.jit(lambda optimizer: stepped(optimizer, player(optimizer), GRADIENTS[0]).params["w"])
    make = lambda rate: optimizers.chain(
        optimizers.clip_gradient(1 + rate), optimizers.adamw(rate, rate / 2), optimizers.clip_weights(2 + rate)
    )
    alone = [step(make(rate)) for rate in rates]
    assert step._cache_size() == 1
    together = jax.vmap(step)(jax.tree.map(lambda *x: jnp.stack(x), *map(make, rates)))
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    np.testing.assert_array_equal(alone[0], START["w"])
    assert not np.allclose(alone[1], alone[2])


def test_a_schedule_may_stand_for_a_rate():
    rate = gan.schedules.linear(1.0, 0.0, 10)
    recipe = gan.recipes.dirac(learning_rate=rate)
    at = lambda step: bind.resolve(recipe, jnp.int32(step)).discriminator.optimizer
    for step, expected in [(0, 1.0), (5, 0.5), (10, 0.0), (99, 0.0)]:
        change = path(at(step), GRADIENTS[:1])[0]["b"] - START["b"]
        np.testing.assert_allclose(change, -expected * 2.0, rtol=1e-6)


def test_moves_keep_the_dtype_of_the_parameters(x64):
    for dtype in ("float32", "float64"):
        params = {k: v.astype(dtype) for k, v in START.items()}
        for optimizer in (optimizers.adam(), optimizers.chain(optimizers.sgd(), optimizers.clip_weights())):
            who = stepped(optimizer, player(optimizer, params), GRADIENTS[0])
            assert {x.dtype for x in jax.tree.leaves(who.params)} == {jnp.dtype(dtype)}
