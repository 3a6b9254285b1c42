"""A warm start takes the networks alone, in runs and sweeps, is recorded, and survives a resume;
frozen layers stay."""

import shutil

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.gan.state import warm_started
from tests.tiny_games import assert_close

QUIET = {"log_every": 5, "checkpoint_every": 5, "sample_every": 5, "progress": False}


def recipe(**fields):
    return gan.recipes.mlp((2,), width=8, depth=1, batch_size=16, **fields)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    data = gan.load("ring").subset(128)
    return gan.fit(recipe(), data, steps=5, out=tmp_path_factory.mktemp("warm") / "first", **QUIET)


def test_a_warm_start_is_the_other_run_s_networks_with_fresh_optimizers(first):
    fresh = gan.init(recipe(), jax.random.key(7))
    state = warm_started(fresh, first.state)
    assert_close(state.generator.params, first.state.generator.params, 0)
    assert_close(state.discriminator.params, first.state.discriminator.params, 0)
    assert_close(state.ema, first.state.ema, 0)
    assert_close(state.generator.opt_state, fresh.generator.opt_state, 0)
    assert int(state.step) == 0


def test_a_frozen_layer_stays_as_the_other_run_left_it(first):
    d = recipe().discriminator
    frozen = recipe().replace(discriminator=d.replace(optimizer=gan.optimizers.freeze(d.optimizer, "Dense_0")))
    after = gan.fit(frozen, first.data, steps=5, warm_start=first, **QUIET).state.discriminator.params
    before = first.state.discriminator.params
    np.testing.assert_array_equal(after["Dense_0"]["kernel"], before["Dense_0"]["kernel"])
    assert not np.array_equal(after["Dense_1"]["kernel"], before["Dense_1"]["kernel"])


def test_it_is_recorded_and_resumes_as_if_never_stopped(first, tmp_path):
    whole = gan.fit(recipe(), first.data, steps=10, seed=1, warm_start=first.folder, out=tmp_path / "whole", **QUIET)
    gan.fit(recipe(), first.data, steps=5, seed=1, warm_start=first.folder, out=tmp_path / "cut", **QUIET)
    resumed = gan.resume(tmp_path / "cut", steps=10, data=first.data, progress=False)
    assert_close(resumed.state, whole.state, 0)
    with pytest.raises(gan.UserError, match="warm_start"):
        gan.fit(recipe(), first.data, steps=10, seed=1, out=tmp_path / "cut", resume=True, **QUIET)


