"""What the last save left can always be used, and one line names what cannot be used."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from gan_jax.core.errors import UserError
from gan_jax.training.checkpoints import Checkpoints


class Player(NamedTuple):
    params: dict
    ema: dict | None
    opt_state: optax.OptState


def make_state(seed: int = 0) -> dict:
    params = {"Dense_0": {"kernel": jax.random.normal(jax.random.key(seed), (16, 9)), "bias": jnp.zeros(9)}}
    return {
        "step": jnp.int32(seed),
        "key": jax.random.key(seed),
        "player": Player(params, None, optax.adam(1e-3).init(params)),
    }


def every_kind_of_leaf() -> dict:
    odd = np.array([0.0, -0.0, np.inf, np.nan, 1e-45], np.float32)
    odd[3:4].view(np.uint32)[0] ^= 5  # a NaN with a payload
    return {
        "f32": odd,
        "all minus zero": jnp.full(4, -0.0),  # equal to what an array store leaves out as "fill"
        "f64": np.array([np.pi, np.nextafter(1, 2)]),
        "bf16": jnp.arange(5, dtype=jnp.bfloat16) / 3,
        "f16": jnp.float16(1) / 3,
        "f8": np.ones(3, ml_dtypes.float8_e4m3fn),
        "c64": jnp.complex64(1 + 2j),
        "i32": jnp.int32(-7),
        "i64": np.int64(2**62 + 1),
        "u8": jnp.arange(256, dtype=jnp.uint8),
        "u64": np.array([2**64 - 1], np.uint64),
        "bool": jnp.array([True, False]),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 6).reshape(2, 3),
        "none": None,
        "empty": jnp.zeros((0, 3)),
        "python": [3, 2.5, True],
        "tuple": Player({"a/b": {".": jnp.ones(1)}, "[0]": jnp.ones(2)}, None, optax.EmptyState()),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }


def bits(leaf) -> tuple:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), bits(jax.random.key_data(leaf))
    array = np.asarray(leaf)
    return str(array.dtype), array.shape, array.tobytes()


def assert_same(got, expected) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        assert bits(one) == bits(other), jax.tree_util.keystr(path)


def listening(folder: Path, **settings) -> tuple[Checkpoints, list[str]]:
    lines: list[str] = []
    return Checkpoints(folder, warn=lines.append, **settings), lines


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    state, meta = every_kind_of_leaf(), {"recipe": {"lr": 1e-4, "names": ["a", "ä"]}, "nan": float("inf"), "none": None}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, meta)
    got, got_meta, step = Checkpoints(tmp_path).restore_latest(state)
    assert_same(got, state)
    assert (got_meta, step) == (meta, 7)
    assert [type(x) for x in got["python"]] == [int, float, bool]
    assert isinstance(got["f32"], np.ndarray) and got["f32"].flags.writeable and isinstance(got["bf16"], jax.Array)


def test_shapes_alone_are_a_target_and_placement_follows_it(tmp_path):
    state = make_state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state)
        got, meta, step = checkpoints.restore_latest(jax.eval_shape(lambda: state))
        assert_same(got, state)
        assert (meta, step) == ({}, 0)
        assert not got["step"].committed  # as free to move as what a fresh run makes
        assert not checkpoints.restore_latest(state)[0]["step"].committed
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        placed, _, _ = checkpoints.restore_latest(jax.device_put(state, sharding))
        assert placed["step"].committed and placed["key"].sharding == sharding


def test_float64_needs_x64(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with jax.enable_x64(True):
        state = {"a": jnp.arange(3) / 7}
        target = jax.eval_shape(lambda: state)
        checkpoints.save(1, state)
        assert_same(checkpoints.restore_latest(target)[0], state)
    with pytest.raises(UserError, match="float64.*JAX_ENABLE_X64"):
        checkpoints.restore_latest(target)


def test_no_checkpoint_is_none(tmp_path):
    checkpoints, lines = listening(tmp_path / "made" / "here")
    assert checkpoints.restore_latest(make_state()) is None
    for leftover in (
        "3",
        "7.orbax-checkpoint-tmp/state",
        "8.new.orbax-checkpoint-tmp/state",
        "8.new/state",
        "plots",
        "007/state",
    ):
        (checkpoints.folder / leftover).mkdir(parents=True)
    assert checkpoints.restore_latest(make_state()) is None
    assert checkpoints.steps() == [] and lines == []
    checkpoints.save(3, make_state(3))
    checkpoints.wait()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["007", "3", "plots"]
    shutil.rmtree(checkpoints.folder)
    assert checkpoints.restore_latest(make_state()) is None


def test_exactly_the_last_two_stay(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (0, 5, 10, 100):
            checkpoints.save(step, make_state(step))
        checkpoints.wait()
        assert checkpoints.steps() == [10, 100]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "100"]
        checkpoints.save(100, make_state(1))  # the same step again replaces it
        assert_same(checkpoints.restore_latest(make_state())[0], make_state(1))
        assert checkpoints.steps() == [10, 100]
    with pytest.raises(UserError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)


def test_what_a_killed_rehearsal_left_is_in_no_way(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, Checkpoints(tmp_path) as killed:
        patch.setattr(killed, "_delete", lambda *patterns: None)
        killed.rehearse(make_state())
    assert (tmp_path / "rehearsal.new").is_dir()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.rehearse(make_state())
    assert not list(tmp_path.iterdir())


def test_an_older_step_than_the_newest_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, make_state())
        for step in (4, -1):
            with pytest.raises(UserError, match=f"has step 5: {step} is too old"):
                checkpoints.save(step, make_state())


def test_donated_and_overwritten_buffers_do_not_reach_the_checkpoint(tmp_path):
    train = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2 + 1, tree), donate_argnums=0)
    arrays = {"device": jax.random.normal(jax.random.key(0), (300_000,)), "host": np.arange(300_000.0)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            expected = jax.tree.map(lambda x: np.array(x), arrays)
            checkpoints.save(step, arrays)
            arrays["host"] += 1
            for _ in range(20):
                arrays["device"] = train(arrays["device"])
            assert_same(checkpoints.restore_latest(expected)[0], expected)


def kinds_of_file(folder: Path) -> dict[str, Path]:
    """One file of each kind: the two data folders' names are random, the others' are fixed."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    return {"/".join("*" if len(p) == 32 else p for p in path.relative_to(folder).parts): path for path in files}


