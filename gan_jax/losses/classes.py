"""Losses on class logits: an auxiliary classifier, or D as a classifier with a class for fakes."""

from typing import Any

import jax.numpy as jnp
import optax
from jax.nn import one_hot, relu
from jaxtyping import Array, Float

from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import part
from gan_jax.losses.terms import Terms

_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def auxiliary_classifier(loss: Any, weight_real=1.0, weight_fake=1.0, weight_generator=1.0) -> Bound:
    """Any loss plus the cross-entropy CE of D's class logits (ACGAN: Odena et al., 2017).

    D adds weight_real * CE on reals and weight_fake * CE on fakes; G adds weight_generator * CE on
    fakes (equations 2 and 3). CE is against the label of a real, or that a fake was made with. The
    weights are >= 0, and 1 in the paper; with weight_fake 0, D learns classes from reals alone.
    Raises UserError without classes, and for a D without `conditioning="auxiliary"`.
    """
    numbers = {"weight_real": weight_real, "weight_fake": weight_fake, "weight_generator": weight_generator}
    return bind(_auxiliary, bind(loss), **numbers)


@part("losses", "auxiliary_classifier")
def _auxiliary(
    loss: Bound, real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any, *, weight_real, weight_fake, weight_generator
):
    terms = loss(real, fake, batch)
    of_real = _cross_entropy(*_class_logits("auxiliary_classifier", "auxiliary", real, batch.labels))
    of_fake = _cross_entropy(*_class_logits("auxiliary_classifier", "auxiliary", fake, batch.fake_labels))
    weigh = lambda weight, values: jnp.asarray(weight, values.dtype) * values
    return Terms(
        terms.real + weigh(weight_real, of_real),
        terms.fake + weigh(weight_fake, of_fake),
        terms.generator + weigh(weight_generator, of_fake),
    )


@part("losses")
def multi_class(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """Cross-entropy of K classes of reals and a class of fakes of logit 0 (Salimans et al., 2016).

    With class logits l and Z = sum_k e^l_k, D minimises log(1 + Z) - l_y on reals of class y and
    log(1 + Z) on fakes (section 5); G minimises log(1 + Z) - l_y on fakes made as class y (theirs
    matches features). D(x) = Z / (1 + Z), so D's logit is log Z: use `conditioning="multi_class"`.
    Raises UserError without class logits or labels.
    """
    return _with_fake_class("multi_class", _cross_entropy, real, fake, batch)


@part("losses")
def multi_hinge(real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    """As `multi_class`, with the hinge of Crammer & Singer (2001) over K + 1 classes: relu(1 +
    max_{k != y} l_k - l_y) (Kavalerov et al., 2021).

    y is the class of a real. On fakes it is the class of fakes for D, and the class that the fake
    was made as for G. Only differences of logits count, so the logit of the fakes' class may be 0.
    The margin is 1, as in the papers. Raises UserError without class logits or labels.
    """
    return _with_fake_class("multi_hinge", _multi_hinge, real, fake, batch)


def _with_fake_class(name: str, cost, real: DiscriminatorOutput, fake: DiscriminatorOutput, batch: Any) -> Terms:
    of_real, labels = _class_logits(name, "multi_class", real, batch.labels)
    of_fake, fake_labels = _class_logits(name, "multi_class", fake, batch.fake_labels)
    of_real, of_fake = (jnp.pad(logits, ((0, 0), (0, 1))) for logits in (of_real, of_fake))
    nothing = jnp.full_like(fake_labels, of_fake.shape[1] - 1)
    return Terms(cost(of_real, labels), cost(of_fake, nothing), cost(of_fake, fake_labels))


def _multi_hinge(logits: Float[Array, "b k"], labels) -> Float[Array, "b"]:
    own = one_hot(labels, logits.shape[1], dtype=bool)
    best_other = jnp.where(own, -jnp.inf, logits).max(1)
    return relu(1 + best_other - jnp.where(own, logits, 0).sum(1))


def _class_logits(loss: str, conditioning: str, output: DiscriminatorOutput, labels) -> tuple[Array, Array]:
    if output.classes is None:
        raise UserError(
            f'{loss} needs class logits, which this discriminator has not: give it classes and conditioning="{conditioning}"'
        )
    if labels is None:
        raise UserError(f"{loss} needs labels of reals and of fakes: give the recipe classes, and data with labels")
    return output.classes, labels
