"""Known answers: further optimizers against their formulae in NumPy, and what they do on the
bilinear game."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import optimizers
from gan_jax.core import bind
from gan_jax.training import serialization

CURVATURE = np.array([1.0, 4.0, 0.25])
START = np.array([1.0, -2.0, 0.5])
RATE = 2.0**-4  # exact in float32, as are the betas below


def walk(optimizer, gradient, start, steps):
    """The points [steps + 1, ...] of an optimizer that is rebuilt at every step, as training
    does."""
    params = {"w": jnp.asarray(start)}
    state, points = optimizer().init(params), [np.asarray(start)]
    for _ in range(steps):
        updates, state = optimizer().update({"w": jnp.asarray(gradient(np.asarray(params["w"])))}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        points.append(np.asarray(params["w"]))
    return np.stack(points)


def quadratic(w):
    return CURVATURE * w


def by_hand(rule, gradient=quadratic, start=START, steps=6):
    """The points of `rule(memory, g, p, t) -> change`, `memory` being a dict that starts empty."""
    p, memory, points = np.array(start, float), {}, [np.array(start, float)]
    for t in range(1, steps + 1):
        p = p + rule(memory, gradient(p), p, t)
        points.append(p)
    return np.stack(points)


# ---- formulae ----------------------------------------------------------------------------------


def averaged(memory, name, value, decay):
    memory[name] = decay * memory.get(name, 0.0) + (1 - decay) * value
    return memory[name]


def heavy_ball(memory, g, p, t):
    memory["v"] = 0.75 * memory.get("v", 0.0) + g
    return -RATE * memory["v"]


def nesterov(memory, g, p, t):
    memory["v"] = 0.75 * memory.get("v", 0.0) + g
    return -RATE * (g + 0.75 * memory["v"])


def rms(memory, g, p, t):
    return -RATE * g / (np.sqrt(averaged(memory, "v", g**2, 0.5)) + 2.0**-10)


def direction(memory, g, t, b1):
    m, v = averaged(memory, "m", g, b1), averaged(memory, "v", g**2, 0.75)
    return m / (1 - b1**t), v / (1 - 0.75**t)


def ams(memory, g, p, t):
    m, v = direction(memory, g, t, 0.5)
    memory["max"] = np.maximum(memory.get("max", 0.0), v)
    return -RATE * m / (np.sqrt(memory["max"]) + 1e-8)


def belief(memory, g, p, t):
    m = averaged(memory, "m", g, 0.5)
    s = memory["s"] = 0.75 * memory.get("s", 0.0) + 0.25 * (g - m) ** 2 + 2.0**-20
    return -RATE * m / (1 - 0.5**t) / (np.sqrt(s / (1 - 0.75**t)) + 2.0**-20)


def signs(memory, g, p, t):
    m = memory.get("m", 0.0)
    memory["m"] = 0.75 * m + 0.25 * g
    return -RATE * (np.sign(0.5 * m + 0.5 * g) + 0.125 * p)


def optimistic(memory, g, p, t):
    before = memory.get("g", g)
    memory["g"] = g
    return -RATE * (1.75 * g - 0.5 * before)


def optimistic_adam(memory, g, p, t, b1=0.5):
    m, v = direction(memory, g, t, b1)
    r = m / (np.sqrt(v) + 1e-8)
    before, memory["r"] = memory.get("r", r), r
    return -RATE * (2 * r - before)


def optimistic_adam_without_momentum(memory, g, p, t):
    return optimistic_adam(memory, g, p, t, b1=0.0)


CASES = {
    "momentum": (optimizers.momentum(RATE, 0.75), heavy_ball),
    "nesterov": (optimizers.momentum(RATE, 0.75, nesterov=True), nesterov),
    "rmsprop": (optimizers.rmsprop(RATE, 0.5, eps=2.0**-10), rms),
    "amsgrad": (optimizers.amsgrad(RATE, 0.5, 0.75), ams),
    "adabelief": (optimizers.adabelief(RATE, 0.5, 0.75, eps=2.0**-20), belief),
    "lion": (optimizers.lion(RATE, 0.5, 0.75, weight_decay=0.125), signs),
    "optimistic_gradient": (optimizers.optimistic_gradient(RATE, alpha=1.25, beta=0.5), optimistic),
    "optimistic_adam": (optimizers.optimistic_adam(RATE, 0.5, 0.75), optimistic_adam),
    "optimistic_adam b1 0": (optimizers.optimistic_adam(RATE, 0.0, 0.75), optimistic_adam_without_momentum),
}
WRAPPED = {
    "lookahead": optimizers.lookahead(optimizers.adam(RATE), 3, 0.25),
    "freeze": optimizers.freeze(optimizers.momentum(RATE), "w"),
}
EVERY = {name: optimizer for name, (optimizer, _) in CASES.items()} | WRAPPED


@pytest.mark.parametrize("name", CASES)
def test_an_optimizer_is_its_formula(x64, name):
    optimizer, rule = CASES[name]
    np.testing.assert_allclose(walk(optimizer, quadratic, START, 6), by_hand(rule), rtol=1e-6, atol=1e-9)


def test_an_optimist_without_optimism_is_descent(x64):
    plain, zero = optimizers.sgd(RATE), optimizers.optimistic_gradient(RATE, beta=0.0)
    np.testing.assert_array_equal(walk(zero, quadratic, START, 4), walk(plain, quadratic, START, 4))


def test_adam_without_its_first_moment_divides_by_the_root_of_the_second(x64):
    without = lambda memory, g, p, t: -RATE * g / (np.sqrt(averaged(memory, "v", g**2, 0.75) / (1 - 0.75**t)) + 1e-8)
    np.testing.assert_allclose(walk(optimizers.adam(RATE, 0.0, 0.75), quadratic, START, 6), by_hand(without), rtol=1e-6)


# ---- lookahead ---------------------------------------------------------------------------------


def test_lookahead_goes_back_after_its_fast_steps(x64):
    """Zhang et al.'s algorithm 1, with an Adam that keeps its moments."""
    fast, points = walk(optimizers.adam(RATE), lambda w: np.cos(w), START, 3), []
    got = walk(optimizers.lookahead(optimizers.adam(RATE), 3, 0.25), lambda w: np.cos(w), START, 9)
    np.testing.assert_allclose(got[:3], fast[:3], rtol=1e-12)
    np.testing.assert_allclose(got[3], START + 0.25 * (fast[3] - START), rtol=1e-12)
    linear = lambda w: quadratic(w)
    slow = START
    for _ in range(3):
        end = slow * (1 - RATE * CURVATURE) ** 3
        slow = slow + 0.25 * (end - slow)
        points.append(slow)
    got = walk(optimizers.lookahead(optimizers.sgd(RATE), 3, 0.25), linear, START, 9)
    np.testing.assert_allclose(got[3::3], points, rtol=1e-12)


