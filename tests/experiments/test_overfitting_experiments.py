"""The overfitting report's experiments: the tour in a notebook, the dynamics on a few steps, the
planted truths on one seed."""

import json
import math
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import planted_copies
import pytest
from nbclient import NotebookClient

import gan_jax as gan
from experiments import overfitting_dynamics, planted_truths
from gan_jax.core.errors import UserError
from gan_jax.tables import read_csv
from tests.experiments.test_experiments import ROOT, script
from tests.experiments.test_sweep_experiments import decoded

# ---- the tour -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tour_shows_d_overfit_a_remedy_and_a_copycat(tmp_path):
    notebook = nbformat.read(ROOT / "experiments/notebooks/overfitting_tour.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("runs/overfitting_tour", str(tmp_path))
    said = "import json; print(json.dumps([report.verdict_line(), copycat.verdict, *table['d_auc'], *table['near_copies']]))"
    notebook.cells.append(nbformat.v4.new_code_cell(said))
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    overfitted, copying, auc, remedied_auc, *near_copies = json.loads(outputs[-1]["text"])
    assert "discriminator overfits" in overfitted and copying == "generator memorises"  # G's copying is at the limit here
    assert auc > 0.55 > remedied_auc, "the remedy closes D's gap"
    assert max(near_copies) < 0.15, "G does not copy: of fresh real images 5 % count"
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == 4, "the curves, two sheets of pairs, the distances"
    assert any("<table" in output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    assert "discriminator overfits" in (tmp_path / "report.html").read_text()


# ---- the dynamics ------------------------------------------------------------------------------


TINY = ["--steps", 4, "--log-every", 2, "--width", 4, "--batch-size", 8, "--seeds", 2]


@pytest.mark.slow
def test_the_dynamics_end_in_a_table_and_a_picture_of_both_sizes(tmp_path):
    out = tmp_path / "sweep"
    text = script("experiments/overfitting_dynamics.py", "--out", out, *TINY, "--sizes", 24, 20, "--no-report")
    table = pd.read_csv(out / "table.csv")
    members = {(n, seed, step) for n in (20, 24) for seed in (0, 1) for step in (2, 4)}
    assert {*zip(table["n"], table["seed"], table["step"], strict=True)} == members and not any(table["diverged"])
    pictures = decoded(out / "pictures")
    assert pictures["dynamics.png"] and {"sizes_G_validation_fd.png", "samples.png"} <= pictures.keys()
    for distance in overfitting_dynamics.DISTANCES:
        assert f"{distance}: when the one to V is least" in text
    assert text.count("nothing was tested") == 2 and not (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes", 10, 40], "--sizes has 10: near-copies are counted among at least 20"),
        (["--sizes", 40, 100], "40 training images are too few to judge by: at least 50"),
        (["--sizes", 100, 100000], "100000"),
        (["--no-report", "--sizes", 30, "--batch-size", 64], "fewer than the batch of 64"),
        (["--sizes", 100, "--seeds", 0], "--seeds 0: it must be at least 1"),
        (["--log-every", 0], "--log-every 0: it must be at least 1"),
    ],
)
def test_a_mistake_in_the_dynamics_is_one_line(capsys, monkeypatch, tmp_path, arguments, said):
    command = ["overfitting_dynamics.py", "--out", tmp_path / "sweep", *arguments]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    monkeypatch.setattr(overfitting_dynamics.Options, "prepare", lambda self: None)  # devices: once in a process
    with pytest.raises(SystemExit) as stopped:
        overfitting_dynamics.run(overfitting_dynamics.main)
    text = capsys.readouterr().err
    assert stopped.value.code == 2 and text.startswith("error: ") and text.count("\n") == 1 and said in text
    assert not (tmp_path / "sweep").exists()


def test_an_unknown_flag_of_the_dynamics_is_one_line():
    text = script("experiments/overfitting_dynamics.py", "--log-everything", code=2)
    assert text == "error: Unrecognized options: --log-everything; see --help\n"


def curves(value, seeds=6, sizes=(100, 200), noise=0.0, lost=()):
    """A sweep's table with value(n, step) and noise of each seed for every metric, NaN from `lost`
    {(n, seed)} on halfway."""
    rng, rows = np.random.default_rng(0), []
    for n in sizes:
        for seed in range(seeds):
            for step in range(100, 2100, 100):
                gone = (n, seed) in lost and step > 1000
                x = math.nan if gone else value(n, step) + noise * rng.normal()
                rows.append((overfitting_dynamics.SETTING, seed, n, step, gone, *[x] * 6))
    pairs = [metric for both in overfitting_dynamics.DISTANCES.values() for metric in both]
    metrics = [*pairs, overfitting_dynamics.AUC, overfitting_dynamics.COPIES]
    return pd.DataFrame(rows, columns=["setting", "seed", "n", "step", "diverged", *metrics])


def u_shape(n, step):
    """Least at step 600 for n = 100, falling to the end for others."""
    return 1 + abs(step - 600) / 1000 if n == 100 else 3 - step / 1000


def test_a_rise_is_found_at_its_step_and_a_fall_is_none():
    few, many = overfitting_dynamics.summary(curves(u_shape, noise=0.01), "FD")
    assert few["best step"][0] == pytest.approx(600, abs=60) and few["rise"][0] == pytest.approx(1.4, abs=0.05)
    assert few["p"] < 0.001
    assert many["best step"][0] > 1900 and abs(many["rise"][0]) < 0.05
    assert "it rises again at n = 100 (Holm's correction over 2 tests)." in overfitting_dynamics.summary_text([few, many], "FD")
    assert "no rise is shown" in overfitting_dynamics.finding([many], "FD")


def test_noise_around_a_flat_curve_is_no_rise():
    """The least of 20 noisy values is 1.9 standard deviations below the last one: read at its own
    least, every seed rises."""
    rises = [row["rise"][0] for row in overfitting_dynamics.summary(curves(lambda n, step: 1, 40, noise=1.0), "FD")]
    assert np.abs(rises).max() < 4 * math.sqrt(2 / 40), "two standard errors of a difference of two draws, and as much again"
    table = curves(lambda n, step: 1, 40, noise=1.0)
    own = [curve[-1] - curve.min() for _, cs in gan.ranking.histories(table, "G/validation_fd").values() for curve in cs]
    assert np.mean(own) > 1.5, "which is why each seed is read where the others are least"


def test_seeds_that_diverge_are_left_out_and_told():
    few, many = overfitting_dynamics.summary(curves(u_shape, noise=0.01, lost={(100, 0)}), "FD")
    assert few["rise"][0] == pytest.approx(1.4, abs=0.05)
    assert "at n = 100 (among survivors) (Holm" in overfitting_dynamics.finding([few, many], "FD")
    every = {(n, seed) for n in (100, 200) for seed in range(6)}
    assert overfitting_dynamics.summary(curves(u_shape, lost=every), "FD")[0]["verdict"] == "every seed diverged"


def test_one_seed_is_read_at_its_own_least_and_not_tested():
    few, _ = overfitting_dynamics.summary(curves(u_shape, seeds=1), "FD")
    assert few["rise"][0] == pytest.approx(1.4) and math.isnan(few["p"]) and few["verdict"] == "too few seeds for a test"
    text = overfitting_dynamics.summary_text([few], "FD")
    assert "1.400" in text and "+-" not in text and text.endswith("it takes 5 seeds that have not diverged.")


def test_the_picture_marks_the_least_distance_to_v():
    figure = overfitting_dynamics.dynamics_figure(curves(u_shape))
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes}
    assert list(panels) == [f"{d}, n = {n}" for d in ("FD", "energy distance") for n in (100, 200)]
    for n, step in {100: 600, 200: 2000}.items():
        (mark,) = (line for line in panels[f"FD, n = {n}"].lines if "least" in str(line.get_label()))
        assert np.asarray(mark.get_xdata())[0] == step


