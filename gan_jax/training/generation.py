"""Images of a trained generator: truncated samples, paths between samples, given latents."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax import arguments
from gan_jax.core.bind import bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import EVALUATION
from gan_jax.core.rng import Draws, named
from gan_jax.gan import forward
from gan_jax.gan.control import resolved
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State
from gan_jax.latents import interpolate, normal, rare_noise, truncated

Draw = Callable[..., Float[Array, "n k"]]


def with_truncation(recipe: Recipe, truncation: float) -> Recipe:
    """The recipe of the same trained GAN, whose samples are likelier and less varied.

    truncation: for a generator with an average style (StyleGAN2, Karras et al. 2020) this is psi: w
    becomes average + psi * (w - average), so that 1 changes nothing and 0 gives the average image.
    For any other generator with normal latents it is the threshold of `latents.truncated`, above 0.
    Raises UserError for a number out of range, for other latents, and for a recipe of no GAN.
    """
    if isinstance(truncation, bool) or not isinstance(truncation, (int, float, np.number)):
        arguments.refuse(truncation, "truncation", "a number")
    if not isinstance(recipe, Recipe):
        raise UserError(f"truncation={truncation:g} means nothing for a {type(recipe).__name__}: it is of a GAN's generator")
    side = recipe.generator
    if _takes(side.net, "truncation"):
        if not np.isfinite(truncation):
            raise UserError(f"truncation={truncation:g}: psi must be finite; .5 to .7 is usual, and 1 changes nothing")
        return recipe.replace(generator=side.replace(numbers=side.numbers | {"truncation": truncation}))
    latent = recipe.latent
    if latent.function not in (normal, truncated):
        raise UserError(f"truncation={truncation:g} means nothing for {latent.name} latents: it is of normal ones")
    if not 0 < truncation < np.inf:
        raise UserError(f"truncation={truncation:g}: the threshold of normal latents must be finite and above 0; 2 is mild")
    return recipe.replace(latent=bind(truncated, dimension=latent.options["dimension"], threshold=truncation))


def _takes(net: Any, number: str) -> bool:
    """Whether a network, or the network that it wraps, has a number of this name."""
    while not hasattr(net, "module") and hasattr(net, "net"):
        net = net.net
    return hasattr(net, "module") and number in inspect.signature(type(net.module).__call__).parameters


def paths(
    recipe: Recipe, state: State, starts, ends, steps: int = 9, *,
    spherical: bool | None = None, labels=None, seed: int = 0, ema: bool = True, truncation: float | None = None,
) -> Float[Array, "k s *shape"]:  # fmt: skip
    """Images on the paths from one sample to another: [k, steps, ...] in the data's scale.

    recipe, state: of a trained GAN, such as `run.recipe` and `run.state`.
    starts, ends: [k] positions of samples in `run.samples(n, seed=seed)`.
    steps, spherical: see `latents.interpolate`. spherical is True by default for normal latents and
        their variants `truncated` and `rare_noise`.
    labels: [k], one for each path; by default the label of its start.
    seed, ema, truncation: see `run.samples`.
    Raises UserError where starts, ends and labels differ in number or are empty, for steps < 2, and
    for a truncation that does not fit the recipe.
    """
    steps, seed, ema = arguments.count(steps, "steps", least=2), arguments.seed(seed), arguments.flag(ema, "ema")
    starts, ends = jnp.atleast_1d(jnp.asarray(starts)), jnp.atleast_1d(jnp.asarray(ends))
    labels = starts % recipe.classes if recipe.classes and labels is None else labels
    given = {"starts": starts, "ends": ends} | ({} if labels is None else {"labels": labels})
    if len({len(values) for values in given.values()}) > 1 or not len(starts):
        counts = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise UserError(f"each path has one start, one end and at most one label; got {counts}")
    if truncation is not None:
        recipe = with_truncation(recipe, truncation)
    labels = None if labels is None else jnp.asarray(labels, jnp.int32)
    latent, key = resolved(recipe, state).latent, named(jax.random.key(seed), "latent")
    start, end = (latent(Draws(key, numbers), labels, jnp.dtype(recipe.dtype)) for numbers in (starts, ends))
    if spherical is None:
        spherical = latent.function in (normal, truncated, rare_noise)
    z = interpolate(start, end, steps, spherical)
    source = state.ema if ema else {"params": state.generator.params, "stats": state.generator.stats}
    images = _made(recipe, state.replace(ema=source), z.reshape(-1, z.shape[-1]), labels, steps)
    return images.reshape(*z.shape[:2], *images.shape[1:])


@partial(jax.jit, static_argnums=4)
def _made(recipe: Recipe, state: State, z, labels, steps: int):
    """The moving average's images of z [k * steps, d]."""
    generate, _ = generator_of(recipe, state)
    return generate(z, None if labels is None else jnp.repeat(labels, steps))


def generator_of(recipe: Recipe, state: State) -> tuple[Callable[..., Array], Draw]:
    """(generate, draw) of a trained GAN, for `latent_recovery`.

    generate: (z [b, k], labels [b] or None) -> images [b, ...] of the moving average, in the data's
    scale. It raises UserError for a conditional generator without labels.
    draw: (key, n) -> z [n, k], float32.
    """
    live, weights = resolved(recipe, state), state.ema

    def generate(z, labels=None):
        if live.classes and labels is None:
            raise UserError("this generator is conditional: give latent_recovery labels=(training's, held-out's)")
        labels = labels if live.classes else None
        return forward.generate(live, weights["params"], weights["stats"], z, labels, EVALUATION)[0]

    def draw(key, n):
        labels = jnp.arange(n) % live.classes if live.classes else None
        return live.latent(Draws(key, jnp.arange(n)), labels, jnp.dtype("float32"))

    return generate, draw
