"""Knobs in closed loop, and remedies for few data: a few steps as a person starts them, and what
they say of made-up tables."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from experiments import adaptive, limited_data
from gan_jax.core.bind import leaves
from gan_jax.gan import control
from gan_jax.metrics.choice import choose
from gan_jax.sweeps import population

TINY = ["--steps", "4", "--log-every", "2", "--width", "4", "--batch-size", "8", "--devices", "1"]


def command(monkeypatch, module, *words):
    """Runs a script's main here, without the sweep's pictures and the report's page, which have
    tests of their own; its exit code."""
    monkeypatch.setattr("gan_jax.sweeps.result.Sweep.draw", lambda self, folder: [])
    monkeypatch.setattr("gan_jax.report.sweeps.SweepReport.save", lambda self, folder: seen.append(self.table) or "a page")
    seen: list[pd.DataFrame] = []
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, words)])
    monkeypatch.setattr(module.Options, "prepare", lambda self: None)  # devices: once in a process
    with pytest.raises(SystemExit) as stopped:
        module.run(module.main)
    return stopped.value.code, *seen


def report_table(values, seeds=6):
    """A report's table from {setting: {number: value or function of the seed}}."""
    rows = []
    for setting, numbers in values.items():
        for seed in range(seeds):
            found = {k: v(seed) if callable(v) else v for k, v in numbers.items()}
            rows.append({"setting": setting, "seed": seed, "n": 50, "step": 9, "diverged": False} | found)
    return pd.DataFrame(rows)


# ---- knobs in closed loop ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def knob_settings():
    return adaptive.settings_of(adaptive.Options(width=4, batch_size=8), adaptive.KNOBS, (8, 8, 1))


def test_a_knob_s_fixed_values_and_its_loop_are_one_structure(knob_settings):
    members = [population.Member(name, recipe, 0, 8) for name, recipe in knob_settings.items()]
    assert len(knob_settings) == 1 + 4 * len(adaptive.KNOBS) and len(population.by_structure(members)) == 7


@pytest.mark.parametrize("name", adaptive.KNOBS)
def test_a_fixed_value_stays_and_a_loop_moves_towards_the_target(knob_settings, name):
    knob = adaptive.KNOBS[name]

    def moved(recipe, auc):
        memory = {"live": {knob.path: jnp.asarray(leaves(recipe)[knob.path])}}
        state = gan.State(jnp.int32(2000), jax.random.key(0), None, None, None, memory)
        return float(control.observe(recipe, state, {"D/train_validation_auc": jnp.float32(auc)}, 50)["live"][knob.path])

    for value in knob.fixed:
        held = knob_settings[adaptive.named(name, value)]
        assert moved(held, 0.9) == moved(held, 0.1) == np.float32(value)
    start, stronger = np.float32(knob.start), moved(knob_settings[adaptive.named(name, "loop")], 0.9)
    assert (stronger > start) == knob.lowers and stronger != start, "overfitting: more of it, or less of the rate"
    assert moved(knob_settings[adaptive.named(name, "loop")], 0.1) == start, "there is nothing weaker"


def knobs_of(*fixed):
    return {"k": adaptive.Knob("x", fixed, 0.0, 1.0)}


