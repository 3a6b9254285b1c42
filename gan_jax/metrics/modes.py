"""How many modes of a known mixture, or of stacked digits, do samples reach?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from gan_jax.core.errors import UserError
from gan_jax.data.stacked import channels
from gan_jax.metrics.features.extractor import check_images

NEAR = 3.0  # standard deviations: a point nearer to a mode than this is of high quality


def coverage(points: ArrayLike, modes: ArrayLike, sigma: ArrayLike) -> dict[str, Array]:
    """Modes reached, share of good points, reverse KL (VEEGAN, Srivastava et al., 2017; PacGAN).

    points [n, d], published with n = 2,500; modes [k, d] and sigma: means and standard deviation of
    isotropic Gaussians (`data.toys.Mixture`). A point nearer to some mode than 3 sigma is good.

        modes: the number of modes, 0 to k, that are nearest to a good point
        high_quality: the share of good points, in [0, 1]
        reverse_kl: sum_j p_j log(k p_j) in nats, p_j being mode j's share of them, in [0, log k];
          log k without any, where the published code divides by 0

    For exact samples in 2-D, high_quality is .98889 (more means that modes have shrunk) and
    reverse_kl about (k - 1) / (2 n_high): .0014 for the ring's 8 modes, .0049 for the grid's 25.
    Raises UserError where the shapes do not fit.
    """
    points, modes = jnp.asarray(points), jnp.asarray(modes)
    if points.ndim != 2 or modes.ndim != 2 or points.shape[1] != modes.shape[1]:
        raise UserError(f"coverage wants points [n, d] and modes [k, d], not {list(points.shape)} and {list(modes.shape)}")
    k = len(modes)
    squared = (((points[:, None, :] - modes.astype(points.dtype)) / sigma) ** 2).sum(-1)
    high = squared.min(1) < NEAR**2  # False for NaN
    counts = ((squared.argmin(1)[:, None] == jnp.arange(k)) & high[:, None]).sum(0)
    n_high = counts.sum()
    share = counts / jnp.maximum(n_high, 1)
    kl = jax.scipy.special.xlogy(share, share * k).sum()
    return {
        "modes": (counts > 0).sum(),
        "high_quality": high.mean(),
        "reverse_kl": jnp.where(n_high > 0, jnp.maximum(kl, 0), jnp.log(k)),
    }


def stacked(images: np.ndarray, classify: Callable[[np.ndarray], Any], shares: np.ndarray | None = None) -> dict[str, Any]:
    """Modes reached by stacked digits, and KL(generated || data) (Metz et al., 2017; PacGAN).

    images: generated stacks uint8 [n, h, w, 3] (`data.stacked`); published with n = 26,000.
    classify: grey images uint8 [m, h, w, 1] -> logits [m, k], such as
    `classifier_logits(data.stacked.singles(data))`. shares: of the k^3 modes in the data, each
    above 0, with sum 1; by default 1 / k^3, as published.

    Each channel gets its most likely digit, and p_j is mode j's share of the images. `modes` counts
    p_j > 0, from 0 to k^3. `kl` is sum_j p_j log(p_j / shares_j) in nats: log k^3 = 6.91 for a
    single mode. An exact sampler of equal modes reaches 1,000 with kl about (k^3 - 1) / (2 n):
    .0194 at n = 26,000, standard deviation .0009. MNIST's unequal digits make it .0235.
    Raises UserError for images, logits or shares that do not fit.
    """
    from scipy.special import rel_entr

    images = check_images(images, "modes.stacked")
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"modes.stacked wants stacks uint8 [n, h, w, 3], not {list(images.shape)}")
    logits = np.asarray(classify(channels(images)))
    if logits.ndim != 2 or len(logits) != 3 * len(images):
        raise UserError(f"modes.stacked wants logits [{3 * len(images)}, k] of its channels, not {list(logits.shape)}")
    k = logits.shape[1]
    digits = logits.argmax(1).reshape(3, -1)
    counts = np.bincount((digits[0] * k + digits[1]) * k + digits[2], minlength=k**3)
    shares = np.full(len(counts), 1 / len(counts)) if shares is None else np.asarray(shares, np.float64)
    if shares.shape != counts.shape or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UserError(f"modes.stacked wants the shares of {k**3} modes, each above 0, with sum 1, not {list(shares.shape)}")
    return {"modes": int((counts > 0).sum()), "kl": float(rel_entr(counts / len(images), shares).sum())}
