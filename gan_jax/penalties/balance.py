"""The class-balancing regulariser: fakes should be predicted to be of every class."""

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
    """weight * sum_k w_k p_k log p_k, with p [K] the mean over the batch of the classes predicted
    for fakes (Rangwani et al., 2021, equation 1). For G. The value is the same for every example.

    w_k is proportional to 1 / effective_number(n_k, beta), with mean 1 over classes, as in the
    authors' code. With equal w_k the value is at least -weight * log K, where all classes are
    predicted equally often. Otherwise G is pushed to make more of rare classes than of frequent
    ones; generated labels should then be balanced (`latents.balanced_labels`), or absent.

    weight: > 0. The authors' weight depends on the data, and was not found in their code.
    beta: .99 (the default) in their code.
    counts: [K], of the data; the default, 1, weighs all classes alike. The authors count what G has
    made lately, halved at each update.
    classifier: images -> class logits [b, K], a function of module level; the authors' is a network
    trained before on the same long-tailed data. None takes D's class logits.

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
