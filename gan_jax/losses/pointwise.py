"""Losses whose terms each depend on one logit alone. In the formulae d_r and d_f are the logits of
reals and fakes, and D(x) = sigmoid(d)."""

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
    softplus(-d_f) (Goodfellow et al., 2014, section 3; the article of the README).

    smoothing: one-sided label smoothing, in [0, 1), default 0: the target of reals is 1 -
    smoothing. Salimans et al. (2016) propose .1, and TF-GAN's default is .25.
    """
    return Terms(*_cross_entropy(real, fake, smoothing), softplus(-fake.logits))


@part("losses")
def minimax(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, smoothing=0.0) -> Terms:
    """D: as `non_saturating`; G: log(1 - D(G(z))) = -softplus(d_f), the saturating game (Goodfellow
    et al., 2014, equation 1). smoothing: as for `non_saturating`, in [0, 1), default 0."""
    return Terms(*_cross_entropy(real, fake, smoothing), -softplus(fake.logits))


@part("losses")
@decides_at(0.5)
def least_squares(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, smoothing=0.0) -> Terms:
    """D: (d_r - 1)^2 / 2 + d_f^2 / 2; G: (d_f - 1)^2 / 2 (Mao et al., 2017, with targets 0 and 1).

    The squares are of logits, as in StudioGAN and TF-GAN; compare_gan squares probabilities.
    smoothing: in [0, 1), default 0, as in the paper; the target of reals is 1 - smoothing.
    """
    target = 1 - jnp.asarray(smoothing, real.logits.dtype)
    d_r, d_f = real.logits, fake.logits
    return Terms(jnp.square(d_r - target) / 2, jnp.square(d_f) / 2, jnp.square(d_f - 1) / 2)


@part("losses")
@decides_at(None)
def wasserstein(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """D: d_f - d_r; G: -d_f, the dual form of the Wasserstein-1 distance up to a factor (Arjovsky
    et al., 2017). It needs a Lipschitz critic: a gradient penalty, or the paper's
    `optimizers.clip_weights`, with 5 discriminator turns a step."""
    return Terms(-real.logits, fake.logits, -fake.logits)


@part("losses")
def hinge(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """D: relu(1 - d_r) + relu(1 + d_f); G: -d_f (Lim & Ye, 2017, in the form of Miyato et al.,
    2018, and of BigGAN). Any other margin would be a scale of D's logits."""
    return Terms(relu(1 - real.logits), relu(1 + fake.logits), -fake.logits)
