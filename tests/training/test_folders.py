"""A run folder: any path, one writer, what is damaged is named, and a checkpoint of nothing else is
used."""

import json
import logging.handlers
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.training import checkpoint_files, schemas
from gan_jax.training.checkpoints import Checkpoints
from gan_jax.training.files import LOCK, WRITER, Writer, write_atomic
from gan_jax.training.folder import RunFolder
from gan_jax.training.serialization import differences_of_data, from_json
from tests.tiny_games import mean_start, mean_step, ten

MEAN, KNOBS = gan.Game(mean_start, mean_step, ten), {"rate": np.float32(0.1)}
OWN = {"game": MEAN, "recipe": KNOBS}
POINTS = np.random.default_rng(0).normal(3.0, 0.1, (200, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    return gan.from_arrays(POINTS)


def fit(data, out, steps=40, knobs=KNOBS, **settings):
    intervals = {"log_every": 10, "checkpoint_every": 20, "sample_every": 20}
    return gan.fit(knobs, data, steps=steps, game=MEAN, **({"out": out, "progress": False} | intervals | settings))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run folder of 40 steps with the checkpoints 20 and 40."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    fit(data, folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def refused(call, *args, **settings) -> str:
    with pytest.raises(gan.UserError) as error:
        call(*args, **settings)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# ---- any path ----------------------------------------------------------------------------------

NAMES = ("lr=[0.1]", "[!a]", "**", "a*b", "a?b", "a\\b", "gs:", "a%41b", "a#b?c=d", "a\nb", "caf\udce9", "~", "x" * 240)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_read_back_whatever_its_folder_s_name(tmp_path, name):
    state = {"a": jnp.arange(3.0), "key": jax.random.key(1)}
    with Checkpoints(tmp_path / name) as checkpoints:
        checkpoints.save(3, state)
    found, _, step = Checkpoints(tmp_path / name).restore_latest(state)
    assert step == 3 and found["a"].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["3"]


def test_a_run_in_a_folder_of_any_name_is_opened_and_goes_on(data, tmp_path):
    whole = fit(data, tmp_path / "whole", 60)
    fit(data, tmp_path / "lr=[0.1]")
    assert gan.open_run(tmp_path / "lr=[0.1]", data=data, **OWN).step == 40
    again = gan.resume(tmp_path / "lr=[0.1]", data=data, steps=60, progress=False, **OWN)
    np.testing.assert_array_equal(again.state.mean, whole.state.mean)


@pytest.mark.parametrize("what", ["unreadable", "another"])
def test_what_cannot_be_read_back_is_refused_before_a_step(data, tmp_path, monkeypatch, what):
    real = checkpoint_files.read_files

    def read(*args):
        if what == "unreadable":
            raise OSError("this file system forgets")
        arrays, record = real(*args)
        return {path: array + 1 for path, array in arrays.items()}, record

    monkeypatch.setattr("gan_jax.training.checkpoints.read_files", read)
    said = {"unreadable": "nothing can be saved here .*forgets", "another": "read back as something else"}[what]
    with pytest.raises(gan.UserError, match=said):
        fit(data, tmp_path / "run")
    assert RunFolder(tmp_path / "run").rows() == [] and not any((tmp_path / "run/checkpoints").iterdir())


# ---- one writer --------------------------------------------------------------------------------


def test_the_second_writer_is_refused_and_told_who_the_first_is(run, data):
    first = Writer(run)
    before = contents(run)
    for settings in ({"resume": True, "steps": 60}, {"overwrite": True}):
        said = refused(fit, data, run, **settings)
        assert f"is being written by process {os.getpid()} of host {socket.gethostname()} since 20" in said
    assert contents(run) == before
    assert gan.open_run(run, data=data, **OWN).step == 40, "a reader needs no lock"
    first.release()
    assert fit(data, run, 60, resume=True).step == 60
    assert not (run / WRITER).exists()


def test_a_writer_that_was_killed_keeps_nobody_out(run, data):
    code = "import os, sys; from pathlib import Path; from gan_jax.training.files import Writer; Writer(Path(sys.argv[1]));"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code + "os._exit(9)", run], env=environment)
    assert json.loads((run / WRITER).read_text())["host"] == socket.gethostname()
    assert fit(data, run, 60, resume=True).step == 60


