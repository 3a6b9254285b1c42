"""Weights of classes in a loss, by their frequency or their effective number of examples."""

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
    """Any loss in which rare classes weigh more: D's terms on reals by the label of the real, D's
    terms on fakes and G's terms by the label of the fake (the article's second proposal).

    An example of class k counts 1 + strength * (w_k - 1), with w_k of `class_weights(counts,
    beta)`. Losses that compare examples receive the weights of reals as `Batch.weights`. Where a
    term belongs to a pair (rpgan), G's term already has the weight of its real: use generator=0.

    counts: images of each class in the training set, [K] (`data.class_counts`).
    real, fake, generator: the strengths, in [0, 1], default 1; at 0 nothing is weighted, bit for
    bit. beta: in [0, 1], .9 to .9999 in Cui et al. (2019), whose effective numbers these are; the
    default .99 is that of Rangwani et al. (2021). 1 is the inverse frequency.
    balance_real, balance_fake: the strengths with which labels are drawn
    (`sampling.class_balanced`, `latents.balanced_labels`), so that weights have mean 1 under that
    draw; default 0, the order of the data. Where fakes have the labels of reals, as they do by
    default, give both the strength of the reals.

    Raises UserError for counts below 1, a beta outside [0, 1], and where there are no labels.
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