def test_lookahead_keeps_the_state_of_its_optimizer(x64):
    """The velocity goes on where the weights went back."""
    got = walk(optimizers.lookahead(optimizers.momentum(RATE, 0.5), 2, 0.5), lambda w: np.ones_like(w), START, 3)
    steps = RATE * np.array([1, 1.5, 1.75])
    np.testing.assert_allclose(got[2], START - (steps[0] + steps[1]) / 2, rtol=1e-12)
    np.testing.assert_allclose(got[3] - got[2], -steps[2], rtol=1e-12)


def test_lookahead_all_the_way_is_the_optimizer_alone(x64):
    adam = optimizers.adam(RATE)
    alone = walk(adam, quadratic, START, 7)
    np.testing.assert_allclose(walk(optimizers.lookahead(adam, 3, 1.0), quadratic, START, 7), alone, rtol=1e-12)
    np.testing.assert_allclose(walk(optimizers.lookahead(adam, 1, 0.0), quadratic, START, 2), [START] * 3)


def test_lookahead_may_be_wrapped_and_wrap(x64):
    """Nested, as Chavdarova et al.'s super slow weights; clipped outside."""
    nested = optimizers.lookahead(optimizers.lookahead(optimizers.sgd(RATE), 2, 0.5), 4, 0.5)
    fast = walk(optimizers.lookahead(optimizers.sgd(RATE), 2, 0.5), quadratic, START, 4)
    np.testing.assert_allclose(walk(nested, quadratic, START, 4)[4], (START + fast[4]) / 2, rtol=1e-12)
    clipped = optimizers.chain(optimizers.clip_gradient(0.0), optimizers.lookahead(optimizers.sgd(RATE)))
    np.testing.assert_array_equal(walk(clipped, quadratic, START, 6), [START] * 7)