# ---- starting and going on ---------------------------------------------------------------------


def test_fewer_steps_than_are_done_are_refused_and_as_many_are_said(run, data, capsys):
    before = contents(run)
    assert "is trained to step 40, and steps=30 is less: give 40 or more" in refused(fit, data, run, 30, resume=True)
    assert "steps=0: must be an integer" in refused(gan.resume, run, steps=0, data=data, **OWN)
    assert contents(run) == before
    assert fit(data, run, 40, resume=True).step == 40
    assert "step 40 is reached already: nothing to train" in capsys.readouterr().err


def test_resume_and_overwrite_together_are_refused(run, data):
    assert "give one of the two" in refused(fit, data, run, resume=True, overwrite=True)


def test_a_start_that_was_killed_before_its_record_was_written_can_be_repeated(data, tmp_path):
    (tmp_path / "samples").mkdir()
    for name in ("recipe.json.tmp", LOCK, WRITER, WRITER + ".tmp"):
        (tmp_path / name).write_text("{")
    assert fit(data, tmp_path, 10).step == 10
    assert not list(tmp_path.glob("*.tmp"))


def test_what_killed_writers_left_is_removed_and_nothing_else(run, data):
    left = [run / "metrics.jsonl.tmp", run / "status.json.tmp", run / "samples/00000020_ema.png.tmp"]
    for path in (*left, run / "thesis.tmp"):
        path.write_text("half")
    fit(data, run, 60, resume=True)
    assert not any(path.exists() for path in left) and (run / "thesis.tmp").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        write_atomic(tmp_path / "a", "new")
    assert contents(tmp_path) == {tmp_path / "a": b"old"}


def test_files_and_the_names_of_files_are_brought_to_the_disk(tmp_path, monkeypatch):
    """After a power failure a renamed file is there, and whole."""
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle)))
    write_atomic(tmp_path / "a", "text")
    RunFolder(tmp_path).append("metrics.jsonl", {"step": 1})
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, {"a": jnp.ones(2)})
    expected = [tmp_path, tmp_path / "a", tmp_path / "metrics.jsonl", *(tmp_path / "checkpoints").rglob("*")]
    assert {path.stat().st_ino for path in (*expected, tmp_path / "checkpoints")} <= set(synced)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"seed": 1}, ["data.seed: 0, not 1"]),
        ({"name": "ring", "hashes": {"train": "b"}}, ["data.name: points, not ring"]),
        ({"sizes": {"train": 5}, "hashes": {"train": "b"}}, ["data.sizes.train: 9, not 5"]),
        ({"hashes": {"train": "b", "test": "c"}}, ["data: points has other contents than then, in its train part"]),
        ({"name": "the same under another name"}, []),
    ],
)
def test_other_data_are_told_in_words(change, said):
    old = {"name": "points", "seed": 0, "sizes": {"train": 9}, "hashes": {"train": "a", "test": "c"}}
    assert differences_of_data(old, old | change) == said


def test_a_folder_of_other_data_or_settings_says_which(run, data):
    other = gan.from_arrays(POINTS[::-1] + 1)
    said = refused(fit, other, run, 60, resume=True)
    assert "data: arrays has other contents than then" in said and "hashes" not in said
    assert "log_every: [10], not [5]" in refused(fit, data, run, 60, resume=True, log_every=5)


# ---- the data of a run, from another directory -------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_finds_its_data_from_another_working_directory(tmp_path, monkeypatch, moved):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    np.savez(home / "mine.npz", images=POINTS)
    monkeypatch.chdir(home)
    fit(gan.load("npz:mine.npz"), "runs/a")
    monkeypatch.chdir(elsewhere)
    if moved:  # with its data
        home = home.rename(tmp_path / "new home")
    assert gan.open_run(home / "runs/a", **OWN).step == 40
    run = gan.resume(home / "runs/a", steps=60, progress=False, **OWN)
    assert run.step == 60 and run.data.name == "npz:mine.npz"
    same = gan.load(f"npz:{home / 'mine.npz'}")
    assert fit(same, home / "runs/a", 80, resume=True).step == 80, "the same data under another path are the same run"
    np.savez(home / "mine.npz", images=POINTS + 1)
    said = refused(gan.open_run, home / "runs/a", **OWN)
    assert "'npz:mine.npz' are not those of the run" in said and "other contents than then" in said


