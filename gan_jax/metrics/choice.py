"""Which setting of a sweep is chosen: one rule, for every text, table, page and picture.

A setting is chosen only if it is shown better than the baseline in the primary number, at no price
in the guard, by at least 5 seeds none of which diverged. Shown: a two-sided paired t-test over
seeds, with Holm's correction over the settings, p at most .05. At no price: not shown worse, and
its mean not worse than the baseline's by more than a quarter. Of several such settings the one of
best primary mean is chosen; where there is none, the baseline stays. A setting that is still
training and behind the baseline (`convergence`) gets neither a test nor a place.

The seeds of a sweep share one split of the data: what they show holds for that split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.metrics import convergence
from gan_jax.metrics.ranking import CHANCE, FEWEST_SEEDS, WIDTH, decimals_of, holm, rank, text_table, with_error
from gan_jax.metrics.sweep_table import baseline_of, check
from gan_jax.text import one_line, shorten

if TYPE_CHECKING:
    import pandas as pd

PRICE = 0.25  # of the baseline's mean of the guard: more is too much, shown or not
AUC = "D/train_validation_auc"  # logged of every GAN
PARTS = ("", "_low", "_high", "_difference", "_difference_low", "_difference_high", "_p", "_shown")
OF_RANK = ("mean", "low", "high", "difference", "difference_low", "difference_high", "p_holm")
ONE_SPLIT = "Seeds share one split into T and V: intervals and p hold for that split alone"


@dataclass(frozen=True, eq=False)
class Choice:
    """What is chosen, and the numbers that it is chosen by.

    setting: the chosen setting, or the baseline.
    sentence: one plain sentence that says so; every surface prints it as it is.
    rows: a row for each setting, the chosen one or the baseline first, in the order of the rule.
        Columns: setting, seeds (with a value), diverged (seeds), place (0: chosen or staying;
        1: better at no price; 2: the baseline; 3: not shown better; 4: at a price; 5: lost seeds;
        6: still training; 7: no value), verdict (words), still_training, more_steps (about how many
        until the baseline's quality; NaN where unknown), price (bool). For each of primary, guard,
        auc and the numbers of `also`, X: X (mean over seeds), X_low, X_high (95 % interval),
        X_difference (to the baseline, common seeds), X_difference_low, X_difference_high, X_p
        (Holm), X_shown ("better", "worse" or ""). auc is D's, as logged. Its difference, p and
        shown are at equal sample quality, the best that both reach. The setting has it at auc_step.
    labels: {"primary": ..., "guard": ..., and of `also`}: the numbers' names.
    n, step: of the compared rows.
    """

    setting: str
    sentence: str
    rows: pd.DataFrame
    baseline: str
    labels: Mapping[str, str]
    n: int
    step: int

    @property
    def decided(self) -> bool:
        """Whether a setting is shown better than the baseline at no price."""
        return self.setting != self.baseline

    @property
    def frame(self) -> pd.DataFrame:
        """The rows for a CSV file: n before them, and after them the column choice, the sentence in
        the row of what is chosen."""
        rows = self.rows.assign(choice=[self.sentence] + [""] * (len(self.rows) - 1))
        rows.insert(1, "n", self.n)
        return rows

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """`table_text`, and the sentence last."""
        return f"{self.table_text(width)}\n\n{self.sentence}"

    def table_text(self, width: int = WIDTH) -> str:
        """The settings as a table for a terminal of `width` columns, with notes at its foot."""
        keys = {"primary": self.labels["primary"], "guard": self.labels.get("guard", ""), "auc": "D tells T from V (AUC)"}
        keys = {key: label for key, label in keys.items() if key in self.rows and np.isfinite(self.rows[key]).any()}
        rows: list[dict[str, Any]] = self.rows.to_dict("records")
        heads = dict(zip(keys, "ABC", strict=False))
        digits = {key: decimals_of([row[key] for row in rows]) for key in keys}
        texts = []
        for row in rows:
            cells = {"setting": shorten(row["setting"], 50), "verdict": row["verdict"]}
            cells["seeds"] = f"{row['seeds']} of {row['seeds'] + row['diverged']}" if row["diverged"] else str(row["seeds"])
            for key, head in heads.items():
                cells[head] = with_error(row[key], row[f"{key}_high"], digits[key])
                cells[f"p {head}"] = p_text(row[f"{key}_p"])
            texts.append(cells)
        names = ["setting", "seeds", *(name for head in heads.values() for name in (head, f"p {head}")), "verdict"]
        notes = [f"{head}: {one_line(keys[key])}{_NOTES[key]}" for key, head in heads.items()]
        notes += [
            f"+-: 95 % interval over seeds; p: paired t-tests against {self.baseline!r}, Holm's correction over settings",
            ONE_SPLIT,
        ]
        at = f"at step {self.step}, n = {self.n}"
        return f"settings {at}\n\n{text_table(names, texts, width)}\n" + "\n".join(notes)


_NOTES = {"primary": ": decides", "guard": ": the price", "auc": "; its p at the best quality that both reach; decides nothing"}


def choose(
    table: pd.DataFrame,
    primary: str,
    guard: str | None = None,
    *,
    baseline: str | None = None,
    n: int | None = None,
    higher_is_better: bool = False,
    also: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    curves: pd.DataFrame | None = None,
) -> Choice:
    """The choice among a sweep's settings, by the rule of this module.

    table: a sweep's, see `ranking.rank`; its last step is compared. primary: the column that
    decides, named before any result; smaller is better unless higher_is_better. guard: the column
    of the price, smaller is better. baseline: by default the first setting. n: the number of
    training images, by default the largest. also: further columns to compare in `Choice.rows`.
    labels: {column: its name in sentences}. curves: the logged table, of which D's AUC and what is
    still training are read; by default `table`. Raises UserError as `ranking.rank`.

        >>> choose(report.table, "copy_share", "fd", curves=swept.table).sentence
    """
    numbers = {"primary": primary} | ({"guard": guard} if guard else {}) | {key: key for key in also}
    check(table, *numbers.values())
    baseline = baseline_of(table, baseline)
    n = max(int(size) for size in table["n"].tolist()) if n is None else n
    curves = table if curves is None else curves
    moving = convergence.motions(curves, baseline, n)
    out = {name for name, motion in moving.items() if motion.behind}
    rows, step = _merged(table, numbers, baseline, n, out - {baseline}, higher_is_better)
    rows["still_training"] = [name in out for name in rows["setting"]]
    rows["more_steps"] = [moving[name].more if name in out else math.nan for name in rows["setting"]]
    _add_auc(rows, curves, baseline, n, out)
    names = {key: (labels or {}).get(column, column) for key, column in numbers.items()}
    void = "is still training" if baseline in out else ""
    _place(rows, baseline, void, names)
    rows["loss"] = (-1 if higher_is_better else 1) * rows["primary"]
    rows = rows.sort_values(["place", "loss"], ignore_index=True).drop(columns="loss")
    better = rows.loc[rows["place"] == 1, "setting"].tolist()
    setting = better[0] if better else baseline
    rows.loc[rows["setting"] == setting, "place"] = 0
    rows = rows.sort_values("place", kind="stable", ignore_index=True)
    sentence = _sentence(rows, setting, baseline, names, "raise" if higher_is_better else "lower", void)
    if len({*table["n"].tolist()}) > 1:
        sentence = f"With {n:,} training images: {sentence}"
    return Choice(setting, sentence, rows, baseline, names, n, step)


def p_text(p: float) -> str:
    """A p-value in a table; '' where nothing was tested."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _merged(
    table: pd.DataFrame, numbers: Mapping[str, str], baseline: str, n: int, out: set[str], higher: bool
) -> tuple[pd.DataFrame, int]:
    """A row for each setting with the columns of every number. Settings in `out` have means alone,
    and are in no family of tests."""
    rows, step = None, 0
    for key, column in numbers.items():
        better = {"higher_is_better": higher and key == "primary"}
        whole = rank(table, column, baseline=baseline, n=n, **better).set_index("setting")
        kept = table if not out else table.loc[[str(name) not in out for name in table["setting"]]]
        tested = rank(kept, column, baseline=baseline, n=n, **better).set_index("setting") if out else whole
        step = whole.attrs["step"]
        if rows is None:
            whole = whole.loc[list(dict.fromkeys(table["setting"].astype(str)))]
            rows = whole[["seeds", "diverged"]].assign(words=whole["verdict"])
        for name, column_of in zip(PARTS, OF_RANK, strict=False):
            source = whole if column_of in ("mean", "low", "high") else tested
            rows[key + name] = source[column_of].reindex(rows.index)
        said = tested["verdict"].reindex(rows.index).fillna("")
        rows[f"{key}_shown"] = [next((word for word in ("better", "worse") if v.startswith(word)), "") for v in said]
    assert rows is not None
    return rows.reset_index(), step