def test_each_seed_s_fixed_value_is_chosen_by_the_other_seeds():
    """Seed 0 alone makes 'k 1' look best: the others' choice for seed 0 is 'k 2', all seeds' and
    that of the others 'k 1'."""
    lucky = lambda seed: -10.0 if seed == 0 else 0.5
    table = report_table({"none": {"d_auc": 1.0, "fd": 1.0}, "k 1": {"d_auc": lucky, "fd": 1.0},
                          "k 2": {"d_auc": 0.0, "fd": 1.0}, "k loop": {"d_auc": 0.25, "fd": 1.0}})  # fmt: skip
    (row,) = adaptive.comparison(table, knobs_of(1.0, 2.0), "d_auc", "d_auc").to_dict("records")
    assert row["fixed"] == "k 1" and row["at_fixed"] == [0.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert row["mean"] == pytest.approx(0.25 - 2.5 / 6)


def test_a_fixed_value_that_costs_quality_or_a_seed_is_not_chosen():
    table = report_table({"none": {"d_auc": 1.0, "fd": 4.0}, "k 1": {"d_auc": 0.1, "fd": 5.1},
                          "k 2": {"d_auc": 0.8, "fd": 4.9}, "k 3": {"d_auc": lambda s: 0.1 if s else math.nan, "fd": 4.0},
                          "k loop": {"d_auc": 0.7, "fd": 4.0}})  # fmt: skip
    (row,) = adaptive.comparison(table, knobs_of(1.0, 2.0, 3.0), "d_auc", "fd").to_dict("records")
    assert row["fixed"] == "k 2", "a quarter above the baseline's FD is the most, and every seed must be there"
    assert row["at_fixed"][1:] == [4.9] * 5


@pytest.mark.parametrize(
    ("shift", "seeds", "said"),
    [
        (-0.3, 6, "lower than the best fixed value for k, higher for no knob (Holm's correction over 1 knobs)."),
        (0.3, 6, "lower than the best fixed value for no knob, higher for k"),
        (0.0, 6, "lower than the best fixed value for no knob, higher for no knob"),
        (-0.3, 4, "nothing was tested"),
    ],
)
def test_the_finding_says_where_the_loop_was_shown_to_differ(shift, seeds, said):
    noise = np.random.default_rng(0).normal(0, 0.01, 8)
    table = report_table({"none": {"d_auc": 0.9, "fd": 1.0}, "k 1": {"d_auc": 0.6, "fd": 1.0},
                          "k loop": {"d_auc": lambda s: 0.6 + shift + noise[s] * (shift != 0), "fd": 1.0}}, seeds)  # fmt: skip
    rows = adaptive.comparison(table, knobs_of(1.0), "d_auc", "d_auc")
    assert said in adaptive.finding(rows, "d_auc")
    text = adaptive.comparison_text(rows, {"k": [0.5] * seeds}, "d_auc")
    assert "k 1" in text and f"{0.6 + shift:.2f}"[:3] in text


@pytest.mark.slow
def test_adaptive_ends_in_the_report_the_comparison_and_the_loops(monkeypatch, tmp_path, capsys):
    out = tmp_path / "sweep"
    words = [*TINY, "--seeds", 1, "--subset", 60, "--only", "dropout"]
    code, report = command(monkeypatch, adaptive, "--out", out, *words)
    text = capsys.readouterr().out
    places = [text.index(f"{label}: the loop against the best fixed value") for label in adaptive.NUMBERS.values()]
    assert code == 0 and places == sorted(places) and "Nothing is tested: it takes 5 seeds" in text
    assert (out / "pictures" / "loops.png").stat().st_size > 10_000
    assert {*report["setting"]} == {
        "none",
        "dropout loop",
        *(f"dropout {v}" for v in (0.15, 0.3, 0.6)),
    }


# ---- remedies for few data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "images", "found"),
    [
        ((), 1069, (1069, 214, 107)),
        ((), 40_000, (40_000, 8000, 4000, 1000, 100)),
        ((0.5, 60.0, 1.0, 120.0), 120, (120, 60)),
    ],
)
def test_sizes_are_shares_and_numbers_most_first(sizes, images, found):
    assert limited_data.counts(sizes, images) == found


@pytest.mark.parametrize("size", [0.0, -1.0, 1.5, 121.0])
def test_a_size_that_cannot_be_meant_is_refused(size):
    with pytest.raises(gan.UserError, match=f"--sizes has {size:g}"):
        limited_data.counts((1.0, size), 120)


@pytest.mark.parametrize("published", [False, True])
def test_every_remedy_is_a_structure_of_its_own(published):
    options = limited_data.Options(published=published, width=4, batch_size=8)
    known = limited_data.remedies(options, (32, 32, 3) if published else (8, 8, 1), 10)
    members = [population.Member(name, recipe, 0, 8) for name, recipe in known.items()]
    assert next(iter(known)) == "none" and len(population.by_structure(members)) == len(known) == (9 if published else 11)
    if not published:
        batch = gan.Batch(jnp.zeros((8, 8, 8, 1)), jnp.zeros(8, jnp.int32))
        for recipe in (known[name] for name in ("apa", "rpgan_r1_r2", "spectral_norm")):
            step = lambda key, recipe=recipe: gan.train_step(recipe, gan.init(recipe, key), batch)[1]
            assert "discriminator/loss" in jax.eval_shape(step, jax.random.key(0))


