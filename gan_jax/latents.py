"""What the generator starts from: latents z and the labels of the examples to generate."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gan_jax.draws import Draws, named
from gan_jax.errors import UserError
from gan_jax.recipe import Recipe, bind, effective
from gan_jax.sampling import relabelled


def normal(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ N(0, 1). No paper: the article's choice, and that of most GANs since."""
    return draws.normal((dimension,), dtype)


def uniform(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ U(-1, 1), as in Radford et al. (2016)."""
    return draws.uniform((dimension,), dtype, -1.0, 1.0)


def truncated(draws: Draws, labels, dtype, *, dimension: int, threshold) -> Float[Array, "b d"]:
    """z ~ N(0, 1), each value drawn again while |z| > threshold: the truncation trick (Brock et al., 2019, section 3.1).

    threshold: > 0; the smaller, the likelier and the less varied the samples (Brock et al. go from 2 to .04). Made for sampling
    from a generator trained with `normal`: by inverting the truncated distribution function, so that example i moves towards
    the centre as the threshold falls, and tends to what `normal` draws as it grows.
    """
    limit = jnp.asarray(threshold, dtype)
    return draws.per_example(lambda key: jax.random.truncated_normal(key, -limit, limit, (dimension,), dtype))


def rare_noise(draws: Draws, labels, dtype, *, dimension: int, counts, strength) -> Float[Array, "b d"]:
    """z ~ N(0, s_k^2) of class k with s_k = 1 + strength * r_k: more noise for rare classes, the article's first proposal.

    r_k = log(n_max / n_k) / log(n_max / n_min), 0 for the most frequent class and 1 for the rarest; 0 where all are equal.
    counts: images of each class, [K]; strength: >= 0, by how much wider the rarest class's latents are; 0 is `normal` bit for
    bit. Samples of a trained generator have it as well. No paper: the article proposes it.
    Raises UserError for a recipe without classes.
    """
    if labels is None:
        raise UserError("rare_noise needs the labels of the examples to generate: give the recipe classes")
    return normal(draws, labels, dtype, dimension=dimension) * rarity_scale(counts, strength, dtype)[labels][:, None]


def rarity_scale(counts, strength, dtype=jnp.float32) -> Float[Array, "k"]:
    """1 + strength * r_k of each class, see `rare_noise`."""
    depth = jnp.log(jnp.max(counts) / jnp.asarray(counts, dtype))
    most = depth.max()
    rarity = jnp.where(most > 0, depth / jnp.where(most > 0, most, 1), 0)
    return 1 + jnp.asarray(strength, dtype) * rarity.astype(dtype)


def with_truncation(recipe: Any, truncation: float) -> Any:
    """The recipe of the same trained GAN with samples that are likelier and less varied.

    truncation: of a generator that has an average style (StyleGAN2's), psi: w becomes average + psi * (w - average); 1 changes
    nothing and 0 gives the average image. Of any other with normal latents, the threshold of `truncated`, above 0.
    Raises UserError for a number that is neither, for other latents, and for what is no GAN.
    """
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
    """Whether a network, or what it wraps, has a number of this name."""
    while not hasattr(net, "module") and hasattr(net, "net"):
        net = net.net
    return hasattr(net, "module") and number in inspect.signature(type(net.module).__call__).parameters


def slerp(start: Float[Array, "*b d"], end: Float[Array, "*b d"], share) -> Float[Array, "*b d"]:
    """Spherical interpolation (Shoemake, 1985; for latents, White, 2016): the point `share` of the angle from start to end.

    It keeps the length that normal latents have, which a straight line leaves half way. share: in [0, 1], broadcast against
    [*b, 1]. Ends of unequal length are weighed as they are; parallel or opposite ones are joined by a straight line.
    """
    share = jnp.asarray(share, start.dtype)
    unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), jnp.finfo(x.dtype).tiny)
    cosine = jnp.clip((unit(start) * unit(end)).sum(-1, keepdims=True), -1, 1)
    angle = jnp.arccos(cosine)
    sine = jnp.sin(angle)
    straight = sine < 10 * jnp.finfo(start.dtype).eps ** 0.5
    sine = jnp.where(straight, 1, sine)
    near, far = jnp.sin((1 - share) * angle) / sine, jnp.sin(share * angle) / sine
    return jnp.where(straight, 1 - share, near) * start + jnp.where(straight, share, far) * end


def interpolate(
    start: Float[Array, "k d"], end: Float[Array, "k d"], steps: int, spherical: bool = True
) -> Float[Array, "k s d"]:
    """`steps` >= 2 points from each start to its end, both included, evenly spaced: [k, steps, d].

    spherical: by `slerp`, for normal latents; else on a straight line, for uniform ones (which an arc would leave).
    Raises UserError for fewer than 2 steps.
    """
    if steps < 2:
        raise UserError(f"an interpolation has at least its two ends, so steps >= 2, not {steps}")
    share = jnp.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    start, end = start[:, None], end[:, None]
    return slerp(start, end, share) if spherical else (1 - share) * start + share * end


def paths(
    recipe: Any, state: Any, starts, ends, steps: int = 9, *,
    spherical: bool | None = None, labels=None, seed: int = 0, ema: bool = True, truncation: float | None = None,
) -> Float[Array, "k s *shape"]:  # fmt: skip
    """What a trained GAN makes on the way from one sample to another: [k, steps, ...] in the data's scale.

    Args:
        recipe, state: of the GAN, say `run.recipe` and `run.state`.
        starts, ends: [k] numbers of samples: number i is sample i of `run.samples(n, seed=seed)`.
        steps: as for `interpolate`.
        spherical: as for `interpolate`; by default True for latents that lie around a sphere, as normal ones do.
        labels: [k], one for a whole path; by default, of a conditional recipe, that of its start.
        seed, ema, truncation: of the samples, see `run.samples`.

    Raises:
        UserError: as many starts, ends and labels are not given, or none, or fewer than 2 steps; or truncation means nothing.
    """
    starts, ends = jnp.atleast_1d(jnp.asarray(starts)), jnp.atleast_1d(jnp.asarray(ends))
    labels = starts % recipe.classes if recipe.classes and labels is None else labels
    given = {"starts": starts, "ends": ends} | ({} if labels is None else {"labels": labels})
    if len({len(values) for values in given.values()}) > 1 or not len(starts):
        counts = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise UserError(f"each path has one start, one end and at most one label; got {counts}")
    if truncation is not None:
        recipe = with_truncation(recipe, truncation)
    labels = None if labels is None else jnp.asarray(labels, jnp.int32)
    latent, key = effective(recipe, state.step, state.memory.get("live")).latent, named(jax.random.key(seed), "latent")
    start, end = (latent(Draws(key, numbers), labels, jnp.dtype(recipe.dtype)) for numbers in (starts, ends))
    if spherical is None:
        spherical = latent.function in (normal, truncated, rare_noise)
    z = interpolate(start, end, steps, spherical)
    source = state.ema if ema else {"params": state.generator.params, "stats": state.generator.stats}
    images = _made(recipe, state.replace(ema=source), z.reshape(-1, z.shape[-1]), labels, steps)
    return images.reshape(*z.shape[:2], *images.shape[1:])


@partial(jax.jit, static_argnums=4)
def _made(recipe: Any, state: Any, z, labels, steps: int):
    """The moving average's images of z [k * steps, d]."""
    from gan_jax.measure.recovery import generator_of

    generate, _ = generator_of(recipe, state)
    return generate(z, None if labels is None else jnp.repeat(labels, steps))


def batch_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """The generated examples take the labels of the real ones: the classes are as frequent as in the data.

    No paper: it is the usual choice where a batch has labels at hand.
    """
    return batch.labels if classes else None


def uniform_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """Every class equally often: y ~ U{0, ..., K - 1}, as BigGAN's code draws them (Brock et al., 2019)."""
    return draws.integers(classes).astype(jnp.int32) if classes else None


def balanced_labels(draws: Draws, batch, classes: int, *, counts, strength, sampled=0.0) -> Int[Array, "b"] | None:
    """Labels of the generated examples with probabilities proportional to n_k^(1 - strength), n_k of `counts` [K].

    They are the labels of the reals but for those that must change: strength 0 is `batch_labels` bit for bit, 1 makes every
    class equally often. sampled: the strength with which the reals were drawn (`sampling.class_balanced`); 0 for the data's
    order. No paper: the resampling of `sampling.class_balanced`, for fakes. Raises UserError where the reals have no labels.
    """
    if not classes:
        return None
    if batch.labels is None:
        raise UserError("balanced_labels needs the labels of the reals: give data with labels")
    return relabelled(draws, batch.labels, counts, sampled, strength)