def test_verdicts_are_counted_for_each_number_of_images():
    rows = pd.DataFrame({"n": [20, 20, 20, 9], "verdict": ["healthy", "mode loss", "mode loss", "diverged"]})
    assert overfitting_dynamics.verdicts(rows).splitlines()[1:] == [
        "n = 9: diverged in 1",
        "n = 20: mode loss in 2, healthy in 1",
    ]


# ---- the planted truths ------------------------------------------------------------------------


def test_a_table_of_planted_copies_has_counts_estimates_and_intervals():
    rows = [
        {"seed": seed, "kind": kind, "share": share, "memorises": share > 0.05 * (seed + 1), "estimate": share}
        for kind in ("mirrored", "verbatim")
        for share in planted_copies.SHARES
        for seed in (0, 1)
    ]
    rows += [{"seed": seed, "kind": "fresh", "share": 0.0, "memorises": seed == 0, "estimate": 0.0} for seed in range(4)]
    text = planted_copies.copies_text(rows)
    assert "| copies | 2% | 5% | 10% | 20% | 50% | 100% |" in text
    assert "| verbatim | 0 (2.0%) | 0 (5.0%) | 1 (10.0%) | 2 (20.0%) | 2 (50.0%) | 2 (100.0%) |" in text
    assert text.endswith("Of 2 seeds. 95 % intervals: 2: 16% to 100%; 1: 1% to 99%; 0: 0% to 84%.")
    independent = planted_copies.independent_text(rows)
    assert independent == "Memorising without copies: 1 of 4 (0.6% to 80.6%): fresh 1 of 4."


