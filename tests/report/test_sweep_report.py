"""What the report of a sweep says, on every surface the same: of made-up numbers."""

import html
import json

import numpy as np
import pandas as pd
import pytest

from gan_jax.metrics.choice import AUC, choose
from gan_jax.metrics.convergence import QUALITY
from gan_jax.report.sweeps import ALSO, PRIMARY, SweepReport
from tests.report.test_page import report

NOISE = np.random.default_rng(0).normal(size=(4, 6))


def made_up(settings, sizes=(50,), **fields):
    """A SweepReport of {setting: (copy share, FD)} over 6 seeds, and of their logged steps."""
    rows, logged = [], []
    for n in sizes:
        for i, (setting, (copies, fd)) in enumerate(settings.items()):
            for seed in range(6):
                noise = 0.01 * NOISE[i, seed]
                member = {"setting": setting, "seed": seed, "n": n, "diverged": False}
                numbers = dict.fromkeys(ALSO, 0.1 + noise) | {PRIMARY: copies + noise, "fd": fd + noise}
                rows.append(member | {"step": 100, "verdict": "healthy"} | numbers)
                curve = {10: 8.0, 50: 1.0, 100: 1.0} if setting != "slow" else {10: 64.0, 50: 32.0, 100: 8.0}
                logged += [member | {"step": step, QUALITY: value, AUC: 0.7 + noise} for step, value in curve.items()]
    reports = {setting: report(setting) for setting in settings}
    about = {"data": "made up", "members": len(rows), "sweep": "in memory"}
    return SweepReport(pd.DataFrame(rows), "none", reports, about, curves=pd.DataFrame(logged), **fields)


def surfaces(made, folder, capsys):
    """What each surface says: {its name: its text}."""
    page = made.save(folder)
    print(made)
    record, frame = json.loads((folder / "report.json").read_text()), pd.read_csv(folder / "ranking.csv")
    frame = frame[frame["choice"].notna()].iloc[-1]
    return {
        "terminal": capsys.readouterr().out,
        "ranking.txt": (folder / "ranking.txt").read_text(),
        "ranking.csv": frame["choice"],
        "report.html": html.unescape(page.read_text(encoding="utf-8")),
        "report.json": record["sentence"],
    }, {"ranking.csv": frame["setting"], "report.json": record["chosen"]}


WORSE = {"none": (0.5, 20.0), "dropout": (0.5, 20.0), "blur": (0.1, 40.0), "slow": (0.1, 20.0)}


@pytest.mark.parametrize(
    ("settings", "sizes", "chosen", "said"),
    [
        (WORSE | {"dropout": (0.3, 20.0)}, (50,), "dropout", "'dropout' is chosen: it is shown to lower the copy share"),
        (WORSE, (50,), "none", "None of 3 is shown to lower the copy share"),
        (WORSE, (50, 100), "none", "With 100 training images: None of 3 is shown to lower the copy share"),
    ],
)
def test_every_surface_says_the_same(tmp_path, capsys, monkeypatch, settings, sizes, chosen, said):
    monkeypatch.setattr(SweepReport, "pictures", lambda self: {})  # they have tests of their own
    made = made_up(settings, sizes)
    texts, names = surfaces(made, tmp_path, capsys)
    assert made.sentence.startswith(said) and "still training: 'slow' (about" in made.sentence
    for where, text in texts.items():
        assert text.count(made.sentence) >= 1, where
        other = "is chosen" if chosen == "none" else "None of"
        assert other not in text, where
    for where in ("terminal", "ranking.txt"):
        assert texts[where].rstrip().endswith(made.sentence), "the answer is the last line"
    assert set(names.values()) == {chosen} and made.chosen == chosen


def test_what_is_chosen_is_what_the_rule_says_of_the_report_s_table():
    made = made_up(WORSE | {"dropout": (0.3, 20.0)})
    again = choose(made.table, PRIMARY, "fd", baseline="none", also=ALSO, curves=made.curves)
    assert again.setting == made.chosen
    pd.testing.assert_frame_equal(again.rows.drop(columns="verdict"), made.choice.rows.drop(columns="verdict"))


@pytest.mark.parametrize(
    ("copies", "said"), [(0.3, "this is confirmed: 'dropout'"), (0.5, "this is not confirmed: 'dropout' is not")]
)
def test_s_confirms_the_choice_or_does_not(copies, said):
    final = made_up({"none": (0.5, 20.0), "dropout": (copies, 20.0)}).table
    made = made_up(WORSE | {"dropout": (0.3, 20.0)}, final_table=final)
    assert said in made.confirmation and "FD to S" in made.confirmation and made.confirmation in made.text()
    assert not made_up(WORSE, final_table=final).confirmation, "there is nothing to confirm"
