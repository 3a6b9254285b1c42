"""Laws of the step: scan = loop, a population row = its own run, pmap = sharding = one device,
numbers never recompile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.optimizers import sgd
from gan_jax.training.chunk import compiled_chunk, gather_batch, single_chunk
from gan_jax.training.placement import place
from tests.tiny_games import assert_close, everything, feed

ONE = place(1)


init = jax.jit(gan.init)


@jax.jit
def one_step(recipe, state, feed):
    return gan.train_step(recipe, state, gather_batch(feed, state.step, gan.GAN.examples(recipe), recipe.dtype, ONE))[0]


def loop(recipe, state, feed, steps):
    for _ in range(steps):
        state = one_step(recipe, state, feed)
    return state


ROWS = (4,)  # what `everything(flat=True)` trains on


@pytest.mark.parametrize(
    "flat, fields",
    [
        pytest.param(False, {"d_steps": 2, "judge_together": True}, id="two_d_steps_together", marks=pytest.mark.slow),
        pytest.param(True, {"play": gan.bind(gan.simultaneous)}, id="simultaneous"),
    ],
)
def test_a_scan_is_a_loop(x64, flat, fields):
    recipe, data = everything(flat=flat, **fields), feed(shape=ROWS if flat else (8, 8, 1))
    start = init(recipe, jax.random.key(0))
    scanned, _ = jax.jit(single_chunk, static_argnums=(0, 1, 2))(gan.GAN, 20, ONE, recipe, start, data)
    assert_close(scanned, loop(recipe, start, data, 20), 1e-9)


@pytest.mark.slow
def test_a_scan_is_a_loop_in_float32():
    recipe, data = everything("float32", sgd(1e-3), flat=True), feed(shape=ROWS)
    start = init(recipe, jax.random.key(0))
    scanned, _ = jax.jit(single_chunk, static_argnums=(0, 1, 2))(gan.GAN, 10, ONE, recipe, start, data)
    assert_close(scanned, loop(recipe, start, data, 10), 1e-5)


TOGETHER = pytest.param(True, {"d_steps": 2, "judge_together": True}, id="two_d_steps_together", marks=pytest.mark.slow)


@pytest.mark.parametrize("flat, fields", [pytest.param(False, {}, id="plain"), TOGETHER])
@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_four_devices_are_one(x64, style, flat, fields):
    recipe, data = everything(flat=flat, **fields), feed(shape=ROWS if flat else (8, 8, 1))
    four = place(4, style, recipe.batch_size)
    start = init(recipe, jax.random.key(0))
    one, metrics = jax.jit(single_chunk, static_argnums=(0, 1, 2))(gan.GAN, 20, ONE, recipe, start, data)
    placed = four.replicate(jax.tree.map(jnp.copy, start))
    many, many_metrics = compiled_chunk(gan.GAN, 20, four)(recipe, placed, four.replicate(data))
    assert_close(many, one, 1e-9)
    assert_close(many_metrics, metrics, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_four_devices_are_one_in_float32(style):
    recipe, data = everything("float32", sgd(1e-3), flat=True), feed(shape=ROWS)
    four = place(4, style, recipe.batch_size)
    start = init(recipe, jax.random.key(0))
    one, _ = jax.jit(single_chunk, static_argnums=(0, 1, 2))(gan.GAN, 10, ONE, recipe, start, data)
    many, _ = compiled_chunk(gan.GAN, 10, four)(recipe, four.replicate(jax.tree.map(jnp.copy, start)), four.replicate(data))
    assert_close(many, one, 1e-5)


def test_sharding_splits_the_whole_step():
    """Latents that did not follow the batch's sharding would leave the whole generator on every
    device."""
    recipe, data = gan.recipes.dcgan((8, 8, 1), width=16), feed(100)
    flops = []
    for placement in (ONE, place(4, "sharding")):
        start = placement.replicate(init(recipe, jax.random.key(0)))
        compiled = compiled_chunk(gan.GAN, 1, placement).lower(recipe, start, placement.replicate(data)).compile()
        flops.append(compiled.cost_analysis()["flops"])
    assert flops[1] < 0.4 * flops[0]


def test_users_can_pmap_the_step_themselves(x64):
    recipe, data = everything(flat=True), feed(shape=ROWS)
    start = init(recipe, jax.random.key(0))
    batch = eight(data, recipe.dtype)
    shares = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    step = lambda r, s, b: gan.train_step(r, s, b, "devices")
    many, _ = jax.pmap(step, "devices", in_axes=(None, None, 0), out_axes=None)(recipe, start, shares)
    one, _ = jax.jit(gan.train_step)(recipe, start, batch)
    assert_close(many, one, 1e-9)


def eight(data, dtype):
    """The first eight examples that training would take."""
    return jax.jit(gather_batch, static_argnums=(1, 2, 3, 4))(data, 0, 8, dtype, ONE)


def compilations():
    """A counter of backend compilations: a list that grows by one for each."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, duration, **_: seen.append(name) if "backend_compile" in name else None
    )
    return seen


