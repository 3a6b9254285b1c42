"""Inputs of the generator: latents z, and the labels of the examples to generate."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.sampling import relabelled


@part("latents")
def normal(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ N(0, 1). No paper: the article's choice, and that of most GANs since."""
    return draws.normal((dimension,), dtype)


@part("latents")
def uniform(draws: Draws, labels, dtype, *, dimension: int) -> Float[Array, "b d"]:
    """z ~ U(-1, 1), as in Radford et al. (2016)."""
    return draws.uniform((dimension,), dtype, -1.0, 1.0)


@part("latents")
def truncated(draws: Draws, labels, dtype, *, dimension: int, threshold) -> Float[Array, "b d"]:
    """z ~ N(0, 1), redrawn while |z| > threshold: the truncation trick (Brock et al., 2019, section
    3.1), for samples of a generator trained with `normal`.

    threshold: > 0. A smaller one gives likelier and less varied samples (Brock et al. use 2 to
    .04). The distribution function is inverted: example i shrinks towards 0 with the threshold, and
    tends to the draw of `normal` as the threshold grows.
    """
    limit = jnp.asarray(threshold, dtype)
    return draws.per_example(lambda key: jax.random.truncated_normal(key, -limit, limit, (dimension,), dtype))


@part("latents")
def rare_noise(draws: Draws, labels, dtype, *, dimension: int, counts, strength) -> Float[Array, "b d"]:
    """z ~ N(0, s_k^2) for class k, with s_k = 1 + strength * r_k: more noise for rare classes.

    r_k = log(n_max / n_k) / log(n_max / n_min) is 0 for the most frequent class and 1 for the
    rarest; it is 0 where all are equal. Samples of a trained generator have the noise too.
    counts: n_k, images of each class, [K]. strength: >= 0; 0 is `normal`, bit for bit.
    No paper: the article proposes it. Raises UserError for a recipe without classes.
    """
    if labels is None:
        raise UserError("rare_noise needs the labels of the examples to generate: give the recipe classes")
    return normal(draws, labels, dtype, dimension=dimension) * rarity_scale(counts, strength, dtype)[labels][:, None]


def rarity_scale(counts, strength, dtype=jnp.float32) -> Float[Array, "k"]:
    """s_k = 1 + strength * r_k of each class, see `rare_noise`."""
    depth = jnp.log(jnp.max(counts) / jnp.asarray(counts, dtype))
    most = depth.max()
    rarity = jnp.where(most > 0, depth / jnp.where(most > 0, most, 1), 0)
    return 1 + jnp.asarray(strength, dtype) * rarity.astype(dtype)


def slerp(start: Float[Array, "*b d"], end: Float[Array, "*b d"], share) -> Float[Array, "*b d"]:
    """Spherical interpolation (Shoemake, 1985; White, 2016), which keeps normal latents' length.

    share: of the angle from start to end, in [0, 1], broadcast against [*b, 1]. Lengths of the ends
    are not normalised. Parallel or opposite ends are joined by a straight line.
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
    """`steps` evenly spaced points from each start to its end, both included: [k, steps, d].
    spherical: use `slerp`, for normal latents; else a straight line, for uniform latents, whose
    range an arc would leave. Raises UserError for fewer than 2 steps."""
    if steps < 2:
        raise UserError(f"an interpolation has at least its two ends, so steps >= 2, not {steps}")
    share = jnp.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    start, end = start[:, None], end[:, None]
    return slerp(start, end, share) if spherical else (1 - share) * start + share * end


@part("latents")
def batch_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """The labels of the real examples. No paper: the usual choice where a batch has labels."""
    return batch.labels if classes else None


@part("latents")
def uniform_labels(draws: Draws, batch, classes: int) -> Int[Array, "b"] | None:
    """Every class equally often: y ~ U{0, ..., K - 1}, as in BigGAN's code (Brock et al., 2019)."""
    return draws.integers(classes).astype(jnp.int32) if classes else None


@part("latents")
def balanced_labels(draws: Draws, batch, classes: int, *, counts, strength, sampled=0.0) -> Int[Array, "b"] | None:
    """Labels with probabilities proportional to n_k^(1 - strength), where n_k are `counts` [K].

    The fewest labels of the reals change. strength: 0 is `batch_labels`, bit for bit; 1 makes all
    classes equally frequent. sampled: the strength with which the reals were drawn
    (`sampling.class_balanced`); 0 for the order of the data. No paper: the resampling of
    `sampling.class_balanced`, for fakes. Raises UserError where the reals have no labels.
    """
    if not classes:
        return None
    if batch.labels is None:
        raise UserError("balanced_labels needs the labels of the reals: give data with labels")
    return relabelled(draws, batch.labels, counts, sampled, strength)
