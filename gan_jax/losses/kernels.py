"""MMD-GAN: D learns a representation in which the kernel embeddings of reals and fakes differ."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at, places, real_weights

SCALES = {"rational_quadratic": (0.1, 1.0, 10.0), "rbf": (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)}
"""The mixtures in the code of Binkowski et al. (2018): alphas, and sigmas of the representation."""


def kernel_values(x: Float[Array, "n d"], y: Float[Array, "m d"], kernel: str, dot=0.0) -> Float[Array, "n m"]:
    """k(x_i, y_j), with s = |x - y|^2 the sum over SCALES of (1 + s / (2 a))^-a or of exp(-s / (2
    sigma^2)), plus dot * x.y. Raises UserError for an unknown kernel."""
    if kernel not in SCALES:
        raise UserError(f"unknown kernel {kernel!r}: use one of {', '.join(SCALES)}")
    between = jnp.square(x[:, None] - y[None]).sum(-1)
    if kernel == "rbf":
        values = sum(jnp.exp(between / (-2 * sigma**2)) for sigma in SCALES[kernel])
    else:
        values = sum(jnp.exp(-a * jnp.log1p(between / (2 * a))) for a in SCALES[kernel])
    return values + jnp.asarray(dot, x.dtype) * (x[:, None] * y[None]).sum(-1)


def representation(output: DiscriminatorOutput, on: str) -> Float[Array, "b d"]:
    """What the kernel compares: the logits as one dimension (on='logits'), or the features. Raises
    UserError for another name, and for features that are not there."""
    if on not in ("logits", "features"):
        raise UserError(f"mmd compares 'logits' or 'features', not {on!r}")
    if on == "logits":
        return output.logits[:, None]
    if output.features is None:
        raise UserError("mmd on 'features' needs a discriminator whose DiscriminatorOutput has features: use on='logits'")
    return output.features.reshape(len(output.features), -1)


def witness(values, real, fake, kernel: str = "rational_quadratic", dot=0.0) -> Float[Array, "n"]:
    """mean_j k(values, real_j) - mean_j k(values, fake_j), all arrays being [., d]. Binkowski et
    al. (2018, section 3) hold the norm of its gradient at 1, with weight 1 in their code. Give the
    reals and fakes of all devices (`batch.all_gather`)."""
    return kernel_values(values, real, kernel, dot).mean(1) - kernel_values(values, fake, kernel, dot).mean(1)


@part("losses")
@decides_at(None)
def mmd(
    real: DiscriminatorOutput,
    fake: DiscriminatorOutput,
    batch: Any,
    *,
    kernel: str = "rational_quadratic",
    on: str = "logits",
    dot=0.0,
) -> Terms:
    """D: -MMD^2; G: MMD^2, unbiased, over all devices (Li et al., 2017; Binkowski et al., 2018).

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j) of
    reals x and fakes y (Gretton et al., 2012). It is the mean over i of h(x_i) + h(y_i), with

        h(x_i) = mean_{j != i} k(x_i, x_j) - mean_j k(x_i, y_j),
        h(y_i) = mean_{j != i} k(y_i, y_j) - mean_j k(y_i, x_j).

    Terms.real is -h(x_i), Terms.fake is -h(y_i), and G's terms are h(x_i) + h(y_i). A weight counts
    once for each real of a pair. The cost is n^2 kernel values of the whole batch.

    kernel: 'rational_quadratic' (the default) or 'rbf', summed over the published scales (`SCALES`;
    Li et al. have sigmas 1, 2, 4, 8, 16).
    dot: the weight of the linear kernel, >= 0, default 0. The authors' CIFAR-10 script has 1, and
    its estimate keeps the linear kernel's pairs of an example with itself.
    on: 'logits' (the default: one dimension, with any network) or 'features', which dcgan and mlp
    make as in the paper with `representation=16`.

    Published with 5 discriminator turns, Adam 1e-4 and a penalty of the `witness`. Raises UserError
    for a batch of one, an unknown kernel, or features that are not there.
    """
    x, y = representation(real, on), representation(fake, on)
    weights = real_weights(batch, x)
    every_x, every_y, shares = (batch.all_gather(v) for v in (x, y, weights))
    n, m = len(every_x), len(every_y)
    if min(n, m) < 2:
        raise UserError(f"mmd compares pairs, and the batch has {min(n, m)} example: use batches of at least 2")
    k = lambda a, b: kernel_values(a, b, kernel, dot)
    of_real = _others(k(x, every_x), batch) @ shares / (n - 1) - k(x, every_y).mean(1)
    of_fake = _others(k(y, every_y), batch).sum(1) / (m - 1) - k(y, every_x) @ shares / n
    return Terms(-of_real, -of_fake, weights * of_real + of_fake)


def _others(values: Float[Array, "b n"], batch: Any) -> Float[Array, "b n"]:
    """Kernel values within one side, with 0 for each example and itself."""
    own = places(batch, len(values))[:, None] == jnp.arange(values.shape[1])
    return jnp.where(own, 0, values)
