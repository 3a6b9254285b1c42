"""Optimizers: bound optax factories, rebuilt inside the step from traced numbers, so that any rate can be swept.

Any optax factory will do: `bind(optax.rmsprop, learning_rate=1e-4, decay=0.9)`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gan_jax.recipe import Bound, bind


def adam(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> Bound:
    """Adam with the article's settings: rate 2e-4, b1 .5 (as Radford et al., 2016)."""
    return bind(optax.adam, learning_rate=learning_rate, b1=b1, b2=b2)


def sgd(learning_rate: float = 2e-4) -> Bound:
    """Plain gradient descent."""
    return bind(optax.sgd, learning_rate=learning_rate)


def _chain(*parts: Bound) -> optax.GradientTransformation:
    return optax.chain(*(part() for part in parts))


def chain(*parts: Bound) -> Bound:
    """Several bound transformations, one after the other: `chain(clip_gradient(1.0), adam(), clip_weights(0.01))`."""
    return bind(_chain, *parts)


def clip_gradient(max_norm: float) -> Bound:
    """Scales the player's whole gradient down to this norm; goes before the optimizer."""
    return bind(optax.clip_by_global_norm, max_norm=max_norm)


def adamw(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, weight_decay: float = 1e-2) -> Bound:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), on every parameter."""
    return bind(optax.adamw, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


def _clip_weights(limit) -> optax.GradientTransformation:
    def update(updates, state, params):
        clip = lambda p, u: jnp.clip(p + u, -jnp.asarray(limit, p.dtype), jnp.asarray(limit, p.dtype)) - p
        return jax.tree.map(clip, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


def clip_weights(limit: float = 0.01) -> Bound:
    """Keeps every parameter in [-limit, limit] after the update (WGAN, Arjovsky et al., 2017: .01); goes last."""
    return bind(_clip_weights, limit=limit)
