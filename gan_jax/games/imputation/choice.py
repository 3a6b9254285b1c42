"""Numbers of a recipe that are chosen by cross-validation on the training rows alone."""

import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import numpy as np

from gan_jax.games.imputation import gain
from gan_jax.games.imputation.training import rows_padded, stacked, train

CANDIDATES = {"alpha": (100.0, 1000.0, 10_000.0), "hide": (0.1, 0.2, 0.4)}
FOLDS, JUDGED = 3, 0.1  # each part of the rows judges those trained on the others, by this share of its observed cells


def chosen(
    recipe: Callable[..., Any], names: Sequence[str], table: tuple[np.ndarray, np.ndarray], seed: int, steps: int
) -> dict[str, float]:
    """{name: the candidate with the smallest RMSE on hidden cells of rows not trained on}, of all
    combinations of the candidates, and a line on stderr that says so. {} where the table has too
    few rows for it.

    recipe: of the numbers by name
    table:  (cells [n, k], which are known [n, k])
    All combinations and folds train in one program.
    """
    settings = [dict(zip(names, values, strict=True)) for values in product(*(CANDIDATES[name] for name in names))]
    cells, known = table
    rng = np.random.default_rng([seed, 1])
    fold = rng.permutation(len(cells)) % FOLDS
    groups = recipe(**settings[0]).groups
    judged = known & np.repeat(rng.random((len(cells), len(groups))) < JUDGED, groups, axis=1)
    if len(cells) < 2 * FOLDS or not judged.any():
        print(f"{', '.join(names)}: {len(cells)} rows are too few to choose by: the default is taken", file=sys.stderr)
        return {}
    knobs = [recipe(**setting) for setting in settings for _ in range(FOLDS)]
    tables = [(cells[fold != k], known[fold != k]) for k in range(FOLDS)] * len(settings)
    state, _ = train(knobs, tables, [seed] * len(knobs), steps=steps)
    answers = _answers(stacked(knobs, len(knobs)), state.ema["params"], cells, known & ~judged)
    held_out = np.stack([judged & (fold == k)[:, None] for k in range(FOLDS)])
    answers = answers.reshape(len(settings), FOLDS, *cells.shape)
    errors = np.sqrt(((answers - cells) ** 2 * held_out).sum((1, 2, 3)) / judged.sum())
    best = int(np.nan_to_num(errors, nan=np.inf).argmin())
    found = ", ".join(f"{name} {value:g}" for name, value in settings[best].items())
    line = f"{found}: chosen of {len(settings)} by cross-validation, RMSE {errors[best]:.4f} of {errors[best]:.4f} to"
    print(f"{line} {np.nanmax(errors):.4f} in the cells' range [0, 1]", file=sys.stderr)
    return settings[best]


def _answers(knobs: Any, params: Any, cells: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """[members, n, k]: each member's answer for every cell."""
    pad = lambda x: np.pad(x, ((0, rows_padded(len(x)) - len(x)), (0, 0)))
    each = jax.jit(lambda knobs, params, *rows: jax.vmap(lambda k, p: gain.impute(k, p, *rows))(knobs, params))
    return np.asarray(each(knobs, params, pad(cells), pad(shown)))[:, : len(cells)]
