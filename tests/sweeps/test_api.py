"""Sweeps: the table is that of single runs, cut to the memory, killed, resumed, stopped; mistakes
are one line."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from gan_jax.data.toys import ring
from gan_jax.sweeps import api, population, result, trainer
from gan_jax.sweeps.population import Programs
from gan_jax.training import progress
from gan_jax.training.progress import SweepProgress, each
from tests.tiny_games import QUICK, assert_close, mean_start, mean_step, ten
from tests.training.test_fit import ROOT, same

RATES = {"slow": 0.01, "fast": 0.1, "faster": 0.3}


def rate(value):
    return {"rate": np.float32(value)}


def quick(data, settings=None, steps=20, **arguments):
    settings = {name: rate(value) for name, value in RATES.items()} if settings is None else settings
    arguments = {"seeds": 2, "log_every": 5, "checkpoint_every": 10, "rank_by": "error", "game": QUICK} | arguments
    return gan.sweep(settings, data, steps=steps, progress=False, **arguments)


def refused(call, *args, **kwargs):
    with pytest.raises(gan.UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Closed:
    """A split that cannot be read."""

    hash = "closed"

    def __len__(self):
        return 10

    def __getattr__(self, name):
        raise AssertionError(f"{name} of a closed split was read")


@pytest.fixture(scope="module")
def data():
    splits = gan.from_arrays(ring().sample(300, 0))
    return replace(splits, test=Closed(), extractor=Closed())


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(api.Sweep, "draw", lambda *_: [])


def equal(a, b):
    pd.testing.assert_frame_equal(a.table, b.table, check_exact=True)


# ---- the table ---------------------------------------------------------------------------------

GAMMA = "discriminator.penalties.r1.gamma"


def gans():
    """Two structures, three settings."""
    plain = gan.recipes.mlp((2,), width=4, depth=1, batch_size=8)
    r1 = plain.replace(discriminator=plain.discriminator.replace(penalties={"r1": gan.bind(gan.penalties.r1, gamma=1.0)}))
    return {"none": plain, "r1": r1, "more r1": gan.with_leaves(r1, {GAMMA: 10.0})}


@pytest.fixture(scope="module")
def trained(data):
    """Steps are no multiple of log_every."""
    return gan.sweep(gans(), data, steps=12, seeds=[0, 3], sizes=[40, 80], order="own", log_every=5, progress=False)


def test_the_table_has_a_row_for_each_member_and_evaluation(trained):
    table = trained.table
    assert list(table.columns[:7]) == ["setting", GAMMA, "seed", "n", "step", "diverged", "diverged_step"]
    assert {"discriminator/loss", "generator/loss", "discriminator/r1", result.GAP, result.QUALITY} <= set(table.columns)
    keys = [(s, n, seed, step) for s in gans() for n in (40, 80) for seed in (0, 3) for step in (5, 10, 12)]
    assert list(table[["setting", "n", "seed", "step"]].itertuples(index=False, name=None)) == keys
    assert not table["diverged"].any() and table["diverged_step"].isna().all()
    gammas = table.groupby("setting", sort=False)[GAMMA].first()
    assert np.isnan(gammas["none"]) and gammas["r1"] == 1 and gammas["more r1"] == 10
    metrics = table.set_index("setting").drop(columns=[GAMMA, "diverged_step"])
    assert metrics.loc["none", "discriminator/r1"].isna().all() and metrics.drop("none").notna().all().all()


@pytest.mark.parametrize("setting, seed, n", [("none", 3, 40), ("more r1", 0, 40), ("r1", 3, 80)])
def test_a_member_is_a_run_of_its_own(trained, data, setting, seed, n):
    run = trained.run(setting, seed, n)
    alone = gan.fit(
        gans()[setting], data.subset(n), steps=12, seed=seed, log_every=5, checkpoint_every=5, sample_every=5, progress=False
    )
    assert run.step == 12 and len(run.data.train) == n
    assert_close(run.state, alone.state, 1e-4)
    held_out = lambda name: name.startswith(("D/validation", "D/fake", "D/train", "G/")) and n > 40  # evaluated on other images
    for ours, theirs in zip(run.history, alone.history, strict=True):
        assert set(ours) == set(theirs)
        for name in (name for name in theirs if not held_out(name)):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name
    np.testing.assert_allclose(run.samples(5), alone.samples(5), atol=1e-4)
    assert run.verdict().startswith("D ")


def test_samples_are_those_of_each_setting_s_first_seed_with_the_most_images(trained):
    shown = trained.samples(4)
    assert list(shown) == list(gans())
    np.testing.assert_array_equal(shown["r1"], trained.run("r1", seed=0, n=80).samples(4))
    assert "no member of this sweep has setting=r2, seed=1" in refused(trained.run, "r2", seed=1)


def test_the_ranking_is_on_held_out_data_and_never_opens_the_test_split(trained, data):
    """`data` has closed S and E: training, evaluation, ranking and pictures of `trained` would have
    failed."""
    assert "none" in trained.report() and len(trained.ranking()) == 6
    moved = replace(data, validation=type(data.validation)(data.validation.images + 5))
    arguments = {"steps": 12, "seeds": 1, "sizes": [40], "order": "own", "log_every": 5, "progress": False}
    other = gan.sweep({"none": gans()["none"]}, moved, **arguments).table
    before = trained.table.query("setting == 'none' and seed == 0 and n == 40")
    metrics = [name for name in other.columns if "/" in name]
    changed = {name for name in metrics if not np.allclose(other[name], before[name], rtol=1e-3, atol=1e-4)}
    with_v = {"G/fd_gap", "G/near_copies", "D/r_v", "D/loss_gap"}  # whose names do not show it
    assert {result.GAP, result.QUALITY} & changed and all("validation" in name for name in changed - with_v)


def test_a_shared_order_gives_every_seed_the_same_data_and_an_own_one_does_not(data):
    """A walk with rate 1 stands on the last batch's mean, whatever it began with."""
    last = lambda order: quick(data, {"a": rate(1), "b": rate(1)}, order=order).table.query("step == 20")["error"].tolist()
    shared, own = last("shared"), last("own")
    assert shared[0] == shared[1] == shared[2] == shared[3]
    assert own[0] == own[2] != own[1] == own[3] and own[0] == shared[0], "settings share the order of a seed"


