"""Recipes as data: numbers are leaves, everything else structure; paths, schedules and
ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.bind import Schedule, resolve
from gan_jax.core.ranges import check_numbers
from gan_jax.optimizers import adam, chain, clip_gradient, sgd


def spring(x, *, stiffness, rest=0.0, degree: int = 1, absolute: bool = False, name: str | None = None):
    """A function to bind."""
    value = stiffness * (x - rest) ** degree
    return abs(value) if absolute else value


def compose(first, second, x, *, scale=1.0):
    return scale * second(first(x))


def small(**fields):
    return gan.recipes.mlp((2,), width=4, depth=1, **fields)


def everything(**fields):
    """Dropout, penalties (one of them lazy), an augmentation that follows a schedule, label
    smoothing."""
    recipe = small(loss=gan.bind(gan.losses.non_saturating, smoothing=0.1), **fields)
    penalties = {
        "r1": gan.lazy(gan.bind(gan.penalties.r1, gamma=1.0), 2),
        "gp": gan.bind(gan.penalties.wgan_gp, weight=0.5, one_sided=True),
    }
    noise = gan.bind(gan.augment.instance_noise, std=gan.schedules.linear(0.2, 0.0, 10))
    side = gan.Side(net=recipe.discriminator.net, optimizer=adam(), numbers={"dropout": 0.2}, penalties=penalties)
    return recipe.replace(discriminator=side, augment={"noise": noise})


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


# ---- bind --------------------------------------------------------------------------------------


def test_bound_numbers_are_float32_leaves_and_the_rest_is_structure():
    bound = gan.bind(spring, stiffness=3, rest=0.5, degree=2, absolute=True, name=None)
    assert gan.leaves(bound) == {"rest": 0.5, "stiffness": 3.0}
    assert {leaf.dtype for leaf in jax.tree.leaves(bound)} == {np.dtype("float32")}
    assert bound.options == {"degree": 2, "absolute": True, "name": None}
    assert bound(2.0) == 3 * 1.5**2


def test_numbers_of_any_type_share_one_structure_and_dtype():
    bounds = [gan.bind(spring, stiffness=x) for x in (10, 10.0, np.float32(10), np.float64(10), np.int64(10), np.array(10))]
    assert len({jax.tree.structure(b) for b in bounds}) == 1
    assert {(leaf.dtype, leaf.shape) for b in bounds for leaf in jax.tree.leaves(b)} == {(np.dtype("float32"), ())}


def test_structure_compares_by_value():
    structure = lambda **values: jax.tree.structure(gan.bind(spring, **values))
    assert structure(stiffness=1, degree=2) == structure(stiffness=5, degree=2)
    assert hash(structure(stiffness=1, degree=2)) == hash(structure(stiffness=5, degree=2))
    assert structure(stiffness=1, degree=2) != structure(stiffness=1, degree=3)
    assert structure(stiffness=1) == structure(stiffness=1, rest=0), "a number left out is there at its default"


def test_calls_and_replacements_override_what_is_bound():
    bound = gan.bind(spring, stiffness=3.0, degree=2)
    assert bound(2.0, stiffness=5.0) == 20
    assert bound.replace(stiffness=1.0, rest=1.0)(3.0) == 4
    assert gan.bind(bound, stiffness=1.0)(3.0) == 9
    assert bound(2.0) == 12, "the original is as it was"


def test_parts_are_bound_functions_whose_numbers_are_leaves_too():
    both = gan.bind(compose, gan.bind(spring, stiffness=2.0), gan.bind(spring, stiffness=3.0, rest=1.0), scale=10.0)
    assert both(4.0) == 10 * 3 * (2 * 4 - 1)
    assert gan.leaves(both) == {"0.rest": 0.0, "0.stiffness": 2.0, "1.rest": 1.0, "1.stiffness": 3.0, "scale": 10.0}
    assert jax.tree.map(lambda x: 2 * x, both)(4.0) == 20 * 6 * (4 * 4 - 2)


def test_a_bound_function_shows_what_it_holds():
    assert repr(gan.bind(spring, stiffness=0.5, degree=2)) == "spring(degree=2, rest=0, stiffness=0.5)"
    assert repr(chain(clip_gradient(1.0), sgd(0.5))).startswith("_chain(clip_by_global_norm(max_norm=1), sgd(")


def test_a_bound_function_can_be_traced_stacked_and_mapped():
    stacked = jax.tree.map(lambda *x: np.stack(x), *(gan.bind(spring, stiffness=x) for x in (1.0, 2.0, 3.0)))
    np.testing.assert_array_equal(jax.vmap(lambda f: f(2.0))(stacked), [2, 4, 6])
    assert jax.grad(lambda f: f(2.0))(gan.bind(spring, stiffness=1.0)).numbers["stiffness"] == 2


def test_numbers_do_not_start_a_backend():
    leaves = jax.tree.leaves(small(ema_decay=0.9))
    assert leaves and all(isinstance(x, np.ndarray) for x in leaves)


# ---- paths -------------------------------------------------------------------------------------


def test_leaves_are_named_as_they_are_written():
    expected = {
        "augment.noise.std.start": 0.2, "augment.noise.std.steps": 10, "augment.noise.std.stop": 0,
        "discriminator.numbers.dropout": 0.2, "discriminator.optimizer.b1": 0.5, "discriminator.optimizer.b2": 0.999,
        "discriminator.optimizer.learning_rate": 2e-4, "discriminator.penalties.gp.target": 1,
        "discriminator.penalties.gp.weight": 0.5,
        "discriminator.penalties.r1.penalty.gamma": 1, "ema_decay": 0.999,
        "generator.optimizer.b1": 0.5, "generator.optimizer.b2": 0.999, "generator.optimizer.learning_rate": 1e-3,
        "loss.smoothing": 0.1,
    }  # fmt: skip
    assert {k: float(v) for k, v in gan.leaves(everything()).items()} == pytest.approx(expected)


def test_replacing_every_leaf_by_itself_changes_nothing():
    recipe = everything()
    same = gan.with_leaves(recipe, gan.leaves(recipe))
    assert jax.tree.structure(same) == jax.tree.structure(recipe)
    assert gan.leaves(same) == gan.leaves(recipe)


@pytest.mark.parametrize("path", ["discriminator.penalties.r1.penalty.gamma", "ema_decay", "augment.noise.std.start"])
def test_replacing_one_leaf_changes_that_leaf_alone(path):
    recipe = everything()
    changed = gan.with_leaves(recipe, {path: 0.75})
    assert gan.leaves(changed) == gan.leaves(recipe) | {path: 0.75}
    assert jax.tree.structure(changed) == jax.tree.structure(recipe)
    assert gan.leaves(changed)[path].dtype == np.float32
    assert gan.leaves(recipe)[path] != 0.75, "the original is as it was"


def test_a_schedule_is_replaced_as_a_whole_by_its_own_path():
    recipe = everything()
    number = gan.with_leaves(recipe, {"augment.noise.std": 0.3})
    assert gan.leaves(number)["augment.noise.std"] == np.float32(0.3)
    back = gan.with_leaves(number, {"augment.noise.std": gan.schedules.linear(0.2, 0.0, 10)})
    assert jax.tree.structure(back) == jax.tree.structure(recipe)


@pytest.mark.parametrize("path", ["discriminator.penalties.r1.gama", "discriminator", "", "batch_size", "ema_decay.start"])
def test_a_path_that_names_no_leaf_is_refused_with_those_that_do(path):
    recipe = small(batch_size=8)
    with pytest.raises(gan.UserError, match="no such number in the recipe") as error:
        gan.with_leaves(recipe, {path: 1.0})
    assert repr(path) in str(error.value) and "discriminator.optimizer.learning_rate" in str(error.value)


# ---- effective and schedules -------------------------------------------------------------------


def test_a_recipe_without_schedules_is_already_effective():
    assert_same(resolve(small(), jnp.int32(7)), small())


def test_effective_evaluates_schedules_at_the_step_and_live_values_win():
    recipe = small(ema_decay=gan.schedules.linear(0.0, 0.8, 8))
    at = jax.jit(lambda step: resolve(recipe, step).ema_decay)
    np.testing.assert_allclose([at(step) for step in (0, 2, 8, 100)], [0, 0.2, 0.8, 0.8], rtol=1e-6)
    live = {"ema_decay": jnp.float32(0.5), "generator.optimizer.learning_rate": jnp.float32(3)}
    moved = resolve(recipe, jnp.int32(0), live)
    assert moved.ema_decay == 0.5 and moved.generator.optimizer.numbers["learning_rate"] == 3
    assert moved.discriminator.optimizer.numbers["learning_rate"] == np.float32(1e-3)


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 10, 11, 10**6])
def test_schedules_are_their_formulae(steps):
    progress = min(steps / 10, 1)
    linear, cosine = gan.schedules.linear(0.5, 3.0, 10), gan.schedules.cosine(0.5, 3.0, 10)
    np.testing.assert_allclose(linear(jnp.int32(steps)), 0.5 + 2.5 * progress, rtol=1e-6)
    np.testing.assert_allclose(cosine(jnp.int32(steps)), 3 - 2.5 * (1 + np.cos(np.pi * progress)) / 2, rtol=1e-6)


def test_a_schedule_of_no_steps_is_at_its_end_from_step_one():
    assert float(gan.schedules.linear(2.0, 1.0, 0)(jnp.int32(1))) == 1


def test_schedules_are_leaves_that_can_be_swept():
    recipes = [small(ema_decay=gan.schedules.cosine(start, 0.0, 4)) for start in (0.1, 0.2, 0.4)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *recipes)
    halfway = jax.vmap(lambda r: resolve(r, jnp.int32(2)).ema_decay)(stacked)
    np.testing.assert_allclose(halfway, [0.05, 0.1, 0.2], rtol=1e-6)


def steps_up(step, *, low, high, at: int):
    return jnp.where(step < at, low, high)


def test_any_function_of_the_step_may_be_a_schedule():
    recipe = small(ema_decay=gan.schedule(steps_up, low=0.1, high=0.9, at=5))
    assert isinstance(recipe.ema_decay, Schedule)
    assert [float(resolve(recipe, jnp.int32(s)).ema_decay) for s in (4, 5)] == pytest.approx([0.1, 0.9])
    assert set(gan.leaves(recipe)) >= {"ema_decay.low", "ema_decay.high"} and "ema_decay.at" not in gan.leaves(recipe)


# ---- numbers that do not fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, value, said",
    [
        ("discriminator.optimizer.learning_rate", -1e-4, "not be negative"),
        ("discriminator.optimizer.learning_rate", np.nan, "finite"),
        ("discriminator.penalties.r1.penalty.gamma", np.inf, "finite"),
        ("discriminator.penalties.r1.penalty.gamma", -1.0, "not be negative"),
        ("discriminator.numbers.dropout", 1.0, r"\[0, 1\)"),
        ("generator.optimizer.b1", 1.5, r"\[0, 1\)"),
        ("generator.optimizer.b2", -0.1, r"\[0, 1\)"),
        ("loss.smoothing", 1.0, r"\[0, 1\)"),
        ("ema_decay", 1.0, r"\[0, 1\)"),
        ("augment.noise.std.start", -0.5, "not be negative"),
        ("discriminator.numbers.dropout", np.array([0.1, 2.0]), "is 2"),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name_and_value(path, value, said):
    recipe = everything()
    check_numbers(recipe)
    with pytest.raises(gan.UserError, match=said) as error:
        check_numbers(gan.with_leaves(recipe, {path: value}))
    assert str(error.value).startswith(f"{path} is ")


BEYOND = {
    "linear": (gan.schedules.linear(0.0, 2.0, 10), "dropout.stop is 2"),
    "cosine": (gan.schedules.cosine(1.0, 0.0, 10), "dropout.start is 1"),
    "switch": (gan.schedules.switch(0.0, 1.5, 10), "dropout.after is 1.5"),
    "geometric": (gan.schedules.geometric(0.5, 0.9, 10, 1.0), "dropout.floor is 1"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_the_ends_of_a_schedule_lie_where_its_number_may(name):
    beyond, said = BEYOND[name]
    with pytest.raises(gan.UserError, match=said) as error:
        check_numbers(gan.with_leaves(everything(), {"discriminator.numbers.dropout": beyond}))
    assert "lie in [0, 1)" in str(error.value)
    check_numbers(gan.with_leaves(everything(), {"discriminator.numbers.dropout": gan.schedules.linear(0.9, 0.0, 5000)}))


def with_p(p):
    return small(augment={"pseudo": gan.bind(gan.augment.adaptive_pseudo, p=p)})


def test_probabilities_and_shares_lie_in_the_closed_unit_interval():
    top = lambda share: small(loss=gan.losses.top_k(gan.losses.hinge, share))
    for made in (with_p(0.0), with_p(1.0), with_p(gan.schedules.linear(0.0, 1.0, 10)), top(1.0)):
        check_numbers(made)
    for made, path in ((with_p(1.1), "augment.pseudo.p"), (top(1.5), "loss.share")):
        with pytest.raises(gan.UserError, match=rf"{path} is 1.[15]: .*lie in \[0, 1\]"):
            check_numbers(made)


@pytest.mark.parametrize(
    "bounds, said", [({}, "high is 1: "), ({"high": 1.5}, "high is 1.5: "), ({"low": -0.1, "high": 0.9}, "low is -0.1: ")]
)
def test_a_controller_s_bounds_lie_where_its_number_may(bounds, said):
    path = "discriminator.numbers.dropout"
    driven = everything(controllers={path: gan.controllers.ada(**bounds)})
    with pytest.raises(gan.UserError, match=said) as error:
        check_numbers(driven)
    assert str(error.value).startswith(f"controllers.{path}") and str(error.value).endswith("lie in [0, 1)")
    check_numbers(everything(controllers={path: gan.controllers.ada(high=0.9)}))
    check_numbers(with_p(0.0).replace(controllers={"augment.pseudo.p": gan.controllers.ada()}))


def test_a_controller_s_target_may_be_any_number():
    check_numbers(everything(controllers={"ema_decay": gan.controllers.drive("D/validation_logit", -2.0, high=0.9)}))


def test_the_ends_of_the_ranges_are_allowed():
    zeros = {path: 0.0 for path in gan.leaves(everything())}
    check_numbers(gan.with_leaves(everything(), zeros))
    check_numbers(gan.with_leaves(everything(), {"loss.smoothing": 0.999, "discriminator.optimizer.learning_rate": 100.0}))