# ---- damage ------------------------------------------------------------------------------------


def with_line(text: bytes, number: int, change) -> bytes:
    lines = text.split(b"\n")
    lines[number - 1] = change(lines[number - 1])
    return b"\n".join(lines)


LINES = {
    "a byte": lambda line: line[:5] + b"\xff" + line[6:],
    "null": lambda line: b"null",
    "a list": lambda line: b"[]",
    "no step": lambda line: b'{"loss": 1.0}',
    "text for a number": lambda line: b'{"step": 20, "loss": "x"}',
    "utf-16": lambda line: line.decode().encode("utf-16"),
    "depth": lambda line: b'{"step": 20, "loss": ' + b"[" * 9999 + b"]" * 9999 + b"}",
    "another step": lambda line: line.replace(b"20", b"90"),
    "an earlier step": lambda line: line.replace(b"20", b"2"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_damaged_row_is_named_and_no_other_is_lost(run, data, capsys, name):
    path = run / "metrics.jsonl"
    whole = RunFolder(run).rows()
    damaged = with_line(path.read_bytes(), 2, LINES[name])
    path.write_bytes(damaged)
    opened = gan.open_run(run, data=data, **OWN)
    assert opened.history == [whole[0], *whole[2:]]
    assert "metrics.jsonl is damaged: line 2 (" in capsys.readouterr().err and path.read_bytes() == damaged
    resumed = fit(data, run, 60, resume=True)
    assert [row["step"] for row in resumed.history] == [10, 30, 40, 50, 60] and resumed.history[:3] == [whole[0], *whole[2:]]
    assert RunFolder(run).rows() == resumed.history
    said = capsys.readouterr().err.splitlines()
    assert sum("damaged: line 2 (" in line and "kept as metrics.damaged-1.jsonl" in line for line in said) == 1
    assert (run / "metrics.damaged-1.jsonl").read_bytes() == damaged


@pytest.mark.parametrize("name", ["metrics.jsonl", "curves.png", "status.json"])
def test_a_folder_in_the_place_of_a_file_is_one_line_before_anything_is_written(run, data, name):
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    before = sorted(run.rglob("*"))
    assert f"{name} is a folder" in refused(fit, data, run, 60, resume=True) and sorted(run.rglob("*")) == before
    if name == "metrics.jsonl":
        assert "metrics.jsonl cannot be read (Is a directory)" in refused(gan.open_run, run, data=data, **OWN)
    fit(data, run, 60, overwrite=True)


def changed(rows):
    return [rows[0], rows[1] | {name: value + 1 for name, value in rows[1].items() if name != "step"}, *rows[2:]]


@pytest.mark.parametrize("change", [changed, lambda rows: [rows[0], *rows[2:]]])
def test_rows_that_are_valid_and_not_those_that_were_written_are_said(run, data, capsys, change):
    """Until the next checkpoint, which says what the rows are then."""
    path, rows = run / "metrics.jsonl", change(RunFolder(run).rows())
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = f"WARNING: {path} was changed: its rows up to step 40 are not those that were written, and are taken as they are"
    assert gan.open_run(run, data=data, **OWN).history == rows and line in capsys.readouterr().err.splitlines()
    assert fit(data, run, 60, resume=True).history[: len(rows)] == rows
    assert line in capsys.readouterr().err.splitlines()
    gan.open_run(run, data=data, **OWN)
    assert "changed" not in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"[]", b"null", b"", b'{"step": 10', None])
def test_rows_that_are_missing_before_the_checkpoint_are_said(run, data, capsys, text):
    path = run / "metrics.jsonl"
    path.unlink() if text is None else path.write_bytes(text)
    assert [row["step"] for row in fit(data, run, 60, resume=True).history] == [50, 60]
    said = capsys.readouterr().err
    assert ("is not there: the rows up to step 40 are lost" if text is None else "it has no row of step 40") in said
    assert text is None or (run / "metrics.damaged-1.jsonl").read_bytes() == text


def test_a_last_row_that_was_cut_off_is_made_again_without_a_word(run, data, capsys):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 50, "lo')
    assert [row["step"] for row in fit(data, run, 60, resume=True).history] == [10, 20, 30, 40, 50, 60]
    assert "damaged" not in capsys.readouterr().err and not list(run.glob("*damaged*"))


