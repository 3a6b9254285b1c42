"""A population is its members: each row is a run of its own, however many rows there are and on
whatever devices. A member that diverges changes no other member."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.rng import named
from gan_jax.sweeps import population as populations
from gan_jax.sweeps.population import Member, Population, by_structure, bytes_needed, member_state
from gan_jax.training.chunk import single_chunk
from gan_jax.training.placement import place
from tests.tiny_games import assert_close, everything, feed
from tests.training.test_fit import ROOT, same

ONE, STEPS = place(1), 10
WAYS = {"in_turn": populations._in_turn, "side_by_side": populations._side_by_side}
DOUBLE = {"dtype": "float64", "batch_size": 8}
POINTS = gan.recipes.mlp((2,), width=4, depth=1, **DOUBLE)
NETWORKS = {  # a recipe, its training set, and a number that members differ in
    "dcgan": (everything(), feed(), "discriminator.penalties.r1.penalty.gamma"),
    "mlp": (POINTS, feed(shape=(2,)), "discriminator.optimizer.learning_rate"),
    "maxout": (gan.recipes.pacgan_toy(**DOUBLE), feed(shape=(2,)), "generator.optimizer.learning_rate"),
    "dirac": (gan.recipes.dirac(dtype="float64"), feed(shape=(1,)), "discriminator.optimizer.learning_rate"),
}


def members(recipe, number, count, n=40):
    """Each with its own seed and its own value of the number."""
    values = [value * (1 + 0.5 * i) for i, value in enumerate([gan.leaves(recipe)[number]] * count)]
    return [Member(str(i), gan.with_leaves(recipe, {number: value}), i, n) for i, value in enumerate(values)]


def train(members, data, steps=STEPS, placement=ONE):
    """(state, good, metrics) of a fresh population after these steps."""
    population = Population(gan.GAN, placement, members, data)
    programs = population.lower(steps, None).compile()
    state = programs.init(*population.init_arguments())
    return programs.chunk(population.knobs, state, population.feed, population.alive)


init = jax.jit(gan.init)
run = jax.jit(single_chunk, static_argnums=(0, 1, 2))


def alone(member, data, steps=STEPS, start=None):
    """(state, metrics) of the member's own run; start: from this state in place of its own."""
    data = data.replace(size=jnp.int32(member.n))
    start = init(member.recipe, jax.random.key(member.seed)) if start is None else start
    return run(gan.GAN, steps, ONE, member.recipe, start, data)


def starts(members, data, placement=ONE):
    """The members' first states, which are those of their own runs but for the rounding of float32
    first weights."""
    population = Population(gan.GAN, placement, members, data)
    state = jax.jit(population._init)(*population.init_arguments())
    rows = [jax.device_put(member_state(state, i), placement.devices[0]) for i in range(len(members))]
    for member, row in zip(members, rows, strict=True):
        assert_close(row, init(member.recipe, jax.random.key(member.seed)), 1e-6)
    return [placement.replicate(row) for row in rows]


def assert_rows_are_runs(members, data, **settings):
    state, good, metrics = train(members, data, **settings)
    assert int(state.step) == STEPS and good.all()
    first = starts(members, data, settings.get("placement", ONE))
    for i, member in enumerate(members):
        own, own_metrics = alone(member, data if not data.key.ndim else data.replace(key=data.key[i]), start=first[i])
        assert_close(member_state(state, i), own, 1e-9)
        assert_close(jax.tree.map(lambda x: x[i], metrics), own_metrics, 1e-9)  # noqa: B023  called in this turn


SLOW = "dcgan", "maxout"
PAIRS = [pytest.param(*p, marks=pytest.mark.slow if p[0] in SLOW else ()) for p in itertools.product(NETWORKS, WAYS)]


@pytest.mark.parametrize("network, way", PAIRS)
def test_a_row_is_its_own_run(x64, monkeypatch, network, way):
    monkeypatch.setattr(populations, "_in_turn", WAYS[way])
    recipe, data, number = NETWORKS[network]
    assert_rows_are_runs(members(recipe, number, 2), data)


