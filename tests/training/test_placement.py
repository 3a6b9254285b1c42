"""The laws of several devices: eight, however they share the batch, are one; each does its share of
the work; the messages between them are counted; and the traps of `shard_map` and meshes stay shut.

What needs eight devices runs in a process of its own.
"""

import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from collectives import Collective, Total, collectives, compiled_steps, totals
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gan_jax as gan
from gan_jax import penalties
from gan_jax.core.batch import device_mean
from gan_jax.games.imputation import gain, misgan
from gan_jax.gan.game import game_of
from gan_jax.networks.conv import conv
from gan_jax.networks.minibatch import minibatch_std
from gan_jax.sweeps import population as populations
from gan_jax.sweeps.population import map_members
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.placement import AXIS, place
from tests.recipes.test_published import small
from tests.tiny_games import QUICK, assert_close, everything, feed

STYLES = ("sharding", "pmap")
IMAGES, ROWS = (8, 8, 1), (4,)
ROOT = Path(__file__).parents[2]
EIGHT = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"


def on_eight_devices(test):
    """The test in a process of its own, whose failure is this one's."""

    @functools.wraps(test)
    def run(request, **arguments):
        if jax.device_count() >= 8:
            return test(**arguments)
        command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-m", "slow or not slow"]
        environment = os.environ | {"XLA_FLAGS": EIGHT}
        settings = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 1800}
        child = subprocess.run([*command, request.node.nodeid], **settings)
        assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]

    own = inspect.signature(test)
    request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), request])
    return run


# ---- eight devices are one ---------------------------------------------------------------------


def train(knobs, data, placement, steps=20):
    """(state, metrics) after these steps."""
    game = game_of(knobs, None)
    start = placement.shard_state(_init(game)(knobs, jax.random.key(0)))
    return compiled_chunk(game, steps, placement)(knobs, start, placement.replicate(data))


@functools.cache
def _init(game):
    return jax.jit(game.init)


def all_at_once(recipe, pipe="color", every=1):
    """R1, LeCam from step 5 on, DiffAugment, ADA with a controller that moves, and a moving
    average."""
    regularisers = {
        "r1": gan.lazy(gan.bind(penalties.r1, gamma=0.5), every),
        "lecam": gan.bind(penalties.lecam, weight=0.3, start=5.0),
    }
    augmentations = gan.augment.diffaugment() | {"ada": gan.bind(gan.augment.ada, p=0.3, pipe=pipe)}
    return recipe.replace(
        discriminator=recipe.discriminator.replace(penalties=regularisers),
        augment=augmentations,
        controllers={"augment.ada.p": gan.controllers.ada(horizon=500.0)},
        ema_decay=0.9,
    )


AVERAGE = {"loss": "relativistic_average"}
FIELDS = {"classes": 3, "batch_size": 8, "dtype": "float64"}


def published(name, **fields):
    return small(name, **FIELDS | fields)


def dcgan(**fields):
    made = gan.recipes.dcgan(IMAGES, width=2, latent_dim=4, discriminator_norm="batch", **FIELDS | AVERAGE | fields)
    return all_at_once(made, every=2)


def mlp():
    """Without augmentations, which are of images; in two parts."""
    made = everything(flat=True, batch_size=16, accumulate=2)
    lecam = {"lecam": gan.bind(penalties.lecam, weight=0.3, start=5.0)}
    d = made.discriminator.replace(penalties=made.discriminator.penalties | lecam)
    return made.replace(discriminator=d, loss=gan.recipes.starting.loss("relativistic_average_hinge"))


LARGE = ("biggan", "stylegan2", "r3gan")  # minutes each
ARCHITECTURES = {  # with batch norm in dcgan (both), mlp (both), sngan and biggan (generator); a group of 4 spans four devices
    "dcgan": dcgan,
    "mlp": mlp,
    "sngan": lambda: all_at_once(published("sngan", d_steps=1).replace(loss=gan.recipes.starting.loss("relativistic_average"))),
    "biggan": lambda: all_at_once(published("biggan", d_steps=2)),
    "stylegan2": lambda: all_at_once(published("stylegan2_ada"), pipe="bgc"),
    "r3gan": lambda: all_at_once(published("r3gan", augmentation=0.0, images=160.0)),
}


