"""Weights of classes in a loss: the inverse of their frequency, or of their effective number of
examples."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.class_weights import checked_counts, class_weights
from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms, of_packets


def class_weighted(
    loss: Any, counts: Any, *, beta=0.99, real=1.0, fake=1.0, generator=1.0, balance_real=0.0, balance_fake=0.0
) -> Bound:
    """Any loss with rare classes weighted up: D's terms on reals by the real's label, those on
    fakes and G's by the fake's.

    An example of class k counts 1 + strength * (w_k - 1), w_k of `class_weights(counts, beta)`, the
    strength being `real`, `fake` or `generator`, in [0, 1]: 0 is no weight, bit for bit. All of
    these are leaves. beta 1 is the inverse frequency. Reals' weights reach losses that compare
    examples as `Batch.weights` do: both players then see the weighted reals. Where a term is a
    pair's (rpgan), G's already has the weight of its real: use generator=0.

    counts: images of each class of the training set, [K] (`data.class_counts`). balance_real,
    balance_fake: the strengths with which labels are drawn (`sampling.class_balanced`,
    `latents.balanced_labels`), so that weights have mean 1 where they apply. Fakes follow the
    reals' labels by default: give both the reals' strength then.

    The article's second proposal. Effective numbers are those of Cui et al. (2019), who weigh a
    classifier's loss. Defaults: beta .99 (Rangwani et al., 2021; Cui et al. try .9 to .9999), all
    three strengths 1, the plain weight, and balances 0, the data's order. Needs recipes with
    classes. Raises UserError for counts below 1, a beta outside [0, 1], or where there are no
    labels.
    """
    if np.ndim(beta) == 0 and not hasattr(beta, "function") and not 0 <= float(beta) <= 1:
        raise UserError(f"class_weighted: beta is {beta:g}: it lies in [0, 1], 1 being the inverse frequency")
    numbers = {"beta": beta, "real": real, "fake": fake, "generator": generator}
    numbers |= {"balance_real": balance_real, "balance_fake": balance_fake}
    return bind(_class_weighted, bind(loss), counts=checked_counts(counts, "class_weighted"), **numbers)


@part("losses")
def _class_weighted(
    loss: Bound, real_output: DiscriminatorOutput, fake_output: DiscriminatorOutput, batch: Any, *,
    counts, beta, real, fake, generator, balance_real, balance_fake,
) -> Terms:  # fmt: skip
    if batch is None or batch.labels is None or batch.fake_labels is None:
        raise UserError("class_weighted needs labels of reals and of fakes: give the recipe classes, and data with labels")
    dtype = real_output.logits.dtype
    counts = jnp.asarray(counts, dtype)

    def weights(strength: Any, balance: Any, labels: Array) -> Float[Array, "b"]:
        return 1 + jnp.asarray(strength, dtype) * (class_weights(counts, beta, balance)[labels] - 1)

    of_real = weights(real, balance_real, batch.labels)
    seen = of_real if batch.weights is None else of_real * batch.weights.astype(dtype)
    terms = loss(real_output, fake_output, batch.replace(weights=seen))
    of_fake, of_generator = (weights(s, balance_fake, batch.fake_labels) for s in (fake, generator))
    of_real, of_fake, of_generator = (of_packets(w, len(real_output.logits)) for w in (of_real, of_fake, of_generator))
    return Terms(terms.real * of_real, terms.fake * of_fake, terms.generator * of_generator)
