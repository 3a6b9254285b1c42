"""A number that a function has by default is a leaf like one given: equal to it, and traced."""

import importlib
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import augment, controllers, latents, losses, penalties
from gan_jax.core.bind import defaults

REQUIRED = {"p": 0.7, "weight": 2.0, "gamma": 1.0, "strength": 0.5, "counts": np.array([5.0, 2.0, 1.0])}
ROOMS = {
    "augmentation": ("ada_colour", "ada_corruptions", "ada_geometry", "diffaugment", "ada"),
    "loss": ("pointwise", "kernels", "relativistic", "contrastive"),
    "penalty": ("gradient", "consistency", "lecam", "generator", "balance"),
    "labels": ("latents",),
}
PACKAGES = {"augmentation": "gan_jax.augment", "loss": "gan_jax.losses", "penalty": "gan_jax.penalties", "labels": "gan_jax"}
N, CLASSES = 4, 3


def functions(kind):
    """The public functions of a kind with a number by default."""
    for room in ROOMS[kind]:
        module = importlib.import_module(f"{PACKAGES[kind]}.{room}")
        yield from (
            f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__ and defaults(f)
        )


def required(function):
    needs = inspect.signature(function).parameters.values()
    return {p.name: REQUIRED[p.name] for p in needs if p.kind is p.KEYWORD_ONLY and p.default is p.empty}


CASES = {f"{kind} {f.__module__}.{f.__name__}": f for kind in ROOMS for f in functions(kind)}


def output_of(images):
    flat = images.reshape(N, -1)
    return gan.DiscriminatorOutput(flat.sum(-1), flat[:, :CLASSES], flat[:, :5])


def turn(dtype, memory):
    rng = np.random.default_rng(1)
    reals, fakes = (jnp.asarray(rng.normal(size=(N, 8, 8, 1)), dtype) for _ in range(2))
    z = jnp.asarray(rng.normal(size=(N, 2)), dtype)
    generator = lambda z, labels: jnp.tanh(z[:, :1, None, None] * jnp.ones((N, 8, 8, 1), dtype))
    return penalties.PenaltyContext(
        critic=lambda images, labels: output_of(jnp.square(images)), generator=generator, params={}, reals=reals, fakes=fakes,
        real_labels=None, fake_labels=None, z=z, real=output_of(reals), fake=output_of(fakes), memory=memory,
        draws=gan.Draws(jax.random.key(2), jnp.arange(N)), step=jnp.int32(1500),
    )  # fmt: skip


def call(name, function, chosen, dtype="float32"):
    """The function's value where it is used; `chosen` has its numbers attached."""
    draws, labels = gan.Draws(jax.random.key(3), jnp.arange(N)), jnp.arange(N) % CLASSES
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (N, 8, 8, 3)), dtype)
    batch = gan.Batch(images, jnp.arange(N), labels)
    match name.split()[0]:
        case "augmentation":
            return chosen(images, None, draws)
        case "loss":
            return chosen(output_of(images), output_of(images[::-1] / 2), batch)
        case "penalty":
            memory = {k: jnp.asarray(v, dtype) for k, v in getattr(function, "initial_memory", {}).items()}
            return chosen(turn(dtype, memory or None))
        case _:
            return chosen(draws, batch, CLASSES)


def test_the_numbers_named_in_the_papers_are_leaves():
    leaves = lambda f, **values: {k: float(v) for k, v in gan.leaves(gan.bind(f, **values)).items()}
    assert leaves(losses.non_saturating) == {"smoothing": 0}
    assert leaves(penalties.lecam, weight=1.0) == pytest.approx({"weight": 1, "decay": 0.99, "start": 1000})
    assert leaves(penalties.dragan, weight=1.0) == {"weight": 1, "target": 1, "spread": 1}
    assert leaves(augment.translation) == {"p": 1, "ratio": 0.125}
    assert set(leaves(augment.ada, p=0.0)) >= {"p", "xint_max", "hue_max", "noise_std", "cutout_size"}
    policy = augment.diffaugment("translation")["diffaugment"]
    assert set(gan.leaves(policy)) == {"p", "brightness", "saturation", "contrast", "translation", "cutout"}
    recipe = gan.recipes.lecam((8, 8, 1), width=4)
    assert gan.leaves(gan.with_leaves(recipe, {"discriminator.penalties.lecam.decay": 0.9}))


