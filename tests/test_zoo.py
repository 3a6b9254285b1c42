"""Every remedy has a row, a paper and a test; and they train together, each pair at least once."""

import inspect
import sys
from pathlib import Path

import pytest

import gan_jax as gan
from gan_jax import augment, losses, optimizers, penalties, play, zoo
from gan_jax.networks.spectral import SpectralNorm

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import combine  # noqa: E402
from zoo import row, standing  # noqa: E402  (scripts/zoo.py, not the package's)


def public(module, *aside):
    """The functions that a user may bind."""
    functions = {n for n in getattr(module, "__all__", vars(module)) if inspect.isfunction(getattr(module, n))}
    return {n for n in functions if not n.startswith("_") and getattr(module, n).__module__.startswith("gan_jax")} - set(aside)


NOT_ITEMS = {
    "loss": ("boundary", "kernel_values", "witness", "representation", "places", "real_weights", "blend", "class_weighted"),
    "penalty": ("evaluate", "initial_memory", "input_gradient", "remembers", "square_norm"),
    "augmentation": ("mixed", "mixes_fakes", "mixing"),
    "play": ("deal", "device_mean", "discriminator_turn", "generator_turn", "look", "move"),
    "optimizer": ("bind", "chain", "dotted"),
}


@pytest.mark.parametrize(
    "kind, module",
    [("loss", losses), ("penalty", penalties), ("augmentation", augment), ("play", play), ("optimizer", optimizers)],
)
def test_every_public_function_is_an_item(kind, module):
    missing = public(module, *NOT_ITEMS[kind]) - {item.name for item in zoo.ITEMS if item.kind == kind}
    assert not missing


@pytest.mark.parametrize("item", zoo.ITEMS, ids=lambda item: f"{item.kind}-{item.name}")
def test_every_item_has_a_paper_a_row_and_a_test_that_is_there(item):
    file, _, name = item.test.partition("::")
    assert item.paper and f"def {name}(" in (ROOT / "tests" / file).read_text()
    costs, machine = standing(ROOT / "docs" / "zoo.md")
    cost = costs[item.kind, item.name]
    assert row(item, cost, zoo.base()) in (ROOT / "docs" / "zoo.md").read_text(), "python scripts/zoo.py writes it anew"
    assert cost != "-" and float(cost) > 0 and "Python" in machine, "python scripts/zoo.py --measure --missing measures it"


# ---- together ----------------------------------------------------------------------------------------------------------

DESIGN = combine.covering()


def test_the_design_holds_every_pair_in_few_programs():
    held = set().union(*(chosen.pairs() for chosen in DESIGN))
    assert held == combine.all_pairs() and len(DESIGN) <= 60
    assert set(combine.FACTORS["loss"]) == set(losses.LOSSES)


QUICK = {DESIGN[0]}  # the whole design takes minutes
CASES = [
    pytest.param(c, id=f"{c.way}-{c.discriminator}-{c.generator}", marks=[] if c in QUICK else pytest.mark.slow) for c in DESIGN
]


@pytest.mark.parametrize("chosen", CASES)
def test_remedies_train_together(chosen):
    """Three steps of a population, every member with a loss of its own, in one program: nothing is not finite."""
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