DAMAGE = {
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-3] + bytes([path.read_bytes()[-3] ^ 1]) + b"xy"),
    "one bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 4]) + path.read_bytes()[1:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
}


def test_any_damage_to_any_file_falls_back_with_one_line(tmp_path, capfd):
    with Checkpoints(tmp_path / "whole") as checkpoints:
        checkpoints.save(1, make_state(1), {"is": "older"})
        checkpoints.save(2, make_state(2))
    kinds = kinds_of_file(tmp_path / "whole" / "2")
    assert len(kinds) >= 9 and any(kind.startswith("state/d/") for kind in kinds)
    for kind in kinds:
        for name, damage in DAMAGE.items():
            shutil.copytree(tmp_path / "whole", tmp_path / "copy")
            damage(kinds_of_file(tmp_path / "copy" / "2")[kind])
            checkpoints, lines = listening(tmp_path / "copy")
            state, meta, step = checkpoints.restore_latest(make_state())
            assert (step, meta) == (1, {"is": "older"}), (kind, name)
            assert_same(state, make_state(1))
            assert len(lines) == 1 and "\n" not in lines[0] and "cannot use step 2 (" in lines[0], lines
            assert "using step 1 instead" in lines[0] and str(tmp_path / "copy") in lines[0]
            shutil.rmtree(tmp_path / "copy")
    assert capfd.readouterr() == ("", "")  # Orbax would print pages about most of these


def test_a_wrong_read_is_noticed_by_the_digest_of_the_leaves(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.arange(4.0)})
    monkeypatch.setattr("gan_jax.training.checkpoint_files.digest_of", lambda arrays, record: "another")
    with pytest.raises(UserError, match="do not match their digest"):
        Checkpoints(tmp_path).restore_latest({"a": jnp.zeros(4)})


def test_the_default_warning_goes_to_stderr(tmp_path, capsys):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1))
        checkpoints.save(2, make_state(2))
        checkpoints.wait()
        shutil.rmtree(tmp_path / "2" / "state")
        assert checkpoints.steps() == [1]
        assert checkpoints.restore_latest(make_state())[2] == 1
    assert capsys.readouterr().err.startswith("WARNING: ")