def chosen(r1, **fields):
    """The choice where r1's gap is `r1`, less than 1 being shown better."""
    table = report_table(
        {"none": {"fd_gap": 1.0, "fd": 1.0}, "r1": {"fd_gap": lambda seed: r1 + 0.01 * seed, "fd": 1.0} | fields}
    )
    return choose(table, "fd_gap", "fd")


@pytest.mark.parametrize("fields", [{"fd_gap": 1.0}, {"fd": 2.0}])
def test_without_a_remedy_that_is_shown_better_at_no_price_s_stays_closed(fields):
    said = limited_data.conclusion(limited_data.Options(final=True), type("", (), {"baseline": "none"}), chosen(0.5, **fields))
    assert "'r1' is not shown to lower fd_gap at no price in fd" in said and said.endswith("S stays closed.")


def test_differences_are_those_to_the_baseline_at_the_same_size():
    table = report_table({"none": {"fd": 3.0}, "r1": {"fd": lambda seed: 2.0 + 0.01 * seed}})  # 2.025 +- .02
    table = pd.concat([table, table.assign(n=99, fd=table["fd"] + (table["setting"] == "r1") * 2)])
    text = limited_data.differences_text(gan.ranking.rank(table, "fd", baseline="none"), "fd")
    assert "n = 99" in text.splitlines()[2] and text.splitlines()[2].index("n = 99") < text.splitlines()[2].index("n = 50")
    assert "-0.98 +- 0.02 p <.001" in text and "+1.02 +- 0.02 p <.001" in text and "3.00 +- 0.00" in text


@pytest.mark.parametrize(("shift", "said"), [(-0.2, "On S it is confirmed"), (0.2, "On S it is not confirmed")])
def test_the_choice_is_confirmed_where_s_shows_it_better(monkeypatch, shift, said):
    numbers = {"fd_gap": lambda seed: 1 + 0.01 * seed + shift, "d_auc": 0.6, "fd": 1.0}
    on_s = report_table({"none": {"fd_gap": 1.0, "d_auc": 0.6, "fd": 1.0}, "r1": numbers})
    monkeypatch.setattr(
        limited_data, "on_s", lambda swept, settings, n: on_s if (settings, n) == (["none", "r1"], 50) else None
    )
    swept, choice = type("", (), {"baseline": "none"}), chosen(0.5)
    text = limited_data.conclusion(limited_data.Options(final=True), swept, choice)
    assert said in text and text.count("differences to it") == 3
    assert limited_data.conclusion(limited_data.Options(), swept, choice).endswith("--final opens S for it.")


@pytest.mark.slow
def test_limited_data_ends_in_the_report_and_judges_every_seed_on_s(monkeypatch, tmp_path, capsys):
    out, seen = tmp_path / "sweep", []
    opened = lambda options, swept, ranked: seen.append(limited_data.on_s(swept, ["none", "dropout"], 60)) or "the end"
    monkeypatch.setattr(limited_data, "conclusion", opened)
    arguments = [*TINY, "--sizes", 60, "--only", "none", "dropout", "--seeds", 1]
    code, report = command(monkeypatch, limited_data, "--out", out, *arguments)
    assert code == 0 and {*report["setting"]} == {"none", "dropout"} and {*report["n"]} == {60}
    text = capsys.readouterr().out
    assert text.count("that of 'none', and the remedies' differences to it") == 3 and "the end" in text
    assert (
        seen[0]["setting"].tolist() == ["none", "dropout"] and np.isfinite(seen[0][["fd", "fd_gap", "d_auc"]].to_numpy()).all()
    )
    assert (out / "openings.jsonl").read_text().count("\n") == 1
