"""Layers: dropout with a traced rate, noise, batch norm over devices, other norms by name."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.core.batch import device_mean
from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode


class Dropout(nn.Module):
    """Sets a share `rate` of the units to zero in training and scales the rest by 1 / (1 - rate).

    Srivastava et al. (2014). The rate is traced, in [0, 1), where linen's layer needs a Python
    number; None leaves the layer out. Masks depend on the example's global index and on this
    layer's name.
    """

    @nn.compact
    def __call__(self, x, rate, mode: Mode):
        if rate is None or not mode.train or mode.draws is None:
            return x
        draws = mode.draws.named("dropout", *self.path)
        keep = draws.uniform(x.shape[1:], jnp.promote_types(x.dtype, jnp.float32)) >= rate  # bfloat16 draws are coarse
        return jnp.where(keep, x / (1 - rate), 0)


class Noise(nn.Module):
    """Adds std * N(0, 1) to each unit in training (on discriminators: Salimans et al., 2016; Zhao
    et al., 2017).

    The standard deviation is traced, >= 0, in the scale of the units; None leaves the layer out.
    Draws depend on the example's global index and on this layer's name.
    """

    @nn.compact
    def __call__(self, x, std, mode: Mode):
        if std is None or not mode.train or mode.draws is None:
            return x
        draws = mode.draws.named("noise", *self.path)
        wide = draws.normal(x.shape[1:], jnp.promote_types(x.dtype, jnp.float32))  # bfloat16 draws are coarse
        return x + jnp.asarray(std, x.dtype) * wide.astype(x.dtype)


def perturbed(x, mode: Mode, dropout, noise, place: str | None = None):
    """x as the next layer sees it in training: with noise, then dropout. Call it inside a module.

    place: a suffix of the layers' names, on which their draws depend; None numbers the layers
    """
    name = lambda layer: None if place is None else f"{layer}{place}"
    return Dropout(name=name("dropout"))(Noise(name=name("noise"))(x, noise, mode), dropout, mode)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy, 2015).

    Momentum .99 and epsilon 1e-3 are Keras' defaults. In training the statistics are those of the
    whole batch, over every device of `mode.axis_name`, computed at least in float32. Evaluation
    uses the running averages. affine: with a learned scale and bias.
    """

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
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            mean = device_mean(wide.mean(axes), mode.axis_name)
            var = device_mean(jnp.square(wide - mean).mean(axes), mode.axis_name)
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
    table = nn.Embed(classes, features, name="label", embedding_init=nn.initializers.normal(scale), dtype=dtype)
    return table(labels)
