"""LeCam regularisation: the discriminator's answers stay near where they have been."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext, remembers


@part("penalties")
@remembers(real=0.0, fake=0.0)
def lecam(context: PenaltyContext, *, weight, decay=0.99, start=1000.0) -> tuple[Float[Array, "b"], dict]:
    """weight * (relu(d_r - a_f)^2 + relu(a_r - d_f)^2), a_r and a_f moving averages of the mean
    logits of reals and fakes (Tseng et al., 2021, equation 4; the relu is in their code alone). For
    D; adds no pass of it.

    a <- decay * a + (1 - decay) * mean logit, this batch included and held constant; up to step
    `start` a is this batch's mean, and the penalty counts from `start` on.

    weight: its scale is that of the squared logits, so it differs by five orders of magnitude
    between losses: .3 with the hinge loss (BigGAN, CIFAR-10), 1e-6 and 3e-7 with the logistic one
    (StyleGAN2, CIFAR-10 and FFHQ). decay: .99 in the paper (the default), .9 in its BigGAN code.
    start: 1,000 in the BigGAN code (the default).
    """
    d_r, d_f = context.real.logits, context.fake.logits
    keep = jnp.where(context.step > start, jnp.asarray(decay, d_r.dtype), 0)
    average = {"real": _moved(context, "real", d_r, keep), "fake": _moved(context, "fake", d_f, keep)}
    far = jnp.square(jax.nn.relu(d_r - average["fake"])) + jnp.square(jax.nn.relu(average["real"] - d_f))
    return jnp.where(context.step >= start, jnp.asarray(weight, d_r.dtype), 0) * far, average


def _moved(context: PenaltyContext, name: str, logits, keep):
    now = jax.lax.stop_gradient(context.mean(logits))
    return keep * jnp.asarray(context.memory[name], now.dtype) + (1 - keep) * now