def _add_auc(rows: pd.DataFrame, curves: pd.DataFrame, baseline: str, n: int, out: set[str]) -> None:
    """The columns of D's AUC: as it ends, and its difference to the baseline at equal quality."""
    from gan_jax.metrics.ranking import mean_interval

    ends = {name: mean_interval(values[:, -1]) for name, (_, values) in convergence.curves_of(curves, AUC, n).items()}
    levels = convergence.at_equal_quality(curves, AUC, baseline, n) if ends else {}
    none = (math.nan,) * 3
    p = dict(zip(levels, holm([math.nan if name in out else level.p for name, level in levels.items()]), strict=True))
    made = []
    for name in rows["setting"]:
        row: dict[str, Any] = dict(zip(("auc", "auc_low", "auc_high"), map(float, ends.get(name, none)), strict=True))
        level = levels.get(name)
        change = none if level is None else map(float, mean_interval(level.ours - level.theirs))
        row |= zip(("auc_difference", "auc_difference_low", "auc_difference_high"), change, strict=True)
        row |= {"auc_p": p.get(name, math.nan), "auc_step": math.nan if level is None else level.step, "auc_shown": ""}
        if level is not None and row["auc_p"] <= 1 - convergence.LEVEL:
            ours, theirs = (max(float(side.mean()), CHANCE) for side in (level.ours, level.theirs))
            row["auc_shown"] = "better" if ours < theirs else "worse" if ours > theirs else ""
        made.append(row)
    for key in made[0]:
        rows[key] = [row[key] for row in made]