def test_settings_may_be_a_list_and_one_member_is_a_sweep(data):
    listed = quick(data, [rate(0.1), rate(0.3)])
    assert listed.settings == ["setting 0", "setting 1"] and listed.baseline == "setting 0"
    single = quick(data, [rate(0.1)], seeds=[7], steps=3)
    assert len(single.table) == 1 and single.table["step"][0] == 3 and "rate" not in single.table
    assert "baseline" in single.report()


def test_one_recipe_under_two_names_is_two_settings_with_equal_rows(data):
    table = quick(data, {"a": rate(0.1), "b": rate(0.1)}).table
    a, b = (table[table["setting"] == name].drop(columns="setting").reset_index(drop=True) for name in "ab")
    pd.testing.assert_frame_equal(a, b)
    assert len(a) == 8


def test_a_higher_metric_can_be_the_better_one(data):
    up, down = (quick(data, higher_is_better=x).ranking()["setting"].tolist() for x in (True, False))
    assert up == down[::-1] and up[0] == "slow"


# ---- divergence --------------------------------------------------------------------------------


def test_a_member_that_diverges_is_reported_with_its_step_and_leaves_the_others_alone(data, capsys):
    wild = quick(data, {"slow": rate(0.01), "wild": rate(1e10), "fast": rate(0.1)})
    table = wild.table.set_index("setting")
    assert table.loc["wild", "diverged"].all() and not table.drop("wild")["diverged"].any()
    assert table.loc["wild", "diverged_step"].isin([2, 3]).all() and table.loc["wild", ["loss", "error"]].isna().all().all()
    assert table.drop("wild")[["loss", "error"]].notna().all().all()
    healthy = quick(data, {"slow": rate(0.01), "wild": rate(0.02), "fast": rate(0.1)})
    for name in ("slow", "fast"):
        for metric in ("loss", "error"):
            assert table.loc[name, metric].tolist() == healthy.table.set_index("setting").loc[name, metric].tolist()
    assert "every seed diverged" in wild.report() and wild.exit_code == 0
    assert np.isfinite(wild.run("wild").state.mean).all() and wild.run("wild").history[-1] == {"step": 20}


