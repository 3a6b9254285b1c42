"""The host's loop: any game, a run folder, kill and resume, clean stops, one line for each
mistake."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.training.fit import multiple
from gan_jax.training.folder import RunFolder
from gan_jax.training.run import Run
from tests.tiny_games import Mean, mean_step, ten

ROOT = Path(__file__).parents[2]
INTERVALS = {"log_every": 10, "checkpoint_every": 20, "sample_every": 100}


@pytest.fixture(scope="module")
def digits():
    return gan.load("digits")


def tiny(data, **fields):
    return gan.recipes.dcgan(data.image_shape, width=4, latent_dim=8, batch_size=16, **fields)


def fit(recipe, data, steps=40, **settings):
    return gan.fit(recipe, data, steps=steps, progress=False, **(INTERVALS | settings))


def same(a, b):
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    a, b = (jax.tree.map(lambda x: np.asarray(raw(x)), t) for t in (a, b))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ---- any game ----------------------------------------------------------------------------------


def mean_init(knobs, key):
    return Mean(jnp.int32(0), key, jnp.zeros(2))


MEAN = gan.Game(mean_init, mean_step, ten)


def test_the_loop_takes_a_one_player_game(tmp_path):
    points = np.random.default_rng(0).normal(3.0, 0.1, (200, 2)).astype(np.float32)
    data = gan.from_arrays(points)
    knobs = {"rate": np.float32(0.1)}
    run = gan.fit(knobs, data, steps=100, game=MEAN, out=tmp_path / "run", progress=False, **INTERVALS)
    np.testing.assert_allclose(run.state.mean, data.train.images.mean(0), atol=0.05)
    assert len(run.history) == 10 and run.history[-1]["step"] == 100
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    again = gan.open_run(tmp_path / "run", data=data, recipe=knobs, game=MEAN)
    same(again.state, run.state)


# ---- the run folder ----------------------------------------------------------------------------


def test_a_run_folder_holds_the_record_the_metrics_the_film_and_the_checkpoints(digits, tmp_path):
    run = fit(tiny(digits), digits, out=tmp_path / "run")
    record = json.loads((tmp_path / "run/recipe.json").read_text())
    assert record["numbers"]["generator.optimizer.learning_rate"] == pytest.approx(2e-4)
    assert record["data"]["hashes"] == digits.hashes and record["seed"] == 0
    assert {"python", "versions", "device", "threads"} <= set(record["environment"])
    rows = RunFolder(tmp_path / "run").rows()
    assert rows == run.history and [r["step"] for r in rows] == [10, 20, 30, 40]
    expected = {"discriminator/loss", "generator/loss", "discriminator/gradient_norm", "generator/gradient_norm"}
    expected |= {f"D/{k}_{v}" for k in ("train", "validation", "fake") for v in ("logit", "accuracy")}
    assert expected <= set(rows[-1])
    names = sorted(p.name for p in (tmp_path / "run/samples").iterdir())
    assert names == [f"{s:08d}_{k}.png" for s in (0, 40) for k in ("ema", "raw")]
    assert (tmp_path / "run/curves.png").exists()
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_folder_opens_as_the_run_that_wrote_it(digits, tmp_path):
    run = fit(tiny(digits), digits, out=tmp_path / "run")
    again = gan.open_run(tmp_path / "run")
    same(again.state, run.state)
    np.testing.assert_array_equal(again.samples(5), run.samples(5))
    assert again.samples(5).dtype == np.uint8 and again.samples(5).shape == (5, 8, 8, 1)


def test_samples_do_not_depend_on_how_many_are_drawn(digits):
    run = fit(tiny(digits), digits, steps=10)
    np.testing.assert_array_equal(run.samples(300)[:7], run.samples(7))
    assert (run.samples(7) != run.samples(7, ema=False)).any() and (run.samples(7) != run.samples(7, seed=1)).any()


def test_resuming_equals_not_stopping(digits, tmp_path):
    whole = fit(tiny(digits), digits, steps=60, out=tmp_path / "whole")
    fit(tiny(digits), digits, steps=40, out=tmp_path / "parts")
    parts = fit(tiny(digits), digits, steps=60, out=tmp_path / "parts", resume=True)
    same(parts.state, whole.state)
    assert parts.history == whole.history
    memory = fit(tiny(digits), digits, steps=60)
    same(memory.state, whole.state)


def test_resume_without_a_checkpoint_starts_from_the_beginning(digits, tmp_path):
    whole = fit(tiny(digits), digits, out=tmp_path / "whole")
    fit(tiny(digits), digits, steps=10, out=tmp_path / "run")
    for path in (tmp_path / "run/checkpoints").iterdir():
        subprocess.run(["rm", "-r", path], check=True)
    again = fit(tiny(digits), digits, out=tmp_path / "run", resume=True)
    same(again.state, whole.state)
    assert RunFolder(tmp_path / "run").rows() == whole.history


def test_resuming_what_is_not_there_begins_and_says_so(digits, tmp_path, capfd):
    fit(tiny(digits), digits, steps=10, out=tmp_path / "run", resume=True)
    assert f"{tmp_path / 'run'} holds no run to resume: a new one begins" in capfd.readouterr().err
    fit(tiny(digits), digits, steps=20, out=tmp_path / "run", resume=True)
    assert "a new one begins" not in capfd.readouterr().err


def test_overwriting_removes_reports_in_other_features_and_no_file_of_the_user_s(digits, tmp_path):
    fit(tiny(digits), digits, steps=10, out=tmp_path / "run")
    mine = tmp_path / "run" / "report-to-read.html"
    reports = [tmp_path / "run" / f"report-{name}" for name in ("pixels-0123abcd.html", "my-own-0123abcd.json")]
    for path in (mine, *reports):
        path.write_text("{}")
    fit(tiny(digits), digits, steps=10, out=tmp_path / "run", overwrite=True)
    assert mine.exists() and not any(path.exists() for path in reports)


def test_the_line_on_d_gives_the_bound_that_it_decides_by(digits):
    """With n and n images the standard error is sqrt((2 n + 1) / (12 n^2)); the bound is three."""
    data = dataclasses.replace(digits, validation=digits.validation.first(77))
    row = {"step": 1, "D/train_logit": 0.0, "D/validation_logit": 0.0}
    said = lambda auc: Run(tiny(digits), None, data, history=[row | {"D/train_validation_auc": auc}]).verdict()
    bound = 3 * (155 / (12 * 77**2)) ** 0.5
    assert f"chance .500 +- {bound:.3f} (3 standard errors)" in said(0.6)
    assert "no overfitting yet" in said(0.499 + bound) and "begun to overfit" in said(0.501 + bound)


def test_a_damaged_checkpoint_falls_back_to_the_newest_intact_one_and_says_so(digits, tmp_path, capfd):
    whole = fit(tiny(digits), digits, out=tmp_path / "run")
    files = [p for p in (tmp_path / "run/checkpoints/40").rglob("*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    blob = bytearray(largest.read_bytes())
    blob[len(blob) // 2] ^= 1
    largest.write_bytes(blob)
    again = fit(tiny(digits), digits, out=tmp_path / "run", resume=True)
    same(again.state, whole.state)
    assert "40" in capfd.readouterr().err
    same(gan.open_run(tmp_path / "run").state, whole.state)


def test_a_number_that_changed_elsewhere_is_reported(digits, tmp_path, capfd, monkeypatch):
    fit(tiny(digits), digits, steps=20, out=tmp_path / "run")
    monkeypatch.setattr("gan_jax.training.trainer.environment", lambda: {"threads": 1000})
    fit(tiny(digits), digits, steps=40, out=tmp_path / "run", resume=True)
    assert "not bit for bit" in capfd.readouterr().err


def test_labels_reach_a_conditional_run(digits):
    run = fit(tiny(digits, classes=10), digits, steps=10)
    three, five = run.samples(8, labels=[3] * 8), run.samples(8, labels=[5] * 8)
    assert (three != five).any()


# ---- stopping ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_at_the_last_good_state(digits, tmp_path):
    recipe = gan.with_leaves(tiny(digits, loss="wasserstein"), {"discriminator.optimizer.learning_rate": 1e4})
    run = fit(recipe, digits, steps=400, out=tmp_path / "run", checkpoint_every=200, sample_every=200)
    assert run.stopped and run.exit_code == 1
    assert re.match(
        r"not finite at step \d+: (discriminator|generator)/(loss|gradient_norm|real_logit|fake_logit)", run.stopped
    )
    step = int(run.stopped.split("step ")[1].split(":")[0])
    assert run.step == step
    floats = [x for x in jax.tree.leaves(run.state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(bool(jnp.isfinite(x).all()) for x in floats)
    same(gan.open_run(tmp_path / "run").state, run.state)
    assert all(np.isfinite(list(row.values())).all() for row in run.history)


CHILD = """
import sys
import gan_jax as gan
data = gan.load("digits")
recipe = gan.recipes.dcgan(data.image_shape, width=4, latent_dim=8, batch_size=16)
run = gan.fit(recipe, data, steps=400, out=sys.argv[1], resume=len(sys.argv) > 2, log_every=10, checkpoint_every=20,
              sample_every=100)
