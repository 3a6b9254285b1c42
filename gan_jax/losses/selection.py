"""Top-k training: G learns from its best examples only."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.bind import Bound, bind
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms


def top_k(loss: Any, share=0.5) -> Bound:
    """Any loss, whose generator's terms count only for the `share` of fakes with the highest logits
    (Sinha et al., 2020): G minimises the mean of its terms over the k = share * n fakes with the
    largest d_f of a batch of n.

    share: of the whole batch, over all devices, in (0, 1], rounded to examples, at least one; 1 is
    the loss itself. The terms kept are multiplied so that the mean over all is the mean over those
    kept; ties with the last one kept are kept as well. The paper begins at 1 and multiplies by .99
    each epoch down to .5 (its gamma and nu): `share=schedules.geometric(1, 0.99, epoch, 0.5)`, with
    `epoch` in steps. The default, .5, is where that ends.
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
