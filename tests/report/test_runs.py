"""Reports of runs, checkpoints and sweeps: what they read, what they write, and when S is
opened."""

import dataclasses
import html.parser
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.errors import UserError
from gan_jax.metrics.frechet import frechet_distance
from gan_jax.metrics.memorization import near_copies
from gan_jax.metrics.neighbours import nearest
from gan_jax.metrics.training import _features, training_metrics
from gan_jax.report.build import overfitting_report, references_of
from gan_jax.report.report import digest_of
from gan_jax.report.runs import samples_of
from gan_jax.report.sweeps import sweep_report
from gan_jax.training.folder import RunFolder
from scripts import compare as compare_script
from scripts import report as report_script

SCHEDULE = {"log_every": 5, "checkpoint_every": 5, "sample_every": 10, "progress": False}


def points(seed=0, n=120):
    """A 2-D toy with its law, small."""
    ring = gan.data.toys.ring()
    parts = (ring.draw(size, np.random.SeedSequence([seed, i])) for i, size in enumerate((n, 2 * n, n, n)))
    return gan.Splits("ring", seed, *parts, tuple(map(str, range(8))), {}, density=ring)


def recipe(data, **settings):
    return gan.recipes.for_data(data.image_shape, width=8, batch_size=16, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(data, run in a folder), 10 steps of two layers on a ring."""
    data = points()
    return data, gan.fit(recipe(data), data, steps=10, out=tmp_path_factory.mktemp("runs") / "ring", **SCHEDULE)


def test_a_run_brings_its_data_its_discriminator_and_the_truth(trained):
    data, run = trained
    report = overfitting_report(run)
    logits = report.evidence["logits"]
    assert len(logits["train"]) == len(data.train) and len(logits["held out"]) == len(data.validation)
    mean = gan.GAN.evaluate(run.recipe, run.state, *((jnp.asarray(s.images), None) for s in (data.train, data.validation)))
    assert logits["train"].mean() == pytest.approx(float(mean["D/train_logit"]), abs=1e-5)
    assert logits["held out"].mean() == pytest.approx(float(mean["D/validation_logit"]), abs=1e-5)
    assert {"d_auc", "d_r_t", "truth_modes", "truth_log_density"} <= set(report.numbers)
    assert "real" in report.numbers["d_auc"].controls and report.verdict == "underfits"
    assert set(report.not_measured) == {11} and report.about["step"] == 10
    searched = overfitting_report(run, recovery=3)
    assert 11 not in searched.not_measured and searched.numbers["recovery_gap"].value <= 1


def test_samples_are_judged_with_the_class_shares_of_t(monkeypatch):
    data = points()
    rare = np.flatnonzero((np.asarray(data.train.labels) > 0) | (np.arange(len(data.train)) < 60))
    train = gan.Split(data.train.images[rare], np.asarray(data.train.labels)[rare])
    data = dataclasses.replace(data, train=train, density=None)
    run = gan.fit(recipe(data, classes=8, conditioning="embedding"), data, steps=5, **SCHEDULE)
    seen = []
    found = {"accuracy": 0.5, "reference": 0.6, "tested": 100}
    monkeypatch.setattr("gan_jax.report.build.gan_train", lambda x, y, *_: seen.append((x, y)) or found)
    overfitting_report(run)
    images, labels = seen[0]
    expected = np.bincount(train.labels, minlength=8) * len(labels) / len(train)
    assert np.abs(np.bincount(labels, minlength=8) - expected).max() <= 1 and expected.min() < 0.8 * expected.max()
    assert (images == run.samples(len(labels), labels=labels)).all()
    overfitting_report(run, labels=np.arange(256) % 8)  # uniform where asked
    images, labels = seen[1]
    assert (np.bincount(labels) == 32).all() and (images == run.samples(256)).all()
    assert (samples_of(run, 50, gan.Split(train.images))[1] == np.arange(50) % 8).all(), "no labels to follow"


def test_a_run_without_extractor_images_has_a_report(trained):
    data, run = trained
    without = dataclasses.replace(data, extractor=gan.Split(data.extractor.images[:0], data.extractor.labels[:0]))
    without = dataclasses.replace(without, source={"name": "ring", "held_out": "folder:other"})
    report, usual = overfitting_report(run, without), overfitting_report(run)
    assert report.about["held-out data"] == "folder:other" and "held-out data" not in usual.about
    assert report.numbers["d_auc"].value == usual.numbers["d_auc"].value
    assert "real" not in report.numbers["d_auc"].controls and "real" in usual.numbers["d_auc"].controls
    said = "note: the split E is empty: row 10 has no control of real data"
    assert said in report.verdict_line() and said not in usual.verdict_line()


class Page(html.parser.HTMLParser):
    tags = 0

    def handle_starttag(self, tag, attrs):
        self.tags += 1


def test_a_saved_report_is_one_page_and_one_record_of_the_same_numbers(trained, tmp_path):
    report = overfitting_report(trained[1])
    page = report.save(tmp_path / "new" / "folder")
    record = json.loads((page.parent / "report.json").read_text())
    values = {k: v.value if np.isfinite(v.value) else None for k, v in report.numbers.items()}
    assert {k: v["value"] for k, v in record["numbers"].items()} == values
    assert record["digest"] == digest_of(record) != digest_of(record | {"verdict": "another"})
    parser = Page()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.tags > 100 and report.verdict in page.read_text(encoding="utf-8")
    alone = report.save(tmp_path / "alone.html")
    assert alone.read_bytes() == page.read_bytes() and sorted(p.name for p in tmp_path.iterdir()) == ["alone.html", "new"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report.save(tmp_path / "file" / "below")


def test_s_is_opened_by_final_alone_and_every_opening_is_counted(trained, tmp_path):
    data, first = trained
    run = gan.fit(recipe(data), data, steps=10, out=tmp_path / "run", **SCHEDULE)
    overfitting_report(run)
    assert not (run.folder / "openings.jsonl").exists()
    once = overfitting_report(run, final=True)
    assert once.protocol["held_out"] == "S" and once.protocol["held_out_hash"] == data.test.hash
    assert len(once.about["openings"]) == 1 and "no longer fresh" not in once.text()
    twice = overfitting_report(run, final=True)
    assert len(twice.about["openings"]) == 2 and "opened 2 times" in twice.text()
    again = gan.fit(recipe(data), data, steps=10, out=tmp_path / "run", overwrite=True, **SCHEDULE)
    assert len(overfitting_report(again).about["openings"]) == 2, "not forgotten with the run"
    assert not overfitting_report(first).about["openings"]


@pytest.mark.slow
def test_a_conditional_run_is_judged_by_a_classifier_trained_on_its_samples():
    data = gan.load("digits").subset(150)
    run = gan.fit(gan.recipes.dcgan(data.image_shape, width=4, batch_size=16, classes=10), data, steps=5, **SCHEDULE)
    report = overfitting_report(run, features="pixels")
    number = report.numbers["gan_train"]
    assert number.value < 0.5 < number.controls["real"].value


def test_a_run_whose_loss_was_not_finite_has_diverged_also_when_opened_again(tmp_path):
    data = points()
    wild = recipe(data, loss=gan.recipes.loss("least_squares"))
    sides = {name: getattr(wild, name).replace(optimizer=gan.optimizers.sgd(1e30)) for name in ("generator", "discriminator")}
    run = gan.fit(wild.replace(**sides), data, steps=20, out=tmp_path / "run", **SCHEDULE)
    assert run.stopped
    for judged in (run, gan.open_run(tmp_path / "run", data=data)):
        report = overfitting_report(judged)
        assert report.verdict == "diverged" and "not finite" in report.reasons[0] and not report.numbers
    report.save(tmp_path / "run")
    broken = dataclasses.replace(
        run, stopped=None, state=jax.tree.map(lambda x: x * np.nan if x.dtype == np.float32 else x, run.state)
    )
    assert overfitting_report(broken).verdict == "diverged"


# ---- scripts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two seeds of a run on digits that can be loaded by name."""
    root, data = tmp_path_factory.mktemp("digits"), gan.load("digits", subset=150)
    for seed in (0, 1):
        gan.fit(
            gan.recipes.dcgan(data.image_shape, width=4, batch_size=16),
            data,
            steps=10,
            seed=seed,
            out=root / str(seed),
            **SCHEDULE,
        )
    return root


def judge(folder, **settings):
    report_script.main(report_script.Options(folder, features="pixels", permutations=5, **settings))


def test_the_scripts_write_into_the_run_folder_print_the_verdict_last_and_compare(folders, capsys):
    for name in ("0", "1"):
        judge(folders / name)
    output = capsys.readouterr().out.strip().splitlines()
    record = json.loads((folders / "1" / "report.json").read_text())
    assert output[-1].startswith(f"verdict: {record['verdict']}") and (folders / "1" / "report.html").exists()
    compare_script.main(compare_script.Options((folders / "0", folders / "1"), ("fd", "fd_gap")))
    table = capsys.readouterr().out
    assert f"{record['numbers']['fd']['value']:.4g}" in table and "fd_gap" in table


def test_reports_that_cannot_be_made_or_compared_end_in_one_line(folders, tmp_path):
    files = RunFolder(folders / "0")
    judge(folders / "0")
    judge(folders / "1", n=60)
    errors = {
        "n is 114 in one and 60": lambda: compare_script.main(compare_script.Options((folders / "0", folders / "1"))),
        "at least two": lambda: compare_script.main(compare_script.Options((folders / "0",))),
        "no number 'fid'": lambda: compare_script.main(compare_script.Options((folders / "0", folders / "1"), ("fid",))),
        "has no report": lambda: compare_script.main(compare_script.Options((folders / "0", tmp_path))),
        "not a run folder": lambda: judge(tmp_path),
        "no checkpoint of step 7: there are 5, 10": lambda: judge(folders / "0", step=7),
        "n=500 images": lambda: judge(folders / "0", n=500),
        "is not there": lambda: judge(folders / "0", inception_weights=tmp_path / "weights.pth"),
    }
    for message, call in errors.items():
        with pytest.raises(UserError) as error:
            call()
        assert "\n" not in str(error.value) and (message in str(error.value) or message == "is not there"), error.value
    made = json.loads((folders / "0" / "report.json").read_text())
    made["numbers"]["fd"]["value"] += 1
    (folders / "0" / "report.json").write_text(json.dumps(made))
    with pytest.raises(UserError, match="report.json was changed since it was written: make it again"):
        compare_script.read(folders / "0")
    record = files.read()
    (files.path / files.record).write_text(json.dumps(record | {"steps": 20}))
    with pytest.raises(UserError, match="at step 10 of 20: finish it with --resume"):
        judge(folders / "0")
    judge(folders / "0", step=5)
    assert json.loads((folders / "0" / "report.json").read_text())["about"]["step"] == 5


# ---- sweeps ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_is_judged_member_by_member_and_s_opened_for_two_settings(tmp_path):
    data = points()
    settings = {"none": recipe(data), "fast": recipe(data).replace(ema_decay=0.9)}
    swept = gan.sweep(settings, data, steps=4, seeds=2, log_every=2, out=tmp_path / "sweep", progress=False)
    report = sweep_report(swept, final=True, progress=False)
    assert len(report.table) == 4 and set(report.reports) == {"none", "fast"} and set(report.final) == {"none", report.chosen}
    alone = overfitting_report(swept.run("fast", 1), references=references_of(data))
    one = report.table.query("setting == 'fast' and seed == 1").iloc[0]
    assert one["verdict"] == alone.verdict and one["fd_gap"] == pytest.approx(alone.numbers["fd_gap"].value, rel=1e-9)
    assert all(r.protocol["held_out"] == "S" for r in report.final.values()) and len(report.openings) == 1
    page = report.save(tmp_path / "sweep")
    record = json.loads((page.parent / "report.json").read_text())
    assert record["chosen"] == report.chosen and len(record["table"]) == 4 and report.text().endswith(report.sentence)
    assert len(report.final_table) == 2 * len(report.final), "every seed is judged on S"


# ---- what is logged during training ------------------------------------------------------------


def test_what_is_watched_on_the_device_equals_the_report_s_metrics_in_the_same_features():
    random = np.random.default_rng(0)
    g, t, v = (random.uniform(-1, 1, (60, 8, 8, 1)).astype(np.float32) for _ in range(3))
    g[:15] = t[:15]
    row = jax.jit(training_metrics)(g, t, v)
    features = _features((8, 8, 1))
    x, y, z = (np.asarray(features(jnp.asarray(a)), np.float64) for a in (g, t, v))
    assert row["G/train_fd"] == pytest.approx(frechet_distance(x, y), rel=2e-3)
    assert row["G/fd_gap"] == pytest.approx(frechet_distance(x, z) - frechet_distance(x, y), abs=2e-3 * frechet_distance(x, y))
    expected = near_copies(nearest(x, y)[0], nearest(z, y)[0], 0.05).rate
    assert row["G/near_copies"] == pytest.approx(expected) and expected >= 0.25
    many = jax.jit(jax.vmap(training_metrics, (0, None, None)))(np.stack([g, v]), t, v)
    for name, value in row.items():
        np.testing.assert_allclose(many[name][0], value, rtol=1e-3, atol=2e-3, err_msg=name)