def holed(n=40, features=4):
    """Rows in [0, 1] with missing cells."""
    rng = np.random.default_rng(1)
    data = feed(n, (features,))
    return data.replace(images=jnp.asarray(rng.random((n, features))), mask=jnp.asarray(rng.random((n, features)) < 0.7))


def vae():
    """A bias before batch norm has no gradient but rounding, of losses in nats 1e-13: Adam's usual
    epsilon would show it."""
    made = gan.recipes.vae(IMAGES, width=2, latent_dim=3, free_bits=0.01, **FIELDS)
    adam = gan.bind(optax.adam, learning_rate=1e-3, b1=0.9, eps=1e-5)
    return made.replace(encoder=made.encoder.replace(optimizer=adam), decoder=made.decoder.replace(optimizer=adam))


GAMES = {
    "vae": (vae, feed),
    "vae_gan": (lambda: gan.recipes.vae_gan(IMAGES, width=2, latent_dim=3, **FIELDS | AVERAGE), feed),
    "gain": (lambda: gain.recipe(4, width=4, hide=0.2, ema_decay=0.9, batch_size=8, dtype="float64"), holed),
    "misgan": (
        lambda: misgan.recipe(ROWS, width=4, depth=1, latent_dim=2, generator_norm="batch", d_steps=2, batch_size=8,
                              dtype="float64"),
        holed,
    ),
}  # fmt: skip


def assert_devices_are_one(knobs, data, styles=STYLES, devices=8):
    state, metrics = train(knobs, data, place(1))
    for style in styles:
        many, many_metrics = train(knobs, data, place(devices, style, knobs.batch_size))
        assert_close(many, state, 1e-9)
        assert_close(many_metrics, metrics, 1e-9)
    return state, metrics


@pytest.mark.slow
@on_eight_devices
def test_eight_devices_with_a_named_axis_are_one(x64):
    assert_devices_are_one(mlp(), feed(shape=ROWS), styles=("pmap",))


