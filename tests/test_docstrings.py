"""Whatever may be put in a recipe says where it is from, and what its numbers are."""

import inspect
import re

import numpy as np
import pytest

from gan_jax import augment, controllers, latents, losses, optimizers, penalties, recipes, sampling, schedules
from gan_jax.gan import dynamics

# What the step hands to a function of each kind; all its other parameters are the user's.
GIVEN = {
    "real", "fake", "batch", "context", "images", "labels", "draws", "reals", "fakes", "recipe", "state", "axis_name", "dtype",
    "loss", "optimizer", "parts", "losses", "weights", "names", "penalty", "rows", "table", "classes", "fields",
}  # fmt: skip
PARTS = {  # of functions that are items, or helpers: they take no part in a recipe by themselves
    losses: ("boundary", "kernel_values", "places", "real_weights", "representation", "witness"),
    penalties: ("check_player", "evaluate", "initial_memory", "input_gradient", "only_for", "remembers", "square_norm"),
    augment: ("mixed", "mixes_fakes", "mixing"),
}
ROOMS = {
    losses: None, penalties: None, augment: None,
    augment.ada_geometry: (
        "xflip", "rotate90", "integer_translation", "scale", "rotate", "anisotropic_scale", "fractional_translation",
    ),
    augment.ada_colour: ("brightness", "contrast", "luma_flip", "hue", "saturation"),
    augment.ada_corruptions: ("image_filter", "noise", "cutout"),
    optimizers: None,
    dynamics: ("alternating", "simultaneous", "extragradient", "consensus", "unrolled"),
    schedules: None,
    latents: ("normal", "uniform", "truncated", "rare_noise", "batch_labels", "uniform_labels", "balanced_labels"),
    sampling: ("class_balanced",),
    controllers: ("fixed_steps", "proportional", "ada"),
    recipes: ("wgan_gp", "sngan", "biggan", "biggan_diffaugment", "lecam", "stylegan2_ada", "r3gan", "pacgan_toy", "dirac"),
}  # fmt: skip
ADA = (augment.ada_geometry, augment.ada_colour, augment.ada_corruptions)
WITH_DEFAULTS = (losses, penalties, augment, *ADA, optimizers, dynamics)


def functions(room):
    if ROOMS[room]:
        return [getattr(room, name) for name in ROOMS[room]]
    public = [n for n in getattr(room, "__all__", vars(room)) if not n.startswith("_") and n not in PARTS.get(room, ())]
    home = room.__name__.split(".")[1]
    found = [getattr(room, n) for n in public if inspect.isfunction(getattr(room, n))]
    return [f for f in found if f.__module__.split(".")[:2] == ["gan_jax", home]]


def cases(rooms):
    return [pytest.param(f, id=f"{f.__module__.removeprefix('gan_jax.')}.{f.__name__}") for r in rooms for f in functions(r)]


# "Kingma & Ba, 2015", "Mescheder et al. (2018)", "Jolicoeur-Martineau, 2019"
PAPER = re.compile(r"[A-Z][\w-]+(?: et\s+al\.| & [A-Z][\w-]+)?,? \(?(?:19|20)\d\d")


@pytest.mark.parametrize("function", cases(ROOMS))
def test_a_docstring_names_a_paper_or_why_there_is_none(function):
    text = inspect.getdoc(function) or ""
    flat = " ".join(text.split())
    assert PAPER.search(flat) or re.search(r"[Nn]o paper: \w+", flat), text


def shown(number):
    """The ways in which the project writes a number: .05, 1e-4, 1/8, 1,000."""
    plain = f"{number:g}"
    forms = {plain, plain.removeprefix("0"), f"{number:,g}", f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e")}
    return forms | ({f"1/{round(1 / number)}"} if 0 < number < 1 and np.isclose(round(1 / number) * number, 1) else set())


def says(text, word):
    return re.search(rf"(?<![\w.]){re.escape(word)}(?![\w]|\.\d)", text)


@pytest.mark.parametrize("function", cases(WITH_DEFAULTS))
def test_a_docstring_names_each_parameter_and_its_default(function):
    text = " ".join((inspect.getdoc(function) or "").split())
    for name, parameter in inspect.signature(function).parameters.items():
        if name in GIVEN and parameter.default is inspect.Parameter.empty:
            continue
        word = "rate" if name == "learning_rate" else name
        assert says(text.lower(), word), f"{name} is not explained"
        if isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool):
            assert any(says(text, form) for form in shown(parameter.default)), f"the default of {name} is not said"


def test_the_two_tests_can_fail():
    assert not PAPER.search("a sum of squares of 2017 values, in the year (2018)")
    assert PAPER.search("regularised (Mescheder et al., 2018)") and PAPER.search("Kingma & Ba (2015)")
    assert says("weight: .05 here", ".05") and not says("weight: 1.05 here", ".05") and not says("at .055", ".05")