@pytest.mark.parametrize("name", CASES)
def test_a_number_left_out_equals_its_default_given(name):
    function = CASES[name]
    given = {k: p.default for k, p in inspect.signature(function).parameters.items() if isinstance(p.default, float)}
    left_out, stated = gan.bind(function, **required(function)), gan.bind(function, **required(function), **given)
    assert jax.tree.structure(left_out) == jax.tree.structure(stated)
    assert given and set(given) <= set(left_out.numbers)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(left_out), jax.tree.leaves(stated), strict=True))


@pytest.mark.parametrize("kind", ROOMS)
def test_a_traced_default_gives_what_the_constant_gives(kind):
    inside = "ada_geometry"  # its operations are within `ada`, which is here
    mine = {name: f for name, f in CASES.items() if name.startswith(kind) and inside not in name}
    bound = {name: gan.bind(f, **required(f)) for name, f in mine.items()}
    traced = jax.jit(lambda bound: {name: call(name, f, bound[name]) for name, f in mine.items()})(bound)
    constant = jax.jit(lambda: {name: call(name, f, partial(f, **required(f))) for name, f in mine.items()})()
    assert mine and jax.tree.structure(traced) == jax.tree.structure(constant)
    for x, y in zip(jax.tree.leaves(traced), jax.tree.leaves(constant), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_bound_default_widens_no_narrow_arithmetic(name):
    function = CASES[name]
    types = lambda chosen: jax.tree.map(lambda x: x.dtype, jax.eval_shape(lambda: call(name, function, chosen, "bfloat16")))
    assert types(gan.bind(function, **required(function))) == types(partial(function, **required(function)))


def sway(x, *, force=2.0, times: int = 3, name: str = "a", kept: float = 0.5):
    return force * x * times + kept


def test_what_a_function_annotates_as_structure_is_none_of_its_leaves():
    assert set(gan.leaves(gan.bind(sway))) == {"force", "kept"}
    assert gan.bind(sway, force=None).numbers.keys() == {"kept"}, "what is given counts, be it no number"
    assert set(gan.leaves(gan.schedule(sway, force=1.0))) == {"force", "kept"}


def test_optax_factories_keep_the_numbers_they_are_given():
    assert set(gan.leaves(gan.optimizers.adam())) == {"learning_rate", "b1", "b2"}
    assert set(gan.leaves(gan.optimizers.optimistic_adam())) == {"learning_rate", "b1", "b2", "alpha", "beta"}


def test_the_numbers_of_a_controller_s_rule_are_leaves():
    driven = controllers.drive("x", 0.5, horizon=1000, rule=controllers.proportional)
    assert gan.leaves(driven)["rule.gain"] == 1
    faster = gan.with_leaves(driven, {"rule.gain": 2.0})
    move = lambda chosen: float(chosen(jnp.float32(0.3), jnp.float32(0.9), 100.0, jnp.float32(1e9)))
    assert [move(driven), move(faster)] == pytest.approx([0.34, 0.38])


# ---- keywords ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, values, said",
    [
        (augment.ada, {}, r"ada needs p: bind\(ada, p=...\)"),
        (penalties.r1, {}, "r1 needs gamma"),
        (gan.dynamics.consensus, {}, "consensus needs weight"),
        (latents.rare_noise, {}, "rare_noise needs dimension and counts and strength"),
        (penalties.r1, {"gamma": 1.0, "weight": 1.0}, "r1 takes no 'weight': it has gamma"),
        (losses.hinge, {"smoothing": 0.1}, "hinge takes no 'smoothing'"),
    ],
)
def test_binding_what_a_call_would_refuse_is_refused_in_one_line(function, values, said):
    with pytest.raises(gan.UserError, match=said) as error:
        gan.bind(function, **values)
    assert "\n" not in str(error.value)
