"""Penalties on the player's parameters. The value is the same for every example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.parts import part
from gan_jax.penalties.context import PenaltyContext


@part("penalties")
def l2(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight / 2 * sum |W|^2 over the kernels W (Krogh & Hertz, 1992). For either player. Biases,
    scales and embeddings do not count.

    weight: >= 0. There is no published value for GANs; compare_gan takes the mean over D's kernels.
    Under SGD of rate a, that is weight decay by a * weight. Under Adam it is not (Loshchilov &
    Hutter, 2019): use `optimizers.adamw`.
    """
    return _shared(context, weight, sum(jnp.square(w).sum() for w in _kernels(context)) / 2)


@part("penalties")
def orthogonal(context: PenaltyContext, *, weight) -> Float[Array, "b"]:
    """weight * sum |W^T W * (1 - I)|_F^2 over the kernels W [inputs, features] (Brock et al., 2019,
    equation 3). For either player. Norms of columns are free.

    Features of a grouped kernel are compared across its groups as well, and embeddings do not
    count, as in the authors' code, which adds half of this formula's gradient.

    weight: 1e-4 in the paper, for G alone; 0 in the authors' CIFAR-10 script.
    """
    return _shared(context, weight, sum(_overlap(w) for w in _kernels(context) if w.shape[-1] > 1))


def _overlap(kernel):
    """The squared inner products of all pairs of different columns, each pair counted twice."""
    columns = kernel.reshape(-1, kernel.shape[-1])
    return jnp.square((columns.T @ columns) * (1 - jnp.eye(columns.shape[-1], dtype=columns.dtype))).sum()


def _kernels(context: PenaltyContext) -> list[Array]:
    """The player's dense and convolutional kernels, with the output features last."""
    flat, _ = jax.tree_util.tree_flatten_with_path(context.params)
    return [x for path, x in flat if getattr(path[-1], "key", None) == "kernel" and x.ndim > 1]


def _shared(context: PenaltyContext, weight, value):
    return jnp.broadcast_to(jnp.asarray(weight, context.fakes.dtype) * value, (len(context.fakes),))
