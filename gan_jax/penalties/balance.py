"""The class-balancing regulariser: the generator's examples should be predicted to be of every
class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.class_weights import effective_number
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext, only_for


@part("penalties")
@only_for("generator")
def class_balance(
    context: PenaltyContext, *, weight, counts: Any = 1.0, beta=0.99, classifier: Callable[[Array], Array] | None = None
) -> Float[Array, "b"]:
    """weight * sum_k w_k p_k log p_k, p [K] the mean over the batch of the fakes' predicted classes
    (Rangwani et al., 2021, equation 1). For G; the same value for every example, from -weight * log
    K up where all w_k are 1.

    w_k is proportional to 1 / effective_number(n_k, beta), of mean 1 over classes, as in their
    code. With equal weights its gradient is zero where all classes are predicted equally often;
    with others G is pushed to make more of the rare ones than of the frequent ones, so that it
    wants generated labels that are balanced (`latents.balanced_labels`) or none at all.

    weight: > 0; theirs depends on the data and was not to be found in their code. beta: .99 (the
        default) in their code.
    counts: [K] or one number for all classes. Theirs are not the data's but those of what G has
    made lately, halved at each update; the data's, which lie still, are given here. The default, 1,
    weighs all classes alike.
    classifier: images -> class logits [b, K], a function of module level. None: D's class logits,
    which theirs are not: their classifier is trained before, on the same long-tailed data.
    Raises UserError where there are no class logits.
    """
    logits = context.fake.classes if classifier is None else classifier(context.fakes)
    if logits is None:
        raise UserError(
            'class_balance needs class logits: give the recipe classes and its discriminator conditioning="auxiliary", '
            "or a classifier"
        )
    share = context.mean(jax.nn.softmax(logits, -1))
    inverse = 1 / effective_number(jnp.broadcast_to(jnp.asarray(counts, share.dtype), share.shape), beta)
    value = (inverse / inverse.mean() * share * jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).tiny))).sum()
    return jnp.broadcast_to(jnp.asarray(weight, value.dtype) * value, (len(context.fakes),))