def _place(rows: pd.DataFrame, baseline: str, void: str, names: Mapping[str, str]) -> None:
    """Adds price, place and verdict. void: why the baseline is none to compare with, or ''."""
    base = rows.loc[rows["setting"] == baseline].iloc[0]
    most = (1 + PRICE) * base["guard"] if "guard" in rows else math.nan
    prices, places, verdicts = [], [], []
    for row in rows.to_dict("records"):
        price = "guard" in row and (row["guard_shown"] == "worse" or row["guard"] > most)
        better, words = row["primary_shown"] == "better", row["words"]
        if not row["seeds"]:
            place, verdict = 7, words
        elif row["setting"] == baseline:
            place, verdict = 2, f"baseline{', ' + void if void else ''}"
        elif row["still_training"]:
            place, verdict = 6, f"still training: {more_text(row['more_steps'])}"
        elif row["diverged"] or "survivors" in words:
            place, verdict = 5, words
        else:
            place = 4 if price else 3 if not better or void else 1
            verdict = f"{words}, at a price in {names['guard']}" if price else words
        prices.append(bool(price))
        places.append(place)
        verdicts.append(verdict)
    rows["price"], rows["place"], rows["verdict"] = prices, places, verdicts
    del rows["words"]


def more_text(steps: float) -> str:
    """About how many steps are missing, to one or two digits."""
    if not math.isfinite(steps) or steps <= 0:
        return "more steps"
    size = 10 ** max(math.floor(math.log10(steps)) - 1, 0)
    return f"about {math.ceil(steps / size) * size:,} more steps"


def _sentence(rows: pd.DataFrame, setting: str, baseline: str, names: Mapping[str, str], word: str, void: str) -> str:
    """The choice in one sentence."""
    made: dict[str, dict[str, Any]] = {row["setting"]: row for row in rows.to_dict("records")}
    base, others = made[baseline], [row for row in made.values() if row["setting"] != baseline]
    quoted = lambda name: f"'{shorten(name, 60)}'"
    stays, count = f"the baseline {quoted(baseline)} stays", len(others)
    late = [f"{quoted(r['setting'])} ({more_text(r['more_steps'])})" for r in others if r["place"] == 6]
    notes = f"; still training: {', '.join(late)}" if late else ""
    if not others:
        return f"Nothing is compared: {quoted(baseline)} is the only setting."
    if not base["seeds"]:
        return f"Nothing is decided: the baseline {quoted(baseline)} has no seed left to compare with."
    if void:
        return f"Nothing is decided: the baseline {quoted(baseline)} {void}, so the comparison takes more steps{notes}."
    tested = sum(not math.isnan(row["primary_p"]) for row in others)
    if not tested and not notes:
        return f"Nothing is tested: it takes {FEWEST_SEEDS} seeds that a setting and the baseline have in common; {stays}."
    if setting == baseline:
        who = "None of " + str(count) if count > 1 else quoted(others[0]["setting"])
        verb = "is shown" if count > 1 else "is not shown"
        at = f" at no price in {names['guard']}" if "guard" in names else ""
        return f"{who} {verb} to {word} {names['primary']}{at}: {stays}{notes}."
    row = made[setting]
    p = "p < .001" if row["primary_p"] < 0.001 else f"p {row['primary_p']:.3f}".replace("0.", ".")
    against = lambda key: f"({row[key]:.3g} against {base[key]:.3g}"
    found = (
        f"{quoted(setting)} is chosen: it is shown to {word} {names['primary']} {against('primary')} with {quoted(baseline)}"
    )
    found += f"; {p}, Holm over {tested})"
    found += f" at no price in {names['guard']} {against('guard')})" if "guard" in names else ""
    also = [quoted(row["setting"]) for row in others if row["place"] == 1]
    return found + (f"; also shown, less far: {', '.join(also)}" if also else "") + f"{notes}."