def test_planted_changes_are_what_they_say():
    step = np.zeros((2, 20, 20, 1), np.uint8)
    step[:, :, 10:] = 200
    random, kinds = np.random.default_rng(0), planted_copies.KINDS
    np.testing.assert_array_equal(np.flatnonzero(kinds["shifted by one pixel"](step, random)[0, 3, :, 0]), range(11, 20))
    np.testing.assert_array_equal(np.flatnonzero(kinds["mirrored"](step, random)[0, 3, :, 0]), range(10))
    assert set(np.unique(kinds["contrast x .7"](step, random))) == {38, 178}
    wedge = np.zeros((1, 41, 41, 3), np.uint8)
    wedge[:, 20, 20:40] = wedge[:, :20, 20] = 250  # a line to the right of the middle, and one above
    zoomed, turned = kinds["zoomed by 10 %"](wedge, random), kinds["turned by 8 degrees"](wedge, random)
    assert (zoomed[0, 20, 22:40] > 200).all() and (zoomed[0, 20, 41 - 19 :] > 0).all() and zoomed.shape == wedge.shape
    rows = turned[0, :, 38, 0].argmax() - 20  # of the line's end, 18 pixels from the middle
    assert abs(abs(rows) - 18 * math.tan(math.radians(8))) <= 1
    for name in ("JPEG, quality 50", "Gaussian blur of 1 pixel", "noise of 8 / 255", "blend of two"):
        changed = kinds[name](wedge, random)
        assert changed.shape == wedge.shape and changed.dtype == np.uint8, name


def test_a_mixture_is_searched_as_its_images_are():
    data = gan.from_arrays(np.random.default_rng(0).integers(0, 256, (600, 8, 8, 1), np.uint8))
    pool = gan.report.references_of(data, features="random").pool
    both = [planted_copies.Searched.of(pool, x) for x in (data.train.images[:100], data.test.images[:60])]
    mixed = both[1].mixed(both[0], 40)
    images = np.concatenate([data.test.images[:40], data.train.images[:20]])
    alone = pool.search(images)
    assert mixed.p == pytest.approx(dict(alone.p)) and mixed.found == alone.found and mixed.share == alone.share


@pytest.mark.slow
def test_every_truth_planted_on_the_ring_is_found(tmp_path, capsys):
    ring = planted_truths.Options(data=("ring",), seeds=1, independent=5, reports=1, out=tmp_path)
    planted_truths.main(ring)
    cases = read_csv(tmp_path / "ring_reports.csv")
    assert list(cases["right"]) == [True] * (len(planted_truths.EXPECTED) - 1), "all but mirrored points"
    copies = read_csv(tmp_path / "ring_copies.csv")
    assert set(copies.loc[copies["memorises"], "kind"]) == {*planted_copies.OF_POINTS}
    assert list(copies.loc[copies["kind"] == "verbatim", "memorises"]) == [True] * len(planted_copies.SHARES)
    assert "## ring: copies" in capsys.readouterr().out and not (tmp_path / "ring_gans.csv").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_gan_of_50_digits_memorises_and_one_of_all_does_not(tmp_path):
    planted_truths.main(planted_truths.Options(data=("digits",), parts=("gans",), reports=2, out=tmp_path))
    assert list(read_csv(tmp_path / "digits_gans.csv")["right"]) == [True] * 4


@pytest.mark.parametrize("option", ["data", "parts"])
def test_a_list_of_nothing_to_plant_is_refused(option):
    with pytest.raises(UserError, match=f"--{option} has no value"):
        planted_truths.main(replace(planted_truths.Options(), **{option: ()}))