sys.exit(run.exit_code)
"""


def child(out, *args):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, str(out), *args]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def wait_for(out, step):
    rows, deadline = [], time.time() + 120
    while time.time() < deadline and (not rows or rows[-1]["step"] < step):
        rows = RunFolder(out).rows()
        time.sleep(0.005)
    assert rows


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    process = child(out)
    assert process.wait(300) == 0, process.stdout.read()
    return out


def test_kill_and_resume_equals_a_run_never_stopped(never_stopped, tmp_path):
    out, rng = tmp_path / "run", random.Random(time.time_ns())
    process = child(out)
    wait_for(out, rng.randrange(10, 390))
    time.sleep(rng.random() * 0.05)
    process.kill()
    process.wait()
    process = child(out, "--resume")
    assert process.wait(300) == 0, process.stdout.read()
    same(gan.open_run(out).state, gan.open_run(never_stopped).state)
    assert (out / "metrics.jsonl").read_bytes() == (never_stopped / "metrics.jsonl").read_bytes()
    for path in (never_stopped / "samples").iterdir():
        assert path.read_bytes() == (out / "samples" / path.name).read_bytes()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_signal_saves_and_exits_cleanly(never_stopped, tmp_path, number):
    out = tmp_path / "run"
    process = child(out)
    wait_for(out, 10)
    process.send_signal(number)
    text, _ = process.communicate(timeout=120)
    assert process.returncode in (128 + number, 0) and "Traceback" not in text
    assert number.name in text
    stopped = gan.open_run(out)
    assert stopped.step == RunFolder(out).rows()[-1]["step"]
    if number == signal.SIGTERM:  # resuming is the same after either
        assert child(out, "--resume").wait(300) == 0
        same(gan.open_run(out).state, gan.open_run(never_stopped).state)


# ---- mistakes ----------------------------------------------------------------------------------


def refused(*args, **kwargs):
    with pytest.raises(gan.UserError) as caught:
        fit(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_with_another_run_is_refused(digits, tmp_path):
    fit(tiny(digits), digits, steps=10, out=tmp_path / "run")
    before = sorted(p for p in (tmp_path / "run").rglob("*"))
    other = tiny(digits).replace(ema_decay=0.5)
    assert "ema_decay: 0.99" in refused(other, digits, out=tmp_path / "run")
    assert "ema_decay" in refused(other, digits, out=tmp_path / "run", resume=True)
    assert "already holds" in refused(tiny(digits), digits, out=tmp_path / "run")
    assert "seed" in refused(tiny(digits), digits, seed=1, out=tmp_path / "run")
    assert sorted(p for p in (tmp_path / "run").rglob("*")) == before
    assert fit(other, digits, steps=10, out=tmp_path / "run", overwrite=True).step == 10


def test_a_folder_of_something_else_is_never_emptied(digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not a run folder" in refused(tiny(digits), digits, out=tmp_path)
    fit(tiny(digits), digits, steps=10, out=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_foreign_checkpoint_is_refused(digits, tmp_path):
    fit(tiny(digits), digits, steps=20, out=tmp_path / "run")
    other = gan.recipes.dcgan(digits.image_shape, width=8, latent_dim=8, batch_size=16)
    fit(other, digits, steps=10, out=tmp_path / "other")
    subprocess.run(["rm", "-r", tmp_path / "other/checkpoints"], check=True)
    subprocess.run(["cp", "-r", tmp_path / "run/checkpoints", tmp_path / "other/checkpoints"], check=True)
    assert "checkpoint" in refused(other, digits, out=tmp_path / "other", resume=True)


def test_intervals_left_out_are_multiples_of_log_every():
    assert [multiple(None, every, 100) for every in (1, 7, 50, 100, 1500)] == [100, 105, 100, 100, 1500]
    assert multiple(20, 7, 100) == 20, "given ones are taken as they are, to be checked"


def test_bad_numbers_are_refused_before_a_step_is_run(digits):
    assert "steps=0" in refused(tiny(digits), digits, steps=0)
    assert "multiple of log_every" in refused(tiny(digits), digits, checkpoint_every=15)
    assert "fewer than the batch" in refused(tiny(digits).replace(batch_size=5000), digits)
    assert "ema_decay is 1.5" in refused(tiny(digits).replace(ema_decay=1.5), digits)
    assert "shape (16, 16, 1)" in refused(gan.recipes.dcgan((16, 16, 1), width=4), digits)
    assert "does not divide" in refused(tiny(digits), digits, devices=3)
    assert "devices asked for" in refused(tiny(digits), digits, devices=64)
    assert "name it with out" in refused(tiny(digits), digits, resume=True)
    assert "classes" in refused(tiny(digits, classes=7), digits)


def test_a_disk_that_cannot_be_written_is_one_line(digits, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(tiny(digits), digits, out=tmp_path / "file" / "run")


def test_a_full_disk_is_one_line_and_loses_nothing(digits, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        message = refused(tiny(digits), digits, steps=400, out=disk / "run")
        assert "No space left" in message
        for row in (disk / "run/metrics.jsonl").read_text().splitlines()[:-1]:
            json.loads(row)
    finally:
        subprocess.run(["umount", disk], check=True)
