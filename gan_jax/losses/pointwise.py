"""Losses whose terms each depend on one logit alone. d_r, d_f are the logits of reals and fakes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.losses.terms import Terms
from gan_jax.networks.net import Judgement

softplus, relu = jax.nn.softplus, jax.nn.relu


def _cross_entropy(real: Judgement, fake: Judgement, smoothing) -> tuple[jax.Array, jax.Array]:
    """-(1 - s) log D(x) - s log(1 - D(x)) on reals, -log(1 - D(G(z))) on fakes, of logits."""
    s = jnp.asarray(smoothing, real.logits.dtype)
    return (1 - s) * softplus(-real.logits) + s * softplus(real.logits), softplus(fake.logits)


def non_saturating(real: Judgement, fake: Judgement, batch: Any, *, smoothing=0.0) -> Terms:
    """D: -log D(x) - log(1 - D(G(z))); G: -log D(G(z)), the article's generator formula (Goodfellow et al., 2014).

    smoothing: one-sided label smoothing, the target of reals is 1 - smoothing, in [0, 1), default 0 (Salimans et al., 2016).
    """
    return Terms(*_cross_entropy(real, fake, smoothing), softplus(-fake.logits))


def minimax(real: Judgement, fake: Judgement, batch: Any, *, smoothing=0.0) -> Terms:
    """D as non-saturating; G: log(1 - D(G(z))), the saturating game (Goodfellow et al., 2014, equation 1).

    It follows from the article's discriminator formula, whose argmin has the wrong sign.
    """
    return Terms(*_cross_entropy(real, fake, smoothing), -softplus(fake.logits))


def least_squares(real: Judgement, fake: Judgement, batch: Any, *, smoothing=0.0) -> Terms:
    """D: (d_r - 1)^2 / 2 + d_f^2 / 2; G: (d_f - 1)^2 / 2, on logits (Mao et al., 2017).

    smoothing: the target of reals is 1 - smoothing.
    """
    target = 1 - jnp.asarray(smoothing, real.logits.dtype)
    d_r, d_f = real.logits, fake.logits
    return Terms(jnp.square(d_r - target) / 2, jnp.square(d_f) / 2, jnp.square(d_f - 1) / 2)


def wasserstein(real: Judgement, fake: Judgement, batch: Any) -> Terms:
    """D: d_f - d_r; G: -d_f (Arjovsky et al., 2017). Needs a Lipschitz critic: gradient penalty or weight clipping."""
    return Terms(-real.logits, fake.logits, -fake.logits)


def hinge(real: Judgement, fake: Judgement, batch: Any) -> Terms:
    """D: relu(1 - d_r) + relu(1 + d_f); G: -d_f (Lim & Ye, 2017; Miyato et al., 2018)."""
    return Terms(relu(1 - real.logits), relu(1 + fake.logits), -fake.logits)
