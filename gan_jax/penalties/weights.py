"""Penalties on the parameters of the player who moves. The same value for every example: their mean
is the penalty."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext


@part("penalties")
def l2(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight / 2 * sum |W|^2 over the kernels W (Krogh & Hertz, 1992). For either player.

    Biases, scales and embeddings are left alone. Its gradient is weight * W, which under SGD of
    rate a is weight decay by a * weight; under Adam it is not, as the gradient is rescaled with the
    loss's (Loshchilov & Hutter, 2019; `optimizers.adamw` decays). weight: >= 0, without a published
    value for GANs; compare_gan takes the mean over D's kernels, not their sum.
    """
    return _shared(context, weight, sum(jnp.square(w).sum() for w in _kernels(context)) / 2)


@part("penalties")
def orthogonal(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight * sum |W^T W * (1 - I)|_F^2 over the kernels (Brock et al., 2019, equation 3). For
    either player.

    A column of W is what one output feature weighs its inputs by, W [inputs, features]; the norms
    of columns are free. A kernel of one feature has nothing to be orthogonal to. Features of a
    grouped kernel are compared across its groups as well, as in their code, whatever the inputs
    that they weigh.

    weight: 1e-4 in the paper, for G alone; 0 in their CIFAR-10 script. Their code adds half of this
    formula's gradient, and spares embeddings, as here.
    """
    return _shared(context, weight, sum(_overlap(w) for w in _kernels(context) if w.shape[-1] > 1))


def _overlap(kernel):
    """The squared inner products of all pairs of different columns, each pair twice."""
    columns = kernel.reshape(-1, kernel.shape[-1])
    return jnp.square((columns.T @ columns) * (1 - jnp.eye(columns.shape[-1], dtype=columns.dtype))).sum()


def _kernels(context: PenaltyContext) -> list[Array]:
    """The mover's dense and convolutional kernels, the output features last: every array called
    `kernel`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(context.params)
    return [x for path, x in flat if getattr(path[-1], "key", None) == "kernel" and x.ndim > 1]


def _shared(context: PenaltyContext, weight, value):
    return jnp.broadcast_to(jnp.asarray(weight, context.fakes.dtype) * value, (len(context.fakes),))
