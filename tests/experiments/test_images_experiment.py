"""The experiment about missing pixels: what methods see, what is measured, what a stopped study
keeps."""

from contextlib import suppress

import numpy as np
import pytest

from experiments import missing_images as experiment
from gan_jax.core.errors import UserError
from gan_jax.data import load
from gan_jax.training.study import StudyFolder


@pytest.fixture(scope="module")
def data():
    return load("digits")


def options(**fields):
    return experiment.Options(**{"seeds": 2, "judged": 60, "devices": 1} | fields)


def test_each_seed_hides_its_own_pixels_of_the_same_images(data):
    first, second = experiment.tasks_of(options(), data)
    np.testing.assert_array_equal(first.train, second.train)
    assert (first.train_mask != second.train_mask).any() and first.held.shape == (60, 8, 8, 1)
    assert first.train_mask.mean() == pytest.approx(0.5, abs=0.01)
    squares = experiment.tasks_of(options(mechanism="blocks", rate=0.3, block=3), data)[0].train_mask
    alike = (squares[:, 1:] == squares[:, :-1]).mean(), (first.train_mask[:, 1:] == first.train_mask[:, :-1]).mean()
    assert alike[0] > 0.75 > 0.55 > alike[1]


def test_methods_never_see_a_hidden_pixel(data):
    tasks = experiment.tasks_of(options(seeds=1), data)
    spoilt = [t._replace(train=np.where(t.train_mask, t.train, 9), held=np.where(t.held_mask, t.held, 9)) for t in tasks]
    for method in ("mean", "kNN"):
        whole, blind = (experiment.completed(options(seeds=1), each, method) for each in (tasks, spoilt))
        for part in ("train", "held"):
            np.testing.assert_array_equal(whole[part], blind[part])


def test_what_is_measured(data):
    tasks = experiment.tasks_of(options(), data)
    off = np.stack([np.where(t.held_mask, t.held, np.clip(t.held + 0.2, 0, 1.2)) for t in tasks])
    found = {"truth": {"train": np.stack([t.train[:60] for t in tasks]), "held": np.stack([t.held for t in tasks])}}
    found["off"] = {"train": found["truth"]["train"], "held": np.minimum(off, 1)}
    table = experiment.measured(options(), data, tasks, found).set_index("setting")
    truth, complete = table.loc["truth"], table.loc["complete data"]
    assert (truth["rmse"] == 0).all() and (truth["gap"] == 0).all()
    np.testing.assert_allclose(truth["fd"], complete["fd"], rtol=1e-6)
    np.testing.assert_allclose(truth["accuracy"], complete["accuracy"])
    assert (table.loc["off", "rmse"] > 0.1).all() and (table.loc["off", "fd"] > complete["fd"]).all()
    assert "complete data" in experiment.text(options(), table.reset_index())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--judged", 5], "--judged 5: there are"),
        (["--rate", 1.0], "missing rate 1"),
        (["--rate", 0], "--rate 0: nothing would be missing"),
        (["--mechanism", "blocks", "--block", 0], "--block 0: it must be at least 1"),
        (["--seeds", 0], "--seeds 0: it must be at least 1"),
        (["--steps", 0], "--steps 0: it must be at least 1"),
        (["--unet-steps", 0], "--unet-steps 0: it must be at least 1"),
        (["--misgan-steps", 0], "--misgan-steps 0: it must be at least 1"),
        (["--width", 0], "--width 0: it must be at least 1"),
        (["--only", "median"], "no method 'median'"),
        (["--data", "ring"], "has rows"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(mistake, monkeypatch, words, message, tmp_path):
    monkeypatch.setattr(experiment, "prepare_devices", lambda *a, **k: None)
    assert message in mistake(experiment, "--out", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


def test_a_stopped_study_keeps_what_was_done(tmp_path):
    folder, calls = StudyFolder(tmp_path / "study"), []
    folder.start({"options": {"rate": 0.5}}, resume=False, overwrite=False)
    make = lambda: calls.append(1) or {"x": np.arange(3)}
    for _ in range(2):
        np.testing.assert_array_equal(folder.part("kNN", make)["x"], np.arange(3))
    assert len(calls) == 1
    folder.start({"options": {"rate": 0.5}}, resume=True, overwrite=False)
    with pytest.raises(UserError, match="another study"):
        folder.start({"options": {"rate": 0.6}}, resume=True, overwrite=False)
    path = folder.path / "parts" / "kNN.npz"
    whole, mean = path.read_bytes(), folder.path / "parts" / "mean.npz"
    for at in range(len(whole)):  # every bit of the file says what the part holds, or nothing
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(UserError):
            np.testing.assert_array_equal(folder.part("kNN", make)["x"], np.arange(3))
    mean.write_bytes(whole)
    for damaged, content in ((path, b"PK broken"), (mean, whole)):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=f"{damaged.name} is damaged"):
            folder.part(damaged.stem, make)
    assert len(calls) == 1
    record = folder.path / "study.json"
    for text in ('{"format": 1}', '{"format": 1, "options": []}'):
        record.write_text(text)
        with pytest.raises(UserError, match=r"study.json is damaged \(options: "):
            folder.start({"options": {"rate": 0.5}}, resume=True, overwrite=False)
    record.unlink()
    folder.start({"options": {"rate": 0.6}}, resume=False, overwrite=True)
    assert not list((folder.path / "parts").iterdir())


@pytest.mark.slow
def test_the_whole_study_runs_and_resumes(tmp_path, capsys):
    how = options(steps=20, unet_steps=5, misgan_steps=5, width=8, judged=50, out=tmp_path / "out")
    assert experiment.main(how) == 0
    said = capsys.readouterr().out
    assert (
        all(name in said for name in (*experiment.METHODS, experiment.SAMPLES))
        and (tmp_path / "out/pictures/filled.png").exists()
    )
    how.resume = True
    assert experiment.main(how) == 0
    assert capsys.readouterr().out.split("RMSE")[1] == said.split("RMSE")[1]
