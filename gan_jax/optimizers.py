"""Optimizers: bound optax factories, which each step rebuilds from traced numbers, so that any rate
can be swept. Any optax factory will do: `bind(optax.rmsprop, learning_rate=1e-4, decay=0.9)`.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.bind import Bound, bind, check_bound, dotted
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part

for _name, _factory in inspect.getmembers(optax, inspect.isfunction):  # those that make a gradient transformation
    if _name[0] != "_" and "GradientTransformation" in str(inspect.signature(_factory).return_annotation):
        part("optax", _name)(_factory)


def adam(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> Bound:
    """Adam (Kingma & Ba, 2015, algorithm 1), with rate 2e-4 and b1 .5 (Radford et al., 2016).

    m <- b1 * m + (1 - b1) * g, v <- b2 * v + (1 - b2) * g^2, p <- p - rate * m' / (sqrt(v') + 1e-8)

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t); m and v start at 0. b2 is .999 as in Kingma & Ba.
    """
    return bind(optax.adam, learning_rate=learning_rate, b1=b1, b2=b2)


def sgd(learning_rate: float = 2e-4) -> Bound:
    """p <- p - rate * g, with a noisy gradient g (Robbins & Monro, 1951). The rate is 2e-4."""
    return bind(optax.sgd, learning_rate=learning_rate)


@part("optimizers")
def _chain(*parts: Bound) -> optax.GradientTransformation:
    return optax.chain(*(part() for part in parts))


def chain(*parts: Bound) -> Bound:
    """Several bound transformations in turn: `chain(clip_gradient(1.0), adam())`. No paper: it
    composes other transformations. Raises UserError for none, and for one that is not bound."""
    if not parts:
        raise UserError("chain: give the transformations, for example chain(clip_gradient(1.0), adam())")
    for each in parts:
        check_bound(each, "a part of the chain", ())
    return bind(_chain, *parts)


def clip_gradient(max_norm: float) -> Bound:
    """g <- g * min(1, max_norm / |g|), with |g| over all parameters of the player (Pascanu et al.,
    2013). It goes before the optimizer.

    max_norm: > 0, without a default, because the right value depends on the mean norm in training.
    Adam divides by the usual size of a gradient, so before Adam only rare large gradients change.
    """
    return bind(optax.clip_by_global_norm, max_norm=max_norm)


def adamw(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, weight_decay: float = 1e-2) -> Bound:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019), also of biases and scales.

    p <- p - rate * (m' / (sqrt(v') + 1e-8) + weight_decay * p), with m' and v', rate 2e-4, b1 .5
    and b2 .999 as in `adam`. weight_decay: 1e-2, PyTorch's default (optax has 1e-4).
    """
    return bind(optax.adamw, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


@part("optimizers")
def _clip_weights(limit) -> optax.GradientTransformation:
    def update(updates, state, params):
        clip = lambda p, u: jnp.clip(p + u, -jnp.asarray(limit, p.dtype), jnp.asarray(limit, p.dtype)) - p
        return jax.tree.map(clip, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


def clip_weights(limit: float = 0.01) -> Bound:
    """p <- min(max(p, -limit), limit) of every parameter, after the optimizer (WGAN: Arjovsky et
    al., 2017). limit: .01, as in the paper."""
    return bind(_clip_weights, limit=limit)


def momentum(learning_rate: float = 2e-4, momentum: float = 0.9, nesterov: bool = False) -> Bound:
    """Gradient descent with a heavy ball: v <- momentum * v + g, p <- p - rate * v (Polyak, 1964).

    nesterov: p <- p - rate * (g + momentum * v) with the new v (Sutskever et al., 2013).
    momentum: in (-1, 1). The default .9 is usual elsewhere; for GANs Gidel et al. (2019, "Negative
    momentum") recommend a negative one. The rate is 2e-4, as in `adam`.
    """
    return bind(optax.sgd, learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)


def rmsprop(learning_rate: float = 1e-4, decay: float = 0.99, eps: float = 1e-8) -> Bound:
    """v <- decay * v + (1 - decay) * g^2 from 0, p <- p - rate * g / (sqrt(v) + eps) (Tieleman &
    Hinton, 2012).

    Rate 1e-4 and PyTorch's decay .99 and eps 1e-8 are those of GAN_stability (Mescheder et al.,
    2018). WGAN (Arjovsky et al., 2017) has rate 5e-5.
    """
    return bind(optax.rmsprop, learning_rate=learning_rate, decay=decay, eps=eps, eps_in_sqrt=False)


def amsgrad(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> Bound:
    """Adam that divides by the largest second moment so far (Reddi et al., 2018, algorithm 2).

    p <- p - rate * m' / (sqrt(max over steps of v') + 1e-8), with m' and v' as in `adam`. Both
    moments are corrected for their start at 0, the second before its maximum is taken; the paper
    corrects neither. Rate 2e-4, b1 .5 and b2 .999 are those of `adam`.
    """
    return bind(optax.amsgrad, learning_rate=learning_rate, b1=b1, b2=b2)


def adabelief(learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, eps: float = 1e-16) -> Bound:
    """Adam whose second moment is s <- b2 * s + (1 - b2) * (g - m)^2 + eps (Zhuang et al., 2020).

    m is the average of g (their algorithm 2). eps, 1e-16 as in their code, is also added to the
    root. Rate 2e-4, b1 .5 and b2 .999 are those of `adam`. With b1 0, s would be eps alone.
    """
    return bind(optax.adabelief, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, eps_root=eps)


def lion(learning_rate: float = 2e-5, b1: float = 0.9, b2: float = 0.99, weight_decay: float = 0.0) -> Bound:
    """Steps of constant size in the direction of a sign (Chen et al., 2023, program 1).

    p <- p - rate * (sign(b1 * m + (1 - b1) * g) + weight_decay * p), then m <- b2 * m + (1 - b2) *
    g, from m = 0. As every step has the size of the rate, the rate is 3 to 10 times smaller than
    Adam's (their section 5): 2e-5. b1 .9 and b2 .99 are theirs. weight_decay: default 0; theirs is
    3 to 10 times AdamW's.
    """
    return bind(optax.lion, learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)


def optimistic_gradient(learning_rate: float = 2e-4, alpha: float = 1.0, beta: float = 1.0) -> Bound:
    """Optimistic gradient descent: p <- p - rate * ((alpha + beta) * g_t - beta * g_{t-1}).

    alpha = beta = 1 is Daskalakis et al. (2018), equation 3; other values are Mokhtari et al.
    (2020). The first step is -rate * alpha * g. On a bilinear game of unit strength with
    simultaneous updates it converges for rates below 1 / sqrt(3), where plain descent, beta 0,
    diverges. The rate is 2e-4, as in `adam`.
    """
    return bind(optax.optimistic_gradient_descent, learning_rate=learning_rate, alpha=alpha, beta=beta)


def optimistic_adam(
    learning_rate: float = 2e-4, b1: float = 0.5, b2: float = 0.999, alpha: float = 1.0, beta: float = 1.0
) -> Bound:
    """`optimistic_gradient` of Adam's direction r (Daskalakis et al., 2018, algorithm 1).

    p <- p - rate * ((alpha + beta) * r_t - beta * r_{t-1}), where r = m' / (sqrt(v') + 1e-8). The
    first step is Adam's (the paper's, with r_0 = 0, is twice as large). Rate 2e-4, b1 .5 and b2
    .999 are those of `adam`; alpha 1 and beta 1 are the paper's.
    """
    values = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "alpha": alpha, "beta": beta}
    return bind(optax.optimistic_adam_v2, nesterov=False, **values)  # optax's default is not the paper's


class Lookahead(NamedTuple):
    """The state of `lookahead`: steps so far, the slow weights, and the inner optimizer's state."""

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
        ends = count % steps == 0
        # At the start of a round both weights are equal, unless a warm start replaced them.
        slow = jax.tree.map(lambda s, p: jnp.where(begins, p, s), state.slow, params)
        mix = lambda slow, p, u: slow + jnp.asarray(alpha, p.dtype) * (p + u.astype(p.dtype) - slow)
        slow = jax.tree.map(lambda s, p, u: jnp.where(ends, mix(s, p, u), s), slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(ends, s - p, u), slow, params, updates)
        return updates, Lookahead(count, slow, fast)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def lookahead(optimizer: Bound, steps: int = 5, alpha: float = 0.5) -> Bound:
    """After every `steps` steps of `optimizer`: slow <- slow + alpha * (p - slow), p <- slow (Zhang
    et al., 2019, algorithm 1, with their k = 5 steps and alpha = .5).

    For GANs, Chavdarova et al. (2021) let both players go back at the same time: give both the same
    `steps`, or the discriminator d_steps times as many. With `extragradient`, which takes two
    optimizer steps per training step, `steps` must be even. On a bilinear game lookahead converges
    for small rates where alpha < 1 - 1 / steps; alpha 1 is the optimizer alone.

    The inner optimizer keeps its state. The trained weights are the fast ones: evaluate after a
    multiple of `steps`, or use the moving average. Raises UserError for steps below 1.
    """
    check_bound(optimizer, "lookahead's optimizer", ())
    made = bind(_lookahead, optimizer, steps=steps, alpha=alpha)
    if steps < 1:
        raise UserError(f"lookahead: steps is {steps}; give the fast steps between two slow ones, at least 1")
    return made


def _is_named(path, names: str) -> bool:
    return any(f".{name}." in f".{dotted(path)}." for name in names.split(","))


@part("optimizers")
def _freeze(optimizer: Bound, *, names: str) -> optax.GradientTransformation:
    inner = optimizer()

    def frozen(tree):
        zeroed = lambda path, x: jnp.zeros_like(x) if _is_named(path, names) else x
        return jax.tree_util.tree_map_with_path(zeroed, tree)

    def init(params):
        paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        if missing := [name for name in names.split(",") if not any(_is_named(path, name) for path in paths)]:
            known = ", ".join(dict.fromkeys(dotted(path[:1]) for path in paths))
            raise UserError(f"freeze: no parameter lies under {missing[0]!r}; this network has {known}")
        return inner.init(params)

    def update(updates, state, params):
        updates, state = inner.update(frozen(updates), state, params)
        return frozen(updates), state

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def freeze(optimizer: Bound, *names: str) -> Bound:
    """`optimizer`, but the parameters under these names do not change (FreezeD: Mo et al., 2020).

    names: parts of a parameter's dotted path, such as "Conv_0" or "Block_1.Conv_0". FreezeD holds
    the first 4 layers of StyleGAN's discriminator at 256 pixels, after a warm start. Frozen
    parameters do not count in the norm of `clip_gradient`, and do not decay. Batch statistics still
    change. Raises UserError for no names, and, when training begins, for an unknown name.
    """
    check_bound(optimizer, "freeze's optimizer", ())
    if not names or not all(name and isinstance(name, str) for name in names):
        raise UserError("freeze: name the parameters to hold, for example freeze(adam(), 'Conv_0')")
    return bind(_freeze, optimizer, names=",".join(names))
