"""Every part of a recipe has a row in docs/regularizers.md, with a paper and a test."""

import inspect
from pathlib import Path

import part_rows
import pytest
import recipe_rows
import regularizers

from gan_jax import augment, controllers, latents, losses, optimizers, penalties, recipes, sampling, schedules
from gan_jax.core.parts import parts_of
from gan_jax.gan import dynamics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regularizers.md").read_text()
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
STALE = "python scripts/regularizers.py writes the page anew"


def public(module, *aside):
    """The functions that a user may bind: those of `__all__`, or all that a module defines."""
    ours = lambda thing: inspect.isfunction(thing) and thing.__module__.startswith(module.__name__)
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    return {name for name in names if ours(getattr(module, name))} - set(aside)


# Functions that make, check or measure parts, and are no parts. `drive`: every controller is made
# by it, ADA's and the proportional one.
NO_PARTS = {
    "loss": ("boundary", "decides_at", "kernel_values", "places", "real_weights", "representation", "witness"),
    "penalty": ("check_player", "evaluate", "initial_memory", "input_gradient", "only_for", "remembers", "square_norm"),
    "augmentation": ("mixed", "mixes_fakes", "mixing"),
    "play": ("repeated",),
    "optimizer": ("chain",),
    "latent": ("rarity_scale",),
    "controller": ("drive", "fixed_steps"),
    "sampling": ("class_table", "relabelled"),
}  # fmt: skip
MODULES = {
    "loss": losses, "penalty": penalties, "augmentation": augment, "play": dynamics, "optimizer": optimizers,
    "schedule": schedules, "latent": latents, "controller": controllers, "sampling": sampling,
}  # fmt: skip
EDITS = [name for name in recipes.__all__ if name.startswith("with")]


@pytest.mark.parametrize("kind", MODULES)
def test_every_public_function_has_a_row_or_is_listed(kind):
    rows = {row.name.lower() for row in part_rows.ROWS if row.kind in (kind, "rare classes")}
    named = {row.where.partition(":")[2].partition(".")[0] for row in recipe_rows.NAMED}
    assert not public(MODULES[kind], *NO_PARTS.get(kind, ())) - rows - named


@pytest.mark.parametrize("kind", ["losses", "penalties", "augment", "latents", "dynamics", "sampling", "schedules"])
def test_every_recipe_part_has_a_row(kind):
    """By name: ADA's operations are called after their pipe, and two parts after their makers."""
    makers = {"blended": "blend", "by_policy": "diffaugment", "Lazy": "lazy"}
    found = [name.replace(".", "_") for name in parts_of(kind)]
    for file in ("colour", "geometry", "corruptions"):
        found = [name.replace(f"ada_{file}_", "ada_") for name in found]
    assert {makers.get(name, name) for name in found} <= {row.name for row in part_rows.ROWS}


def test_what_is_listed_as_no_part_is_there():
    for kind, aside in NO_PARTS.items():
        assert set(aside) <= public(MODULES[kind])


def test_every_recipe_and_every_family_of_networks_has_a_row():
    rows = {row.name: row for row in recipe_rows.RECIPES}
    assert set(rows) == public(recipes, "assembled", "for_data", "loss", "regularizers", *EDITS)
    files = {path.stem: path.read_text() for path in (ROOT / "gan_jax" / "networks").glob("*.py")}
    pairs = {name for name, text in files.items() if "class Generator(" in text and "class Discriminator(" in text}
    assert pairs == {row.networks() for row in recipe_rows.RECIPES}


@pytest.mark.parametrize("row", recipe_rows.RECIPES, ids=lambda row: row.name)
def test_every_recipe_has_a_paper_a_line_and_a_test_that_is_there(row):
    assert f"def {row.test}(" in TESTS
    assert (row.paper or regularizers.papers(getattr(recipes, row.name)) != "-") or row.source == "gan_jax"
    assert regularizers.recipe_line(row) in PAGE, STALE


@pytest.mark.parametrize("row", recipe_rows.NAMED, ids=lambda row: row.name)
def test_what_is_named_is_where_it_is_said_to_be(row):
    assert row.paper and f"def {row.test}(" in TESTS
    assert regularizers.named_line(row) in PAGE, STALE
    found, (_, _, name) = row.found(), row.where.rpartition(":")[2].partition(".")
    call = found.__call__ if inspect.isclass(found) else found
    assert not name or name in {*inspect.signature(found).parameters, *inspect.signature(call).parameters}


# The others are of no paper, or were not published.
WITHOUT_PAPER = {
    "blend", "proportional", "accumulate", "judge_together", "normal", "batch_labels", "balanced_labels", "rare_noise",
}  # fmt: skip


@pytest.mark.parametrize("row", part_rows.ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_every_part_has_a_paper_a_line_a_cost_and_a_test_that_is_there(row):
    assert f"def {row.test}(" in TESTS
    assert ((row.paper or regularizers.papers(row.source())) == "-") == (row.name in WITHOUT_PAPER)
    assert regularizers.formula(row) not in ("", "-")
    costs, machine = regularizers.known_costs()
    cost = costs[row.kind].get(row.name)
    assert cost and cost > 0 and "Python" in machine, "python scripts/regularizers.py --measure --missing measures it"
    assert regularizers.part_line(row, cost, part_rows.base()) in PAGE, STALE