def test_lookahead_begins_from_the_weights_that_it_is_given(x64):
    """Where a trained network's were put in after `init`, they are the first slow weights."""
    optimizer = optimizers.lookahead(optimizers.sgd(RATE), 2, 0.5)()
    state, params = optimizer.init({"w": jnp.zeros(3)}), {"w": jnp.asarray(START)}
    for _ in range(2):
        updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(params["w"], START - RATE, rtol=1e-12)


def test_lookahead_refuses_no_steps():
    with pytest.raises(gan.UserError, match="steps is 0"):
        optimizers.lookahead(optimizers.adam(), 0)


# ---- freeze ------------------------------------------------------------------------------------

TREE = {
    "Conv_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "Conv_01": {"kernel": jnp.ones((2, 2))},
    "Block_1": {"Conv_0": {"kernel": jnp.ones(3)}, "Conv_1": {"kernel": jnp.ones(3)}},
}


def updated(optimizer):
    """The paths of the parameters that a step with unit gradients moves."""
    updates, _ = optimizer().update(jax.tree.map(jnp.ones_like, TREE), optimizer().init(TREE), TREE)
    flat = jax.tree_util.tree_flatten_with_path(updates)[0]
    return {bind.dotted(path) for path, x in flat if np.any(x != 0)}


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["Conv_0"], {"Conv_01.kernel", "Block_1.Conv_1.kernel"}),
        (["Block_1.Conv_0"], {"Conv_0.kernel", "Conv_0.bias", "Conv_01.kernel", "Block_1.Conv_1.kernel"}),
        (["Block_1", "Conv_01"], {"Conv_0.kernel", "Conv_0.bias"}),
        (["bias"], {"Conv_0.kernel", "Conv_01.kernel", "Block_1.Conv_0.kernel", "Block_1.Conv_1.kernel"}),
    ],
)
def test_frozen_parameters_do_not_move(names, left):
    assert updated(optimizers.freeze(optimizers.adamw(RATE), *names)) == left


def test_frozen_parameters_do_not_count_in_the_norm_of_the_gradient():
    clipped = optimizers.chain(optimizers.clip_gradient(1.0), optimizers.sgd(1.0))
    held = optimizers.freeze(clipped, "Conv_0", "Conv_01")  # of the unit gradient, three numbers are left
    updates, _ = held().update(jax.tree.map(jnp.ones_like, TREE), held().init(TREE), TREE)
    np.testing.assert_allclose(updates["Block_1"]["Conv_1"]["kernel"], -(3**-0.5), rtol=1e-6)


def test_freezing_what_is_not_there_is_refused():
    with pytest.raises(gan.UserError, match="'Conv_2'; this network has Block_1, Conv_0, Conv_01"):
        optimizers.freeze(optimizers.adam(), "Conv_0", "Conv_2")().init(TREE)
    with pytest.raises(gan.UserError, match="name the parameters"):
        optimizers.freeze(optimizers.adam())
    recipe = gan.recipes.dirac()
    held = recipe.replace(discriminator=recipe.discriminator.replace(optimizer=optimizers.freeze(optimizers.sgd(), "phi")))
    with pytest.raises(gan.UserError, match="'phi'; this network has psi"):
        gan.init(held, jax.random.key(0))


# ---- numbers -----------------------------------------------------------------------------------


def sized(optimizer, factor):
    return jax.tree.map(lambda x: x * np.float32(factor), optimizer)


@pytest.mark.parametrize("name", EVERY)
def test_every_number_is_a_leaf(name):
    """One program serves all values, and a population of them is each alone; the record gives the
    same back."""
    optimizer = EVERY[name]
    again = serialization.from_json(json.loads(json.dumps(serialization.to_json(optimizer))))
    assert jax.tree.structure(again) == jax.tree.structure(optimizer)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, optimizer))
    assert any(path.endswith("learning_rate") for path in gan.leaves(optimizer))
    params, g = {"w": jnp.asarray(START, jnp.float32)}, {"w": jnp.asarray([0.5, -1.0, 2.0], jnp.float32)}

    @jax.jit
    def step(optimizer):
        state = optimizer().init(params)
        for gradient in (g, jax.tree.map(jnp.negative, g), g):
            updates, state = optimizer().update(gradient, state, params)
        return updates["w"]

    versions = [optimizer, sized(optimizer, 0.5)]
    alone = [step(version) for version in versions]
    assert step._cache_size() == 1
    together = jax.vmap(step)(jax.tree.map(lambda *x: jnp.stack(x), *versions))
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    assert name == "freeze" or not np.allclose(alone[0], alone[1])


