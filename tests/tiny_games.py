"""Small games that several tests train."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

import gan_jax as gan
from gan_jax.core.batch import Feed


def everything(dtype="float64", optimizer=None, flat=False, **fields):
    """A tiny conditional DCGAN with batch norm, dropout, R1 (lazy), DRAGAN, instance noise and
    label smoothing at once.

    flat: perceptrons on rows of 4 numbers in its place, which compile in a third of the time
        (`feed(shape=(4,))`).
    """
    loss = gan.bind(gan.losses.non_saturating, smoothing=0.1)
    # A bias under batch norm has a gradient of 0 but for rounding, which Adam divides by eps: at
    # 1e-8, 1e-10 of a parameter.
    optimizer = optimizer or gan.bind(optax.adam, learning_rate=2e-4, b1=0.5, eps=1e-6)
    shared = {"latent_dim": 6, "loss": loss, "classes": 3, "dtype": dtype, "batch_size": 8} | fields
    if flat:
        recipe = gan.recipes.mlp((4,), width=6, depth=1, **shared)
        normed = lambda side: gan.Net(side.net.module.clone(norm="batch"))
        nets = normed(recipe.generator), normed(recipe.discriminator)
    else:
        recipe = gan.recipes.dcgan((8, 8, 1), width=4, discriminator_norm="batch", **shared)
        nets = recipe.generator.net, recipe.discriminator.net
    penalties = {
        "r1": gan.lazy(gan.bind(gan.penalties.r1, gamma=1.0), 2),
        "dragan": gan.bind(gan.penalties.dragan, weight=0.5),
    }
    d = gan.Side(
        net=nets[1],
        optimizer=optimizer,
        numbers={"dropout": 0.2},
        penalties=penalties,
    )
    g = recipe.generator.replace(net=nets[0], optimizer=optimizer)
    noise = gan.bind(gan.augment.instance_noise, std=gan.schedules.linear(0.2, 0.0, 10))
    return recipe.replace(generator=g, discriminator=d, augment={"noise": noise})


def feed(n=40, shape=(8, 8, 1), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape), np.uint8) if len(shape) == 3 else rng.normal(size=(n, *shape)).astype(np.float32)
    return Feed(jnp.asarray(images), jnp.asarray(rng.integers(0, classes, n), jnp.int32), jnp.int32(n), jax.random.key(5))


def assert_close(a, b, tolerance, scale=1.0):
    """Every leaf equal to `tolerance`, relative to the leaf's largest value (at least `scale`)."""
    flat_a, flat_b = (jax.tree_util.tree_flatten_with_path(x)[0] for x in (a, b))
    assert [p for p, _ in flat_a] == [p for p, _ in flat_b]
    for (path, x), (_, y) in zip(flat_a, flat_b, strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        error = np.abs(x - y).max(initial=0) / max(np.abs(y).max(initial=0), scale)
        assert error <= tolerance, f"{jax.tree_util.keystr(path)} differs by {error:.2e}"


# A game that compiles in no time, for what does not depend on the game: a mean that walks to that
# of the data.


@struct.dataclass
class Mean:
    step: jax.Array
    key: jax.Array
    mean: jax.Array


def mean_step(knobs, state, batch, axis_name=None):
    error = state.mean - batch.images.mean(0)
    new = state.replace(step=state.step + 1, mean=state.mean - knobs["rate"] * error)
    return new, {"loss": jnp.square(error).sum()}


def ten(knobs):
    return 10


def mean_start(knobs, key):
    return Mean(jnp.int32(0), key, jax.random.normal(key, (2,)))


def mean_error(knobs, state, train, validation):
    return {"error": jnp.square(state.mean - validation[0].mean(0)).sum()}


QUICK = gan.Game(mean_start, mean_step, ten, evaluate=mean_error)