def test_no_number_recompiles():
    recipe, data = everything("float32", flat=True), feed(shape=ROWS)
    start = init(recipe, jax.random.key(0))
    batch = eight(data, recipe.dtype)
    step = jax.jit(gan.train_step)
    step(recipe, start, batch)
    paths, seen = list(gan.leaves(recipe)), compilations()
    assert len(paths) > 10
    traced = step._cache_size()
    for path in paths:
        step(jax.tree.unflatten(jax.tree.structure(recipe), [
            v * np.float32(0.5) if p == path else v for p, v in gan.leaves(recipe).items()]), start, batch)  # fmt: skip
    for value in (1, 1.0, np.float32(1), np.float64(1)):
        step(recipe.replace(ema_decay=value), start, batch)
    assert not seen and step._cache_size() == traced
    step(recipe.replace(batch_size=16), start, batch)
    assert step._cache_size() == traced + 1, "structure does recompile: the counter counts"


def test_equal_recipes_share_one_program():
    assert jax.tree.structure(everything()) == jax.tree.structure(everything())
    assert hash(jax.tree.structure(everything())) == hash(jax.tree.structure(everything()))
    assert jax.tree.structure(everything()) != jax.tree.structure(everything(d_steps=2))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_step_exports_for_other_platforms(platform):
    recipe, data = everything("float32"), feed()
    start = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    batch = jax.eval_shape(lambda d: gather_batch(d, 0, 8, "float32", ONE), data)
    raw = lambda r, s, k, b: gan.train_step(r, s.replace(key=jax.random.wrap_key_data(k)), b)[0].replace(key=k)
    key = jax.eval_shape(jax.random.key_data, start.key)
    exported = jax.export.export(jax.jit(raw), platforms=[platform])(recipe, start.replace(key=None), key, batch)
    assert exported.platforms == (platform,) and len(exported.mlir_module_serialized) > 1000


def test_draws_follow_the_example_and_not_its_place():
    draws = gan.Draws(jax.random.key(3), jnp.arange(8))
    share = gan.Draws(jax.random.key(3), jnp.arange(4, 8))
    np.testing.assert_array_equal(draws.normal((3,))[4:], share.normal((3,)))
    assert not np.allclose(draws.normal((3,)), draws.named("other").normal((3,)))


def test_adding_a_regulariser_moves_no_other_draw():
    """R1 at strength zero changes nothing: neither draws nor, to rounding, results."""
    plain = everything("float32", sgd(1e-2), flat=True)
    d = plain.discriminator
    without = plain.replace(discriminator=d.replace(penalties={k: v for k, v in d.penalties.items() if k != "r1"}))
    zero = gan.with_leaves(plain, {"discriminator.penalties.r1.penalty.gamma": 0.0})
    data, start = feed(shape=ROWS), init(plain, jax.random.key(0))
    a, b = (loop(recipe, start, data, 5) for recipe in (without, zero))
    assert_close(a, b, 1e-5)
