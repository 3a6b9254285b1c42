"""Layers: dropout with a traced rate, noise, norms by name, vectors of labels."""

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.batch import device_mean
from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.rng import Draws


def wide(dtype) -> jnp.dtype:
    """At least float32, for draws and statistics, for which bfloat16 is too coarse."""
    return jnp.promote_types(dtype, jnp.float32)


def normal_like(x, draws: Draws):
    """N(0, 1) for each number of x [b, ...]."""
    return draws.normal(x.shape[1:], wide(x.dtype)).astype(x.dtype)


class Dropout(nn.Module):
    """Sets a share `rate` of the units to zero in training and scales the rest by 1 / (1 - rate)
    (Srivastava et al., 2014).

    The rate is in [0, 1) and may be traced, unlike that of linen's layer; None leaves the layer
    out. Masks depend on the example's global index and on this layer's name."""

    @nn.compact
    def __call__(self, x, rate, mode: Mode):
        if rate is None or not mode.train or mode.draws is None:
            return x
        draws = mode.draws.named("dropout", *self.path)
        keep = draws.uniform(x.shape[1:], wide(x.dtype)) >= rate
        return jnp.where(keep, x / (1 - rate), 0)


class Noise(nn.Module):
    """Adds std * N(0, 1) to each unit in training (on discriminators: Salimans et al., 2016; Zhao
    et al., 2017). std: >= 0, in the scale of the units; otherwise as the rate of `Dropout`"""

    @nn.compact
    def __call__(self, x, std, mode: Mode):
        if std is None or not mode.train or mode.draws is None:
            return x
        return x + jnp.asarray(std, x.dtype) * normal_like(x, mode.draws.named("noise", *self.path))


def perturbed(x, mode: Mode, dropout, noise, place: str | None = None):
    """x with noise, then dropout, in training. Call it inside a module. place: a suffix of the
    layers' names, on which their draws depend; None numbers the layers"""
    name = lambda layer: None if place is None else f"{layer}{place}"
    return Dropout(name=name("dropout"))(Noise(name=name("noise"))(x, noise, mode), dropout, mode)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy, 2015), with Keras' defaults.

    In training the statistics are those of the whole batch, over every device of `mode.axis_name`.
    Evaluation uses the running averages. affine: with a learned scale and bias"""

    momentum: float = 0.99
    epsilon: float = 1e-3
    affine: bool = True

    @nn.compact
    def __call__(self, x, mode: Mode):
        features, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        mean, var = running_mean.value, running_var.value
        if mode.train:
            exact = x.astype(wide(x.dtype))
            mean = device_mean(exact.mean(axes), mode.axis_name)
            var = device_mean(jnp.square(exact - mean).mean(axes), mode.axis_name)
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.astype(running_mean.value.dtype)
            running_var.value = keep * running_var.value + (1 - keep) * var.astype(running_var.value.dtype)
        factor = 1 / jnp.sqrt(var + self.epsilon)
        x = (x - mean.astype(x.dtype)) * factor.astype(x.dtype)
        if not self.affine:
            return x
        scale = self.param("scale", nn.initializers.ones, features).astype(x.dtype)
        return x * scale + self.param("bias", nn.initializers.zeros, features).astype(x.dtype)


class Norm(nn.Module):
    """The normalisation called `kind`: None, 'batch', 'layer' (over an example) or 'instance' (over
    each channel of an example)."""

    kind: str | None

    @nn.compact
    def __call__(self, x, mode: Mode):
        match self.kind:
            case None:
                return x
            case "batch":
                return BatchNorm()(x, mode)
            case "layer":
                return nn.LayerNorm(reduction_axes=tuple(range(1, x.ndim)), dtype=x.dtype)(x)
            case "instance" if x.ndim == 2:
                return x  # one value per channel has no spread
            case "instance":
                return nn.InstanceNorm(dtype=x.dtype)(x)
            case _:
                raise UserError(f"unknown normalisation {self.kind!r}: use None, 'batch', 'layer' or 'instance'")


def embedding(labels, classes: int, features: int, dtype, scale: float = 1.0):
    """A learned vector [b, features] for each label, N(0, scale^2) at the start."""
    start = nn.initializers.normal(scale)
    return nn.Embed(classes, features, name="label", embedding_init=start, dtype=dtype)(labels)


def with_label_vector(x, labels, classes: int, features: int, scale: float = 1.0):
    """x [b, d] joined with the `embedding` of its labels; x itself without classes."""
    return jnp.concatenate([x, embedding(labels, classes, features, x.dtype, scale)], -1) if classes else x
