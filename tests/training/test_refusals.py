"""What does not fit is refused in one line, with what there is, before a step is run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax import augment, penalties
from gan_jax.augment import ada_colour, ada_corruptions, ada_geometry
from gan_jax.core.net import EVALUATION, numbers_of

SMALL = {
    "dcgan": {"width": 4},
    "sngan": {"width": 8, "d_width": 8},
    "biggan": {"width": 4},
    "r3gan": {"width": 16, "batch_size": 8},
    "stylegan2_ada": {"channel_base": 64, "channel_max": 8, "group": 4},
}


def started(recipe):
    """What `init` and a step would do, by their shapes alone."""
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    n = recipe.batch_size * recipe.d_steps
    images = jax.eval_shape(lambda state: gan.sample(recipe, state, jax.random.key(0), n), state)
    return jax.eval_shape(gan.train_step, recipe, state, gan.Batch(jnp.zeros(images.shape), jnp.arange(n)))


def refused(message, call, *args, **kwargs):
    with pytest.raises(gan.UserError, match=message) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)


def with_player(recipe, player, **changed):
    return recipe.replace(**{player: getattr(recipe, player).replace(**changed)})


@pytest.mark.parametrize("game", [5, 0, "gan", gan.Game])
def test_what_is_no_game_is_refused(game):
    recipe = gan.recipes.mlp((2,), width=4, depth=1)
    refused("game=.* is no Game: give game=", gan.fit, recipe, gan.load("ring", subset=60), steps=1, game=game)


# ---- numbers of networks -----------------------------------------------------------------------


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize("name", SMALL)
def test_a_number_that_a_network_lacks_is_refused_with_those_it_has(name, player):
    recipe = with_player(getattr(gan.recipes, name)((8, 8, 1), **SMALL[name]), player, numbers={"nosie": 0.1})
    refused(rf"the network \w+\.{player.capitalize()} has no number 'nosie': it has \w+", started, recipe)


class Open(nn.Module):
    """Takes any number; holds a layer that is no network."""

    layer: nn.Module = nn.LayerNorm()

    def __call__(self, rows, labels, mode, **numbers):
        return gan.DiscriminatorOutput(rows[:, 0] * numbers.get("scale", 1.0))


class Starred(nn.Module):
    def __call__(self, rows, *rest, dropout=None):
        return gan.DiscriminatorOutput(rows[:, 0])


def test_the_numbers_of_a_network_are_those_of_its_signature():
    assert numbers_of(gan.recipes.dcgan((8, 8, 1)).generator.net.module) == ["dropout", "noise"]
    assert numbers_of(gan.recipes.vae((8, 8, 1)).decoder.net.module) == ["dropout", "noise"], "a decoder's are its generator's"
    assert numbers_of(gan.recipes.dirac().generator.net.module) == []
    assert numbers_of(Open()) is None and numbers_of(Starred()) == ["dropout"]
    assert gan.Net(Open()).apply({}, {}, jnp.ones((2, 1)), None, EVALUATION, {"scale": 3.0})[0].logits[0] == 3
    refused(
        "has no number 'dropout': it has none", started, with_player(gan.recipes.dirac(), "generator", numbers={"dropout": 0.1})
    )


def test_path_lengths_in_w_need_a_generator_that_can_be_shifted():
    lengths = {"path": gan.bind(penalties.path_length, weight=2.0, layers=4, style=8)}
    recipe = with_player(gan.recipes.dcgan((8, 8, 1), width=4), "generator", penalties=lengths)
    refused("dcgan.Generator has no number 'shift'", started, recipe)


# ---- penalties of the other player -------------------------------------------------------------

GENERATOR_S = {"path_length": {"weight": 2.0}, "zcr_generator": {"weight": 0.5}, "feature_matching": {"weight": 1.0},
               "class_balance": {"weight": 1.0}}  # fmt: skip
REALS_ONLY = {"r1": {"gamma": 1.0}, "dragan": {"weight": 1.0}, "cr": {"weight": 1.0}}


@pytest.mark.parametrize("name", [*GENERATOR_S, *REALS_ONLY])
def test_a_penalty_that_means_nothing_for_a_player_is_refused_there(name):
    meant, other = ("generator", "discriminator") if name in GENERATOR_S else ("discriminator", "generator")
    bound = gan.bind(getattr(penalties, name), **(GENERATOR_S | REALS_ONLY)[name])
    recipe = gan.recipes.dcgan((8, 8, 1), width=4)
    for penalty in (bound, gan.lazy(bound, 4)):
        penalties.check_player(penalty, meant)
        refused(
            f"{name} is a penalty for the {meant} and means nothing for the {other}", jax.eval_shape, gan.init,
            with_player(recipe, other, penalties={"mine": penalty}), jax.random.key(0),
        )  # fmt: skip


@pytest.mark.parametrize("name", REALS_ONLY)
def test_a_penalty_of_the_reals_does_not_move_the_generator(name):
    """The reason for refusing it: no change of the fakes or of z changes it."""
    bound = gan.bind(getattr(penalties, name), **REALS_ONLY[name])
    rng = np.random.default_rng(0)
    reals, z = jnp.asarray(rng.normal(size=(3, 8, 8, 1)), jnp.float32), jnp.ones((3, 2))

    def value(theta):
        fakes = theta * reals[::-1]
        critic = lambda x, labels: gan.DiscriminatorOutput(jnp.tanh(x * (1 + jnp.arange(64.0).reshape(8, 8, 1))).sum((1, 2, 3)))
        turn = penalties.PenaltyContext(
            critic=critic, generator=lambda z, labels: fakes, params={"theta": theta}, reals=reals, fakes=fakes,
            real_labels=None, fake_labels=None, z=z, draws=gan.Draws(jax.random.key(0), jnp.arange(3)), step=jnp.int32(0),
            real=critic(reals, None), fake=critic(fakes, None),
        )  # fmt: skip
        return bound(turn).sum()

    found, slope = jax.value_and_grad(value)(jnp.float32(0.5))
    assert found > 0 and slope == 0


# ---- augmentations of images -------------------------------------------------------------------

OF_IMAGES = {
    f"{room.__name__.rpartition('.')[2]}.{name}": getattr(room, name)
    for room, names in {
        augment: ("ada", "brightness", "saturation", "contrast", "colour", "translation", "cutout"),
        ada_colour: ("brightness", "contrast", "luma_flip", "hue", "saturation"),
        ada_corruptions: ("image_filter", "noise", "cutout"),
        ada_geometry: ("xflip", "rotate90", "integer_translation", "scale", "rotate", "anisotropic_scale"),
    }.items()
    for name in names
}


@pytest.mark.parametrize("name", OF_IMAGES)
def test_what_changes_images_is_refused_on_points(name):
    bound, draws = gan.bind(OF_IMAGES[name], p=0.5), gan.Draws(jax.random.key(0), jnp.arange(3))
    message = rf"the augmentation {name.rpartition('.')[2]} changes images .*, not examples of shape \[2\]"
    refused(message, bound, jnp.zeros((3, 2)), None, draws)


def test_a_policy_on_points_is_refused_before_a_step():
    refused("translation changes images", started, gan.recipes.mlp((2,), width=4, augment=augment.diffaugment("translation")))


# ---- settings of recipes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shape, field",
    [
        ("sngan", (8, 8, 1), "generator_norm"),
        ("biggan", (8, 8, 1), "penalties"),
        ("mlp", (2,), "generator_norm"),
        ("pacgan_toy", (2,), "dsteps"),
        ("vae", (8, 8, 1), "d_steps"),
        ("vae_gan", (8, 8, 1), "free_bits"),
    ],
)
def test_a_setting_that_a_recipe_has_not_is_refused_with_those_it_has(name, shape, field):
    made = getattr(gan.recipes, name)
    refused(rf"has no setting '{field}'; besides its own it takes .*batch_size", made, shape, **{field: 1})