@pytest.mark.parametrize("style", STYLES)
def test_a_chunk_copies_nothing_to_the_devices_and_uses_its_state_up(style):
    """The training set lies on each of them, once and for all."""
    four, data = place(4, style), feed(shape=(2,))
    everywhere, chunk = four.replicate(data), compiled_chunk(QUICK, 1, four)
    first = four.shard_state(QUICK.init({}, jax.random.key(0)))
    knobs = four.replicate({"rate": np.float32(0.5)})
    with jax.transfer_guard_device_to_device("disallow"):
        second, _ = chunk(knobs, first, everywhere)
        chunk(knobs, second, everywhere)
    assert first.mean.is_deleted() and second.mean.is_deleted() and not everywhere.images.is_deleted()


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", ["dcgan", "mlp", "sngan", *(pytest.param(name, marks=pytest.mark.nightly) for name in LARGE)]
)
@on_eight_devices
def test_eight_devices_are_one(x64, architecture):
    recipe = ARCHITECTURES[architecture]()
    state, metrics = assert_devices_are_one(recipe, feed(shape=ROWS if architecture == "mlp" else IMAGES))
    assert (np.asarray(metrics["discriminator/lecam"])[6:] > 0).any()
    if recipe.controllers:
        assert np.ptp(metrics["live/augment.ada.p"]) > 0.01


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("architecture", ["sngan", "biggan", "stylegan2", "r3gan"])
@on_eight_devices
def test_two_and_four_devices_are_one(x64, architecture, devices):
    """In 10 steps: two of R1 when lazy, and LeCam's term has begun."""
    recipe, data = ARCHITECTURES[architecture](), feed(shape=IMAGES)
    one, metrics = train(recipe, data, place(1), 10)
    many, many_metrics = train(recipe, data, place(devices, "sharding", recipe.batch_size), 10)
    assert_close(many, one, 1e-9)
    assert_close(many_metrics, metrics, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
@on_eight_devices
def test_eight_devices_are_one_in_other_games(x64, game):
    knobs, data = GAMES[game]
    assert_devices_are_one(knobs(), data())


@pytest.mark.parametrize("group", [2, 4, 16])
def test_reals_and_fakes_in_one_pass_are_grouped_as_on_one_device(group):
    """Each device has two of either, side by side."""
    both = np.random.default_rng(0).normal(size=(2, 8, 1, 1, 3)).astype(np.float32)
    index = np.arange(16).reshape(2, 8)
    share = lambda x: np.moveaxis(x.reshape(2, 4, 2, *x.shape[2:]), 1, 0).reshape(4, 4, *x.shape[2:])

    def grouped(x, index):
        mode = gan.Mode(train=True, draws=gan.Draws(jax.random.key(0), index), axis_name=AXIS, passes=2)
        return minibatch_std(x, group, mode=mode)

    many = jax.pmap(grouped, AXIS)(share(both), share(index))
    one = np.asarray(minibatch_std(jnp.asarray(both.reshape(16, 1, 1, 3)), group, mode=gan.Mode(train=True)))
    np.testing.assert_allclose(many, share(one.reshape(2, 8, 1, 1, 4)), rtol=1e-5)


# ---- each does its share -----------------------------------------------------------------------


STEPS = {  # the work on parameters (Adam, average, norm: 35 FLOPs each) is every device's: 1.6 % of 64 such small images
    "article": lambda: (gan.recipes.dcgan((32, 32, 3)), feed(100, (32, 32, 3))),
    "plain": lambda: (gan.recipes.dcgan(IMAGES, width=16, batch_size=128), feed(100)),
    "sngan": lambda: (gan.recipes.sngan((32, 32, 3), width=32, d_steps=1), feed(100, (32, 32, 3))),
    "all_at_once": lambda: (all_at_once(gan.recipes.dcgan(IMAGES, width=16, batch_size=128)), feed(100)),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", STEPS)
@on_eight_devices
def test_a_device_computes_its_share_of_the_step(what):
    """At most 1.1 / N of one device's FLOPs."""
    flops = {n: compiled_steps(*STEPS[what](), place(n, "sharding")).cost_analysis()["flops"] for n in (1, 2, 4, 8)}
    shares = {n: flops[n] / flops[1] * n for n in flops}
    assert all(0.5 < share <= 1.1 for share in shares.values()), shares


def reduced(recipe, style):
    """(operations, bytes of the arrays of more than one number) that eight devices reduce in a
    step."""
    found = collectives(compiled_steps(recipe, feed(shape=ROWS), place(8, style)))
    assert {c.kind for c in found} == {"all-reduce"}
    big = [c.times * c._replace(arrays=tuple(a for a in c.arrays if np.prod(a[1], dtype=int) > 1)).bytes for c in found]
    return len(found), sum(big)


def perceptrons(depth=1, **fields):
    return gan.recipes.mlp(ROWS, width=8, depth=depth, batch_size=16, **fields)


def players(recipe):
    """Bytes of G's parameters, and of D's."""
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    count = lambda tree: sum(4 * int(np.prod(x.shape)) for x in jax.tree.leaves(tree) if np.prod(x.shape) > 1)
    return count(state.generator.params), count(state.discriminator.params)


@pytest.mark.slow
@on_eight_devices
def test_a_gradient_is_reduced_once_whatever_the_depth():
    """By placement the compiler reduces D's for each of its passes (see `collectives`)."""
    for depth in (1, 4):
        g, d = players(perceptrons(depth))
        assert reduced(perceptrons(depth), "pmap") == (2, g + d), depth
        assert reduced(perceptrons(depth), "sharding") == (2, g + 2 * d), depth
    g, d = players(perceptrons())
    assert reduced(perceptrons(accumulate=2), "pmap")[1] == g + d
    assert reduced(perceptrons(judge_together=True), "pmap") == (2, g + d)


PROGRAM = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-reduce.1 = (f32[8]{0}, /*index=1*/bf16[2,3]{1,0:T(8,128)}) all-reduce(%x, %y), channel_id=1, to_apply=%add
  ROOT %gathered = f32[16]{0} all-gather(%x), channel_id=2, dimensions={0}
}

%more (state: (s32[], f32[8])) -> pred[] {
  ROOT %all-reduce.2 = pred[] all-reduce(%z), channel_id=3, to_apply=%add
}

%yes (x: f32[4]) -> f32[4] {
  %start = (f32[4]{0}, f32[4]{0}) collective-permute-start(%x), channel_id=4
  ROOT %done = f32[4]{0} collective-permute-done(%start)
}

%no (x: f32[4]) -> f32[4] {
  ROOT %same = f32[4]{0} copy(%x)
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %twenty = (s32[], f32[8]{0}) while(%t), condition=%no, body=%body, backend_config={"known_trip_count":{"n":"20"}}
  %some = (s32[], f32[8]{0}) while(%twenty), condition=%more, body=%no
  %if = f32[4]{0} conditional(%c, %x, %x), branch_computations={%yes, %no}
  ROOT %out = f32[8]{0} get-tuple-element(%twenty), index=1
}
"""


def test_collectives_are_read_from_the_text():
    found = collectives(PROGRAM)
    assert found == [
        Collective("all-reduce", (("f32", (8,)), ("bf16", (2, 3))), 20),
        Collective("all-gather", (("f32", (16,)),), 20),
        Collective("all-reduce", (("pred", ()),), 1, False),
        Collective("collective-permute", (("f32", (4,)),)),
    ]
    assert [c.bytes for c in found] == [44, 64, 1, 16]
    assert [c.sent(4) for c in found] == [66, 48, 1.5, 16]
    assert totals(found) == {
        "all-reduce": Total(21, 881),
        "all-gather": Total(20, 1280),
        "collective-permute": Total(1, 16),
    }
    assert totals(collectives("HloModule empty\n")) == {}


def test_shares_are_stated_and_checked():
    assert (
        place(4).describe(64, 2) == "64 examples = 4 devices x 2 parts x 8"
        and place(1).describe(8) == "8 examples = 1 device x 8"
    )
    for given, line in {
        (4, 6, 1): "a batch of 6 does not divide among 4 devices: give a multiple of 4",
        (4, 20, 2): "a batch of 20 does not divide among 4 devices in 2 parts each: give a multiple of 8",
        (1, 7, 2): "a batch of 7 does not divide among 1 device in 2 parts each: give a multiple of 2",
    }.items():
        devices, batch_size, parts = given
        for style in STYLES:
            with pytest.raises(gan.UserError, match=f"^{line}$"):
                place(devices, style, batch_size, parts)
        place(devices, batch_size=parts * devices, accumulate=parts)


# ---- traps -------------------------------------------------------------------------------------


def dirac():
    """Players of one number each, plain gradient steps, R1."""
    made = gan.recipes.dirac(batch_size=8, dtype="float64")
    r1 = {"r1": gan.bind(penalties.r1, gamma=0.7)}
    return made.replace(discriminator=made.discriminator.replace(penalties=r1))


def by_hand(check_vma):
    """(a step of one device, that of four in a user's own shard_map)."""
    recipe, data = dirac(), feed(shape=(1,))
    start = gan.init(recipe, jax.random.key(0))
    batch = gan.Batch(jnp.asarray(data.images[:8], jnp.float64), jnp.arange(8))
    step = lambda state, batch: gan.train_step(recipe, state, batch, AXIS)
    mesh = place(4).mesh
    many = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=check_vma)
    return jax.jit(gan.train_step)(recipe, start, batch), jax.jit(many)(start, batch)


def test_a_step_in_a_shard_map_of_ones_own_is_one_devices(x64):
    """Adam would hide a gradient that is too large by the number of devices; plain steps and R1 do
    not."""
    (one, one_metrics), (many, many_metrics) = by_hand(check_vma=False)
    assert_close(many, one, 1e-12)
    assert_close(many_metrics, one_metrics, 1e-12)


def test_a_shard_map_that_would_sum_gradients_is_refused(x64):
    """Its default: the gradient of what is replicated is the sum over devices before anyone takes
    its mean."""
    with pytest.raises(gan.UserError, match="^jax.shard_map over 'devices' would sum gradients in silence: give it check_vma="):
        by_hand(check_vma=True)
    assert device_mean(3.0, None) == 3


def slope(mean, **checked):
    """The mean over devices of the derivative, 1, of a number that they share, in a user's own
    shard_map."""
    own = lambda w, x: mean(jax.grad(lambda w: (w * x).mean())(w), AXIS)
    return jax.jit(jax.shard_map(own, mesh=place(4).mesh, in_specs=(P(), P(AXIS)), out_specs=P(), **checked))(1.0, jnp.ones(8))


def test_a_mean_of_gradients_that_are_summed_already_is_refused():
    """Of what all devices share: such a sum does not vary over the devices, so that its own type
    says nothing."""
    assert slope(jax.lax.pmean) == 4, "the trap is still there"
    with pytest.raises(gan.UserError, match="^jax.shard_map over 'devices' would sum gradients in silence: give it check_vma="):
        slope(device_mean)
    assert slope(device_mean, check_vma=False) == 1


@pytest.mark.parametrize("style", STYLES)
def test_four_devices_take_the_plain_gradient_steps_of_one(x64, style):
    recipe, data = dirac(), feed(shape=(1,))
    for many, one in zip(train(recipe, data, place(4, style), 3), train(recipe, data, place(1), 3), strict=True):
        assert_close(many, one, 1e-12)


@pytest.mark.parametrize("way", ["_in_turn", "_side_by_side"])
def test_members_keep_their_input_gradients_to_themselves(monkeypatch, way):
    """Of images that all members share, as R1 takes it: 2 w x for each, not its sum over
    devices."""
    monkeypatch.setattr(populations, "_in_turn", getattr(populations, way))
    slope = lambda w, x: jax.grad(lambda x: (w * x**2).sum())(x)
    w, x = jnp.arange(4.0), jnp.array([1.0, -3.0])
    each = jax.jit(map_members(slope, (True, False), place(4)))
    np.testing.assert_array_equal(each(w, x), 2 * w[:, None] * x)


def test_members_with_convolutions_lie_on_their_devices_and_say_nothing(monkeypatch):
    """Convolutions of several kernels side by side are one grouped one, whose kernels a partitioner
    gathers, or fails."""
    monkeypatch.setattr("gan_jax.sweeps.population._in_turn", populations._side_by_side)
    rng = np.random.default_rng(0)
    images, kernels = rng.normal(size=(2, 5, 5, 2)).astype("float32"), rng.normal(size=(8, 3, 3, 2, 3)).astype("float32")
    four = place(4)
    loss = lambda kernel, x: jax.grad(lambda kernel: jnp.square(conv(x, kernel, 2)).sum())(kernel)
    each = jax.jit(map_members(loss, (True, False), four))
    given = jax.device_put(kernels, NamedSharding(four.mesh, P(AXIS))), four.replicate(images)
    found = each(*given)
    assert collectives(each.lower(*given).compile()) == []
    assert [shard.data.shape[0] for shard in found.addressable_shards] == [2] * 4
    alone = jax.jit(loss)
    for kernel, row in zip(kernels, found, strict=True):
        np.testing.assert_allclose(row, alone(kernel, images), rtol=1e-4, atol=1e-4)


def test_reals_on_their_devices_meet_fakes_that_all_have():
    """An Explicit mesh, `jax.make_mesh`'s default, refuses to concatenate them."""
    four = place(4)
    assert four.mesh.axis_types == (AxisType.Auto,)
    shared = lambda mesh: jax.device_put(np.ones((8, 2)), NamedSharding(mesh, P(AXIS)))
    both = jnp.concatenate([shared(four.mesh), four.replicate(np.zeros((4, 2)))])
    assert both.shape == (12, 2) and both.sum() == 16
    explicit = jax.make_mesh((4,), (AXIS,), axis_types=(AxisType.Explicit,))
    with pytest.raises(Exception, match="(?i)shard"):
        jnp.concatenate([shared(explicit), jax.device_put(np.zeros((4, 2)), NamedSharding(explicit, P()))])
