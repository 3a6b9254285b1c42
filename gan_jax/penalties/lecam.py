"""LeCam regularisation: the discriminator's logits stay near their moving averages."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext, remembers


@part("penalties")
@remembers(real=0.0, fake=0.0)
def lecam(context: PenaltyContext, *, weight, decay=0.99, start=1000.0) -> tuple[Float[Array, "b"], dict]:
    """weight * (relu(d_r - a_f)^2 + relu(a_r - d_f)^2), with a_r and a_f moving averages of the
    mean logits of reals and fakes (Tseng et al., 2021, equation 4; relu in their code). For D.

    a <- decay * a + (1 - decay) * mean logit. It includes this batch, and no gradient goes through
    it. Up to step `start` an average is the mean of its batch, and the penalty is 0 before it.

    weight: .3 with the hinge loss (BigGAN, CIFAR-10), 1e-6 and 3e-7 with the logistic loss
    (StyleGAN2, CIFAR-10 and FFHQ). decay: .99 (the default) in the paper, .9 in its BigGAN code.
    start: 1,000 (the default) in the BigGAN code.
    """
    d_r, d_f = context.real.logits, context.fake.logits
    keep = jnp.where(context.step > start, jnp.asarray(decay, d_r.dtype), 0)
    average = {"real": _moved(context, "real", d_r, keep), "fake": _moved(context, "fake", d_f, keep)}
    far = jnp.square(jax.nn.relu(d_r - average["fake"])) + jnp.square(jax.nn.relu(average["real"] - d_f))
    return jnp.where(context.step >= start, jnp.asarray(weight, d_r.dtype), 0) * far, average


def _moved(context: PenaltyContext, name: str, logits, keep):
    now = jax.lax.stop_gradient(context.mean(logits))
    return keep * jnp.asarray(context.memory[name], now.dtype) + (1 - keep) * now