def test_a_sweep_whose_members_all_diverge_ends_with_a_table(data, tmp_path):
    lost = quick(data, {"a": rate(1e10), "b": rate(1e12)}, out=tmp_path / "sweep")
    assert lost.table["diverged"].all() and lost.exit_code == 0
    assert pd.read_csv(tmp_path / "sweep/table.csv")["diverged"].all()
    assert "every seed diverged" in lost.report()
    equal(quick(data, {"a": rate(1e10), "b": rate(1e12)}, out=tmp_path / "sweep", resume=True), lost)


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices, most, printed", [(1, 3, "8 members of one structure in 3"), (2, 5, "in 2 programs")])
def test_a_cut_group_gives_the_same_table_and_prints_so(data, capsys, devices, most, printed):
    """Bit for bit while a device holds several (of one alone, XLA drops the loop over members and
    rounds otherwise).

    Members with different numbers of images do not part where the programs do.
    """
    arguments = {"devices": devices, "seeds": 4, "sizes": [30, 60], "settings": [rate(0.1)]}
    whole = quick(data, **arguments)
    assert "programs" not in capsys.readouterr().err
    equal(quick(data, members_per_program=most, **arguments), whole)
    assert printed in capsys.readouterr().err
    single = quick(data, members_per_program=1, **arguments)
    pd.testing.assert_frame_equal(single.table, whole.table, rtol=1e-5)


def test_a_group_that_does_not_fit_the_memory_is_cut_by_what_the_compiler_measured(data, monkeypatch, capsys):
    measure, seen = Programs.bytes_needed, []
    monkeypatch.setattr(Programs, "bytes_needed", lambda self: seen.append(measure(self)) or seen[-1])
    whole = quick(data, devices=1)
    monkeypatch.setattr(trainer, "bytes_free", lambda placement: max(seen) - 1)
    equal(quick(data, devices=1), whole)
    assert re.search(r"6 members of one structure in [23] programs of at most [23]", capsys.readouterr().err)
    monkeypatch.setattr(trainer, "bytes_free", lambda placement: 1)
    assert "one member of 'slow' needs 0.00 GiB, and 0.00 GiB are free" in refused(quick, data)


def test_the_evaluation_must_fit_the_memory_too(data, monkeypatch):
    free = 2**19
    monkeypatch.setattr(trainer, "bytes_free", lambda placement: free)
    heavy = gan.Game(mean_start, mean_step, ten, evaluate=outer)
    assert "needs" in refused(quick, gan.from_arrays(ring().sample(4000, 0)), game=heavy)


