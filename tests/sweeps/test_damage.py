"""Damage of a sweep's files is named in one line, and costs no result: rows are made again from the
states, and the damaged file is set aside."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from gan_jax.data.toys import ring
from gan_jax.sweeps import api
from gan_jax.sweeps.folder import SweepFolder
from tests.tiny_games import QUICK

SETTINGS = {name: {"rate": np.float32(value)} for name, value in {"a": 0.1, "b": 0.3}.items()}
ROWS, PLAN = "groups/00-00/metrics.jsonl", "plan.json"
BYTES = {
    "[]": b"[]", "null": b"null", "{}": b"{}", "empty": b"", "number": b"5", "text": b'"x"', "deep": b"[" * 200_000,
    "nan": b"NaN", "utf-16": '{"0": [2, 1]}'.encode("utf-16"), "latin-1": b'{"0": [2, 1]}\xe4',
    "mark": b'\xef\xbb\xbf{"0": [2, 1]}', "zeros": bytes(40),
}  # fmt: skip


def train(out, data, **settings):
    settings = {"seeds": 2, "log_every": 5, "checkpoint_every": 10, "rank_by": "error", "devices": 1} | settings
    return gan.sweep(SETTINGS, data, steps=20, game=QUICK, members_per_program=2, progress=False, out=out, **settings)


@pytest.fixture(scope="module")
def data():
    return gan.from_arrays(ring().sample(300, 0))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A sweep of one group in two parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.Sweep, "draw", lambda *_: [])
        return train(tmp_path_factory.mktemp("trained") / "sweep", data)


@pytest.fixture
def damaged(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(api.Sweep, "draw", lambda *_: [])
    return shutil.copytree(trained.folder, tmp_path / "sweep")


@pytest.fixture
def read(damaged, data):
    """The sweep as it is opened; no file may be written."""

    def opened():
        before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
        found = gan.open_sweep(damaged, data=data, settings=SETTINGS, game=QUICK)
        assert {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()} == before
        return found

    return opened


def same(found, trained):
    pd.testing.assert_frame_equal(found.table, trained.table, check_exact=True)
    assert len(found.states) == len(trained.members)


@pytest.mark.parametrize("kind", [kind for kind in BYTES if kind != "{}"])
def test_a_damaged_plan_is_named_and_the_rows_show_how_groups_were_cut(damaged, read, trained, capsys, kind):
    (damaged / PLAN).write_bytes(BYTES[kind])
    same(read(), trained)
    said = capsys.readouterr().err
    assert said.startswith(f"WARNING: {damaged / PLAN} is damaged (") and said.count("\n") == 1


@pytest.mark.parametrize(
    "plan", ['{"0": [0, 1]}', '{"0": [2]}', '{"0": "x"}', '{"x": [2, 1]}', '{"0": [2.5, 1]}', '{"0": [-2, 1]}']
)
def test_a_plan_of_another_schema_is_damaged(damaged, read, trained, capsys, plan):
    (damaged / "plans").mkdir()
    (damaged / PLAN).rename(damaged / "plans/00.json")
    (damaged / "plans/00.json").write_text(plan)
    same(read(), trained)
    assert "plans/00.json is damaged (" in capsys.readouterr().err


def test_without_a_plan_nothing_is_lost(damaged, read, trained):
    (damaged / PLAN).unlink()
    same(read(), trained)


def changed(key, value):
    return lambda record: record | {key: value}


def without(key):
    return lambda record: {k: v for k, v in record.items() if k != key}


WITHOUT = [without(key) for key in ("settings", "data", "seeds", "intervals")]
VALUES = {"settings": [], "names": ["b", "a"], "seeds": [], "sizes": [0], "order": "x", "data": None, "intervals": [2.5]}
VALUES |= {"baseline": "zz", "higher_is_better": 1, "steps": "20", "rank_by": None, "source": "ring", "warm_start": 5}


@pytest.mark.parametrize("change", [*WITHOUT, *(changed(*item) for item in VALUES.items())])
def test_a_record_of_another_schema_is_refused_in_one_line(damaged, read, change):
    path = damaged / "sweep.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(gan.UserError, match=r"sweep.json is damaged \([^\n]*\): use another folder or --overwrite"):
        read()


@pytest.mark.parametrize("kind", BYTES)
def test_a_damaged_record_is_refused_in_one_line(damaged, read, kind):
    (damaged / "sweep.json").write_bytes(BYTES[kind])
    with pytest.raises(gan.UserError, match="sweep.json (is damaged|has no format version)") as caught:
        read()
    assert "\n" not in str(caught.value)


def row(line, **values):
    return json.dumps(json.loads(line) | values) + "\n"


DAMAGES = {  # of the rows of four steps: (what is left, rows of the part that are intact)
    "the last is cut": (lambda rows: [*rows[:3], rows[3][:20]], 3),
    "the second is cut": (lambda rows: [rows[0], rows[1][:9] + "\n", *rows[2:]], 3),
    "the second is not there": (lambda rows: [rows[0], *rows[2:]], 3),
    "none is there": (lambda rows: [], 0),
    "one is null": (lambda rows: [rows[0], "null\n", *rows[2:]], 3),
    "one has fewer members": (lambda rows: [row(rows[0], diverged=[None]), *rows[1:]], 3),
    "one has text for numbers": (lambda rows: [rows[0], row(rows[1], metrics={"error": ["x", 1.0]}), *rows[2:]], 3),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_intact_rows_are_kept_and_the_others_are_made_again_bit_for_bit(damaged, read, data, trained, capsys, kind):
    path, (change, intact) = damaged / ROWS, DAMAGES[kind]
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    before, opened = path.read_bytes(), read()
    assert len(opened.table) == len(trained.table) - 2 * (4 - intact)
    said = capsys.readouterr().err
    assert str(path) in said and "2 of 4 members are trained to step 20; resume trains more" in said
    same(train(damaged, data, resume=True), trained)
    assert path.read_bytes() == (trained.folder / ROWS).read_bytes()
    assert (damaged / "table.csv").read_bytes() == (trained.folder / "table.csv").read_bytes()
    aside = list(path.parent.glob("metrics.damaged-*.jsonl"))
    assert [file.read_bytes() for file in aside] in ([], [before])
    assert str(path) in capsys.readouterr().err


def test_a_row_that_is_there_twice_counts_once_and_is_said(damaged, read, data, trained, capsys):
    path = damaged / ROWS
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([rows[0], rows[0], *rows[1:]]))
    for again in (read, lambda: train(damaged, data, resume=True)):
        same(again(), trained)
        assert f"WARNING: {path} is damaged: line 2 (step 5 does not lie between" in capsys.readouterr().err


def test_a_value_that_was_changed_is_said(damaged, read, capsys):
    path = damaged / ROWS
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([row(rows[0], metrics={"loss": [1.0, 1.0], "error": [1.0, 1.0]}), *rows[1:]]))
    assert (read().table["error"] == 1).sum() == 2
    assert f"WARNING: {path} was changed: its rows up to step 20 are not those" in capsys.readouterr().err


def test_a_checkpoint_of_another_sweep_s_same_part_is_refused(damaged, data, tmp_path):
    other = train(tmp_path / "other", data, seeds=[2, 3])
    place = "groups/00-00/checkpoints"
    shutil.rmtree(damaged / place)
    shutil.copytree(other.folder / place, damaged / place)
    with pytest.raises(gan.UserError, match=r"no usable checkpoint[^\n]*it is of another run[^\n]*$"):
        train(damaged, data, resume=True)


def test_parts_in_each_other_s_place_are_refused(damaged, data):
    first, second = damaged / "groups/00-00", damaged / "groups/00-01"
    first.rename(damaged / "aside")
    second.rename(first)
    (damaged / "aside").rename(second)
    with pytest.raises(gan.UserError, match="it is of another run"):
        train(damaged, data, resume=True)


def test_a_task_s_file_that_cannot_be_read_says_nothing(tmp_path):
    files = SweepFolder(tmp_path)
    (tmp_path / "tasks").mkdir()
    for text in BYTES.values():
        (tmp_path / "tasks/03.json").write_bytes(text)
        assert files.task(3) == {}
    (tmp_path / "tasks/03.json").write_text('{"node": "node7", "pid": 12, "attempt": 0}')
    assert files.task(3) == {"node": "node7", "pid": 12, "attempt": 0} and files.task(4) == {}
