"""The experiments about the data's size and about modes: a few steps as a person starts them, and
what they say of a table."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gan_jax as gan
from experiments import dataset_size, mode_coverage, regularization_sweep
from gan_jax.sweeps import population
from tests.experiments.test_experiments import script


def decoded(folder):
    """{file name: whether it has more than one colour} of every PNG in a folder."""
    return {p.name: len(np.unique(np.asarray(Image.open(p).convert("L")))) > 1 for p in folder.glob("*.png")}


# ---- the main job ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_regularization_sweep_draws_trains_and_ranks(tmp_path):
    out, gamma = tmp_path / "sweep", "discriminator.penalties.r1.gamma"
    small = ["--steps", 4, "--log-every", 2, "--width", 4, "--batch-size", 8, "--seeds", 1, "--subset", 60, "--out", out]
    text = script(
        "experiments/regularization_sweep.py", *small, "--only", "r1_1", "--vary", f"{gamma}=log:0.1:10", "--draws", 2
    )
    table = pd.read_csv(out / "table.csv")
    gammas = table.groupby("setting")[gamma].first()
    assert gammas.pop("r1_1") == 1 and sorted(gammas > 1) == [False, True], "one draw in each half of the log range"
    assert set(table["n"]) == {60} and {2, 4} == set(table["step"])
    assert {"ranking.png", "samples.png", "gaps.png"} <= {n for n, drawn in decoded(out / "pictures").items() if drawn}
    assert "\nsettings at step 4, n = 60\n" in text and "C: D tells T from V (AUC)" in text
    (said,) = (line for line in text.splitlines() if line.startswith("Nothing is tested"))
    assert (out / "ranking.txt").read_text().strip().endswith(said) and "\r" not in text
    assert (out / "report.html").exists() and len(pd.read_csv(out / "report.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--only", "nope"], "no setting 'nope'; there are none, label_smoothing"), (["--vary", "ema_decay=1,2"], "with --only")],
)
def test_a_mistake_in_the_regularization_sweep_is_one_line(tmp_path, mistake, arguments, said):
    assert said in mistake(regularization_sweep, "--out", tmp_path / "sweep", *arguments)


def test_every_regularizer_is_a_step_of_its_own_in_eight_structures():
    known = gan.recipes.regularizers((8, 8, 1), width=4, batch_size=8)
    members = [population.Member(name, recipe, 0, 8) for name, recipe in known.items()]
    assert len(known) == 12 and len(population.by_structure(members)) == 8
    assert set(regularization_sweep.MAIN) <= set(known) and regularization_sweep.MAIN[0] == next(iter(known))
    for name, recipe in known.items():
        n = 8 * recipe.d_steps
        batch = gan.Batch(jnp.zeros((n, 8, 8, 1)), jnp.arange(n))
        step = lambda key, recipe=recipe, batch=batch: gan.train_step(recipe, gan.init(recipe, key), batch)[1]
        metrics = jax.eval_shape(step, jax.random.key(0))
        assert {"discriminator/loss", "generator/loss"} <= metrics.keys(), name


def test_the_main_job_leaves_out_what_points_cannot_have_and_wgan_gp_has_its_published_numbers():
    options = regularization_sweep.Options(width=4, batch_size=8)
    left_out = {*regularization_sweep.MAIN} - {*regularization_sweep.settings_of(options, (2,))}
    assert left_out == {"batch_norm", "diffaugment"}
    leaves, published = (
        {
            name: value
            for name, value in gan.leaves(recipe).items()
            if name.startswith(("generator.opt", "discriminator", "loss"))
        }
        for recipe in (
            gan.recipes.regularizers((8, 8, 1), width=4, batch_size=8)["wgan_gp"],
            gan.recipes.wgan_gp((8, 8, 1), width=4, batch_size=8),
        )
    )
    assert leaves == published and leaves["generator.optimizer.learning_rate"] == pytest.approx(1e-4)


# ---- the data's size ---------------------------------------------------------------------------


TINY = ["--steps", 4, "--log-every", 2, "--width", 4, "--batch-size", 8, "--seeds", 2, "--sizes", 8, 12]
TINY += ["--r1", "None", "--instance-noise", "None"]


@pytest.mark.slow
def test_dataset_size_ends_in_tables_pictures_and_a_finding(tmp_path):
    out = tmp_path / "sweep"
    text = script("experiments/dataset_size.py", "--out", out, *TINY)
    table = pd.read_csv(out / "table.csv")
    members = {(s, n, seed, step) for s in ("none", "dropout 0.3") for n in (8, 12) for seed in (0, 1) for step in (2, 4)}
    assert {*zip(table["setting"], table["n"], table["seed"], table["step"], strict=True)} == members
    assert len(table) == len(members) and not table["diverged"].any()
    pictures = decoded(out / "pictures")
    sizes = {f"sizes_{name}.png" for name in ("D_train_validation_auc", "G_validation_energy", "D_logit_gap")}
    assert sizes | {"ranking.png", "samples.png"} <= pictures.keys() and all(pictures.values())
    for metric in (dataset_size.AUC, dataset_size.LOGITS, dataset_size.ENERGY):
        assert f"{metric} at step 4, {'in order' if metric == dataset_size.AUC else 'best first'}" in text
    # of three metrics at two sizes each; a narrow terminal breaks the cell before its last word
    assert text.count("too few seeds for a") == 6 and "Finding: nothing was tested" in text


def test_a_batch_that_does_not_fit_the_smallest_size_is_one_line(tmp_path, mistake):
    said = mistake(dataset_size, "--out", tmp_path / "sweep", *TINY, "--sizes", 6, 12)
    assert "fewer than the batch of 8" in said
    assert not (tmp_path / "sweep").exists()


def made_up(change, diverged=()):
    """A table of two settings, 2 sizes and 6 seeds whose AUC under R1 differs by `change[n]` and a
    little noise."""
    rng, rows = np.random.default_rng(0), []
    for setting in ("none", "R1 1"):
        for n in (100, 50):
            for seed in range(6):
                auc = 0.7 + 0.02 * seed + (setting != "none") * change[n] + 0.001 * rng.normal()
                lost = (setting, n, seed) in diverged
                rows.append((setting, n, seed, 10, lost, math.nan if lost else auc))
    return pd.DataFrame(rows, columns=["setting", "n", "seed", "step", "diverged", dataset_size.AUC])


@pytest.mark.parametrize(
    ("change", "diverged", "said"),
    [
        ({50: -0.1, 100: -0.1}, (), "over 2 tests: R1 1 lower at n = 50, 100."),
        ({50: 0.1, 100: -0.1}, (), "R1 1 lower at n = 100 and higher at n = 50."),
        ({50: 0.0, 100: 0.0}, (), "R1 1 not shown to differ at any n."),
        ({50: -0.1, 100: 0.0}, [("R1 1", 50, 0)], "R1 1 lower at n = 50 (among survivors)."),
    ],
)
def test_the_finding_says_where_a_difference_was_shown(change, diverged, said):
    ranked = gan.ranking.rank(made_up(change, diverged), dataset_size.AUC, baseline="none")
    assert dataset_size.finding(ranked).endswith(said)


# ---- modes -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mode_coverage_counts_the_modes_of_every_seed(tmp_path):
    arguments = ["--toys", "ring", "--steps", 2, "--log-every", 1, "--seeds", 2]
    text = script("experiments/mode_coverage.py", *arguments, "--out", tmp_path)
    assert "ring, simultaneous play, published optimizer: 2 steps, seeds: 2 (published: 400,000 and 10)" in text
    table = pd.read_csv(tmp_path / "ring" / "table.csv")
    assert [*zip(table["seed"], table["step"], strict=True)] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert table["modes"].between(0, 8).all() and table["high_quality"].between(0, 1).all()
    assert table["reverse_kl"].between(0, math.log(8) + 1e-6).all()
    modes = table.loc[table["step"] == 2, "modes"].mean()
    assert f"this run, gan {modes:.1f} +-" in " ".join(text.split())
    assert decoded(tmp_path) == {"ring_gan.png": True}
    record = (tmp_path / "ring" / "sweep.json").read_text()
    assert "simultaneous" in record and "alternating" not in record


@pytest.mark.parametrize("name", mode_coverage.RECIPES)
def test_every_recipe_of_mode_coverage_is_a_step_from_the_same_networks(name):
    options = mode_coverage.Options(optimizer="annealed", d_rate=4, gamma=0.2, steps=10)
    recipe, plain = (mode_coverage.recipe_of(x, options, (2,)) for x in (name, "gan"))
    state = jax.eval_shape(lambda key: gan.init(recipe, key), jax.random.key(0))
    batch = gan.Batch(jnp.zeros((recipe.batch_size, 2)), jnp.arange(recipe.batch_size))
    metrics = jax.eval_shape(lambda key: gan.train_step(recipe, gan.init(recipe, key), batch)[1], jax.random.key(0))
    size = int(name[6:]) if name.startswith("pacgan") else 1
    assert recipe.batch_size == 100 * size and recipe.generator.net == plain.generator.net
    parameters = sum(x.size for x in jax.tree.leaves(state.discriminator.params))
    assert parameters == 405_201 + 2000 * (size - 1), "2 more inputs an example, into 1,000 pieces"
    assert {"discriminator/loss", "generator/loss"} <= metrics.keys()
    leaves = gan.leaves(recipe)
    for player, start in {"generator": 1e-3, "discriminator": 4e-3}.items():
        assert float(leaves[f"{player}.optimizer.learning_rate.start"]) == pytest.approx(start)
    gammas = [float(v) for k, v in leaves.items() if k.endswith(("gamma.start", "gamma.stop"))]
    assert gammas == pytest.approx([0.2, 0.02] * 2 * (name == "rpgan_r1_r2"))


def test_modes_are_averaged_over_the_seeds_that_have_not_diverged():
    columns = ["seed", "step", "diverged", *mode_coverage.METRICS]
    rows = [(0, 1, False, 1, 0.1, 2.0), (0, 2, False, 6, 0.5, 1.0), (1, 2, False, 8, 0.7, 0.5), (2, 2, True, *[math.nan] * 3)]
    modes, high, kl = mode_coverage.measured(pd.DataFrame(rows, columns=columns))
    assert modes == (7, 1) and high == pytest.approx((60, 10)) and kl == pytest.approx((0.75, 0.25))
    assert mode_coverage.measured(pd.DataFrame(rows[-1:], columns=columns)) == (None, None, None)
    assert mode_coverage.row("x", (None, (1.0, None), (2.0, 0.5)), (".1f",) * 3) == ["x", "", "1.0", "2.0 +- 0.5"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"published": True, "steps": 10}, "leave --steps and --seeds out"),
        ({"toys": ()}, "--toys is empty"),
        ({"d_rate": 2.0}, "add --optimizer annealed"),
        ({"recipes": ()}, "--recipes is empty"),
    ],
)
def test_options_of_mode_coverage_that_cannot_be_meant(changed, said):
    with pytest.raises(gan.UserError, match=said):
        mode_coverage.Options(**changed).check()
    assert mode_coverage.Options().size == (20_000, 3) and mode_coverage.Options(published=True).size == (400_000, 10)