def outer(knobs, state, train, validation):
    """All pairs, stored."""
    pairs = jnp.sort((train[0][:, None, 0] * validation[0][None, :, 1]).ravel() + state.mean[0])
    return {"error": pairs[len(pairs) // 2]}


# ---- the folder --------------------------------------------------------------------------------


def test_a_sweep_folder_holds_the_record_the_table_the_ranking_and_the_pictures(data, tmp_path):
    done = gan.sweep(gans(), data, steps=10, seeds=2, log_every=5, out=tmp_path / "sweep", progress=False)
    files = {path.relative_to(tmp_path / "sweep").as_posix() for path in (tmp_path / "sweep").rglob("*")}
    expected = {"sweep.json", "plan.json", "table.csv", "ranking.csv", "ranking.txt"}
    expected |= {f"groups/{name}/{file}" for name in ("00-00", "01-00") for file in ("metrics.jsonl", "timings.jsonl")}
    expected |= {f"pictures/{name}.png" for name in ("ranking", "gaps", "samples", "curves_D_train_validation_auc")}
    assert expected <= files and not any(name.endswith(".tmp") for name in files)
    read = pd.read_csv(tmp_path / "sweep/table.csv")
    pd.testing.assert_frame_equal(read, done.table, check_exact=True, check_dtype=False)
    assert (tmp_path / "sweep/ranking.txt").read_text() == done.report() + "\n"
    assert done.report().endswith(done.choice().sentence) and done.decides == "G/near_copies"
    assert pd.read_csv(tmp_path / "sweep/ranking.csv")["choice"][0] == done.choice().sentence
    record = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert list(record["settings"]) == list(gans()) and record["seeds"] == [0, 1] and record["data"]["hashes"] == data.hashes


def test_resuming_a_finished_sweep_trains_nothing_and_more_steps_go_on(data, tmp_path, monkeypatch, no_pictures):
    out = tmp_path / "sweep"
    first = quick(data, out=out, members_per_program=4)
    log = out / "groups/00-00/metrics.jsonl"
    before = log.read_bytes()
    with monkeypatch.context() as m:
        m.setattr(trainer.PartTrainer, "advance", None)
        again = quick(data, out=out, members_per_program=4, resume=True)
    equal(again, first)
    same(again.run("fast").state, first.run("fast").state)
    assert log.read_bytes() == before
    further = quick(data, steps=40, out=out, resume=True)
    assert log.read_bytes().startswith(before) and log.read_bytes() != before
    equal(further, quick(data, steps=40, members_per_program=4))
    assert len(list((out / "groups").iterdir())) == 2, "as it was cut at first"


def test_a_sweep_goes_on_with_another_number_of_devices(data, tmp_path, no_pictures):
    """Also where its members did not divide among them."""
    arguments = {"settings": [rate(0.1)], "seeds": 3, "checkpoint_every": 5}
    quick(data, steps=10, out=tmp_path / "sweep", devices=2, **arguments)
    further = quick(data, steps=20, out=tmp_path / "sweep", devices=4, resume=True, **arguments)
    pd.testing.assert_frame_equal(further.table, quick(data, **arguments).table, rtol=1e-5)
    once_more = quick(data, steps=20, out=tmp_path / "sweep", devices=1, resume=True, **arguments)
    equal(once_more, further)
    same(once_more.run("setting 0", 2).state, further.run("setting 0", 2).state)


def test_ctrl_c_saves_prints_so_and_can_be_resumed(data, tmp_path, monkeypatch, no_pictures, capsys):
    out, update, once = tmp_path / "sweep", SweepProgress.update, iter([signal.SIGINT])
    interrupt = lambda: [signal.raise_signal(number) for number in once]
    whole = quick(data, steps=30, members_per_program=4)
    with monkeypatch.context() as m:
        m.setattr(SweepProgress, "update", lambda self, *a: (interrupt(), update(self, *a))[1])
        stopped = quick(data, steps=30, members_per_program=4, out=out)
    assert stopped.stopped == "SIGINT" and stopped.exit_code == 130 and "SIGINT: stopping" in capsys.readouterr().err
    table = pd.read_csv(out / "table.csv")
    assert 0 < len(table) < len(whole.table) and len(stopped.table) == len(table) and not (out / "ranking.csv").exists()
    assert "not been trained yet" in refused(stopped.run, "faster")
    assert stopped.samples(1) == {}
    equal(quick(data, steps=30, out=out, resume=True), whole)
    assert (out / "table.csv").read_text() == whole.table.to_csv(index=False)


def test_a_folder_with_another_sweep_is_refused(data, tmp_path, no_pictures):
    out = tmp_path / "sweep"
    quick(data, out=out)
    again = lambda *settings, **arguments: refused(quick, data, *settings, out=out, **({"resume": True} | arguments))
    slower = {name: rate(value / 2) for name, value in RATES.items()}
    assert "settings.slow.rate: 0.00999" in again(slower) or "settings" in again(slower)
    assert "settings" in again({"slow": rate(0.01)})
    backwards = {name: rate(RATES[name]) for name in reversed(RATES)}
    assert "another sweep" in again(backwards), "members would get the states of others"
    for name, value in {"seeds": [1, 0], "sizes": [50], "order": "own", "log_every": 10}.items():
        assert "another sweep" in again(**{name: value}), name
    assert "already holds this sweep" in again(resume=False)
    assert "name it with out" in refused(quick, data, resume=True)
    assert quick(data, {"slow": rate(0.01)}, out=out, overwrite=True).settings == ["slow"]
    assert set(pd.read_csv(out / "table.csv")["setting"]) == {"slow"}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("years of work")
    assert "is not a sweep folder" in refused(quick, data, out=tmp_path / "thesis")


def damage(checkpoint):
    largest = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    blob = bytearray(largest.read_bytes())
    blob[len(blob) // 2] ^= 1
    largest.write_bytes(blob)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_and_two_are_one_line(data, tmp_path, no_pictures):
    out = tmp_path / "sweep"
    quick(data, out=out)
    table = (out / "table.csv").read_bytes()
    damage(out / "groups/00-00/checkpoints/20")
    quick(data, out=out, resume=True)
    assert (out / "table.csv").read_bytes() == table
    for step in (10, 20):
        damage(out / f"groups/00-00/checkpoints/{step}")
    assert "step 20" in refused(quick, data, out=out, resume=True)


HOSTILE = ["a/b", "..", "../../up", "new\nline", 'tab\t, "quoted"', "long " * 100, "", "ü$x_1$", "[bold]"]


def test_hostile_names_stay_names(data, tmp_path, capsys):
    settings = {name: rate(0.01 * (1 + i)) for i, name in enumerate(HOSTILE)}
    out = tmp_path / "inside/sweep"
    done = gan.sweep(settings, data, steps=2, seeds=2, log_every=1, rank_by="error", baseline="..", game=QUICK, out=out)
    assert done.settings == HOSTILE and done.run("a/b").step == 2
    read = pd.read_csv(out / "table.csv", keep_default_na=False)
    assert list(dict.fromkeys(read["setting"])) == HOSTILE
    assert [path.name for folder in (tmp_path, out / "groups") for path in folder.iterdir()] == ["inside", "00-00"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(len(line) < 300 for line in lines), "the layout, and a line for each evaluation"
    assert "no member" in refused(done.run, "c\nd")


CHILD = """
import sys
sys.path[:0] = ["."]
from tests.sweeps import test_api
test_api.long(sys.argv[1], len(sys.argv) > 2)
"""


def long(out, resume):
    """Two structures, one of them in two parts; what is drawn is the table's."""
    points = gan.from_arrays(ring().sample(300, 0))
    api.Sweep.draw = lambda *_: []
    more = {"resume": resume, "log_every": 10, "checkpoint_every": 20, "members_per_program": 3, "progress": False}
    return gan.sweep(gans(), points, steps=100, seeds=2, out=out, **more)


@pytest.mark.slow
def test_kill_and_resume_equals_a_sweep_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(api.Sweep, "draw", api.Sweep.draw)  # put back afterwards
    whole, out, rng = long(tmp_path / "whole", False), tmp_path / "sweep", random.Random(time.time_ns())
    logged = lambda: sum(path.read_bytes().count(b"\n") for path in out.glob("groups/*/metrics.jsonl"))
    for rows in (rng.randrange(1, 28),):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", CHILD, str(out), *(["resume"] if out.exists() else [])]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        child = subprocess.Popen(command, env=environment, cwd=ROOT, **streams)
        deadline = time.time() + 120
        while logged() < rows and child.poll() is None and time.time() < deadline:
            time.sleep(0.003)
        time.sleep(rng.random() * 0.05)
        assert child.poll() is None, child.stdout.read()
        child.kill()
        child.wait()
    assert not (out / "table.csv").exists()
    resumed = long(out, True)
    equal(resumed, whole)
    same(resumed.run("more r1", 1).state, whole.run("more r1", 1).state)
    assert (out / "table.csv").read_bytes() == (tmp_path / "whole/table.csv").read_bytes()
    for path in (tmp_path / "whole/groups").glob("*/metrics.jsonl"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "whole")).read_bytes()


# ---- mistakes ----------------------------------------------------------------------------------


def test_mistakes_are_one_line_before_a_step_is_run(data, monkeypatch):
    monkeypatch.setattr(trainer, "SweepTrainer", None)
    monkeypatch.setattr(api, "SweepTrainer", None)
    assert "at least one recipe" in refused(quick, data, {})
    assert "0 seeds and 1 sizes" in refused(quick, data, seeds=[])
    assert "1 seeds and 0 sizes" in refused(quick, data, seeds=1, sizes=[])
    assert "seed 3 is there twice" in refused(quick, data, seeds=[3, 1, 3])
    assert "seed=0.5" in refused(quick, data, seeds=[0.5])
    assert "size 20 is there twice" in refused(quick, data, sizes=[20, 20])
    assert "subset=5000" in refused(quick, data, sizes=[20, 5000])
    assert "size=0" in refused(quick, data, sizes=[0])
    assert "order='random'" in refused(quick, data, order="random")
    assert "baseline='best': must be one of 'slow', 'fast', 'faster'" in refused(quick, data, baseline="best")
    assert "members_per_program=0" in refused(quick, data, members_per_program=0)
    assert "setting 'bad': rate is -1" in refused(quick, data, {"good": rate(1), "bad": rate(-1)})
    assert "steps=0" in refused(quick, data, steps=0)
    assert "multiple of log_every" in refused(quick, data, checkpoint_every=7)
    assert "devices asked for" in refused(quick, data, devices=64)
    assert "take fewer" in refused(quick, data, steps=2**30)
    assert "fewer than the batch" in refused(gan.sweep, gans(), data, steps=5, sizes=[100, 7])
    assert "settings" in refused(gan.sweep, gans()["none"], data, steps=5), "one recipe is no list of recipes"


# ---- progress ----------------------------------------------------------------------------------


def test_progress_lines_show_where_how_fast_which_is_best_and_how_many_diverged(capsys):
    with SweepProgress(1000, "auc") as bar:
        bar.see({"a": 0.7, "b": 0.6, "c": 0.1}, {"c"})
        timing = bar.update("group 1 of 2, step 10/50", 10, 10)
        bar.see({"a": 0.5, "b": None}, {"b", "c"})
        bar.update("group 1 of 2, step 20/50", 10, 10)
        bar.skip(300)
        bar.update("group 2 of 2, step 50/50", 10, 50)
    first, second, third = capsys.readouterr().err.splitlines()
    shape = r"group 1 of 2, step 10/50: 10 members, [\d,]+ steps/s, best auc 0.600 \(b\), 1 diverged, \d+ s left"
    assert re.fullmatch(shape, first)
    assert "best auc 0.500 (a), 2 diverged" in second and third.endswith(" 0 s left")
    assert timing["steps_per_second"] == pytest.approx(100 / timing["seconds"])


def test_progress_knows_which_end_is_best_and_can_be_silent(capsys):
    bar = SweepProgress(10, "score", higher_is_better=True)
    bar.see({"a": 0.7, "b": 0.6}, set())
    bar.update("", 1, 1)
    assert "best score 0.700 (a), 0 diverged" in capsys.readouterr().err
    bar = SweepProgress(10, "my_auc")
    bar.see({"a": 0.7, "b": 0.4, "c": 0.5}, set())
    assert bar.best == "best my_auc at chance (2 members), "
    bar.see({"b": 0.8, "c": 0.6}, set())
    assert bar.best == "best my_auc 0.600 (c), "
    bar = SweepProgress(10, "score")
    bar.update("", 1, 1)
    assert "best" not in capsys.readouterr().err
    SweepProgress(10, "score", enabled=False).update("", 1, 1)
    assert capsys.readouterr().err == ""


def test_a_loop_in_a_file_says_lines_and_no_carriage_return(capsys, monkeypatch):
    assert list(each(range(3), "judging")) == [0, 1, 2]
    assert capsys.readouterr().err == "judging: 3 of 3, 0 s left\n"
    assert list(each(range(3), "judging", False)) == [0, 1, 2] and not capsys.readouterr().err
    monkeypatch.setattr(progress, "BETWEEN", -1)
    assert list(each([], "nothing")) == [] and len(list(each("ab", "letters"))) == 2
    assert re.fullmatch(r"letters: 1 of 2, \d+ s left\nletters: 2 of 2, 0 s left\n", capsys.readouterr().err)


def test_progress_of_a_sweep_names_its_groups(data, capsys):
    quick_args = {"steps": 10, "seeds": 2, "log_every": 5, "rank_by": "error", "game": QUICK}
    gan.sweep({"slow": rate(0.01), "fast": rate(0.5)}, data, **quick_args)
    layout, *lines = capsys.readouterr().err.splitlines()
    assert layout.startswith("4 members on 4 devices: 1 member each; ")
    assert [line.split(":")[0] for line in lines] == ["group 1 of 1, step 5/10", "group 1 of 1, step 10/10"]
    assert all("4 members" in line and "(fast, n " in line and "0 diverged" in line for line in lines)


def test_a_sweep_is_not_ranked_by_what_it_does_not_measure(tmp_path):
    data = gan.load("digits", subset=100)
    settings = {"plain": gan.recipes.dcgan(data.image_shape, width=4, batch_size=16)}
    with pytest.raises(gan.UserError, match="no setting measures 'G/fd_gapp'; there are .*G/fd_gap, "):
        gan.sweep(settings, data, steps=1, seeds=1, rank_by="G/fd_gapp", out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_calls_of_few_steps_make_the_table_of_one_call(data, monkeypatch):
    """Also where a member diverges inside one."""
    arguments = {"steps": 24, "log_every": 12, "checkpoint_every": 12, "devices": 2}
    settings = {name: rate(value) for name, value in RATES.items()} | {"gone": rate(1e3)}
    whole = quick(data, settings, **arguments).table
    assert set(whole.loc[whole["setting"] == "gone", "diverged_step"]) == {7}, "in the second of the calls of four below"
    monkeypatch.setattr(population, "AT_ONCE", 4 * 5)
    sizes, chunk = [], population.Population.chunk
    monkeypatch.setattr(population.Population, "chunk", lambda self, n: (sizes.append(n), chunk(self, n))[1])
    pd.testing.assert_frame_equal(quick(data, settings, **arguments).table, whole, check_exact=True)
    assert sizes == [4]