HURT = (b"", b"[]", b"null", b"{}", b'"text"', b"7", b"{", b"\x00\xff", "{}".encode("utf-16"), b"[" * 99999, b'{"format": 1}')


@pytest.mark.parametrize("text", HURT)
@pytest.mark.parametrize("name", ["recipe.json", "status.json", "checkpoints/40/files.json", "checkpoints/40/meta/metadata"])
def test_a_damaged_file_is_one_line_or_passed_over_with_one(run, data, capsys, name, text):
    (run / name).write_bytes(text)
    if name == "recipe.json":
        said = refused(gan.open_run, run, data=data, **OWN)
        assert "recipe.json" in said and refused(gan.resume, run, data=data, **OWN) == said
        return
    assert gan.open_run(run, data=data, **OWN).step == (40 if name == "status.json" else 20)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and ("status.json is damaged" if name == "status.json" else "cannot use step 40 (") in said[0]


@pytest.mark.parametrize("key", ["recipe", "data", "seed", "intervals", "schedule", "steps"])
def test_a_record_without_a_key_or_with_another_type_is_named(run, data, key):
    record = json.loads((run / "recipe.json").read_text())
    for changed in ({k: v for k, v in record.items() if k != key}, record | {key: 1.5}):
        if key == "recipe" and key in changed:
            continue  # any value may be the record of knobs, as far as the schema goes
        (run / "recipe.json").write_text(json.dumps(changed))
        assert f"recipe.json is damaged ({key}" in refused(gan.open_run, run, data=data, **OWN)


@pytest.mark.parametrize(
    "value",
    [{"number": "x", "dtype": "float32"}, {"number": 1, "dtype": "foo"}, {"function": 5, "with": {}}, {"class": []},
     {"function": "losses.hinge", "with": []}, {"dict": 3}, {"name": {}}, {"function": "losses.hinge", "with": {}, "parts": 3}],
)  # fmt: skip
def test_a_recipe_s_record_of_other_types_is_one_line(value):
    assert "recipe" in refused(from_json, value)


def test_what_a_run_writes_is_of_the_schemas(run):
    schemas.parsed((run / "recipe.json").read_bytes(), schemas.RUN)
    schemas.parsed((run / "status.json").read_bytes(), schemas.STATUS)
    schemas.parsed((run / "checkpoints/40/files.json").read_bytes(), schemas.FILES)
    assert len(RunFolder(run).rows("timings.jsonl")) == len(RunFolder(run).rows()) == 4
    for text in ("NaN", "Infinity", "-Infinity", "0.1", "1e-320"):
        found = schemas.parsed(b'{"step": 1, "a": %s}' % text.encode(), schemas.ROWS["metrics.jsonl"])["a"]
        assert found == float(text) or found != found


# ---- a checkpoint of another step or run -------------------------------------------------------


def test_checkpoints_under_each_other_s_names_are_refused(run, data):
    steps = run / "checkpoints"
    for old, new in (("20", "a"), ("40", "20"), ("a", "40")):
        (steps / old).rename(steps / new)
    said = refused(fit, data, run, 60, resume=True)
    assert "step 40 (it is that of step 20, under another name)" in said and "step 20 (it is that of step 40" in said
    assert "of step 40" in refused(gan.open_run, run, data=data, step=20, **OWN)


def test_a_record_that_was_edited_is_noticed_by_its_checkpoints(run, data):
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"]["dict"]["rate"]["number"] = 0.25
    (run / "recipe.json").write_text(json.dumps(record))
    for call in (gan.open_run, gan.resume):
        assert "the run's record was changed since" in refused(call, run, data=data, game=MEAN)


def test_a_checkpoint_of_another_run_is_refused_and_an_extended_run_is_the_same(run, data, tmp_path):
    fit(data, run, 60, resume=True)
    assert gan.open_run(run, data=data, **OWN).step == 60
    fit(data, tmp_path / "other", seed=1)
    shutil.rmtree(tmp_path / "other/checkpoints")
    shutil.copytree(run / "checkpoints", tmp_path / "other/checkpoints")
    assert "it is of another run" in refused(gan.open_run, tmp_path / "other", data=data, **OWN)


