"""The covering design: all regularisers train together, and every pair of them at least once."""

import combine
import pytest

import gan_jax as gan
from gan_jax import losses
from gan_jax.networks.spectral import SpectralNorm

DESIGN = combine.covering()


def test_the_design_holds_every_pair_in_few_programs():
    held = set().union(*(chosen.pairs() for chosen in DESIGN))
    assert held == combine.all_pairs() and len(DESIGN) <= 60
    assert set(combine.FACTORS["loss"]) == set(losses.LOSSES)


def programs():
    """All of the design; two in three are tested at night only."""
    for i, c in enumerate(DESIGN):
        marks = [pytest.mark.nightly] if i % 3 else []
        yield pytest.param(c, id=f"{c.way}-{c.discriminator}-{c.generator}", marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", programs())
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
