"""State split over the devices is the replicated run's, holds its share of the bytes, and survives
a checkpoint; how a run describes its devices; and the predictions of larger machines in closed
form."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from collectives import collectives, compiled_steps, totals
from jax.sharding import PartitionSpec as P

import gan_jax as gan
from gan_jax.core import sharding as zero
from gan_jax.training.placement import AXIS, place
from tests.tiny_games import assert_close, feed
from tests.training.test_placement import ARCHITECTURES, IMAGES, on_eight_devices, train

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark_scaling  # noqa: E402  its folder is on the path only now

ROWS = (4,)


def bytes_per_device(state) -> int:
    """The bytes of a state on the local device that holds most of it."""
    held = {}
    for leaf in jax.tree.leaves(state):
        data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for shard in data.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values(), default=0)


def perceptrons(dtype="float64", **fields):
    """Wide enough that the kernels between layers are split; see `games.everything` about eps."""
    made = gan.recipes.mlp(ROWS, width=32, depth=2, latent_dim=8, batch_size=16, dtype=dtype, **fields)
    adam = gan.bind(optax.adam, learning_rate=2e-4, b1=0.5, eps=1e-6)
    return made.replace(
        generator=made.generator.replace(optimizer=adam), discriminator=made.discriminator.replace(optimizer=adam)
    )


def test_a_leaf_is_split_along_its_longest_axis_that_divides():
    shape = lambda *axes: jax.ShapeDtypeStruct(axes, jnp.float32)
    state = {"wide": shape(16, 256), "odd": shape(1030, 12), "small": shape(64), "none": shape(33, 35), "scalar": shape()}
    laid = jax.tree.map(lambda where: where.spec, zero.layout(state, place(4).mesh, "parameters"))
    assert laid == {"wide": P(None, AXIS), "odd": P(None, AXIS), "small": P(), "none": P(), "scalar": P()}
    assert set(jax.tree.leaves(zero.layout(state, place(4).mesh, None))) == {place(4).layout(state)["small"]}


@pytest.mark.parametrize("shard", zero.SHARDED)
def test_a_split_state_takes_the_steps_of_one_device(x64, shard):
    recipe, data, four = perceptrons(), feed(shape=ROWS), place(4, shard=shard)
    state, metrics = train(recipe, data, place(1))
    many, many_metrics = train(recipe, data, four)
    assert_close(many, state, 1e-9)
    assert_close(many_metrics, metrics, 1e-9)
    assert all(
        x.sharding.is_equivalent_to(y, x.ndim) for x, y in zip(*map(jax.tree.leaves, (many, four.layout(many))), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("shard", zero.SHARDED)
@pytest.mark.parametrize("architecture", ["dcgan", pytest.param("r3gan", marks=pytest.mark.nightly)])
@on_eight_devices
def test_eight_devices_with_split_states_are_one(x64, monkeypatch, architecture, shard):
    monkeypatch.setattr(zero, "SMALL", 8)
    recipe = ARCHITECTURES[architecture]()
    state, metrics = train(recipe, feed(shape=IMAGES), place(1))
    many, many_metrics = train(recipe, feed(shape=IMAGES), place(8, shard=shard))
    assert_close(many, state, 1e-9)
    assert_close(many_metrics, metrics, 1e-9)
    assert any(x.sharding.spec != P() for x in jax.tree.leaves(many.generator.opt_state))


def of(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if x.size >= zero.SMALL)


def test_each_device_holds_its_share_of_a_split_state():
    recipe = perceptrons("float32")
    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    held = {shard: bytes_per_device(place(4, shard=shard).shard_state(state)) for shard in (None, *zero.SHARDED)}
    averages = of([state.generator.opt_state, state.discriminator.opt_state, state.ema])
    params = of([state.generator.params, state.discriminator.params])
    assert held[None] - held["optimizer"] == averages * 3 // 4
    assert held["optimizer"] - held["parameters"] == params * 3 // 4
    assert bytes_per_device(state) == held[None]


def test_a_split_state_is_gathered_once_and_its_program_takes_less():
    """The parameters that are split, once; gradients are reduced as they are without; no layer is
    split."""
    recipe, data = perceptrons("float32"), feed(shape=ROWS)
    programs = {shard: compiled_steps(recipe, data, place(4, shard=shard)) for shard in (None, *zero.SHARDED)}
    sent = {shard: totals(collectives(program)) for shard, program in programs.items()}
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    params = of([state.generator.params, state.discriminator.params])
    assert sent["optimizer"]["all-gather"].bytes == params and sent["parameters"]["all-gather"].bytes == 2 * params
    for shard in zero.SHARDED:
        assert sent[shard].keys() == {"all-gather", "all-reduce"} and sent[shard]["all-reduce"] == sent[None]["all-reduce"]
        assert programs[shard].cost_analysis()["flops"] < programs[None].cost_analysis()["flops"]
    sizes = [program.memory_analysis().argument_size_in_bytes for program in programs.values()]
    assert sizes[0] - sizes[1] == of([state.generator.opt_state, state.discriminator.opt_state, state.ema]) * 3 // 4
    assert sizes[1] - sizes[2] == params * 3 // 4


def rows():
    return gan.from_arrays(np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))


def fit(out, steps, **settings):
    intervals = {"log_every": 2, "checkpoint_every": 2, "sample_every": 100}
    return gan.fit(perceptrons("float32"), rows(), steps=steps, out=out, **{"progress": False} | intervals | settings)


@pytest.mark.slow
def test_a_checkpoint_of_a_split_state_goes_on_split_or_whole(tmp_path, capsys):
    """Saved by four devices that share it; restored to four, and to two that hold it whole."""
    split = {"devices": 4, "shard": "parameters"}
    straight = fit(tmp_path / "straight", 4, **split)
    assert any(x.sharding.spec != P() for x in jax.tree.leaves(straight.state.discriminator.params))
    for name, settings in {"split": split, "whole": {"devices": 2, "progress": True}}.items():
        shutil.copytree(tmp_path / "straight", tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoints" / "4")
        resumed = fit(tmp_path / name, 4, resume=True, **settings)
        assert_close(resumed.state, straight.state, 0 if name == "split" else 1e-4)
        assert capsys.readouterr().err.count("16 examples = 2 devices x 8\n") == (name == "whole")


def test_what_cannot_be_split_is_refused():
    with pytest.raises(
        gan.UserError, match="^unknown part of the state to shard 'all': use 'optimizer' or 'parameters', or None$"
    ):
        place(2, shard="all")
    with pytest.raises(
        gan.UserError, match="^shard='optimizer' splits the state by placement: use parallel='sharding', not 'pmap'$"
    ):
        place(2, "pmap", shard="optimizer")
    assert place(1, shard="optimizer") == place(1)


# ---- scripts/benchmark.py --scaling ------------------------------------------------------------

TINY = {"side": 8, "width": 2, "parallel": "sharding", "shard": None, "steps": 0}


def test_a_row_counts_what_the_compiled_step_says():
    """Batch norm's, and each gradient once; of D's two passes by placement twice."""
    row = benchmark_scaling.measured(TINY, 4, 8)
    assert row["kinds"] == {"all-reduce": {"operations": row["operations"], "bytes": row["bytes"]}}
    assert row["sent"] == row["bytes"] * 2 * 3 / 4 and "steps_per_s" not in row
    state = jax.eval_shape(gan.init, gan.recipes.dcgan((8, 8, 3), width=2, batch_size=8), jax.random.key(0))
    g, d = (4 * sum(x.size for x in jax.tree.leaves(player.params)) for player in (state.generator, state.discriminator))
    assert g + 2 * d < row["bytes"] < g + 2 * d + 2000


def test_flops_are_a_share_of_the_examples_and_what_every_device_does():
    rows = [{"devices": n, "batch_size": 64, "flops": 100 + 7 * 64 / n} for n in (1, 8)]
    assert [benchmark_scaling.flops_of_device(*rows, examples) for examples in (0, 1, 64, 512)] == [100, 107, 548, 3684]


def test_an_exchange_is_rings_within_nodes_and_between_them():
    machine = benchmark_scaling.Machine(peak=1e3, link=100.0, node=4, network=10.0, source="")
    seconds = lambda kind, devices, latency=0.0: benchmark_scaling.exchange_seconds([kind, 800, 3], devices, machine, latency)
    assert seconds("all-reduce", 4) == 2 * 3 / 4 * 800 / 100
    assert seconds("all-reduce", 8) == 2 * 3 / 4 * 800 / 100 + 2 * 1 / 2 * (800 / 4) / 10
    assert seconds("all-reduce", 32) == 2 * 3 / 4 * 800 / 100 + 2 * 7 / 8 * (800 / 4) / 10
    assert seconds("all-gather", 4) == seconds("reduce-scatter", 4) == 3 / 4 * 800 / 100
    assert seconds("all-reduce", 8, latency=1.0) - seconds("all-reduce", 8) == 2 * 3 * 3


def test_predicted_steps_are_computing_and_exchanging():
    rows = [{"devices": n, "batch_size": 64, "flops": 1e6 + 1e6 * 64 / n, "collectives": []} for n in (1, 8)]
    rows[-1]["collectives"] = [["all-reduce", 8_000_000, 1]]
    options = benchmark_scaling.Options(peak=1e9, utilisation=0.5, link=1e9, network=1e8, node=8, latency=0.0)
    found = {(row["scaling"], row["devices"]): row for row in benchmark_scaling.predicted(rows, options)}
    assert found["weak", 8]["compute_s"] == found["weak", 512]["compute_s"] == pytest.approx(65e6 / 0.5e9)
    assert found["strong", 8]["compute_s"] == pytest.approx((1e6 + 512e6) / 0.5e9)
    assert found["weak", 8]["exchange_s"] == pytest.approx(2 * 7 / 8 * 8e6 / 1e9)
    assert found["strong", 64]["exchange_s"] == pytest.approx(2 * 7 / 8 * 8e6 / 1e9 + 2 * 7 / 8 * 1e6 / 1e8)
    assert found["weak", 64]["batch_size"] == 4096 == found["strong", 64]["batch_size"]
    for row in found.values():
        assert row["step_s"] == row["compute_s"] + row["exchange_s"] == pytest.approx(row["batch_size"] / row["images_per_s"])


def test_mistakes_in_what_to_scale_are_one_line(mistake):
    assert "counts is 2 4: give 1 and then larger ones" in mistake(benchmark_scaling, "--counts", 2, 4)
    assert "a batch of 6 does not divide" in mistake(benchmark_scaling, "--batch-size", 6)
    assert "utilisation is 0.0: it must be above 0" in mistake(benchmark_scaling, "--utilisation", 0)


@pytest.mark.slow
def test_the_table_is_printed_and_written(tmp_path):
    command = [sys.executable, SCRIPTS / "benchmark_scaling.py", "--counts", "1", "2", "--side", "8", "--width", "2"]
    done = subprocess.run([*command, "--steps", "1", "--json", tmp_path / "rows.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not speed" in done.stdout and "Predicted on paper: h100" in done.stdout and "(assumed)" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["scaling"], row["devices"]) for row in rows[:3]] == [("strong", 1), ("strong", 2), ("weak", 1)]
    assert len(rows) == 9 and rows[1]["flops"] < 0.6 * rows[0]["flops"] and all(row["steps_per_s"] > 0 for row in rows[:3])
    assert rows[0]["operations"] == rows[0]["sent"] == 0 and len(set(rows[0]["operations_by_depth"].values())) == 1
