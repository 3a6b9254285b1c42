"""Folders that an earlier version wrote (`tests/frozen/make_folders.py`): they open, go on and
report the same for ever after."""

import json
import math

import pytest

import gan_jax as gan
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.training.folder import RunFolder
from gan_jax.training.serialization import completed, to_json
from tests.frozen.make_folders import FIND, FOLDERS, run_recipe, sweep_settings, vae_recipe

EXPECTED = json.loads((FOLDERS / "expected.json").read_text())
TOLERANCE = 0.05
RECIPES = {"run": run_recipe, "vae": vae_recipe}


@pytest.mark.parametrize("name", FIND)
def test_a_frozen_folder_opens_goes_on_and_reports_the_same(name, tmp_path):
    """To what other machines and versions round: the folders were made on one of them."""
    found = FIND[name](FOLDERS / name, tmp_path)
    assert set(found) >= set(EXPECTED[name])
    for what, expected in EXPECTED[name].items():
        assert set(found[what]) >= set(expected), what
        for key, value in expected.items():
            if not math.isfinite(value):
                assert not math.isfinite(found[what][key]), (what, key)
                continue
            assert found[what][key] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), (what, key)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_built_today_is_recorded_as_the_frozen_one(name):
    """No public name, no option and no default has changed; a number that came since is at its
    default."""
    assert completed(RunFolder(FOLDERS / name).read()["recipe"]) == json.loads(json.dumps(to_json(RECIPES[name]())))


def test_the_settings_built_today_are_recorded_as_the_frozen_ones():
    frozen = SweepFolder(FOLDERS / "sweep").read()["settings"]
    assert completed(frozen) == {name: json.loads(json.dumps(to_json(recipe))) for name, recipe in sweep_settings().items()}


def test_the_frozen_folders_are_small_and_hold_public_names_alone():
    for name in FIND:
        files = [path for path in (FOLDERS / name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000
    for folder in (RunFolder(FOLDERS / "run"), RunFolder(FOLDERS / "vae"), SweepFolder(FOLDERS / "sweep")):
        record = folder.read()
        assert "gan_jax" not in json.dumps([record.get("recipe"), record.get("settings")])


def test_a_frozen_run_is_not_written_to_when_it_is_opened():
    before = {path: path.stat().st_mtime_ns for path in (FOLDERS / "run").rglob("*")}
    gan.open_run(FOLDERS / "run").samples(4)
    assert before == {path: path.stat().st_mtime_ns for path in (FOLDERS / "run").rglob("*")}
