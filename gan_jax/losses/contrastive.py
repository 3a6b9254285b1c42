"""The dual contrastive loss: each example against all examples of the other side."""

from typing import Any

from jax.nn import logsumexp, softplus

from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, decides_at, real_weights


@part("losses")
@decides_at(None)
def dual_contrastive(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, saturating: bool = True) -> Terms:
    """D: -log[e^d_r / (e^d_r + sum_j e^d_fj)] - log[e^-d_f / (e^-d_f + sum_i e^-d_ri)]; G: minus
    D's loss (Yu et al., 2021). The sums are over the whole batch, on all devices.

    Terms.real is the first summand, Terms.fake the second.

    saturating: True (the default, as in the paper) is a zero-sum game. False gives G the loss of D
    with reals and fakes exchanged, which has a gradient where D is sure; so do independent
    implementations (the authors' repository holds no code).
    """
    d_r, d_f, weights = real.logits, fake.logits, real_weights(batch, real.logits)
    reals, fakes, shares = (batch.all_gather(x) for x in (d_r, d_f, weights))
    of_real = softplus(logsumexp(fakes) - d_r)
    of_fake = softplus(logsumexp(-reals, b=shares) + d_f)
    if saturating:
        return Terms(of_real, of_fake, -weights * of_real - of_fake)
    generator = softplus(logsumexp(reals, b=shares) - d_f) + weights * softplus(logsumexp(-fakes) + d_r)
    return Terms(of_real, of_fake, generator)
