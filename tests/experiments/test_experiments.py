"""The experiments as a person starts them: the notebook, the quickstart's command line, its
mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import gan_jax as gan
from experiments import quickstart

ROOT = Path(__file__).parents[2]


def script(path, *args, code=0):
    """Runs a script in a process of its own; its exit code must be `code`. Returns what it printed,
    both streams."""
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / path), *map(str, args)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400)
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    return text


@pytest.mark.slow
def test_the_quickstart_notebook_runs():
    notebook = nbformat.read(ROOT / "experiments/notebooks/quickstart.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps=2000", "steps=200")
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(shown) == 2, "the samples and the curves"
    assert "AUC" in str(notebook.cells)


SMALL = [
    "--steps",
    40,
    "--width",
    8,
    "--batch-size",
    16,
    "--log-every",
    10,
    "--checkpoint-every",
    20,
    "--sample-every",
    20,
]


@pytest.mark.slow
def test_the_quickstart_ends_in_samples_curves_and_a_verdict(tmp_path):
    text = script("experiments/quickstart.py", "--out", tmp_path / "run", *SMALL, "--no-report")
    assert "D shows no overfitting yet" in text or "D has begun to overfit" in text
    assert {"recipe.json", "metrics.jsonl", "curves.png", "samples", "checkpoints"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }
    assert "already holds this run" in script("experiments/quickstart.py", "--out", tmp_path / "run", *SMALL, code=2)
    aside = script("experiments/quickstart.py", "--out", tmp_path / "run", *SMALL, "--r1", 1, "--resume")
    assert "report: " in aside and (tmp_path / "run/report.html").exists()
    assert "set aside: discriminator.penalties.r1" in aside


@pytest.mark.slow
def test_a_quickstart_that_is_resumed_without_flags_goes_on_with_its_own_data_and_steps(tmp_path, monkeypatch, capsys, mistake):
    """From another working directory; a flag that says something else is set aside, and named."""
    points = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", images=points)
    monkeypatch.chdir(tmp_path)
    tiny = {"width": 4, "batch_size": 16, "log_every": 10, "report": False, "out": Path("run")}
    assert quickstart.main(quickstart.Options(data="npz:mine.npz", steps=20, r1=1.0, **tiny)) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = Path("../run")
    capsys.readouterr()
    assert quickstart.main(quickstart.Options(out=folder, resume=True, report=False)) == 0
    said = capsys.readouterr()
    assert "step 20 is reached already" in said.err and "set aside" not in said.err
    assert quickstart.main(quickstart.Options(out=folder, resume=True, report=False, steps=30, r1=2.0, data="ring")) == 0
    said = capsys.readouterr().err
    assert "set aside: discriminator.penalties.r1" in said and "data: ring, not npz:mine.npz" in said
    assert gan.open_run(folder).step == 30 and gan.open_run(folder).data.name == "npz:mine.npz"
    with pytest.raises(gan.UserError, match="trained to step 30, and steps=10 is less"):
        quickstart.main(quickstart.Options(out=folder, resume=True, steps=10))
    assert "give one of the two" in mistake(quickstart, "--out", folder, "--resume", "--overwrite")


@pytest.mark.slow
def test_every_knob_of_the_quickstart_trains_together_on_several_devices(tmp_path):
    knobs = ["--loss", "least_squares", "--smoothing", 0.1, "--r1", 1, "--wgan-gp", 0.1, "--dragan", 0.1, "--lazy", 2]
    knobs += ["--dropout", 0.2, "--instance-noise", 0.1, "--weight-decay", 0.01, "--clip-gradient", 5, "--conditional"]
    knobs += [
        "--discriminator-norm",
        "batch",
        "--d-steps",
        2,
        "--devices",
        4,
        "--parallel",
        "pmap",
        "--d-learning-rate",
        1e-4,
        "--no-report",
    ]
    text = script("experiments/quickstart.py", "--out", tmp_path / "run", *SMALL, *knobs)
    assert "not finite" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--loss", "nope"], "unknown loss 'nope'"),
        (["--data", "nope"], "unknown data set 'nope'"),
        (["--learning-rate", "-1"], "--learning-rate -1.0: it must be at least 0"),
        (["--r1", "nan"], "--r1 nan: it must be a finite number"),
        (["--size", "9"], "image size 9 is not supported"),
        (["--batch-size", "5000"], "fewer than the batch"),
        (["--loss", "hinge", "--smoothing", "0.1"], "no labels to smooth"),
        (["--data", "folder:/nowhere"], "/nowhere"),
        (["--conditioning", "auxiliary"], "add --conditional"),
        (["--data", "ring", "--discriminator-norm", "batch"], "--discriminator-norm is of images, and ring has rows"),
        (["--play", "unrolled", "--unrolled-steps", "0"], "--unrolled-steps 0: it must be at least 1"),
        (["--play", "consensus", "--consensus-weight", "-1"], "--consensus-weight -1.0: it must be at least 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(tmp_path, mistake, arguments, said):
    assert said in mistake(quickstart, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "auxiliary_classifier", "conditional": True, "conditioning": "auxiliary"},
        {"loss": "multi_class", "conditional": True, "conditioning": "multi_class"},
        {"play": "consensus", "consensus_weight": 3.0},
        {"play": "unrolled", "unrolled_steps": 2},
    ],
    ids=lambda fields: str(next(iter(fields.values()))),
)
def test_what_the_quickstart_s_flags_describe_is_a_step(fields):
    data = gan.load("ring").subset(64)
    recipe = quickstart.recipe_of(quickstart.Options(width=4, **fields), data)
    assert recipe.play.name == fields.get("play", "alternating")
    assert not recipe.play.numbers or [float(v) for v in recipe.play.numbers.values()] in ([3.0], [np.float32(1e-3)])
    batch = gan.Batch(jnp.zeros((64, 2)), jnp.arange(64), jnp.arange(64) % data.classes)
    step = lambda key: gan.train_step(recipe, gan.init(recipe, key), batch)[1]
    assert "discriminator/loss" in jax.eval_shape(step, jax.random.key(0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--steps", "many"], "--steps"), (["--nonsense", "3"], "Unrecognized options: --nonsense")],
)
def test_an_argument_that_cannot_be_read_is_one_line_and_exit_code_two(tmp_path, arguments, said):
    text = script("experiments/quickstart.py", "--out", tmp_path / "run", *arguments, code=2)
    assert text.startswith("error: ") and text.count("\n") == 1 and said in text
    assert not (tmp_path / "run").exists()
