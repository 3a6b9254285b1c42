"""What is measured of filled-in tables, and how it is shown: the report of `missing_values.py`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PUBLISHED = {
    "GAIN": 0.0546,
    "MICE": 0.0646,
    "missForest": 0.0608,
    "autoencoder": 0.0697,
}  # Breast, 20 %; the rivals from memory
CODE, CHOSEN, VAE, BASELINE, COMPLETE = "GAIN (code)", "GAIN", "VAE", "kNN", "complete data"


class Case(NamedTuple):
    """One fold: which cells are observed, which rows are trained on and which held out."""

    rate: float
    repetition: int
    fold: int
    mask: np.ndarray
    train: np.ndarray
    test: np.ndarray


# ---- what is measured --------------------------------------------------------------------------


def rmse(table: np.ndarray, values: np.ndarray, where: np.ndarray) -> float:
    """Over the chosen cells; NaN where there are none."""
    return float(np.sqrt(np.mean((table - values)[where].astype(np.float64) ** 2))) if where.any() else float("nan")


def usefulness(table: np.ndarray, classes: np.ndarray, case: Case) -> tuple[float, float]:
    """(accuracy, area under the ROC curve) on held-out rows of a logistic regression, both from the
    imputed table.

    The area is NaN where the held-out or the training rows lack a class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(table[case.train], classes[case.train])
    said, truth = model.predict_proba(table[case.test]), classes[case.test]
    accuracy = float((model.classes_[said.argmax(1)] == truth).mean())
    if set(truth) != set(model.classes_):
        return accuracy, float("nan")
    return accuracy, float(roc_auc_score(truth, said[:, 1] if said.shape[1] == 2 else said, multi_class="ovr"))


