"""Ways to play, each against its map on the Dirac-GAN: with the Wasserstein loss that is the
bilinear game, and linear.

The data is the point 0, the generator a point theta, D(x) = psi * x; R1 damps psi. The maps of w =
(theta, psi) are by hand.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import optimizers, penalties
from gan_jax.data.toys import ring
from gan_jax.gan import dynamics

STEPS = 5
H, GAMMA = 1 / 8, 1 / 2  # exact in float32
START = np.array([1.0, -0.5])
EYE = np.eye(2)


def field(gamma):
    """F(w) = J w: what each player descends. G's loss is -psi * theta, D's psi * theta + gamma / 2
    * psi^2."""
    return np.array([[0, -1], [1, gamma]])


def game(way, loss="wasserstein", gamma=GAMMA, optimizer=None, **numbers):
    recipe = gan.recipes.dirac(loss=loss, learning_rate=H, play=gan.bind(way, **numbers), dtype="float64")
    d = recipe.discriminator.replace(penalties={"r1": gan.bind(penalties.r1, gamma=gamma)})
    g = recipe.generator
    if optimizer is not None:
        g, d = (side.replace(optimizer=optimizer) for side in (g, d))
    return recipe.replace(generator=g, discriminator=d)


@partial(jax.jit, static_argnames="steps")
def walked(recipe, start, steps):
    batch = gan.Batch(jnp.zeros((recipe.batch_size, 1)), jnp.arange(recipe.batch_size))
    state = gan.init(recipe, jax.random.key(0))
    g, d = state.generator.replace(params={"theta": start[0]}), state.discriminator.replace(params={"psi": start[1]})

    def one(state, _):
        state, _ = gan.train_step(recipe, state, batch)
        return state, jnp.stack([state.generator.params["theta"], state.discriminator.params["psi"]])

    return jax.lax.scan(one, state.replace(generator=g, discriminator=d), length=steps)[1]


def points(recipe, start=START, steps=STEPS):
    """(theta, psi) [steps + 1, 2] of a run."""
    return np.concatenate([start[None], np.asarray(walked(recipe, jnp.asarray(start), steps))])


def powers(matrix, start=START, steps=STEPS):
    return np.stack([np.linalg.matrix_power(matrix, n) @ start for n in range(steps + 1)])


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


# ---- the maps ----------------------------------------------------------------------------------


def simultaneous_map(gamma):
    return EYE - H * field(gamma)


def alternating_map(gamma):
    """D first, then G at the new D."""
    d, g = EYE - H * field(gamma) * [[0], [1]], EYE - H * field(gamma) * [[1], [0]]
    return g @ d


def extragradient_map(gamma):
    j = field(gamma)
    return EYE - H * j @ (EYE - H * j)


def consensus_map(gamma, weight):
    """Half the gradient of |J w|^2 is J^T J w."""
    j = field(gamma)
    return EYE - H * (j + weight * j.T @ j)


def unrolled_map(gamma, rate, steps):
    """D's steps multiply psi by a = 1 - rate * gamma and take rate * theta: psi_k = a^k psi - s
    theta.

    G descends -psi_k(theta) * theta, whose slope is -a^k psi + 2 s theta.
    """
    a = 1 - rate * gamma
    s = rate * sum(a**i for i in range(steps))
    d = EYE - H * field(gamma) * [[0], [1]]
    g = np.array([[1 - 2 * H * s, H * a**steps], [0, 1]])
    return g @ d


WAYS = {
    "simultaneous": (dynamics.simultaneous, {}, simultaneous_map),
    "alternating": (dynamics.alternating, {}, alternating_map),
    "extragradient": (dynamics.extragradient, {}, extragradient_map),
    "consensus": (dynamics.consensus, {"weight": 0.75}, consensus_map),
    "unrolled": (dynamics.unrolled, {"rate": 0.25, "steps": 3}, unrolled_map),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_play_is_its_linear_map(x64, way):
    """With damping and without, in one program."""
    function, numbers, matrix = WAYS[way]
    for gamma in (GAMMA, 0.0):
        assert_same(points(game(function, gamma=gamma, **numbers)), powers(matrix(gamma, **numbers)))


def test_the_factors_of_the_bilinear_game():
    """What each way does to the radius: Gidel et al. (2019), Mescheder et al. (2017)."""
    factor = lambda matrix: np.abs(np.linalg.eigvals(matrix)).max()
    assert factor(simultaneous_map(0)) == pytest.approx(np.sqrt(1 + H**2))
    assert factor(alternating_map(0)) == pytest.approx(1)
    assert factor(extragradient_map(0)) == pytest.approx(np.sqrt(1 - H**2 + H**4))
    assert factor(consensus_map(0, 0.75)) == pytest.approx(np.sqrt((1 - 0.75 * H) ** 2 + H**2))
    assert factor(unrolled_map(0, 0.25, 3)) < 1


@pytest.mark.parametrize("way", ["alternating", "unrolled"])
def test_further_discriminator_turns_are_a_power_of_their_map(x64, way):
    """D moves three times at the same data, then G, which unrolls the D that it meets."""
    function, numbers, matrix = WAYS[way]
    turn = EYE - H * field(GAMMA) * [[0], [1]]
    further = matrix(GAMMA, **numbers) @ turn @ turn
    assert_same(points(game(function, **numbers).replace(d_steps=3, batch_size=6)), powers(further))


def test_looking_no_step_ahead_is_alternating_also_where_data_are_dealt_to_turns(x64):
    """With other data in each turn, and noise of their own."""
    recipe = game(dynamics.alternating, "non_saturating").replace(
        d_steps=3, augment={"noise": gan.bind(gan.augment.instance_noise, std=0.5)}
    )
    unrolled = recipe.replace(play=gan.bind(dynamics.unrolled, rate=0.25, steps=0))
    data = np.random.default_rng(0).normal(size=(6, 1))
    state = gan.init(recipe, jax.random.key(0))
    step = jax.jit(lambda recipe, data: gan.train_step(recipe, state, gan.Batch(data, jnp.arange(6)))[0])
    moved = lambda state: (state.generator.params, state.discriminator.params)
    first, second = (moved(step(r, jnp.asarray(data))) for r in (recipe, unrolled))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-12), first, second)
    other = moved(step(unrolled, jnp.asarray(np.roll(data, 1))))
    assert not np.allclose(first[1]["psi"], other[1]["psi"])


def test_looking_no_step_ahead_is_alternating(x64):
    alone = points(game(dynamics.alternating, "non_saturating"))
    assert_same(points(game(dynamics.unrolled, "non_saturating", rate=0.25, steps=0)), alone)
    assert np.abs(points(game(dynamics.unrolled, "non_saturating", rate=0.25, steps=3)) - alone).max() > 1e-3


def test_consensus_without_weight_is_simultaneous(x64):
    together = points(game(dynamics.simultaneous, "non_saturating"))
    assert_same(points(game(dynamics.consensus, "non_saturating", weight=0.0)), together)


def test_each_player_has_a_rate_of_its_own(x64):
    """Two time scales (Heusel et al., 2017): D moves four times as fast."""
    recipe = game(dynamics.simultaneous)
    recipe = recipe.replace(generator=recipe.generator.replace(optimizer=optimizers.sgd(H / 4)))
    assert_same(points(recipe), powers(EYE - np.diag([H / 4, H]) @ field(GAMMA)))


# ---- beyond linear games -----------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def curved(w):
    """F and its Jacobian for the non-saturating loss: G's -log s(psi theta), D's -log s(0) - log
    s(-psi theta)."""
    theta, psi = w
    s = sigmoid(theta * psi)
    slope = s * (1 - s)
    force = np.array([-psi * (1 - s), theta * s + GAMMA * psi])
    jacobian = [[psi**2 * slope, -(1 - s) + theta * psi * slope], [s + theta * psi * slope, theta**2 * slope + GAMMA]]
    return force, np.array(jacobian)


def test_extragradient_looks_from_one_step_ahead(x64):
    w, expected = START, [START]
    for _ in range(STEPS):
        w = w - H * curved(w - H * curved(w)[0])[0]
        expected.append(w)
    assert_same(points(game(dynamics.extragradient, "non_saturating")), expected)


def test_consensus_descends_half_the_squared_force(x64):
    w, expected = START, [START]
    for _ in range(STEPS):
        force, jacobian = curved(w)
        w = w - H * (force + 0.75 * jacobian.T @ force)
        expected.append(w)
    assert_same(points(game(dynamics.consensus, "non_saturating", weight=0.75)), expected)


# ---- with optimizers that remember -------------------------------------------------------------


def test_extragradient_with_a_memory_remembers_both_looks(x64):
    """Gidel et al.'s algorithm 4 with heavy balls: the look ahead moves the velocity too, the
    weights begin where they were."""
    w, v, expected = START, np.zeros(2), [START]
    for _ in range(STEPS):
        v = 0.5 * v + field(GAMMA) @ w
        ahead = w - H * v
        v = 0.5 * v + field(GAMMA) @ ahead
        w = w - H * v
        expected.append(w)
    assert_same(points(game(dynamics.extragradient, optimizer=optimizers.momentum(H, 0.5))), expected)


def test_lookahead_pulls_both_players_back_together(x64):
    once = (EYE + np.linalg.matrix_power(simultaneous_map(0), 2)) / 2
    optimizer = optimizers.lookahead(optimizers.sgd(H), 2, 0.5)
    assert_same(points(game(dynamics.simultaneous, gamma=0.0, optimizer=optimizer), steps=6)[::2], powers(once, steps=3))


def test_optimism_needs_the_gradient_before(x64):
    j, before, w, expected = field(0), field(0) @ START, START, [START]
    for _ in range(STEPS):
        force = j @ w
        w, before = w - H * (2 * force - before), force
        expected.append(w)
    optimistic = optimizers.optimistic_gradient(H)
    assert_same(points(game(dynamics.simultaneous, gamma=0.0, optimizer=optimistic)), expected)


# ---- a batch in parts --------------------------------------------------------------------------


def test_a_batch_in_parts_is_the_batch(x64):
    """For a loss that is a mean over examples: the same parameters, and metrics, after a step."""
    recipe = gan.recipes.mlp((2,), width=3, depth=1, batch_size=8, dtype="float64")
    noise = gan.bind(gan.augment.instance_noise, std=0.5)
    g, d = (side.replace(optimizer=optimizers.sgd(0.5)) for side in (recipe.generator, recipe.discriminator))
    recipe = recipe.replace(generator=g, discriminator=d, augment={"noise": noise})
    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    batch = gan.Batch(jnp.asarray(ring().sample(8, 0), jnp.float64), jnp.arange(8))
    whole, parts = (jax.jit(gan.train_step)(recipe.replace(accumulate=n), state, batch) for n in (1, 2))
    trained = lambda step: (step[0].generator.params, step[0].discriminator.params, step[1])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), trained(whole), trained(parts))
    for player in dynamics.PLAYERS:
        before, after = getattr(state, player).params, getattr(whole[0], player).params
        assert not jax.tree.all(jax.tree.map(np.allclose, before, after))


# ---- what does not fit -------------------------------------------------------------------------


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"alternating", "unrolled"}))
def test_more_discriminator_turns_are_refused(way):
    function, numbers, _ = WAYS[way]
    recipe = game(function, **numbers).replace(d_steps=2, dtype="float32")
    state = gan.init(recipe, jax.random.key(0))
    with pytest.raises(gan.UserError, match=f"{way} play has one discriminator turn, not d_steps = 2"):
        gan.train_step(recipe, state, gan.Batch(jnp.zeros((4, 1)), jnp.arange(4)))


def test_a_batch_that_does_not_divide_is_refused():
    recipe = gan.recipes.dirac(batch_size=3, accumulate=2)
    with pytest.raises(gan.UserError, match="3 examples cannot be dealt in 2 equal parts"):
        gan.train_step(recipe, gan.init(recipe, jax.random.key(0)), gan.Batch(jnp.zeros((3, 1)), jnp.arange(3)))
