"""Known answers: penalties of critics whose gradients are known, and laws that hold for every
penalty."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

import gan_jax as gan
from gan_jax import penalties
from gan_jax.penalties import PenaltyContext, dragan, evaluate, initial_memory, lazy, r1, r2, remembers, wgan_gp

RNG = np.random.default_rng(0)
REALS, FAKES = RNG.normal(size=(2, 5, 3))
SLOPE = np.array([0.6, -1.5, 2.0])  # of the linear critic; its norm is sqrt(6.61)


def turn(critic, reals=REALS, fakes=FAKES, **fields):
    """A `PenaltyContext` in float64 whose critic's logits are `critic(images)`, or `critic(images,
    labels)` if labels are given."""
    say = (lambda x, y: critic(x, y)) if "real_labels" in fields else lambda x, y: critic(x)
    n = len(reals)
    known = {
        "generator": lambda z, y: z, "params": {}, "real_labels": None, "fake_labels": None, "z": jnp.zeros((n, 1)),
        "draws": gan.Draws(jax.random.key(0), jnp.arange(n)), "step": jnp.int32(0),
    }  # fmt: skip
    judged = lambda x, y: gan.DiscriminatorOutput(say(x, y))
    reals, fakes = jnp.asarray(reals), jnp.asarray(fakes)
    fields = known | fields
    if "real" not in fields:
        fields |= {"real": judged(reals, fields["real_labels"]), "fake": judged(fakes, fields["fake_labels"])}
    return PenaltyContext(critic=judged, reals=reals, fakes=fakes, **fields)


def linear(slope=SLOPE):
    return lambda x: x @ jnp.asarray(slope)


def quadratic(scale=1.0):
    return lambda x: scale * (x**2).sum(-1)


def unit(norm):
    """A linear critic whose gradient has this norm."""
    return linear(np.array([0.6, 0.0, -0.8]) * norm)


# ---- R1 and R2 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [r1, r2])
def test_a_linear_critic_costs_half_gamma_times_its_squared_slope(x64, penalty):
    values = penalty(turn(linear()), gamma=10.0)
    assert values.shape == (5,)
    np.testing.assert_allclose(values, 5 * (SLOPE**2).sum(), rtol=1e-12)


@pytest.mark.parametrize("penalty, images", [(r1, REALS), (r2, FAKES)], ids=["r1", "r2"])
def test_a_quadratic_critic_costs_four_times_the_squared_distance(x64, penalty, images):
    np.testing.assert_allclose(penalty(turn(quadratic()), gamma=3.0), 1.5 * 4 * (images**2).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("penalty, images", [(r1, REALS), (r2, FAKES)], ids=["r1", "r2"])
def test_the_parameter_gradient_of_a_quadratic_critic_is_that_by_hand(x64, penalty, images):
    """D = c |x|^2: the penalty is gamma / 2 * 4 c^2 |x|^2, its derivative by c gamma / 2 * 8 c
    |x|^2."""
    gradient = jax.grad(lambda c: penalty(turn(quadratic(c)), gamma=3.0).mean())(0.7)
    np.testing.assert_allclose(gradient, 1.5 * 8 * 0.7 * (images**2).sum(-1).mean(), rtol=1e-12)


def test_each_penalty_hands_its_own_labels_to_the_critic(x64):
    """D = x y has gradient y: reals are judged under their labels, fakes under theirs."""
    images, ones = np.ones((3, 1)), jnp.ones(3)
    t = turn(lambda x, y: x[:, 0] * y, images, images, real_labels=2 * ones, fake_labels=3 * ones)
    np.testing.assert_allclose(r1(t, gamma=2.0), 4)
    np.testing.assert_allclose(r2(t, gamma=2.0), 9)
    np.testing.assert_allclose(wgan_gp(t, weight=1.0), 1)
    np.testing.assert_allclose(dragan(t, weight=1.0), 1)


# ---- penalties of the slope's norm -------------------------------------------------------------


@pytest.mark.parametrize("penalty", [wgan_gp, dragan])
@pytest.mark.parametrize("slope", [1.0, 3.0, 0.25])
def test_a_linear_critic_costs_its_squared_distance_from_unit_slope(x64, penalty, slope):
    np.testing.assert_allclose(penalty(turn(unit(slope)), weight=10.0), 10 * (slope - 1) ** 2, atol=1e-10)


@pytest.mark.parametrize("penalty", [wgan_gp, dragan])
def test_the_target_can_be_moved(x64, penalty):
    np.testing.assert_allclose(penalty(turn(unit(3.0)), weight=10.0, target=2.0), 10, rtol=1e-10)


def test_one_sided_costs_nothing_below_the_target(x64):
    cost = lambda slope: wgan_gp(turn(unit(slope)), weight=10.0, one_sided=True)
    np.testing.assert_array_equal(cost(0.5), 0)
    np.testing.assert_allclose(cost(3.0), 40, rtol=1e-10)


@pytest.mark.parametrize("penalty", [wgan_gp, dragan])
def test_a_flat_critic_has_a_finite_cost_and_finite_gradients(x64, penalty):
    """The norm's square root has an infinite derivative at zero, where training may start."""
    flat = jnp.zeros(3)
    value, gradient = jax.value_and_grad(lambda a: penalty(turn(linear(a)), weight=10.0).mean())(flat)
    np.testing.assert_allclose(value, 10, rtol=1e-4)
    assert np.isfinite(gradient).all()
    curved = lambda c: penalty(turn(quadratic(c), 0 * REALS, 0 * FAKES), weight=10.0).mean()
    assert np.isfinite(jax.grad(curved)(1.0)) and np.isfinite(jax.grad(jax.grad(curved))(1.0))


def test_wgan_gp_looks_uniformly_between_each_real_and_its_fake(x64):
    """D = |x|^2 / 2 has gradient x, so with target 0 the square root of the cost tells how far x is
    along the segment."""
    start, end = np.zeros((2000, 4)), np.full((2000, 4), 0.5)
    share = np.sqrt(wgan_gp(turn(quadratic(0.5), end, start), weight=1.0, target=0.0))
    assert kstest(share, "uniform").pvalue > 0.01


def test_dragan_looks_around_the_reals_within_half_their_spread(x64):
    """The noise follows the standard deviation of all values of the batch together: 1 for values of
    10 and 12."""
    reals = np.tile([10.0, 12.0], (2000, 1))
    value = dragan(turn(lambda x: x[:, 0] ** 2 / 2, reals), weight=1.0, target=0.0, spread=3.0)
    assert kstest((np.sqrt(value) - 10) / 3 + 0.5, "uniform").pvalue > 0.01


# ---- every penalty -----------------------------------------------------------------------------


STRENGTHS = {"gamma", "weight"}


def every_penalty():
    """{name: (function, its numbers without a default)}: the functions of a context and keyword
    numbers."""
    table = {}
    for name, function in inspect.getmembers(penalties, inspect.isfunction):
        first, *rest = inspect.signature(function).parameters.values()
        if first.name == "context" and rest and all(p.kind is p.KEYWORD_ONLY for p in rest):
            table[name] = function, {p.name for p in rest if p.default is p.empty}
    return table


TABLE = every_penalty()


def curved(scale):
    """A critic of images [b, h, w, c] without symmetry."""
    return lambda x: jnp.tanh(scale * x * (1 + jnp.arange(x[0].size).reshape(x[0].shape) / 8)).sum((1, 2, 3))


SPECIAL = {"lecam": {"decay": 1.0}}  # averages are constants for the gradient: a decay of 1 leaves them at 0
NEGATIVE = {"zcr_generator", "class_balance"}


def cost(name, weight, scale=0.3):
    """A penalty where every part of the turn, real or made, depends on `scale`."""
    function, required = TABLE[name]
    rng = np.random.default_rng(1)
    reals, fakes = rng.normal(size=(2, 6, 8, 8, 1))
    z, kernel = jnp.asarray(rng.normal(size=(6, 3))), scale * rng.normal(size=(3, 64))
    flat = lambda x: scale * x.reshape(6, -1)
    judged = lambda x: gan.DiscriminatorOutput(curved(scale)(x), classes=flat(x)[:, :3], features=flat(x))
    penalty = gan.bind(function, **{k: weight if k in STRENGTHS else 1.0 for k in required}, **SPECIAL.get(name, {}))
    seen = turn(
        curved(scale), reals, fakes, z=z, real=judged(reals), fake=judged(fakes), params={"dense": {"kernel": kernel}},
        generator=lambda z, y: jnp.tanh(z @ kernel).reshape(-1, 8, 8, 1), step=jnp.int32(2000), memory=initial_memory(penalty),
    )  # fmt: skip
    return evaluate(penalty, seen)[0]


def test_the_table_has_every_penalty():
    known = {"r1", "r2", "wgan_gp", "dragan", "max_gp", "lecam", "cr", "bcr", "zcr_discriminator", "zcr_generator"}
    assert known | {"orthogonal", "l2", "path_length", "feature_matching"} <= set(TABLE)
    assert all(len(required & STRENGTHS) == 1 for _, required in TABLE.values()), "a strength is always asked for"


@pytest.mark.parametrize("name", TABLE)
def test_every_penalty_is_per_example_and_differentiable(x64, name):
    values, slope = jax.jit(lambda scale: jax.jvp(lambda s: cost(name, 1.0, s), (scale,), (1.0,)))(0.3)
    assert values.shape == (6,) and values.dtype == jnp.float64
    assert np.isfinite(values).all() and np.isfinite(slope).all()
    assert (values * (-1 if name in NEGATIVE else 1) >= 0).all() and np.any(values), "no penalty is zero here"
    difference = jax.jit(lambda h: (cost(name, 1.0, 0.3 + h) - cost(name, 1.0, 0.3 - h)) / (2 * h))(1e-6)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_every_penalty_is_proportional_to_its_weight(x64, name):
    np.testing.assert_array_equal(cost(name, 0.0), 0)
    np.testing.assert_allclose(cost(name, 4.0), 4 * cost(name, 1.0), rtol=1e-12)


# ---- lazy penalties and memory -----------------------------------------------------------------


def test_a_lazy_penalty_comes_every_k_steps_k_times_stronger():
    penalty = lazy(gan.bind(r1, gamma=1.0), 3)
    at = jax.jit(lambda step: evaluate(penalty, turn(linear(), step=step))[0])
    once = np.asarray(r1(turn(linear()), gamma=1.0))
    for step in range(7):
        np.testing.assert_allclose(at(jnp.int32(step)), 3 * once if step % 3 == 0 else 0 * once, rtol=1e-6)


def test_lazy_at_every_step_is_the_penalty_itself():
    penalty = gan.bind(r1, gamma=1.0)
    assert lazy(penalty, 1) is penalty


@remembers(average=3.0)
def toward_average(turn, *, weight):
    """The squared distance of each logit from a moving average of the mean logit."""
    logits = turn.critic(turn.reals, turn.real_labels).logits
    average = 0.5 * turn.memory["average"] + 0.5 * turn.mean(logits)
    return weight * (logits - average) ** 2, {"average": average}


@pytest.mark.parametrize("every", [1, 2])
def test_a_penalty_may_remember(x64, every):
    penalty = lazy(gan.bind(toward_average, weight=1.0), every)
    assert initial_memory(penalty) == {"average": 3.0}
    logits = REALS @ SLOPE
    values, memory = evaluate(penalty, turn(linear(), memory={"average": jnp.float64(3)}))
    average = 1.5 + logits.mean() / 2
    np.testing.assert_allclose(memory["average"], average, rtol=1e-12)
    np.testing.assert_allclose(values, every * (logits - average) ** 2, rtol=1e-6)


def test_a_lazy_penalty_keeps_its_memory_while_it_rests(x64):
    penalty = lazy(gan.bind(toward_average, weight=1.0), 2)
    values, memory = evaluate(penalty, turn(linear(), memory={"average": jnp.float64(3)}, step=jnp.int32(1)))
    assert memory["average"] == 3
    np.testing.assert_array_equal(values, 0)


# ---- several devices ---------------------------------------------------------------------------


def seen_by(theta, name, reals, fakes, index, axis_name=None):
    """(mean value, memory) of a penalty, of a critic and a generator made of the parameters `theta`
    [3, 3]."""
    critic = lambda x: jnp.tanh(x @ theta).sum(-1)
    judged = lambda x: gan.DiscriminatorOutput(critic(x), features=jnp.tanh(x @ theta))
    function, _ = TABLE[name]
    penalty = gan.bind(function, weight=1.0)
    memory = {k: jnp.float64(v + 0.1) for k, v in initial_memory(penalty).items()}
    seen = turn(
        critic, reals, fakes, real=judged(reals), fake=judged(fakes), z=fakes, generator=lambda z, y: jnp.tanh(z @ theta),
        draws=gan.Draws(jax.random.key(0), index), step=jnp.int32(2000), memory=memory, axis_name=axis_name,
    )  # fmt: skip
    values, memory = evaluate(penalty, seen)
    return values.mean(), memory


@pytest.mark.parametrize("name", ["lecam", "max_gp", "feature_matching", "path_length"])
def test_a_penalty_of_the_whole_batch_is_the_same_on_four_devices(x64, name):
    rng = np.random.default_rng(2)
    theta, (reals, fakes) = jnp.asarray(rng.normal(size=(3, 3))), jnp.asarray(rng.normal(size=(2, 8, 3)))
    look = jax.value_and_grad(seen_by, has_aux=True)
    one = look(theta, name, reals, fakes, jnp.arange(8))
    share = lambda x: x.reshape(4, 2, *x.shape[1:])
    on_device = lambda *x: jax.lax.pmean(look(theta, name, *x, "devices"), "devices")
    four = jax.pmap(on_device, "devices")(share(reals), share(fakes), share(jnp.arange(8)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-9, atol=1e-12), four, one)
    assert np.any(one[1])
