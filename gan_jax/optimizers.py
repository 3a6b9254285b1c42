"""Optimizers: bound optax factories, rebuilt inside the step from traced numbers, so that any rate
can be swept.

Any optax factory will do: `bind(optax.rmsprop, learning_rate=1e-4, decay=0.9)`.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.bind import Bound, bind, dotted
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part

for _name, _factory in inspect.getmembers(optax, inspect.isfunction):  # those that make a gradient transformation
    if _name[0] != "_" and "GradientTransformation" in str(inspect.signature(_factory).return_annotation):
        part("optax", _name)(_factory)


def adam(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> Bound:
    """Adam (Kingma & Ba, 2015, algorithm 1) with the article's settings: rate 2e-4 and b1 .5
    (Radford et al., 2016).

    m <- b1 * m + (1 - b1) * g, v <- b2 * v + (1 - b2) * g^2, p <- p - rate * m' / (sqrt(v') +
    1e-8), with m' = m / (1 - b1^t), v' = v / (1 - b2^t) and both from 0. b2: .999, Kingma & Ba's,
    whose rate is 1e-3 and b1 .9.
    """
    return bind(optax.adam, learning_rate=learning_rate, b1=b1, b2=b2)


def sgd(learning_rate: float = 2e-4) -> Bound:
    """Gradient descent, p <- p - rate * g (Robbins & Monro, 1951, of a noisy gradient).
    learning_rate: 2e-4, `adam`'s."""
    return bind(optax.sgd, learning_rate=learning_rate)


@part("optimizers")
def _chain(*parts: Bound) -> optax.GradientTransformation:
    return optax.chain(*(part() for part in parts))


def chain(*parts: Bound) -> Bound:
    """Several bound transformations, one after the other: `chain(clip_gradient(1.0), adam(),
    clip_weights(0.01))`.

    No paper: it composes others.
    """
    return bind(_chain, *parts)


def clip_gradient(max_norm: float) -> Bound:
    """g <- g * min(1, max_norm / |g|), |g| over all of the player's parameters (Pascanu et al.,
    2013); before the optimizer.

    max_norm: > 0, without a default: they go by the mean norm met in training. Adam divides by the
    usual size of a gradient, so under it only rare large ones are changed.
    """
    return bind(optax.clip_by_global_norm, max_norm=max_norm)


