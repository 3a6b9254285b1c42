"""Laws of every network family: which weights are normalised and penalised, how labels enter,
numbers that may be swept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.net import Net
from gan_jax.networks import biggan, dcgan, maxout, mlp, r3gan, sngan, stylegan2
from gan_jax.networks.heads import CONDITIONINGS
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.penalties import l2
from tests.penalties.test_generator import of_weights

PLAN = r3gan.plan(8, 8, blocks=1)
STYLE = {"channel_base": 32, "channel_max": 4, "mapping": 1}
FAMILIES = {  # {name: (z, generator, discriminator)} as functions of the number of classes, of 8 x 8 grey images or 4 columns
    "dcgan": (3, lambda k: dcgan.Generator(8, 1, 2, classes=k), lambda k, **f: dcgan.Discriminator(2, "batch", k, **f)),
    "mlp": (3, lambda k: mlp.Generator(4, 4, 1, classes=k), lambda k, **f: mlp.Discriminator(4, 1, "layer", k, **f)),
    "maxout": (2, lambda k: maxout.Generator(4, 4, 1), lambda k, **f: maxout.Discriminator(4, 1)),
    "sngan": (3, lambda k: sngan.Generator(8, 1, 4, k), lambda k, **f: sngan.Discriminator(4, k, **f)),
    "biggan": (
        4,
        lambda k: biggan.Generator(8, 1, 2, k, 3, attention=8),
        lambda k, **f: biggan.Discriminator(2, k, attention=4, **f),
    ),
    "stylegan2": (
        4,
        lambda k: stylegan2.Generator(8, 1, style=4, classes=k, **STYLE),
        lambda k, **f: stylegan2.Discriminator(group=2, classes=k, **STYLE, **f),
    ),
    "r3gan": (
        4,
        lambda k: r3gan.Generator(8, 1, **PLAN, classes=k),
        lambda k, **f: r3gan.Discriminator(**PLAN, classes=k, **f),
    ),
}
CONDITIONAL = [name for name in FAMILIES if name != "maxout"]

# Weights of two dimensions or more that are left alone, by their own name.
SPECTRAL_SPARES = {
    "basis": "R3GAN's maps, which a vector weighs or reads: no layer's matrix",
    "const": "StyleGAN2's first map: an input",
}
PENALTIES_SPARE = SPECTRAL_SPARES | {"embedding": "a label's vector: an input, of which most are not in a batch"}


def players(family, classes=3, **fields):
    """[(net, inputs)] of the generator and the discriminator."""
    dimension, g, d = FAMILIES[family]
    shape = (4,) if family in ("mlp", "maxout") else (8, 8, 1)
    return [(Net(g(classes)), jnp.ones((2, dimension))), (Net(d(classes, **fields)), jnp.ones((2, *shape)))]


def flat(tree):
    return {tuple(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("player", [0, 1], ids=["generator", "discriminator"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_normalised_and_penalised_but_those_with_a_reason(family, player):
    net, inputs = players(family)[player]
    start = lambda key: SpectralNorm(net).init(key, inputs, jnp.zeros(2, jnp.int32), {})
    params, stats = jax.eval_shape(start, jax.random.key(0))
    weights = {path: leaf for path, leaf in flat(params).items() if leaf.ndim >= 2}
    normalised = {path[:-1] for path in flat(stats["spectral"])}
    assert {path[-1] for path in set(weights) - normalised} <= set(SPECTRAL_SPARES)
    ones = jax.tree.map(lambda x: np.ones(x.shape, np.float32), params)
    expected = sum(x.size for path, x in weights.items() if path[-1] not in PENALTIES_SPARE)
    np.testing.assert_allclose(l2(of_weights(ones), weight=2.0), expected)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("family", CONDITIONAL)
def test_every_family_takes_a_step_with_every_conditioning(family, conditioning):
    """Traced, not run. Class logits are there where they are asked for, and nowhere else."""
    made = players(family, conditioning=conditioning)
    loss = {"auxiliary": gan.losses.auxiliary_classifier(gan.losses.hinge), "multi_class": "multi_class"}.get(
        conditioning, "hinge"
    )
    sides = [gan.Side(net=net, optimizer=gan.optimizers.adam(1e-3)) for net, _ in made]
    recipe = gan.recipes.assembled(sides, loss, made[0][1].shape[1], classes=3, batch_size=2)
    batch = gan.Batch(made[1][1], jnp.arange(2), jnp.zeros(2, jnp.int32))
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    after, metrics = jax.eval_shape(gan.train_step, recipe, state, batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert metrics["discriminator/loss"].shape == ()
    names = {name for path in flat(state.discriminator.params) for name in path}
    assert ("class_logits" in names) == (conditioning in ("auxiliary", "multi_class"))


@pytest.mark.parametrize("player", [0, 1], ids=["generator", "discriminator"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_player_has_dropout(family, player):
    net, inputs = players(family)[player]
    params, stats = jax.eval_shape(lambda key: net.init(key, inputs, jnp.zeros(2, jnp.int32), {}), jax.random.key(0))
    mode = gan.Mode(train=True, draws=gan.Draws(jax.random.key(0), jnp.arange(2)))
    program = lambda numbers: str(
        jax.make_jaxpr(lambda p, s: net.apply(p, s, inputs, jnp.zeros(2, jnp.int32), mode, numbers))(params, stats)
    )
    assert program({}).count("random_wrap") < program({"dropout": 0.5}).count("random_wrap")
