"""How many modes of a known mixture, or of stacked digits, do samples reach?"""

from __future__ import annotations

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
    """Modes reached, share of high-quality points and reverse KL: the metric of VEEGAN (Srivastava
    et al., 2017) and PacGAN.

    points [n, d], published with n = 2,500; modes [k, d] and sigma: the means and the standard
    deviation of isotropic Gaussians (`data.toys.Mixture`). A point is of high quality where |point
    - nearest mode| / sigma < 3, strictly; what is not finite is not. Then

        modes         the nearest-mode cells with at least one such point, integer, 0 to k
        high_quality  the share of such points, in [0, 1]
        reverse_kl    sum_j p_j log(k p_j) in nats, p_j being mode j's share of them, in [0, log k].
                      Without any it is log k, its worst value (as for one mode), where the
                      published code divides by 0

    For exact samples in 2-D, high_quality is 1 - exp(-4.5) = .98889 (more means that modes have
    shrunk) and reverse_kl about (k - 1) / (2 n_high): .0014 for the ring's 8 modes and .0049 for
    the grid's 25. `modes` says nothing of their shares.
    Cost: n k d operations and memory. Raises UserError where the shapes do not fit.
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
    """Modes reached by stacked digits, and KL(generated || data) in nats (Metz et al., 2017,
    section 3.3.1; PacGAN).

    images:   generated stacks uint8 [n, h, w, 3] (`data.stacked`); published with n = 26,000
              (PacGAN's and R3GAN's code)
    classify: grey images uint8 [m, h, w, 1] -> logits [m, k], such as
              `classifier_logits(data.stacked.singles(data))`, which learns from split E alone. It
              cannot say that an image is no digit: what is none counts as one all the same
    shares:   of the k^3 modes in the data, each above 0, with sum 1; None is 1 / k^3, as both codes
              have

    Each channel gets its most likely digit; p_j being mode j's share of the images, `modes` is how
    many have p_j > 0, integer, 0 to k^3, and `kl` is sum_j p_j log(p_j / shares_j), 0 to -log
    min(shares): log k^3 = 6.91 for a single mode.

    An exact sampler of equal modes reaches 1,000, with kl (k^3 - 1) / (2 n) and a little: .0194 at
    n = 26,000, standard deviation .0009. MNIST's digits are not equally frequent, which adds .0043,
    three times their divergence from uniform: .0235 for exact samples of its training part. The
    classifier's errors hardly show: 26,000 stacks of the test part, of which it knew 98.7 % of the
    digits, had .0248, and .0245 by their labels.

    Raises UserError for images of other shapes, logits that do not fit them, or shares that are
    none.
    """
    images = check_images(images, "modes.stacked")
    if images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"modes.stacked wants stacks uint8 [n, h, w, 3], not {list(images.shape)}")
    logits = np.asarray(classify(channels(images)))
    if logits.ndim != 2 or len(logits) != 3 * len(images):
        raise UserError(f"modes.stacked wants logits [{3 * len(images)}, k] of its channels, not {list(logits.shape)}")
    k = logits.shape[1]
    digits = logits.argmax(1).reshape(3, -1)
    counts = np.bincount((digits[0] * k + digits[1]) * k + digits[2], minlength=k**3)
    return {"modes": int((counts > 0).sum()), "kl": _divergence(counts / len(images), shares)}


def _divergence(found: np.ndarray, shares: np.ndarray | None) -> float:
    from scipy.special import rel_entr

    k = len(found)
    shares = np.full(k, 1 / k) if shares is None else np.asarray(shares, np.float64)
    if shares.shape != (k,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise UserError(f"modes.stacked wants the shares of {k} modes, each above 0, with sum 1, not {list(shares.shape)}")
    return float(rel_entr(found, shares).sum())
