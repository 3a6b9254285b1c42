"""How many modes of a known mixture do samples reach?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from gan_jax.errors import UserError

NEAR = 3.0  # standard deviations: a point nearer to a mode than this is of high quality


def coverage(points: ArrayLike, modes: ArrayLike, sigma: ArrayLike) -> dict[str, Array]:
    """Modes reached, share of high-quality points and reverse KL: the metric of VEEGAN (Srivastava et al., 2017) and PacGAN.

    points [n, d], published with n = 2,500; modes [k, d] and sigma: the means and the standard deviation of isotropic
    Gaussians (`data.toys.Mixture`).
    A point is of high quality where |point - nearest mode| / sigma < 3, strictly; what is not finite is not. Then

        modes         the nearest-mode cells with at least one such point, integer, 0 to k
        high_quality  the share of such points, in [0, 1]
        reverse_kl    sum_j p_j log(k p_j) in nats, p_j being mode j's share of them, in [0, log k]. Without any it is log k,
                      its worst value (as for one mode), where the published code divides by 0

    For exact samples in 2-D, high_quality is 1 - exp(-4.5) = .98889 (more means that modes have shrunk) and reverse_kl about
    (k - 1) / (2 n_high): .0014 for the ring's 8 modes and .0049 for the grid's 25. `modes` says nothing of their shares.
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
