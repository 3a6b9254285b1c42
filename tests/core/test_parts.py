"""Every remedy has a row, a paper and a test; and they train together, each pair at least once."""

import inspect
import sys
from pathlib import Path

import pytest

import gan_jax as gan
from gan_jax import augment, catalogue, controllers, latents, losses, optimizers, penalties, recipes, sampling, schedules, zoo
from gan_jax.gan import dynamics
from gan_jax.networks.spectral import SpectralNorm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import combine  # noqa: E402
from zoo import named_row, recipe_row, row, standing  # noqa: E402  (scripts/zoo.py, not the package's)


def public(module, *aside):
    """The functions that a user may bind."""
    functions = {n for n in getattr(module, "__all__", vars(module)) if inspect.isfunction(getattr(module, n))}
    return {n for n in functions if not n.startswith("_") and getattr(module, n).__module__.startswith("gan_jax")} - set(aside)


# What makes, checks or measures items, and is none. `drive`: every controller is made by it, ADA's
# and the proportional one.
NOT_ITEMS = {
    "loss": ("boundary", "kernel_values", "witness", "representation", "places", "real_weights"),
    "penalty": ("check_player", "evaluate", "initial_memory", "input_gradient", "only_for", "remembers", "square_norm"),
    "augmentation": ("mixed", "mixes_fakes", "mixing"),
    "play": ("deal", "device_mean", "discriminator_turn", "generator_turn", "look", "move"),
    "optimizer": ("bind", "chain", "dotted"),
    "schedule": ("schedule",),
    "latent": ("bind", "effective", "named", "relabelled", "rarity_scale"),
    "controller": (
        "bind", "check_paths", "check_statistics", "drive", "fixed_steps", "initial_memory", "leaves", "observe", "steer",
    ),
    "sampling": ("acceptance", "class_shares", "class_table", "relabelled"),
}  # fmt: skip
ROOMS = {
    "loss": losses, "penalty": penalties, "augmentation": augment, "play": dynamics, "optimizer": optimizers,
    "schedule": schedules, "latent": latents, "controller": controllers, "sampling": sampling,
}  # fmt: skip


@pytest.mark.parametrize("kind", ROOMS)
def test_every_public_function_is_an_item_or_named(kind):
    items = {item.name.lower().removesuffix(" reals") for item in zoo.ITEMS if item.kind in (kind, "rare classes")}
    named = {named.where.partition(":")[2].partition(".")[0] for named in catalogue.NAMED}
    assert not public(ROOMS[kind], *NOT_ITEMS[kind]) - items - named


def test_what_is_said_to_be_no_item_is_there():
    for kind, aside in NOT_ITEMS.items():
        assert set(aside) <= public(ROOMS[kind])


def test_every_recipe_and_every_family_of_networks_has_a_row():
    rows = {whole.name: whole for whole in catalogue.RECIPES}
    assert set(rows) == public(recipes, "assembled", "for_data", "loss")
    files = {path.stem: path.read_text() for path in (ROOT / "gan_jax" / "networks").glob("*.py")}
    pairs = {name for name, text in files.items() if "class Generator(" in text and "class Discriminator(" in text}
    assert pairs == {whole.networks for whole in catalogue.RECIPES}


@pytest.mark.parametrize("whole", catalogue.RECIPES, ids=lambda whole: whole.name)
def test_every_recipe_has_a_paper_a_row_and_a_test_that_is_there(whole):
    assert whole.paper and is_a_test(whole.test)
    assert recipe_row(whole) in (ROOT / "docs" / "zoo.md").read_text(), "python scripts/zoo.py writes it anew"


@pytest.mark.parametrize("named", catalogue.NAMED, ids=lambda named: named.name)
def test_what_is_named_is_where_it_is_said_to_be(named):
    assert named.paper and is_a_test(named.test)
    assert named_row(named) in (ROOT / "docs" / "zoo.md").read_text(), "python scripts/zoo.py writes it anew"
    found, (_, _, name) = named.found(), named.where.rpartition(":")[2].partition(".")
    call = found.__call__ if inspect.isclass(found) else found
    assert not name or name in {*inspect.signature(found).parameters, *inspect.signature(call).parameters}


def is_a_test(path):
    file, _, name = path.partition("::")
    return f"def {name}(" in (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize("item", zoo.ITEMS, ids=lambda item: f"{item.kind}-{item.name}")
def test_every_item_has_a_paper_a_row_and_a_test_that_is_there(item):
    assert item.paper and is_a_test(item.test)
    costs, machine = standing(ROOT / "docs" / "zoo.md")
    cost = costs[item.kind, item.name]
    assert row(item, cost, zoo.base()) in (ROOT / "docs" / "zoo.md").read_text(), "python scripts/zoo.py writes it anew"
    assert cost != "-" and float(cost) > 0 and "Python" in machine, "python scripts/zoo.py --measure --missing measures it"


# ---- together ----------------------------------------------------------------------------------

DESIGN = combine.covering()


def test_the_design_holds_every_pair_in_few_programs():
    held = set().union(*(chosen.pairs() for chosen in DESIGN))
    assert held == combine.all_pairs() and len(DESIGN) <= 60
    assert set(combine.FACTORS["loss"]) == set(losses.LOSSES)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [pytest.param(c, id=f"{c.way}-{c.discriminator}-{c.generator}") for c in DESIGN])
def test_remedies_train_together(chosen):
    """Three steps of a population, every member with a loss of its own, in one program: nothing is
    not finite."""
    assert not combine.wrong(chosen)


SMALL = combine.Combination("alternating", "sgd", "sgd", ("hinge",), ("l2",), (), ())


def test_a_second_compilation_is_found(monkeypatch):
    """Were a number structure, changing it would compile anew."""
    numbers = combine.other_numbers
    monkeypatch.setattr(combine, "other_numbers", lambda recipe: numbers(recipe).replace(judge_together=True))
    assert combine.wrong(SMALL) == ["a second compilation"]


def test_what_is_not_finite_is_found(monkeypatch):
    worse = gan.with_leaves(combine.recipe_of(SMALL), {"discriminator.penalties.l2.weight": 1e38})
    monkeypatch.setattr(combine, "recipe_of", lambda chosen: worse)
    assert "hinge: good" in combine.wrong(SMALL)


def test_every_member_of_a_program_has_what_was_chosen():
    """The parts of one field take turns: in no program would one of them undo another."""
    for chosen in DESIGN:
        assert all(len(set(one) & set(chosen.layers)) <= 1 for one in combine.ONE_OF)
    chosen = next(c for c in DESIGN if {"spectral norm in D", "batch norm in D"} <= set(c.layers))
    net = combine.recipe_of(chosen).discriminator.net
    assert isinstance(net, SpectralNorm) and net.net.module.norm == "batch"
    lecam = next(c for c in DESIGN if "lecam" in c.penalties)
    assert float(gan.leaves(combine.recipe_of(lecam))["discriminator.penalties.lecam.start"]) == 0
