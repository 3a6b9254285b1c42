"""The end of a discriminator: features -> DiscriminatorOutput, and how labels enter."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.networks.layers import embedding

CONDITIONINGS = ("projection", "auxiliary", "multi_class", "embedding")


def dense(x, width: int, name: str, **options: Any) -> Float[Array, "b width"]:
    """The plain linear layer of `discriminator_output`. options: of linen's Dense"""
    return nn.Dense(width, name=None if name == "logit" else name, dtype=x.dtype, **options)(x)


def discriminator_output(
    features: Float[Array, "b d"], labels, classes: int, conditioning: str, representation: int = 0, *,
    linear: Callable = dense, projected: Callable | None = None,
) -> DiscriminatorOutput:  # fmt: skip
    """The output of a discriminator with these last hidden features. Call it inside the module.

    conditioning, with classes, is one of
      'projection':  the logit gains the product of the label's vector and the features (Miyato &
                     Koyama, 2018)
      'auxiliary':   class logits beside the logit; labels do not enter (Odena et al., 2017;
                     `losses.auxiliary_classifier`)
      'multi_class': class logits, and the logit is the log of the sum of their exponentials
                     (`losses.multi_class`)
      'embedding':   nothing here, because the label entered with the input

    representation: 0, or the width of a linear layer that `losses.mmd` compares in place of the
                    hidden features; the logit is the sum of its values over sqrt(width)
    linear:         (features, width, name) -> [b, width], for "logit" and "class_logits"
    projected:      (features, labels) -> logits [b], the network's own projection

    Raises UserError for another conditioning, and for one in which labels or logits would not pass
    through the representation."""
    if conditioning not in CONDITIONINGS:
        raise UserError(f"unknown conditioning {conditioning!r}: use one of {', '.join(map(repr, CONDITIONINGS))}")
    if classes and representation and conditioning in ("projection", "multi_class"):
        raise UserError(f"a representation does not go with conditioning {conditioning!r}: use 'embedding' or 'auxiliary'")
    if classes and conditioning == "projection" and projected:
        return DiscriminatorOutput(projected(features, labels), features=features)
    scores = linear(features, classes, "class_logits") if classes and conditioning in ("auxiliary", "multi_class") else None
    if scores is not None and conditioning == "multi_class":
        return DiscriminatorOutput(jax.nn.logsumexp(scores, -1), scores, features)
    if representation:
        shown = linear(features, representation, "logit")
        return DiscriminatorOutput(shown.sum(-1) * representation**-0.5, scores, shown)
    logits = linear(features, 1, "logit")[:, 0]
    if classes and conditioning == "projection":
        label = embedding(labels, classes, features.shape[-1], features.dtype, scale=features.shape[-1] ** -0.5)
        logits += (features * label).sum(-1)
    return DiscriminatorOutput(logits, scores, features)


def with_label(images: Float[Array, "b h w c"], labels, classes: int, conditioning: str) -> Array:
    """The input of a discriminator of images: with the label's map for 'embedding'."""
    return with_label_map(images, labels, classes) if classes and conditioning == "embedding" else images


def with_label_map(images: Float[Array, "b h w c"], labels, classes: int) -> Float[Array, "b h w c_and_one"]:
    """The images with a learned map of their label as one more channel (Mirza & Osindero, 2014),
    which starts as N(0, 1)."""
    n, height, width, _ = images.shape
    label = embedding(labels, classes, height * width, images.dtype)
    return jnp.concatenate([images, label.reshape(n, height, width, 1)], -1)
