"""Penalties on the parameters of the player who moves. The value is the same for every example, so
that its mean is the penalty."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext


@part("penalties")
def l2(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight / 2 * sum |W|^2 over the kernels W (Krogh & Hertz, 1992). For either player. Biases,
    scales and embeddings do not count.

    The gradient is weight * W. Under SGD of rate a, that is weight decay by a * weight. Under Adam
    it is not, as Adam rescales the sum of both gradients (Loshchilov & Hutter, 2019);
    `optimizers.adamw` decays weights.

    weight: >= 0. There is no published value for GANs; compare_gan takes the mean over D's kernels
    in place of their sum.
    """
    return _shared(context, weight, sum(jnp.square(w).sum() for w in _kernels(context)) / 2)


@part("penalties")
def orthogonal(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight * sum |W^T W * (1 - I)|_F^2 over the kernels (Brock et al., 2019, equation 3). For
    either player.

    A kernel is W [inputs, features]: a column holds the weights of one output feature. Norms of
    columns are free, and a kernel of one feature has no pair to compare. The features of a grouped
    kernel are compared across its groups as well, as in the authors' code, whatever inputs they
    have.

    weight: 1e-4 in the paper, for G alone; 0 in the authors' CIFAR-10 script. Their code adds half
    of this formula's gradient, and leaves out embeddings, as here.
    """
    return _shared(context, weight, sum(_overlap(w) for w in _kernels(context) if w.shape[-1] > 1))


def _overlap(kernel):
    """The squared inner products of all pairs of different columns, each pair counted twice."""
    columns = kernel.reshape(-1, kernel.shape[-1])
    return jnp.square((columns.T @ columns) * (1 - jnp.eye(columns.shape[-1], dtype=columns.dtype))).sum()


def _kernels(context: PenaltyContext) -> list[Array]:
    """The moving player's dense and convolutional kernels: every array called `kernel`, with the
    output features last."""
    flat, _ = jax.tree_util.tree_flatten_with_path(context.params)
    return [x for path, x in flat if getattr(path[-1], "key", None) == "kernel" and x.ndim > 1]


def _shared(context: PenaltyContext, weight, value):
    return jnp.broadcast_to(jnp.asarray(weight, context.fakes.dtype) * value, (len(context.fakes),))
