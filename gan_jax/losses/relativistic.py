"""Relativistic losses: D compares an example with those of the other side, so that only differences
of logits count. None of these losses has numbers.

The means in the formulae are over the whole batch, on all devices. Terms.real and Terms.fake of
these averages have one of D's two summands each.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at, real_weights


@part("losses")
@decides_at(None)
def rpgan(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """D: softplus(-(d_r - d_f)); G: softplus(-(d_f - d_r)), where each real is paired with the fake
    at its place in the batch (Jolicoeur-Martineau, 2019; R3GAN: Huang et al., 2024, equation 2).

    The term of a pair stands in Terms.real and Terms.fake is 0, so that a weight of the real is the
    weight of the pair, for both players.
    """
    ahead = real.logits - fake.logits
    terms = jax.nn.softplus(-ahead)
    return Terms(terms, jnp.zeros_like(terms), real_weights(batch, ahead) * jax.nn.softplus(ahead))


@part("losses")
@decides_at(None)
def relativistic_average(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaSGAN. D: [softplus(-(d_r - mean d_f)) + softplus(d_f - mean d_r)] / 2; G: the same with the
    two sides exchanged (Jolicoeur-Martineau, 2019, equations 12 and 13, halved as in her code)."""
    return _average(real, fake, batch, lambda margin: jax.nn.softplus(-margin))


@part("losses")
@decides_at(None)
def relativistic_average_least_squares(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaLSGAN. D: [(d_r - mean d_f - 1)^2 + (d_f - mean d_r + 1)^2] / 2; G: the same with the two
    sides exchanged (Jolicoeur-Martineau, 2019, halved as in her code)."""
    return _average(real, fake, batch, lambda margin: jnp.square(margin - 1))


@part("losses")
@decides_at(None)
def relativistic_average_hinge(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaHingeGAN. D: [relu(1 - (d_r - mean d_f)) + relu(1 + (d_f - mean d_r))] / 2; G: the same
    with the two sides exchanged (Jolicoeur-Martineau, 2019, halved as in her code).

    In G's term of the reals, the code of LeCam (Tseng et al., 2021, losses.py) has their mean,
    relu(1 + (mean d_r - mean d_f)), in place of each d_r.
    """
    return _average(real, fake, batch, lambda margin: jax.nn.relu(1 - margin))


def _average(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, cost: Callable) -> Terms:
    """The mean of `cost(margin)`. As in the paper, gradients also go through the means."""
    weights = real_weights(batch, real.logits)
    reals, fakes = real.logits - batch.mean(fake.logits), fake.logits - batch.mean(weights * real.logits)
    generator = cost(fakes) + weights * cost(-reals)
    return Terms(cost(reals) / 2, cost(-fakes) / 2, generator / 2)
