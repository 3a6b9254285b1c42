"""Losses whose terms each depend on one logit alone. d_r, d_f are the logits of reals and fakes,
D(x) = sigmoid(d)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at

softplus, relu = jax.nn.softplus, jax.nn.relu


def _cross_entropy(real: DiscriminatorOutput, fake: DiscriminatorOutput, smoothing) -> tuple[jax.Array, jax.Array]:
    """-(1 - s) log D(x) - s log(1 - D(x)) on reals, -log(1 - D(G(z))) on fakes, of logits."""
    s = jnp.asarray(smoothing, real.logits.dtype)
    return (1 - s) * softplus(-real.logits) + s * softplus(real.logits), softplus(fake.logits)


@part("losses")
def non_saturating(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, smoothing=0.0) -> Terms:
    """D: -log D(x) - log(1 - D(G(z))) = softplus(-d_r) + softplus(d_f); G: -log D(G(z)) =
    softplus(-d_f), the article's generator formula (Goodfellow et al., 2014, the alternative named
    in their section 3).

    smoothing: one-sided label smoothing, the target of reals is 1 - smoothing, in [0, 1); default
    0, as in that paper. Salimans et al. (2016) propose a target of .9, so .1 here; TF-GAN's default
    is .25.
    """
    return Terms(*_cross_entropy(real, fake, smoothing), softplus(-fake.logits))


@part("losses")
def minimax(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, smoothing=0.0) -> Terms:
    """D as `non_saturating`; G: log(1 - D(G(z))) = -softplus(d_f), the saturating game (Goodfellow
    et al., 2014, equation 1).

    It follows from the article's discriminator formula, whose argmin has the wrong sign. smoothing:
    as `non_saturating`'s, 0.
    """
    return Terms(*_cross_entropy(real, fake, smoothing), -softplus(fake.logits))


@part("losses")
@decides_at(0.5)
def least_squares(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, smoothing=0.0) -> Terms:
    """D: (d_r - 1)^2 / 2 + d_f^2 / 2; G: (d_f - 1)^2 / 2, the paper's form with targets 0 and 1
    (Mao et al., 2017).

    On logits, as StudioGAN and TF-GAN; compare_gan squares sigmoid probabilities. D is undecided at
    1/2. smoothing: the target of reals is 1 - smoothing, in [0, 1); default 0, as in the paper.
    """
    target = 1 - jnp.asarray(smoothing, real.logits.dtype)
    d_r, d_f = real.logits, fake.logits
    return Terms(jnp.square(d_r - target) / 2, jnp.square(d_f) / 2, jnp.square(d_f - 1) / 2)


@part("losses")
@decides_at(None)
def wasserstein(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """D: d_f - d_r; G: -d_f: the dual form of the Wasserstein-1 distance up to a factor (Arjovsky
    et al., 2017).

    It has no numbers, and needs a Lipschitz critic: a gradient penalty, or the paper's
    `optimizers.clip_weights`, with 5 turns of D a step. D's logits have no zero of their own.
    """
    return Terms(-real.logits, fake.logits, -fake.logits)


@part("losses")
def hinge(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """D: relu(1 - d_r) + relu(1 + d_f); G: -d_f (Lim & Ye, 2017; the form of Miyato et al., 2018,
    and of BigGAN).

    It has no numbers: the margin of 1 is theirs, and any other is a scale of D's logits.
    """
    return Terms(relu(1 - real.logits), relu(1 + fake.logits), -fake.logits)
