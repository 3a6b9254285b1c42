"""Relativistic losses: D says how much more real an example is than the other side's. Only
differences of logits count."""

from __future__ import annotations

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
    """D: softplus(-(d_r - d_f)); G: softplus(-(d_f - d_r)), each real paired with the fake at its
    place in the batch.

    Relativistic pairing (Jolicoeur-Martineau, 2019; the loss of R3GAN, Huang et al., 2024, equation
    2, with R1 and R2). It has no numbers. A pair's term is all in Terms.real, Terms.fake is 0: a
    weight of the real is that of the pair, in both players' losses.
    """
    ahead = real.logits - fake.logits
    terms = jax.nn.softplus(-ahead)
    return Terms(terms, jnp.zeros_like(terms), real_weights(batch, ahead) * jax.nn.softplus(ahead))


@part("losses")
@decides_at(None)
def relativistic_average(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaSGAN: D: [softplus(-(d_r - mean d_f)) + softplus(d_f - mean d_r)] / 2; G: the same with the
    two sides exchanged.

    Jolicoeur-Martineau (2019), equations 12 and 13, halved as in her code; it has no numbers. The
    means are over the whole batch, over all devices; half of the term is in Terms.real and half in
    Terms.fake.
    """
    return _average(real, fake, batch, _logistic)


@part("losses")
@decides_at(None)
def relativistic_average_least_squares(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaLSGAN: D: [(d_r - mean d_f - 1)^2 + (d_f - mean d_r + 1)^2] / 2; G: the same with the two
    sides exchanged, [(d_f - mean d_r - 1)^2 + (d_r - mean d_f + 1)^2] / 2.

    Jolicoeur-Martineau (2019), halved as in her code; it has no numbers. Means and halves as
    `relativistic_average`'s.
    """
    return _average(real, fake, batch, _square)


@part("losses")
@decides_at(None)
def relativistic_average_hinge(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """RaHingeGAN: D: [relu(1 - (d_r - mean d_f)) + relu(1 + (d_f - mean d_r))] / 2; G: the same
    with the two sides exchanged, [relu(1 - (d_f - mean d_r)) + relu(1 + (d_r - mean d_f))] / 2.

    Jolicoeur-Martineau (2019), halved as in her code; it has no numbers. LeCam's code (Tseng et
    al., 2021, losses.py) deviates: the reals' term of its G has their mean, relu(1 + (mean d_r -
    mean d_f)), in place of each d_r.
    """
    return _average(real, fake, batch, _hinge)


def _logistic(margin):
    return jax.nn.softplus(-margin)


def _square(margin):
    return jnp.square(margin - 1)


def _hinge(margin):
    return jax.nn.relu(1 - margin)


def _average(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, cost: Callable) -> Terms:
    """`cost` of a margin that should be large. No gradient is stopped at the means, as in the
    paper."""
    weights = real_weights(batch, real.logits)
    reals, fakes = real.logits - batch.mean(fake.logits), fake.logits - batch.mean(weights * real.logits)
    generator = cost(fakes) + weights * cost(-reals)
    return Terms(cost(reals) / 2, cost(-fakes) / 2, generator / 2)