def adamw(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, weight_decay: float = 1e-2) -> Bound:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), on every parameter, also biases
    and scales.

    p <- p - rate * (m' / (sqrt(v') + 1e-8) + weight_decay * p); m', v', rate 2e-4, b1 .5 and b2
    .999 as `adam`'s.
    weight_decay: 1e-2, PyTorch's default (optax's is 1e-4).
    """
    return bind(optax.adamw, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


@part("optimizers")
def _clip_weights(limit) -> optax.GradientTransformation:
    def update(updates, state, params):
        clip = lambda p, u: jnp.clip(p + u, -jnp.asarray(limit, p.dtype), jnp.asarray(limit, p.dtype)) - p
        return jax.tree.map(clip, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


def clip_weights(limit: float = 0.01) -> Bound:
    """p <- min(max(p, -limit), limit) for every parameter after the update (WGAN, Arjovsky et al.,
    2017); goes last.

    limit: .01, theirs.
    """
    return bind(_clip_weights, limit=limit)


def momentum(learning_rate: float = 2e-4, momentum: float = 0.9, nesterov: bool = False) -> Bound:
    """Gradient descent with a heavy ball: v <- momentum * v + g, p <- p - rate * v (Polyak, 1964).

    nesterov: p <- p - rate * (g + momentum * v) with the new v (Sutskever et al., 2013); default
    False. momentum: in (-1, 1), default .9, usual elsewhere. For GANs Gidel et al. (2019, "Negative
    momentum") want it below 0, so (-1, 1) is allowed. Rate 2e-4, `adam`'s.
    """
    return bind(optax.sgd, learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)


def rmsprop(learning_rate: float = 1e-4, decay: float = 0.99, eps: float = 1e-8) -> Bound:
    """v <- decay * v + (1 - decay) * g^2, p <- p - rate * g / (sqrt(v) + eps) (Tieleman & Hinton,
    2012), v from 0.

    Rate 1e-4 is that of GAN_stability (Mescheder et al., 2018), decay .99 and eps 1e-8 are
    PyTorch's, which it takes; WGAN (Arjovsky et al., 2017) has rate 5e-5.
    """
    return bind(optax.rmsprop, learning_rate=learning_rate, decay=decay, eps=eps, eps_in_sqrt=False)


def amsgrad(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> Bound:
    """Adam that divides by the largest second moment so far (Reddi et al., 2018, algorithm 2).

    p <- p - rate * m' / (sqrt(max over steps of v') + 1e-8), m' and v' as `adam`'s: both moments
    are corrected for their start, the second before the largest is taken; the paper corrects
    neither. Rate 2e-4, b1 .5 and b2 .999 as `adam`'s.
    """
    return bind(optax.amsgrad, learning_rate=learning_rate, b1=b1, b2=b2)


def adabelief(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, eps: float = 1e-16) -> Bound:
    """Adam that divides by how far gradients lie from their average m (Zhuang et al., 2020,
    algorithm 2).

    s <- b2 * s + (1 - b2) * (g - m)^2 + eps in place of Adam's second moment; eps, 1e-16 as in
    their code, also beside the root. Rate 2e-4, b1 .5 and b2 .999 as `adam`'s. b1 must be above 0:
    without an average s is eps alone, and the steps are enormous.
    """
    return bind(optax.adabelief, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, eps_root=eps)


def lion(learning_rate: float = 2e-5, b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.0) -> Bound:
    """Steps along a sign (Chen et al., 2023, program 1), m being an average of gradients from 0.

    p <- p - rate * (sign(b1 * m + (1 - b1) * g) + weight_decay * p), then m <- b2 * m + (1 - b2) *
    g. Every step is as long as the rate, which is therefore 3 to 10 times smaller than Adam's
    (their section 5): 2e-5. b1 .9 and b2 .99 are theirs. weight_decay: default 0; theirs is 3 to 10
    times AdamW's, so that rate * weight_decay is the same.
    """
    return bind(optax.lion, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


def optimistic_gradient(learning_rate: float = 2e-4, alpha: float = 1.0, beta: float = 1.0) -> Bound:
    """Optimistic gradient descent: p <- p - rate * ((alpha + beta) * g_t - beta * g_{t-1}).

    alpha = beta = 1 is Daskalakis et al. (2018), equation 3; other values are Mokhtari et al.
    (2020). The first step, without a gradient before it, is -rate * alpha * g. On a bilinear game
    of unit strength played simultaneously it converges for rates below 1 / sqrt(3), where plain
    descent spirals out. beta 0 is plain descent. Rate 2e-4, `adam`'s.
    """
    return bind(optax.optimistic_gradient_descent, learning_rate=learning_rate, alpha=alpha, beta=beta)


def optimistic_adam(
    learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, alpha: float = 1.0, beta: float = 1.0
) -> Bound:
    """`optimistic_gradient` with Adam's direction in place of the gradient (Daskalakis et al.,
    2018, algorithm 1).

    p <- p - rate * ((alpha + beta) * r_t - beta * r_{t-1}), r = m / (sqrt(v) + 1e-8) with both
    moments corrected. The first step is Adam's own (the paper's, with r_0 = 0, is twice it). Rate
    2e-4, b1 .5 and b2 .999 as `adam`'s; alpha 1 and beta 1 are the paper's.
    """
    values = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "alpha": alpha, "beta": beta}
    return bind(optax.optimistic_adam_v2, nesterov=False, **values)  # optax's default is not the paper's


# ---- optimizers of optimizers ------------------------------------------------------------------


class Lookahead(NamedTuple):
    """What `lookahead` remembers: steps so far, the slow weights, and the state of the optimizer
    that makes the fast ones."""

    count: Any
    slow: Any
    fast: Any


@part("optimizers")
def _lookahead(optimizer: Bound, *, alpha, steps: int) -> optax.GradientTransformation:
    inner = optimizer()

    def init(params):
        # A copy: a donated state may not hold one buffer twice.
        return Lookahead(jnp.int32(0), jax.tree.map(jnp.copy, params), inner.init(params))

    def update(updates, state, params):
        updates, fast = inner.update(updates, state.fast, params)
        begins, count = state.count % steps == 0, state.count + 1
        back = count % steps == 0
        # They are equal where a round begins, unless the weights were replaced: by a trained
        # network's, say.
        slow = jax.tree.map(lambda s, p: jnp.where(begins, p, s), state.slow, params)
        mix = lambda slow, p, u: slow + jnp.asarray(alpha, p.dtype) * (p + u.astype(p.dtype) - slow)
        slow = jax.tree.map(lambda s, p, u: jnp.where(back, mix(s, p, u), s), slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(back, s - p, u), slow, params, updates)
        return updates, Lookahead(count, slow, fast)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def lookahead(optimizer: Bound, steps: int = 5, alpha: float = 0.5) -> Bound:
    """After every `steps` steps of `optimizer`, go back most of the way: slow <- slow + alpha * (p
    - slow), p <- slow.

    Zhang et al. (2019), algorithm 1, with their k = 5 and alpha = .5; for GANs Chavdarova et al.
    (2021), where both players go back together: give both the same `steps` (the discriminator
    d_steps times as many). The optimizer keeps its state. On a bilinear game it converges for small
    rates where alpha < 1 - 1 / steps; alpha 1 is the optimizer alone.

    `extragradient` play counts both of its looks, so `steps` must be even there. The trained
    weights are the fast ones: evaluate after a multiple of `steps`, or use the moving average.
    Raises UserError for steps below 1.
    """
    if steps < 1:
        raise UserError(f"lookahead: steps is {steps}; give the fast steps between two slow ones, at least 1")
    return bind(_lookahead, optimizer, steps=steps, alpha=alpha)


def _is_named(path, names: str) -> bool:
    return any(f".{name}." in f".{dotted(path)}." for name in names.split(","))


@part("optimizers")
def _freeze(optimizer: Bound, *, names: str) -> optax.GradientTransformation:
    inner = optimizer()

    def still(tree):
        held = lambda path, x: jnp.zeros_like(x) if _is_named(path, names) else x
        return jax.tree_util.tree_map_with_path(held, tree)

    def init(params):
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        if missing := [name for name in names.split(",") if not any(_is_named(path, name) for path in paths)]:
            known = ", ".join(dict.fromkeys(dotted(path[:1]) for path in paths))
            raise UserError(f"freeze: no parameter lies under {missing[0]!r}; this network has {known}")
        return inner.init(params)

    def update(updates, state, params):
        updates, state = inner.update(still(updates), state, params)
        return still(updates), state

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def freeze(optimizer: Bound, *names: str) -> Bound:
    """`optimizer`, but parameters under these names stay as they are: FreezeD (Mo et al., 2020)
    holds D's first layers.

    g <- 0 before the optimizer and u <- 0 after it, for the parameters named; any others as
    without. Theirs are the first 4 layers of StyleGAN's D at 256 pixels, after a warm start.
    names: parts of a parameter's dotted path, such as "Conv_0" or "Block_1.Conv_0". Frozen
    parameters do not count in the norm of `clip_gradient`, and do not decay. Batch statistics go
    on. Raises UserError for no names, and, when the training begins, for a name that no parameter
    has.
    """
    if not names or not all(names):
        raise UserError("freeze: name the parameters to hold, for example freeze(adam(), 'Conv_0')")
    return bind(_freeze, optimizer, names=",".join(names))