def test_saving_goes_on_after_a_fall_back(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(step))
    DAMAGE["cut"](tmp_path / "2" / "state" / "manifest.ocdbt")
    checkpoints, lines = listening(tmp_path)
    assert checkpoints.restore_latest(make_state())[2] == 1
    assert (tmp_path / "2").exists() and checkpoints.steps() == [1]  # reading changes nothing
    checkpoints.save(2, make_state(20))
    got, _, step = checkpoints.restore_latest(make_state())
    assert step == 2 and len(lines) == 1
    assert_same(got, make_state(20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "2.unusable"]


def test_none_intact_is_an_error_and_saving_goes_on_if_one_insists(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(step))
        checkpoints.wait()
        for step in "12":
            DAMAGE["empty"](tmp_path / step / "meta" / "metadata")
        with pytest.raises(UserError, match=r"no usable checkpoint in .*step 2 \(.*; step 1 \(.*") as error:
            checkpoints.restore_latest(make_state())
        assert "\n" not in str(error.value)
        checkpoints.save(0, make_state(0))
        assert checkpoints.restore_latest(make_state())[2] == 0


def test_foreign_checkpoints_are_refused_by_leaf(tmp_path):
    state = {"a": jnp.ones(3), "b": jnp.ones(2), "key": jax.random.key(0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
    others = {
        r"1 missing \(\['c'\]\)": state | {"c": jnp.ones(1)},
        r"1 extra \(\['b'\]\)": {name: state[name] for name in ("a", "key")},
        r"1 different \(\['a'\] \['float32', \[3\]\] not \['bfloat16', \[3\]\]\)": state | {"a": jnp.ones(3, jnp.bfloat16)},
        r"\['float32', \[3\]\] not \['float32', \[4\]\]": state | {"a": jnp.ones(4)},
        r"\['key<fry>', \[2\]\] not \['key<rbg>', \[4\]\]": state | {"key": jax.random.key(0, impl="rbg")},
        r"\['key<fry>', \[2\]\] not \['uint32', \[2\]\]": state | {"key": jax.random.key_data(state["key"])},
        r"1 missing \(\['b'\]\['x'\]\); 1 extra \(\['b'\]\)": state | {"b": {"x": jnp.ones(2)}},
    }
    for message, target in others.items():
        with pytest.raises(UserError, match=message) as error:
            Checkpoints(tmp_path).restore_latest(target)
        assert "\n" not in str(error.value)
    assert_same(Checkpoints(tmp_path).restore_latest(state)[0], state)


def test_a_foreign_newer_checkpoint_is_passed_over_and_kept_aside(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1))
        checkpoints.save(9, {"other": jnp.ones(3)})
    checkpoints, lines = listening(tmp_path)
    assert checkpoints.restore_latest(make_state())[2] == 1
    assert "another structure" in lines[0]
    checkpoints.save(2, make_state(2))
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]
    (tmp_path / "9.unusable").rename(tmp_path / "9")
    assert Checkpoints(tmp_path).restore_latest({"other": jnp.zeros(3)})[2] == 9


def test_orbax_alone_can_read_it(tmp_path):
    import orbax.checkpoint as ocp

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, {"a": jnp.arange(3.0)}, {"note": 1})
    with ocp.CheckpointManager(tmp_path) as manager:
        assert manager.latest_step() == 4
        items = manager.restore(4, args=ocp.args.Composite(state=ocp.args.PyTreeRestore(), meta=ocp.args.JsonRestore()))
    assert items.state["['a']"].tolist() == [0, 1, 2] and items.meta["meta"] == {"note": 1}


def test_what_cannot_be_saved_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=r"state leaf \['net'\]\['name'\].*keep it in meta"):
            checkpoints.save(0, {"net": {"name": "dcgan"}})
        with pytest.raises(UserError, match="state leaf .*object"):
            checkpoints.save(0, {"f": lambda: 0})
        with pytest.raises(UserError, match="state leaf .*deleted"):
            gone = jnp.ones(2)
            gone.delete()
            checkpoints.save(0, {"a": gone})
        with pytest.raises(UserError, match="meta must be JSON"):
            checkpoints.save(0, make_state(), {"a": jnp.ones(1)})
        with pytest.raises(TypeError):
            checkpoints.save(0.5, make_state())
        assert checkpoints.steps() == []


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(UserError, match=str(folder)) as error:
            Checkpoints(folder)
        assert "\n" not in str(error.value)


def test_a_full_disk_surfaces_later_and_costs_no_old_checkpoint(tmp_path, capfd):
    noise = {"a": np.random.default_rng(0).normal(size=200_000)}  # 1.6 MB that does not compress
    with small_disk(tmp_path / "disk", "1m") as folder:
        checkpoints, lines = listening(folder)
        for step in (1, 2):
            checkpoints.save(step, make_state(step))
        checkpoints.save(3, noise)
        with pytest.raises(UserError, match="step 3 was not saved.*No space.*make room") as error:
            checkpoints.save(4, make_state(4))
        assert "\n" not in str(error.value)
        assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
        assert checkpoints.restore_latest(make_state())[2] == 2
        checkpoints.save(4, make_state(4))
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4] and lines == [f"WARNING: {error.value}"]  # printed at once, too
        with pytest.raises(KeyError):  # the first error is the one to see
            with checkpoints:
                checkpoints.save(5, noise)
                raise KeyError
        assert len(lines) == 2 and "step 5 was not saved" in lines[1]
        with pytest.raises(UserError, match="step 6 was not saved"), checkpoints:
            checkpoints.save(6, noise)
    assert capfd.readouterr() == ("", "")