def test_networks_of_another_shape_are_refused(first, tmp_path):
    wide = gan.recipes.mlp((2,), width=16, depth=1, batch_size=16)
    with pytest.raises(gan.UserError, match="the generators differ in their parameters"):
        gan.fit(wide, first.data, steps=5, warm_start=first, out=tmp_path / "run", **QUIET)
    with pytest.raises(gan.UserError, match="nowhere is not a run folder"):
        gan.fit(wide, first.data, steps=5, warm_start=tmp_path / "nowhere", out=tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists(), "nothing is half-written"


def test_a_relative_folder_is_found_from_elsewhere_and_is_the_same_run(first, tmp_path, monkeypatch):
    shutil.copytree(first.folder, tmp_path / "a" / "first")
    shutil.copytree(first.folder, tmp_path / "b" / "first")
    fits = {"seed": 1, **QUIET}
    monkeypatch.chdir(tmp_path / "a")
    begun = gan.fit(recipe(), first.data, steps=5, warm_start="first", out="run", **fits)
    swept = {"warm_start": "first", "out": "sweep", **SWEPT}
    gan.sweep(rates(), first.data, steps=5, **swept)
    monkeypatch.chdir(tmp_path / "b")
    again = {"steps": 10, "out": tmp_path / "a" / "run", "resume": True, **fits}
    with pytest.raises(gan.UserError, match="warm_start: first, not /.*/b/first"):
        gan.fit(recipe(), first.data, warm_start="first", **again)
    with pytest.raises(gan.UserError, match="warm_start: first, not a run in memory"):
        gan.fit(recipe(), first.data, warm_start=first, **again)
    gan.fit(recipe(), first.data, warm_start="../a/first", **again)
    further = swept | {"steps": 10, "out": "../a/sweep", "resume": True}
    with pytest.raises(gan.UserError, match="warm_start: first, not"):
        gan.sweep(rates(), first.data, **further)
    gan.sweep(rates(), first.data, **further | {"warm_start": "../a/first"})
    shutil.rmtree(tmp_path / "a" / "run" / "checkpoints")
    afresh = gan.resume(tmp_path / "a" / "run", steps=5 + 5, data=first.data, progress=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")  # both were moved together
    moved = gan.resume("c/run", steps=15, data=first.data, progress=False)
    assert (begun.step, afresh.step, moved.step) == (5, 10, 15)


# ---- sweeps ------------------------------------------------------------------------------------

SWEPT = {"seeds": [4], "log_every": 5, "checkpoint_every": 5, "progress": False}


def rates():
    side = recipe().discriminator
    at = lambda rate: recipe().replace(discriminator=side.replace(optimizer=gan.optimizers.adam(rate)))
    return {"slow": at(1e-4), "fast": at(1e-3)}


def test_every_member_of_a_sweep_begins_as_a_run_of_its_own_would(first):
    swept = gan.sweep(rates(), first.data, steps=5, order="own", warm_start=first, **SWEPT)
    for setting, of in rates().items():
        for seed in SWEPT["seeds"]:
            alone = gan.fit(of, first.data, steps=5, seed=seed, warm_start=first.folder, **QUIET)
            assert_close(swept.run(setting, seed).state, alone.state, 1e-5)
    fresh = gan.sweep(rates(), first.data, steps=5, **SWEPT)
    assert not np.allclose(swept.table["discriminator/loss"], fresh.table["discriminator/loss"], rtol=1e-3)


def test_a_sweep_records_where_it_began_and_resumes_as_if_never_stopped(first, tmp_path):
    whole = gan.sweep(rates(), first.data, steps=10, warm_start=first.folder, out=tmp_path / "whole", **SWEPT)
    gan.sweep(rates(), first.data, steps=5, warm_start=first.folder, out=tmp_path / "cut", **SWEPT)
    further = SWEPT | {"steps": 10, "out": tmp_path / "cut", "resume": True}
    with pytest.raises(gan.UserError, match="warm_start"):
        gan.sweep(rates(), first.data, **further)
    resumed = gan.sweep(rates(), first.data, warm_start=first.folder, **further)
    assert resumed.table.equals(whole.table)
    for i, state in whole.states.items():
        assert_close(resumed.states[i](), state(), 0)


def test_a_sweep_s_task_begins_from_the_run_s_folder(first, tmp_path):
    here = gan.sweep(rates(), first.data, steps=5, warm_start=first.folder, out=tmp_path / "here", **SWEPT)
    apart = {"executor": "slurm", "address": "local", "out": tmp_path / "apart"}
    there = gan.sweep(rates(), first.data, steps=5, warm_start=first.folder, **apart, **SWEPT)
    assert there.table.equals(here.table)
    with pytest.raises(gan.UserError, match="tasks can begin from a run on disk alone: give warm_start its folder"):
        gan.sweep(rates(), first.data, steps=5, warm_start=first, **apart | {"out": tmp_path / "no"}, **SWEPT)
    assert not (tmp_path / "no").exists()


def test_a_setting_with_other_networks_is_named(first, tmp_path):
    settings = rates() | {"wide": gan.recipes.mlp((2,), width=16, depth=1, batch_size=16)}
    with pytest.raises(gan.UserError, match="setting 'wide': a warm start takes the same networks"):
        gan.sweep(settings, first.data, steps=5, warm_start=first, out=tmp_path / "sweep", **SWEPT)
    assert not (tmp_path / "sweep").exists()
