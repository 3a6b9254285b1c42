"""Top-k training: G learns from its best examples only."""

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.bind import Bound, bind
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms


def top_k(loss: Any, share=0.5) -> Bound:
    """Any loss, but G minimises the mean of its terms over the k = share * n fakes of the highest
    logits d_f in a batch of n, on all devices (Sinha et al., 2020).

    share: in (0, 1]; 1 is the loss itself. k is rounded to whole examples and is at least one;
    fakes that tie with the last one kept are kept as well. The kept terms are scaled, so that the
    mean over all terms is the mean over those kept. The paper multiplies by .99 each epoch, from 1
    to .5, the default here: `share=schedules.geometric(1, 0.99, epoch, 0.5)`, `epoch` in steps.
    """
    return bind(_top_k, bind(loss), share=share)


@part("losses")
def _top_k(loss: Bound, real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, share) -> Terms:
    terms = loss(real, fake, batch)
    logits = jax.lax.stop_gradient(fake.logits)
    every = jnp.sort(batch.all_gather(logits))
    kept = jnp.clip(jnp.round(share * len(every)), 1, len(every)).astype(int)
    keep = (logits >= every[len(every) - kept]).astype(logits.dtype)
    return terms._replace(generator=terms.generator * keep / batch.mean(keep))