def test_a_program_that_ends_without_waiting_is_told(tmp_path):
    code = """if True:
        import sys, jax.numpy as jnp
        from gan_jax.training.checkpoints import Checkpoints
        checkpoints = Checkpoints(sys.argv[1])
        checkpoints.save(1, {"a": jnp.ones(3)})
        checkpoints.wait()
        checkpoints.save(2, {"a": jnp.ones(3)})"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, env=env)
    assert Checkpoints(tmp_path).steps() == [1, 2] or "WARNING" in ended.stderr and "step 2 was not saved" in ended.stderr


def test_a_read_only_disk_is_reported(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as folder:
        checkpoints, _ = listening(folder)
        checkpoints.save(1, make_state(1))
        checkpoints.wait()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        checkpoints.save(2, make_state(2))
        with pytest.raises(UserError, match="step 2 was not saved.*Read-only"):
            checkpoints.wait()
        assert checkpoints.restore_latest(make_state())[2] == 1
        with pytest.raises(UserError, match="Read-only"):
            Checkpoints(folder)


KILLED = """
import os, pathlib, signal, sys, time
import jax.numpy as jnp
import numpy as np
from gan_jax.training import checkpoints as module

folder, point, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
state = lambda step: {"step": jnp.int32(step), "noise": np.random.default_rng(step).normal(size=100_000)}
checkpoints = module.Checkpoints(folder)
for step in (1, 2):
    checkpoints.save(step, state(step))
checkpoints.wait()

def dying(function):
    def call(*args, **settings):
        global calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **settings)
    return call

if point != "time":
    owner = pathlib.Path if point == "rename" else module
    setattr(owner, point, dying(getattr(owner, point)))
print("ready", flush=True)
for step in range(3, 1000):
    checkpoints.save(step, state(step))
"""


def test_kill_9_at_any_moment_leaves_a_usable_checkpoint(tmp_path):
    moments = {  # what the process is about to do, after how many earlier times, and the step that is left
        "rename": ("rename", 0, 2),
        "drop the oldest": ("rename", 1, 3),
        "anything": ("time", 0, None),
    }
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    children = {
        name: subprocess.Popen([sys.executable, script, tmp_path / name, point, str(n)], stdout=subprocess.PIPE, env=env)
        for name, (point, n, _) in moments.items()
    }
    for name, child in children.items():
        assert child.stdout is not None and child.stdout.readline() == b"ready\n", name
        if name == "anything":
            time.sleep(0.07)
            child.kill()
        assert child.wait(60) == -signal.SIGKILL, name
    target = {"step": jnp.int32(0), "noise": np.zeros(100_000)}
    for name, (_, _, left) in moments.items():
        checkpoints, lines = listening(tmp_path / name)
        state, _, step = checkpoints.restore_latest(target)
        assert step == (left or max(step, 2)) and lines == [], (name, step, lines)
        assert int(state["step"]) == step and (state["noise"] == np.random.default_rng(step).normal(size=100_000)).all()
        checkpoints.save(step + 1, state)
        checkpoints.wait()
        names = sorted(path.name for path in (tmp_path / name).iterdir())
        assert sorted(map(int, names)) == checkpoints.steps() and checkpoints.steps()[-1] == step + 1, (name, names)


TWO_PROCESSES = """
import sys
import jax
import jax.numpy as jnp
from jax.experimental.multihost_utils import sync_global_devices
from jax.sharding import NamedSharding, PartitionSpec as P
from gan_jax.training.checkpoints import Checkpoints

folder, port, me = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=me)
mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("d"))
shardings = {"all": everywhere, "key": everywhere, "rows": split}
make = lambda: {"all": jnp.arange(3.0), "key": jax.random.key(5), "rows": jnp.arange(8.0)}
state = jax.jit(make, out_shardings=shardings)()
checkpoints = Checkpoints(folder)
checkpoints.save(1, state)
checkpoints.wait()
sync_global_devices("saved")
got, _, step = checkpoints.restore_latest(state)
assert step == 1 and all(got[name].sharding == shardings[name] for name in shardings)
same = lambda a, b: jnp.array([(a[n] == b[n]).all() for n in ("all", "rows")] + [a["key"] == b["key"]]).all()
assert jax.jit(same, out_shardings=everywhere)(got, state)
print("fine", flush=True)
"""


def test_of_two_processes_one_writes_and_both_read(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "NPROC": "16"}
    run = [sys.executable, script, tmp_path / "run", str(port)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    two = [subprocess.Popen([*run, me], env=os.environ | settings, **streams) for me in "01"]
    try:
        for process in two:
            output = process.communicate(timeout=60)[0].decode()
            assert process.returncode == 0 and "fine" in output, output
    finally:
        for process in two:
            process.kill()
    assert Checkpoints(tmp_path / "run").steps() == [1]
