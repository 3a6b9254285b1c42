"""An argument of `sweep` that does not fit is one line, before anything is written."""

import re

import numpy as np
import pytest

import gan_jax as gan
from gan_jax.data.toys import ring
from gan_jax.sweeps import api
from tests.tiny_games import QUICK

NAN = float("nan")


def rate(value):
    return {"rate": np.float32(value)}


class Ran(Exception):
    """Training would have begun."""


@pytest.fixture(scope="module")
def data():
    return gan.from_arrays(ring().sample(300, 0))


@pytest.fixture
def attempt(data, monkeypatch):
    def begin(*_):
        raise Ran

    monkeypatch.setattr(api, "SweepTrainer", begin)
    usual = {"settings": {"a": rate(0.1), "b": rate(0.2)}, "data": data, "steps": 4, "seeds": 1, "log_every": 2}
    usual |= {"rank_by": "error", "game": QUICK, "progress": False}
    return lambda **arguments: gan.sweep(**(usual | arguments))


COUNTS = ["5", 0, -1, 2.5, NAN, [5], True]
WRONG = {
    "settings": [None, 5, "abc", [], {}, {1: rate(1), "1": rate(2)}, {None: rate(1)}, {"a": None}, {"a": 5}, [1, 2], "x"],
    "data": [None, np.zeros((10, 2)), "digits", []],
    "steps": [None, *COUNTS],
    "seeds": [None, "a", "12", 2.5, -1, True, 2**70, [-1], [2**32], [2**70], ["1"], [True], [None], [NAN], {1: 2}],
    "sizes": [5, "a", 0, {5: 1}, [2.5], [-1], ["10"], [None], [NAN], [2**70], [True], [5000]],
    "order": [None, 5, [], "x"],
    "baseline": [5, [], "zz", ""],
    "rank_by": [None, 5, []],
    "higher_is_better": ["no", 2, None],
    "resume": ["no", 1],
    "overwrite": ["yes", 0],
    "out": [5, "", "a\0b", "x" * 5000, []],
    "log_every": [None, *COUNTS],
    "checkpoint_every": [3, *COUNTS],
    "members_per_program": COUNTS,
    "devices": [2**70, *COUNTS],
    "devices_per_member": COUNTS,
    "warm_start": [5, "", [], "/nowhere"],
    "game": [5, "gan"],
    "executor": ["", "dask", 5, [], None, gan.executors.Slurm],
    "trusted": [5, [5], None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=str)
def test_an_argument_that_cannot_be_meant_is_one_line(attempt, name, value):
    with pytest.raises(gan.UserError) as caught:
        attempt(**{name: value})
    words = {"settings": "setting", "sizes": "(size|subset)", "warm_start": "(warm_start|/nowhere)"}
    assert re.search(words.get(name, name.rstrip("s")), str(caught.value))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


SLURM = {"retries": -1, "gpus": "a", "minutes": 0, "cpus": 0, "memory_gb": "x", "settings": 5, "at_once": 2.5, "address": 5}
RAY = {"cpus": -1, "gpus": NAN, "resources": 5, "retries": "3", "address": 5}


@pytest.mark.parametrize(("kind", "name", "value"), [(k, *x) for k, w in (("Slurm", SLURM), ("Ray", RAY)) for x in w.items()])
def test_an_executor_s_numbers_are_checked_before_its_engine_is_asked(attempt, tmp_path, kind, name, value):
    executor = getattr(gan.executors, kind)(**({"address": "local"} | {name: value}))
    with pytest.raises(gan.UserError, match=name):
        attempt(executor=executor, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"settings": (rate(1),)}, {"settings": {"": rate(1)}}, {"steps": np.int64(4)}, {"seeds": np.array([0, 1])},
        {"seeds": [2**32 - 1]}, {"sizes": np.array([20, 40])}, {"trusted": "my_losses"}, {"sizes": (20,), "seeds": range(3)},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_be_meant_is_taken(attempt, arguments):
    with pytest.raises(Ran):
        attempt(**arguments)


def test_to_resume_and_to_overwrite_at_once_is_refused(attempt, tmp_path):
    with pytest.raises(gan.UserError, match="give one of the two"):
        attempt(out=tmp_path / "sweep", resume=True, overwrite=True)
    assert not (tmp_path / "sweep").exists()


def test_settings_of_two_names_that_read_alike_are_both_kept_or_refused(attempt):
    """{1: a, "1": b} once dropped one of them."""
    with pytest.raises(gan.UserError, match="the name of a setting=1: must be text, such as '1'"):
        attempt(settings={1: rate(1), "1": rate(2)})
