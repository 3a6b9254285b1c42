"""Members x devices: a group of devices that share each member's batch gives the results of one
device, groups do not communicate, and their layout follows from numbers alone."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import pandas as pd
import pytest
from collectives import collectives

import gan_jax as gan
from gan_jax.core.batch import device_mean
from gan_jax.data.toys import ring
from gan_jax.gan.game import game_of
from gan_jax.sweeps import api, trainer
from gan_jax.sweeps import population as populations
from gan_jax.sweeps.layout import Layout, first_layout, fit_memory, possible_shares, shares, takes_device_means
from gan_jax.sweeps.population import Population, Programs, member_state
from gan_jax.training.placement import place
from tests.sweeps.test_api import quick, rate, refused
from tests.sweeps.test_population import NETWORKS, alone, members, train
from tests.tiny_games import QUICK, assert_close, everything, feed
from tests.tiny_games import mean_error as error
from tests.tiny_games import mean_start as begin

DIRAC = gan.recipes.dirac(batch_size=8, dtype="float64")  # compiles fast
FULL = everything(flat=True)  # with batch norm, dropout and two penalties
ROWS = feed(shape=(4,))
RATE = "discriminator.optimizer.learning_rate"


def mesh(per_member, devices=4):
    """2: two groups of two devices; 4: all four share each batch."""
    return replace(place(devices), per_member=per_member)


def host(tree):
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)


def swarm(recipe, data, number, per_member, count=4):
    placement = mesh(per_member)
    return train(members(recipe, number, count), placement.replicate(data), placement=placement)


# ---- the law -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["_in_turn", "_side_by_side"])
def test_a_member_whose_batch_two_devices_share_is_its_own_run(x64, monkeypatch, way):
    """Three members on 2 x 2: the last is repeated to fill the groups."""
    monkeypatch.setattr(populations, "_in_turn", getattr(populations, way))
    state, good, metrics = swarm(FULL, ROWS, RATE, 2, 3)
    assert good.shape == (4, 10) and good.all()
    for i, member in enumerate(members(FULL, RATE, 3)):
        own, own_metrics = alone(member, ROWS)
        assert_close(host(member_state(state, i)), host(own), 1e-9)
        assert_close({name: x[i] for name, x in metrics.items()}, own_metrics, 1e-9)


def test_four_by_one_two_by_two_and_one_by_four_agree(x64):
    one, two, four = (host(swarm(DIRAC, feed(shape=(1,)), RATE, n)) for n in (1, 2, 4))
    assert_close(two, one, 1e-9)
    assert_close(four, one, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("per_member", [2, 4])
def test_the_layouts_of_an_image_gan_agree(x64, per_member):
    recipe, data, number = NETWORKS["dcgan"]
    one, shared = (host(swarm(recipe, data, number, n)) for n in (1, per_member))
    assert_close(shared, one, 1e-9)


def test_a_group_of_devices_holds_its_members_alike():
    placement = mesh(2)
    population = Population(gan.GAN, placement, members(FULL, "ema_decay", 4), placement.replicate(ROWS))
    held = [shard.data.tolist() for shard in gan.leaves(population.knobs)["ema_decay"].addressable_shards]
    assert held[0] == held[1] != held[2] == held[3] and [len(rows) for rows in held] == [2] * 4


# ---- communication -----------------------------------------------------------------------------


def collectives_of(per_member):
    placement = mesh(per_member)
    population = Population(gan.GAN, placement, members(DIRAC, RATE, 4), placement.replicate(feed(shape=(1,))))
    return collectives(population.chunk(2).compile())


def test_groups_of_devices_do_not_communicate(x64):
    assert {c.groups for c in collectives_of(2)} == {((0, 1), (2, 3))}


@pytest.mark.parametrize(
    "text, groups",
    [
        ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a', 'b'}", ((0, 1, 2, 3),)),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
        ("replica_groups={}", ()),
    ],
)
def test_groups_are_read_in_every_spelling(text, groups):
    program = (
        f"ENTRY %main (p: f32[8]) -> f32[8] {{\n  ROOT %a = f32[8]{{0}} all-reduce(%p), channel_id=1, {text}, to_apply=%add\n}}"
    )
    assert [c.groups for c in collectives(program)] == [groups]


# ---- the choice: numbers alone -----------------------------------------------------------------


@pytest.mark.parametrize(
    "devices, batch_size, accumulate, possible",
    [
        (8, 64, 1, (1, 2, 4, 8)),
        (8, 20, 1, (1, 2, 4)),
        (8, 20, 2, (1, 2)),
        (6, 64, 1, (1, 2)),
        (4, 7, 2, (1,)),
        (1, 64, 1, (1,)),
    ],
)
def test_what_divides_devices_and_batch_may_share_it(devices, batch_size, accumulate, possible):
    assert shares(devices, batch_size, accumulate) == possible


def bytes_of(layout):
    """On each device: the data, and of each member its state and its batch's share of the work."""
    return 1 + layout.each * (1 + 8 // layout.per_member)


@pytest.mark.parametrize(
    "count, devices, free, most, per_member, size",
    [
        (12, 1, 1000, None, 1, 12),  # all at once
        (12, 1, 55, None, 1, 6),
        (12, 4, 28, None, 1, 12),  # three members a device
        (12, 4, 27, None, 1, 6),  # two a device, in two equal programs
        (12, 8, 10, None, 1, 6),  # one a device, to the byte
        (12, 8, 9, None, 2, 4),
        (12, 8, 5, None, 4, 2),
        (12, 8, 3, None, 8, 1),
        (1, 8, 1000, None, 8, 1),  # fewer members than devices
        (2, 8, 1000, None, 4, 2),
        (3, 8, 1000, None, 2, 3),
        (5, 8, 1000, None, 1, 5),
        (12, 8, 1000, 2, 4, 2),
    ],
)
def test_the_layout_follows_from_numbers(count, devices, free, most, per_member, size):
    found = fit_memory(first_layout(count, devices, shares(devices, 64), most), bytes_of, free)
    assert (found.per_member, found.size) == (per_member, size)
    assert found.groups * found.per_member == devices and found.each * found.groups >= size and bytes_of(found) <= free


def test_what_all_devices_together_do_not_hold_is_refused():
    with pytest.raises(gan.UserError, match="^needs 0.00 GiB on each of 8 devices, and 0.00 GiB are free: use a smaller batch"):
        fit_memory(first_layout(12, 8, shares(8, 64)), bytes_of, 2)
    with pytest.raises(gan.UserError, match="^needs 0.00 GiB on each of 4 devices"):
        fit_memory(first_layout(12, 8, shares(8, 20)), bytes_of, 3)  # eight do not divide 20
    with pytest.raises(gan.UserError, match="^needs 0.00 GiB, and"):
        fit_memory(first_layout(12, 8, (1,)), bytes_of, 9)


def test_a_layout_is_described_in_one_line():
    gib = lambda x: int(x * 2**30)
    assert Layout(12, 8, (1, 2, 4), 2, 12).describe(64, gib(1.25), gib(3)) == (
        "12 members on 8 devices: 4 groups x 2 devices, 3 members each, batch 64 = 2 x 32; 1.25 of 3.00 GiB a device"
    )
    assert Layout(1, 4, (1, 2, 4), 4, 1).describe(64, gib(1), gib(3)) == (
        "1 member on 4 devices: 1 group x 4 devices, 1 member each, batch 64 = 4 x 16; 1.00 of 3.00 GiB a device"
    )
    assert (
        Layout(9, 4, (1,), 1, 9).describe(64, 0, gib(3))
        == "9 members on 4 devices: at most 3 members each; 0.00 of 3.00 GiB a device"
    )


# ---- games -------------------------------------------------------------------------------------


def shared_step(knobs, state, batch, axis_name=None):
    """`mean_step`, with something to sort, of the mean over all devices."""
    sorted_ = jnp.sort(batch.images[:, :1] * jnp.arange(5000.0), 1)
    error = state.mean - device_mean((batch.images + 0 * sorted_[:, 7:8]).mean(0), axis_name)
    new = state.replace(step=state.step + 1, mean=state.mean - knobs["rate"] * error)
    return new, {"loss": jnp.square(error).sum()}


SHARED = gan.Game(begin, shared_step, lambda knobs: 12, evaluate=error)
ONE = {"a": rate(0.1)}


@pytest.fixture(scope="module")
def data():
    return gan.from_arrays(ring().sample(300, 0))


def test_only_games_that_take_means_over_devices_share_their_batches(data):
    assert possible_shares(SHARED, rate(0.1), data, 4) == (1, 2, 4)
    assert possible_shares(QUICK, rate(0.1), data, 4) == (1,)
    for recipe in (gan.recipes.mlp((2,), width=4, depth=1, batch_size=8), gan.recipes.vae((2,), width=4, batch_size=8)):
        assert takes_device_means(game_of(recipe), recipe, data)


def test_a_step_that_fails_is_not_taken_for_one_that_asks(data):
    def broken(knobs, state, batch, axis_name=None):
        return undefined  # noqa: F821

    with pytest.raises(NameError, match="undefined"):
        takes_device_means(replace(SHARED, step=broken), rate(0.1), data)


# ---- sweeps ------------------------------------------------------------------------------------


def close(a, b):
    pd.testing.assert_frame_equal(a.table, b.table, rtol=1e-5)


def test_a_sweep_shares_batches_where_it_is_asked_to_and_prints_so(data, capsys):
    """Two members on four devices; evaluated there, too."""
    found = quick(data, ONE, game=SHARED, devices=4, devices_per_member=2)
    assert re.search(
        r"^2 members on 4 devices: 2 groups x 2 devices, 1 member each, batch 12 = 2 x 6; \d+\.\d\d of \d+\.\d\d GiB a device$",
        capsys.readouterr().err.strip(),
    )
    close(found, quick(data, ONE, game=SHARED, devices=1))
    assert not capsys.readouterr().err
    quick(data, ONE, game=SHARED, devices=4)
    printed = capsys.readouterr().err
    assert printed.startswith("2 members on 4 devices: at most 1 member each; "), (
        "a CPU's devices may idle: they share its cores"
    )


def test_a_member_that_does_not_fit_on_a_device_is_shared(data, capsys, monkeypatch):
    measure, seen = Programs.bytes_needed, []
    monkeypatch.setattr(Programs, "bytes_needed", lambda self: seen.append(measure(self)) or seen[-1])
    whole = quick(data, ONE, game=SHARED, seeds=4, devices=4, devices_per_member=1)
    alone = seen[-1]
    monkeypatch.setattr(trainer, "bytes_free", lambda placement: alone - 1)
    close(quick(data, ONE, game=SHARED, seeds=4, devices=4), whole)
    assert (
        "4 members of one structure in 2 programs of at most 2; 2 members on 4 devices: 2 groups x 2" in capsys.readouterr().err
    )
    monkeypatch.setattr(trainer, "bytes_free", lambda placement: 1)
    line = refused(quick, data, ONE, game=SHARED, devices=4)
    assert line.startswith("one member of 'a' needs 0.00 GiB on each of 4 devices, and 0.00 GiB are free")


def test_a_sweep_goes_on_in_another_layout(data, tmp_path, capsys, monkeypatch):
    """Also where members do not divide among the groups; and in its own, whatever is free by
    then."""
    monkeypatch.setattr(api.Sweep, "draw", lambda *_: [])
    shared = {"game": SHARED, "seeds": 3, "out": tmp_path / "sweep"}
    quick(data, ONE, steps=10, devices=4, devices_per_member=2, **shared)
    capsys.readouterr()
    quick(data, ONE, steps=20, devices=4, resume=True, **shared)
    assert "2 groups x 2 devices, at most 2 members each" in capsys.readouterr().err
    further = quick(data, ONE, steps=30, devices=1, resume=True, **shared)
    close(further, quick(data, ONE, steps=30, game=SHARED, seeds=3, devices=1))
    close(gan.open_sweep(tmp_path / "sweep", data=data, settings=ONE, game=SHARED), further)


def test_devices_that_cannot_share_a_batch_are_refused(data, tmp_path):
    out = tmp_path / "sweep"
    call = lambda n, game=SHARED: refused(quick, data, ONE, game=game, devices=4, devices_per_member=n, out=out)
    assert call(0) == "devices_per_member=0: must be an integer of at least 1"
    for n in (3, 8):
        assert call(n) == f"devices_per_member is {n}: give a number that divides the 4 devices"
    ten = replace(SHARED, examples=lambda knobs: 10)
    assert call(4, ten) == "a batch of 10 does not divide among 4 devices: give a multiple of 4"
    assert call(2, QUICK) == "devices_per_member is 2, but the game's step takes no mean over devices: give 1"
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gan", "vae", "vae_gan", "balanced"])
def test_sweeps_of_every_game_share_their_batches(x64, kind, capsys):
    """With a controller that evaluations move, and reals drawn class by class."""
    digits = gan.load("digits", subset=60, size=8)
    fields = {"width": 2, "latent_dim": 3, "batch_size": 8, "dtype": "float64", "classes": digits.classes}
    make = {"vae": gan.recipes.vae, "vae_gan": gan.recipes.vae_gan}.get(kind, gan.recipes.dcgan)
    recipe = make(digits.image_shape, **fields)
    if kind == "gan":
        driven = {"ema_decay": gan.controllers.drive("D/validation_logit", 0.0, horizon=640, high=0.999)}
        recipe = recipe.replace(controllers=driven)
    if kind == "balanced":
        recipe = recipe.replace(sampling=gan.bind(gan.sampling.class_balanced, strength=1.0, classes=digits.classes))
    arguments = {"steps": 6, "seeds": 2, "log_every": 3, "progress": False, "devices": 4}
    shared, one = (gan.sweep([recipe], digits, devices_per_member=n, **arguments) for n in (2, 1))
    assert "2 groups x 2 devices, 1 member each, batch 8 = 2 x 4" in capsys.readouterr().err
    pd.testing.assert_frame_equal(shared.table, one.table, rtol=1e-6, atol=1e-8)