@pytest.mark.parametrize("name", EVERY)
def test_the_state_keeps_its_dtype_and_shares_no_buffer(x64, name):
    for dtype in ("float32", "float64"):
        params = {"w": jnp.asarray(START, dtype)}
        state = EVERY[name]().init(params)
        updates, after = EVERY[name]().update(params, state, params)
        assert updates["w"].dtype == dtype
        assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
        assert {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)} <= {jnp.dtype(dtype)}
    assert all(x is not params["w"] for x in jax.tree.leaves(state))


def test_slow_weights_stay_narrow():
    """Where the optimizer's own numbers, float32 all, have widened its updates."""
    optimizer, params = optimizers.lookahead(optimizers.sgd(RATE), 1)(), {"w": jnp.ones(3, jnp.bfloat16)}
    _, state = optimizer.update(params, optimizer.init(params), params)
    assert state.slow["w"].dtype == jnp.bfloat16


def test_schedules_reach_the_numbers_within_a_wrapper():
    alpha, rate = gan.schedules.linear(0.0, 1.0, 10), gan.schedules.linear(1.0, 0.0, 10)
    wrapped = optimizers.freeze(optimizers.lookahead(optimizers.optimistic_gradient(rate, beta=alpha), 2, alpha), "b")
    live = bind.resolve(wrapped, jnp.int32(5))
    numbers = {path: float(x) for path, x in gan.leaves(live).items()}
    assert numbers == {"0.0.learning_rate": 0.5, "0.0.alpha": 1.0, "0.0.beta": 0.5, "0.alpha": 0.5}


# ---- the bilinear game -------------------------------------------------------------------------

TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])  # the gradients of both players of x y, x descending and y ascending


def play(optimizer, steps, start=(1.0, 0.5)):
    """Both players at once: their optimizers work number by number, so one does for both."""
    return walk(optimizer, lambda w: TURN @ w, start, steps)


def radius(points):
    return np.hypot(points[:, 0], points[:, 1])


def test_descent_spirals_out(x64):
    points = play(optimizers.sgd(0.25), 20)
    np.testing.assert_allclose(radius(points), radius(points[:1]) * (1 + 0.25**2) ** (np.arange(21) / 2), rtol=1e-12)


@pytest.mark.parametrize(("rate", "converges"), [(0.25, True), (0.5625, True), (0.59375, False)])
def test_optimistic_descent_is_its_linear_map(x64, rate, converges):
    """(w_t, w_{t-1}) is multiplied by a matrix whose spectral radius passes 1 at 1 / sqrt(3) =
    .577."""
    points, steps = play(optimizers.optimistic_gradient(rate), 40), np.eye(2)
    before = np.concatenate([points[1], points[0]])
    both = np.block([[steps - 2 * rate * TURN, rate * TURN], [steps, 0 * steps]])
    np.testing.assert_allclose(points[1], (steps - rate * TURN) @ points[0], rtol=1e-12)
    for t in range(2, 41):
        before = both @ before
        np.testing.assert_allclose(points[t], before[:2], rtol=0, atol=1e-9)
    assert (np.abs(np.linalg.eigvals(both)).max() < 1) == converges


@pytest.mark.parametrize(("steps", "alpha"), [(2, 0.25), (2, 0.75), (5, 0.5), (5, 0.875)])
def test_lookahead_converges_below_its_limit(x64, steps, alpha):
    """Every k steps multiply by (1 - alpha) + alpha A^k, which shrinks for small rates where alpha
    < 1 - 1 / k."""
    rate, rounds = 2.0**-5, 3
    points = play(optimizers.lookahead(optimizers.sgd(rate), steps, alpha), rounds * steps)
    fast = np.linalg.matrix_power(np.eye(2) - rate * TURN, steps)
    once = (1 - alpha) * np.eye(2) + alpha * fast
    expected = [np.linalg.matrix_power(once, n) @ points[0] for n in range(rounds + 1)]
    np.testing.assert_allclose(points[::steps], expected, rtol=1e-12)
    assert (radius(points)[-1] < radius(points)[0]) == (alpha < 1 - 1 / steps)