# ---- disks -------------------------------------------------------------------------------------


def test_a_run_is_opened_from_a_medium_that_cannot_be_written(trained, data, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        shutil.copytree(trained, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert gan.open_run(disk / "run", data=data, **OWN).step == 40
        assert "cannot write to" in refused(fit, data, disk / "run", 60, resume=True)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_file_size_limit_is_one_line_and_the_last_checkpoint_stays(tmp_path, capfd):
    """Nothing of what Orbax and tensorstore say of it, which is pages long."""
    noise = {name: np.random.default_rng(0).normal(size=100_000) for name in "ab"}
    said = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    checkpoints.save(1, {"a": np.zeros(3)})
    checkpoints.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = logging.handlers.BufferingHandler(1000)
    logging.getLogger("absl").addHandler(heard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        assert "step 2 was not saved" in refused(lambda: (checkpoints.save(2, noise), checkpoints.wait()))
        assert "nothing can be saved here" in refused(checkpoints.rehearse, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        logging.getLogger("absl").removeHandler(heard)
    assert len(said) == 1 and "\n" not in said[0] and heard.buffer == [] and capfd.readouterr() == ("", "")
    assert checkpoints.restore_latest({"a": np.ones(3)})[2] == 1 and [p.name for p in tmp_path.iterdir()] == ["1"]


# ---- arguments ---------------------------------------------------------------------------------

WRONG = [
    *[("steps", value) for value in (float("nan"), 2.5, "5", 0, -1, None, True)],
    *[("seed", value) for value in (-1, 2**70, "a", 1.5, None)],
    *[(name, value) for name in ("devices", "log_every", "keep") for value in ("2", 0, -1, 2.0, None)],
    *[(name, value) for name in ("checkpoint_every", "sample_every") for value in ("20", 0, -20, 20.0)],
    *[(name, 1) for name in ("resume", "overwrite", "progress")],
    *[("out", value) for value in (3, "", b"run", "a\0b")],
    *[("parallel", value) for value in (None, 3, np.arange(3))],
    *[("shard", value) for value in (3, np.arange(3), "all")],
    *[("warm_start", value) for value in (3, "")],
]


@pytest.mark.parametrize("name, value", WRONG)
def test_a_wrong_argument_of_fit_is_one_line_and_nothing_is_written(data, tmp_path, name, value):
    said = refused(fit, data, **({"out": tmp_path / "run"} | {name: value}))
    assert name in said or name in ("parallel", "shard"), said
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [POINTS, None, "digits", {}])
def test_data_that_are_no_splits_are_refused(value, tmp_path, run):
    assert "data is a" in refused(fit, value, tmp_path / "new") and not (tmp_path / "new").exists()
    if value is not None:
        assert "data is a" in refused(gan.open_run, run, data=value) and "data is a" in refused(gan.resume, run, data=value)


@pytest.mark.parametrize("value", [None, 3, "", [], b"a"])
def test_a_folder_that_is_no_path_is_refused(value):
    for call in (gan.open_run, gan.resume):
        assert refused(call, value).startswith("folder=")


@pytest.mark.parametrize("value", ["a", 2.5, -1, True])
def test_a_step_that_is_none_is_refused(run, data, value):
    assert refused(gan.open_run, run, data=data, step=value, **OWN).startswith("step=")


@pytest.mark.parametrize(
    "settings",
    [{"n": 2.5}, {"n": "5"}, {"n": 0}, {"n": None}, {"n": True}, {"seed": -1}, {"seed": "a"}, {"seed": 2**70}, {"ema": "no"},
     {"truncation": "a"}, {"truncation": [1.0]}],
)  # fmt: skip
def test_wrong_arguments_of_samples_and_paths_are_refused(settings):
    images = gan.from_arrays(np.zeros((40, 8, 8, 1), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None])
    run = gan.Run(gan.recipes.dcgan((8, 8, 1), width=4), None, images)
    (name,) = settings
    assert name in refused(run.samples, **({"n": 4} | settings))
    paths = {"rows" if name == "n" else name: settings[name]}
    assert next(iter(paths)) in refused(run.interpolate, **paths)
    for steps in (1, 2.5, "9", None):
        assert "steps" in refused(run.interpolate, 2, steps)