@pytest.mark.parametrize(
    "way, devices, count",
    [
        ("in_turn", 4, 3),
        pytest.param("side_by_side", 2, 3, marks=pytest.mark.slow),
        pytest.param("in_turn", 2, 4, marks=pytest.mark.slow),
    ],
)
def test_members_spread_over_devices_are_their_own_runs(x64, monkeypatch, way, devices, count):
    """Also where they do not divide: the last is repeated to fill the devices."""
    monkeypatch.setattr(populations, "_in_turn", WAYS[way])
    recipe, data, number = NETWORKS["mlp"]
    placement = place(devices)
    assert_rows_are_runs(members(recipe, number, count), placement.replicate(data), placement=placement)
    state, _, _ = train(members(recipe, number, count), placement.replicate(data), placement=placement)
    leaf = jax.tree.leaves(state.generator.params)[0]
    assert len(leaf) == -(-count // devices) * devices and len(leaf.sharding.device_set) == devices


def test_members_see_their_own_number_of_images_in_one_program(x64):
    recipe, data, number = NETWORKS["mlp"]
    sizes = 8, 17, 40
    several = [Member("", recipe, 0, n) for n in sizes]
    assert_rows_are_runs(several, data)
    states = [alone(member, data)[0] for member in several]
    cut = data.replace(images=data.images[:17], labels=data.labels[:17], size=jnp.int32(17))
    subset, _ = run(gan.GAN, STEPS, ONE, recipe, init(recipe, jax.random.key(0)), cut)
    assert_close(subset, states[1], 1e-12)
    assert not np.allclose(*(jax.tree.leaves(state.generator.params)[0] for state in states[1:]))


def test_members_have_their_own_order_of_the_data_or_share_one(x64):
    recipe, data, number = NETWORKS["mlp"]
    seeds = 0, 1, 0
    several = [Member("", recipe, seed, 40) for seed in seeds]
    keys = jnp.stack([named(jax.random.key(seed), "order") for seed in seeds])
    assert_rows_are_runs(several, data.replace(key=keys))
    shared, own = (train(several, d)[2]["discriminator/loss"] for d in (data, data.replace(key=keys)))
    assert (shared[0] == shared[2]).all() and (own[0] == own[2]).all() and (shared[0] != own[0]).any()


# ---- divergence --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["in_turn", pytest.param("side_by_side", marks=pytest.mark.slow)])
def test_one_that_diverges_freezes_where_it_was_good_and_changes_no_bit_of_the_others(monkeypatch, way):
    monkeypatch.setattr(populations, "_in_turn", WAYS[way])
    recipe, data = POINTS.replace(dtype="float32"), NETWORKS["mlp"][1]
    healthy = members(recipe, "generator.optimizer.learning_rate", 3)
    wild = gan.with_leaves(recipe, {"generator.optimizer.learning_rate": 1e30})
    ill = [healthy[0], Member("wild", wild, 1, 40), healthy[2]]
    (state, good, metrics), (expected, all_good, _) = train(ill, data), train(healthy, data)
    assert all_good.all() and good[0].all() and good[2].all()
    for i in (0, 2):
        same(member_state(state, i), member_state(expected, i))
    at = int(good[1].argmin())
    assert 0 < at < STEPS - 1 and not good[1].all() and not good[1, at:].any() and good[1, :at].all()
    loss = np.stack(list(metrics.values()))[:, 1]
    assert np.isfinite(loss[:, :at]).all() and not np.isfinite(loss[:, at]).all() and np.isnan(loss[:, at + 1 :]).all()
    last, before = alone(ill[1], data)[0], alone(ill[1], data, at)[0]
    assert int(last.step) == at and int(state.step) == STEPS
    for own in (last, before):
        assert_close(member_state(state, 1).replace(step=last.step), own, 1e-4)
    floats = [x for x in jax.tree.leaves(member_state(state, 1)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(x).all() for x in floats)


def test_one_that_is_not_alive_stays_where_it_is(x64):
    recipe, data, number = NETWORKS["mlp"]
    population = Population(gan.GAN, ONE, members(recipe, number, 2), data)
    programs = population.lower(STEPS, None).compile()
    start = jax.device_get(programs.init(*population.init_arguments()).generator.params)
    state = programs.init(*population.init_arguments())
    state, good, _ = programs.chunk(population.knobs, state, population.feed, jnp.array([True, False]))
    assert good[0].all() and not good[1].any()
    still = jax.tree.map(lambda a, b: (a == b).all((*range(1, a.ndim),)), jax.device_get(state.generator.params), start)
    assert all(x.tolist()[1] for x in jax.tree.leaves(still)) and not all(x.tolist()[0] for x in jax.tree.leaves(still))


# ---- structure and memory ----------------------------------------------------------------------


def test_members_of_one_structure_are_one_group_whatever_their_names():
    a, wide = POINTS, gan.recipes.mlp((2,), width=5, depth=1)
    again = gan.with_leaves(POINTS, {"ema_decay": 0.5})
    vector = gan.with_leaves(POINTS, {"ema_decay": np.array([0.5, 0.6])})  # an equal treedef with another leaf
    recipes = [a, wide, again, vector, a, wide]
    assert jax.tree.structure(a) == jax.tree.structure(vector)
    assert by_structure([Member(str(i), recipe, i, 40) for i, recipe in enumerate(recipes)]) == [[0, 2, 4], [1, 5], [3]]


def test_twenty_four_members_need_no_more_than_twenty_four_times_one():
    """And one after the other they share their activations."""
    recipe, data = gan.recipes.dcgan((8, 8, 1), width=4, batch_size=8), feed()
    one, many = (
        bytes_needed(Population(gan.GAN, ONE, [Member("", recipe, i, 40) for i in range(count)], data).chunk(2).compile())
        for count in (1, 24)
    )
    assert one < many < 1.3 * 24 * one


@pytest.mark.parametrize("length, piece", [(300, 300), (900, 450), (1000, 500), (997, 997), (1003, 59)])
def test_a_call_on_several_cpu_devices_takes_few_steps(length, piece):
    recipe, data = gan.recipes.dirac(), feed(shape=(1,))
    four = [Member("", recipe, seed, 40) for seed in range(4)]
    assert Population(gan.GAN, ONE, four, data).steps_per_call(length) == length
    assert Population(gan.GAN, place(2), four, place(2).replicate(data)).steps_per_call(length) == piece


LONG = """
import resource, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
import gan_jax as gan

toy = gan.recipes.pacgan_toy()
r1 = {"r1": gan.bind(gan.penalties.r1, gamma=0.01)}
toy = toy.replace(discriminator=toy.discriminator.replace(penalties=r1))
steps = int(sys.argv[1])
gan.sweep([toy], gan.load("ring", subset=1000), steps=steps, seeds=2, log_every=steps, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_program_of_many_steps_needs_no_more_memory_than_one_of_few():
    """Two members on two devices: in one call 1,600 steps more took 800 MiB more."""
    variables = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": str(ROOT)}
    peak = lambda steps: float(
        subprocess.run([sys.executable, "-c", LONG, str(steps)], env=variables, check=True, capture_output=True).stdout
    )
    assert peak(2000) < peak(400) + 400