def measured(values: np.ndarray, classes: np.ndarray, cases: list[Case], found: dict) -> pd.DataFrame:
    """One row for each imputer, rate and repetition: RMSE over the hidden cells of all its folds,
    means of the rest."""
    import pandas as pd

    rows = []
    groups: dict[tuple[float, int], list[int]] = {}
    for i, case in enumerate(cases):
        groups.setdefault((case.rate, case.repetition), []).append(i)
    for name, ((rate, repetition), indices) in product(found, groups.items()):
        held_out = np.concatenate([_hidden_errors(found[name][i], values, cases[i], cases[i].test) for i in indices])
        trained_on = np.concatenate([_hidden_errors(found[name][i], values, cases[i], cases[i].train) for i in indices])
        root = lambda e: float(np.sqrt(np.mean(e**2))) if len(e) else float("nan")
        accuracy, auc = pd.DataFrame([usefulness(found[name][i], classes, cases[i]) for i in indices]).mean()  # without NaN
        rows.append({
            "setting": name, "rate": rate, "seed": repetition, "n": len(cases[indices[0]].train), "step": 0, "diverged": False,
            "rmse": root(held_out), "train_rmse": root(trained_on), "gap": root(held_out) - root(trained_on),
            "accuracy": accuracy, "auc": auc,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _hidden_errors(table: np.ndarray, values: np.ndarray, case: Case, rows: np.ndarray) -> np.ndarray:
    hidden = ~case.mask[rows]
    return (table[rows] - values[rows])[hidden].astype(np.float64)


# ---- what is shown -----------------------------------------------------------------------------


def text(options: Any, table: Any) -> str:
    """For each rate the imputers, best first, against kNN (paired over repetitions, Holm); then the
    published figures."""
    from gan_jax.metrics import ranking

    lines = []
    for rate in options.rates:
        part = table[table["rate"] == rate]
        ranked = ranking.rank(part[part["setting"] != COMPLETE], "rmse", baseline=BASELINE)
        lines.append(f"\n{options.data}, {options.mechanism}, {rate:.0%} missing: hidden cells of held-out folds")
        lines.append(f"{'':19}{'RMSE':>16}{'training rows':>15}{'gap':>9}{'accuracy':>10}{'AUC':>8}   against {BASELINE}")
        shown = [(row["setting"], row["p_holm"], row["verdict"]) for row in ranked.to_dict("records")]
        for name, p, verdict in [*shown, (COMPLETE, np.nan, "nothing hidden")]:
            mine = part[part["setting"] == name]
            if not len(mine):
                continue
            spread = mine["rmse"].std() if len(mine) > 1 else np.nan
            means = mine[["rmse", "train_rmse", "gap", "accuracy", "auc"]].mean()
            error = f"{means['rmse']:.4f} +- {spread:.4f}" if name != COMPLETE else ""
            gap = f"{means['train_rmse']:>15.4f}{means['gap']:>+9.4f}" if name != COMPLETE else ""
            tested = verdict if np.isnan(p) else f"{verdict}, p = {p:.2g}"
            lines.append(f"{name:19}{error:>16}{gap:>24}{means['accuracy']:>10.4f}{means['auc']:>8.4f}   {tested}")
    if options.data == "breast" and options.mechanism == "mcar" and 0.2 in options.rates:
        published = ", ".join(f"{name} {value:.4f}" for name, value in PUBLISHED.items())
        lines.append(f"\npublished (20 %; the rivals' as remembered): {published}")
        mine = table[(table["rate"] == 0.2) & table["setting"].isin(["iterative", "bounded iterative"])]
        if len(mine):
            best = mine.groupby("setting")["rmse"].mean().min()
            flattered = "so its table flatters GAIN" if best < PUBLISHED["MICE"] else "as good as its own"
            lines.append(f"its MICE scored {PUBLISHED['MICE']:.4f}; scikit-learn's scores {best:.4f} here: {flattered}")
    lines.append("RMSE: mean and standard deviation of repetitions; they share the rows, so the p-values are optimistic")
    return "\n".join(lines)


PANELS = {"rmse": "RMSE on held-out hidden cells", "gap": "held-out - training rows' RMSE", "accuracy": "accuracy downstream"}


def figure_of(options: Any, table: Any) -> Figure:
    """RMSE, the gap and the classifier's accuracy of each imputer: of one rate side by side, of
    several against the rate."""
    from gan_jax.plots import figures

    several = len(options.rates) > 1
    figure, axes = figures.new(len(PANELS), (12, 4), len(PANELS), sharex=several, sharey=not several)
    (_against_rates if several else _side_by_side)(axes, table)
    (axes[1].axhline if several else axes[1].axvline)(0, color=figures.BLACK, linewidth=0.5)
    for panel, label in zip(axes, PANELS.values(), strict=True):
        panel.set_title(label, fontsize=10, loc="left")
    return figure


def _side_by_side(axes: Any, table: Any) -> None:
    """A row for each imputer, the lowest RMSE on top: every repetition a dot, their mean a bar."""
    from gan_jax.plots import figures

    order = table[table["setting"] != COMPLETE].groupby("setting")["rmse"].mean().sort_values(ascending=False).index
    whole = table.loc[table["setting"] == COMPLETE, "accuracy"].mean()
    for panel, metric in zip(axes, PANELS, strict=True):
        for row, name in enumerate(order):
            values = table.loc[table["setting"] == name, metric]
            colour = figures.ORANGE if name in (CODE, CHOSEN) else figures.BLUE
            panel.plot(values, [row] * len(values), "o", color=colour, markersize=3, alpha=0.5)
            panel.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=figures.BLACK, linewidth=2)
    axes[0].set_yticks(range(len(order)), list(order))
    axes[2].axvline(whole, linestyle=":", color=figures.BLACK, label=COMPLETE)
    axes[2].legend(frameon=False, fontsize=8)


def _against_rates(axes: Any, table: Any) -> None:
    """A line for each imputer, with standard deviations of repetitions."""
    from gan_jax.plots import figures

    names = [name for name in dict.fromkeys(table["setting"]) if name != COMPLETE]
    colours = [figures.BLUE, figures.ORANGE, figures.GREEN, figures.PINK, figures.BLACK]
    for panel, metric in zip(axes, PANELS, strict=True):
        for i, name in enumerate(names):
            rows = table[table["setting"] == name].groupby("rate")[metric]
            style = {"linestyle": "-" if i < len(colours) else "--", "marker": "o", "markersize": 4}
            mean, spread = rows.mean(), rows.std().fillna(0)
            panel.errorbar(mean.index, mean, spread, color=colours[i % len(colours)], label=name, capsize=2, **style)
        panel.set_xlabel("missing rate")
    whole = table[table["setting"] == COMPLETE].groupby("rate")["accuracy"].mean()
    axes[2].plot(whole.index, whole, ":", color=figures.BLACK, label=COMPLETE)
    axes[2].legend(frameon=False, fontsize=8)
