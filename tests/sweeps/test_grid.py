"""The settings of a sweep: grids, draws, their names, and what a command line writes."""

import itertools

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.sweeps.grid import Range, draw, from_text, grid, short_names

RECIPE = gan.recipes.mlp((2,), width=4, depth=1)
G, D, DECAY = "generator.optimizer.learning_rate", "discriminator.optimizer.learning_rate", "ema_decay"


def values(settings, path):
    return [float(gan.leaves(recipe)[path]) for recipe in settings.values()]


def refused(call, *args, **kwargs):
    with pytest.raises(gan.UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- grids -------------------------------------------------------------------------------------


def test_a_grid_has_every_combination_and_changes_nothing_else():
    made = grid(RECIPE, {G: [1e-4, 1e-3], DECAY: (0.5, 0.9, 0.99)})
    assert list(made)[:2] == ["learning_rate=0.0001, ema_decay=0.5", "learning_rate=0.0001, ema_decay=0.9"]
    expected = np.float32(list(itertools.product([1e-4, 1e-3], [0.5, 0.9, 0.99])))
    np.testing.assert_array_equal(np.array([values(made, G), values(made, DECAY)]).T, expected)
    for recipe in made.values():
        assert jax.tree.structure(recipe) == jax.tree.structure(RECIPE)
        changed = {k for k, v in gan.leaves(recipe).items() if v != gan.leaves(RECIPE)[k]}
        assert changed <= {G, DECAY}


def test_a_grid_takes_any_iterable_and_none_at_all():
    assert list(grid(RECIPE, {DECAY: iter(np.array([0.5, 0.25]))})) == ["ema_decay=0.5", "ema_decay=0.25"]
    assert list(grid(RECIPE, {})) == ["default"]


def test_values_that_look_alike_keep_names_of_their_own():
    made = grid(RECIPE, {DECAY: [0.5, 0.50001, 0.50002]})
    assert list(made) == ["ema_decay=0.5", "ema_decay=0.5'", "ema_decay=0.5''"]
    np.testing.assert_array_equal(values(made, DECAY), np.float32([0.5, 0.50001, 0.50002]))


def test_names_are_as_short_as_they_stay_distinct():
    assert short_names([G, DECAY]) == {G: "learning_rate", DECAY: "ema_decay"}
    assert short_names([G, D]) == {G: "generator.optimizer.learning_rate", D: "discriminator.optimizer.learning_rate"}
    assert short_names(["a.rate", "b.rate", "rate", "c.generate"]) == {
        "a.rate": "a.rate", "b.rate": "b.rate", "rate": "rate", "c.generate": "generate",
    }  # fmt: skip
    assert len(grid(RECIPE, {G: [1, 2], D: [1, 2]})) == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"no.such": [1]}, "no such number in the recipe: 'no.such'"), ({DECAY: []}, "ema_decay has no values")],
)
def test_a_grid_that_cannot_be_meant_is_refused(asked, message):
    assert message in refused(grid, RECIPE, asked)


# ---- draws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 16])
def test_a_latin_hypercube_hits_each_slice_of_each_range_once(n):
    made = draw(RECIPE, {DECAY: Range(0.2, 0.6), G: Range(1e-6, 1e-2, log=True)}, n)
    assert len(made) == n
    linear = (np.array(values(made, DECAY)) - 0.2) / 0.4
    log = np.log10(values(made, G)) / 4 + 1.5
    for shares in (linear, log):
        assert sorted((shares * n).astype(int)) == list(range(n))


def test_a_log_range_is_even_in_the_logarithm_and_a_plain_one_in_the_number():
    ranges = {DECAY: Range(0.0, 0.9), G: Range(1e-6, 1e-2, log=True)}
    made = draw(RECIPE, ranges, 400, method="random")
    plain, log = np.array(values(made, DECAY)), np.log10(values(made, G))
    assert abs(plain.mean() - 0.45) < 0.05 and abs(log.mean() + 4) < 0.2
    assert plain.min() >= 0 and plain.max() < 0.9 and log.min() >= -6 and log.max() < -2
    assert abs(np.corrcoef(plain, log)[0, 1]) < 0.2, "numbers are drawn independently"


@pytest.mark.parametrize("method", ["latin_hypercube", "random"])
def test_a_seed_fixes_the_draws(method):
    drawn = [values(draw(RECIPE, {DECAY: Range(0, 0.9)}, 8, method=method, seed=seed), DECAY) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_draws_that_cannot_be_meant_are_refused():
    assert "at least 1" in refused(draw, RECIPE, {DECAY: Range(0, 0.9)}, 0)
    assert "unknown way to draw 'sobol'" in refused(draw, RECIPE, {DECAY: Range(0, 0.9)}, 4, method="sobol")
    assert "no such number" in refused(draw, RECIPE, {"no.such": Range(0, 1)}, 4)
    for low, high in ((1, 1), (2, 1), (0, np.inf), (np.nan, 1)):
        assert "is empty" in refused(Range, low, high)
    for low in (0, -1):
        assert "no logarithm" in refused(Range, low, 1, log=True)


# ---- a command line ----------------------------------------------------------------------------


def text(*vary, number=3, method="latin_hypercube"):
    return from_text(RECIPE, vary, number, method)


def test_lists_are_combined_and_ranges_drawn():
    assert list(text()) == ["default"]
    assert list(text(f"{DECAY}=0.5,0.9")) == ["ema_decay=0.5", "ema_decay=0.9"]
    drawn = text(f"{G}=log:1e-6:1e-2", number=8)
    assert sorted(((np.log10(values(drawn, G)) + 6) * 2).astype(int)) == list(range(8))
    linear = text(f"{G}=1:3", number=2)
    assert sorted(np.floor(values(linear, G))) == [1, 2]
    both = text(f"{DECAY}=0.5,0.9", f"{G}=1:3")
    assert len(both) == 6 and sorted(set(values(both, DECAY))) == list(np.float32([0.5, 0.9]))
    assert len(set(values(both, G))) == 3 and all("learning_rate=" in name and "ema_decay=" in name for name in both)


def test_lists_and_ranges_are_named_together():
    assert len(text(f"{G}=0.5:0.50001", f"{DECAY}=0.5,0.50001")) == 6, "none is lost that looks like another"
    name, *_ = text(f"{G}=1:2", f"{D}=1,2")
    assert f"{G}=" in name and f"{D}=1" in name, "short names are distinct across both"


@pytest.mark.parametrize(
    "wrong", ["", "ema_decay", "ema_decay=", *(f"ema_decay={text}" for text in ("a", "1,,2", "1:", "1:2:3", "ln:1:2", "log:1"))]
)
def test_text_that_cannot_be_read_is_answered_with_the_grammar(wrong):
    assert f"cannot read {wrong!r}" in refused(text, wrong)


def test_text_with_numbers_or_paths_that_cannot_be_meant_is_refused():
    assert "is empty" in refused(text, "ema_decay=2:1")
    assert "no logarithm" in refused(text, "ema_decay=log:0:1")
    assert "no such number" in refused(text, "no.such=1")
    assert "no such number" in refused(text, "no.such=1:2")
    assert "ema_decay" in refused(text, "ema_decay=0.1", "ema_decay=0.2"), "a path given twice would silently lose the first"
    assert "ema_decay" in refused(text, "ema_decay=0.1", "ema_decay=0.2:0.3")
