"""A VAE of incomplete data (MIWAE: Mattei & Frellsen, 2019): z explains the observed cells of a
row, and gives the distribution of its missing cells.

    log w_k = log p(x_obs|z_k) + log p(z_k) - log q(z_k|x_obs),  z_1 ... z_K ~ q(z|x_obs)
    bound   = E log 1/K sum_k w_k  <=  log p(x_obs)

The encoder sees [m x, m]: the values, 0 where they are missing, and the mask. The decoder gives the
distribution of every cell, and only observed cells enter the likelihood. If whether a cell is
missing depends on observed cells alone (MCAR, MAR), then the mechanism drops out of the likelihood
of the observed cells (Rubin, 1976). K = 1 is a VAE with the ELBO of observed cells (Nazabal et al.,
2020). A larger K makes the bound tighter (Burda et al., 2016).

    impute          E[x|x_obs] ~ sum_l w_l E[x|z_l] / sum_l w_l: self-normalised importance sampling
    draw            a draw from p(x|x_obs): z by sampling importance resampling, then x ~ p(x|z)
    log_likelihood  the bound of each row; a higher bound of training than of held-out rows is
                    overfitting

`gan.fit(vae.recipe(30), data)` and `gan.sweep` train it, and every number is a leaf. See `cells.py`
for what an example is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from gan_jax import likelihoods
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.bind import number, resolve, static
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import refuse_penalties
from gan_jax.games.imputation.cells import cells_of, check_cells, check_shares, errors_of, of_columns
from gan_jax.games.vae import EVALUATION_KEY, Posterior, VAEState
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, finish_step, init_player
from gan_jax.gan.turns import optimizer_step

IMPUTING_DRAWS = 100  # of z, for one answer
EVALUATION_DRAWS = 20
LEAST_PROBABILITY = 1e-30  # of a category, whose logarithm stays finite


@part("imputation")
class MIWAE(struct.PyTreeNode):
    """An imputing VAE, as data. Leaves can be swept inside one program; `recipe` says what they
    mean.

    encoder: its network takes [b, 2 k] (values, mask) and returns 2 d numbers, the means and log
             variances of z
    decoder: its network takes z [b, d] and returns (means, or probabilities of categories [b, k];
             log scales [k] or [b, k])
    """

    encoder: Side
    decoder: Side
    beta: Any = 1.0
    hide: Any = 0.2
    floor: Any = 0.01
    ema_decay: Any = 0.99
    draws: int = static(default=1)
    latent_dim: int = static(default=20)
    groups: tuple[int, ...] = static(default=())
    batch_size: int = static(default=128)
    dtype: str = static(default="float32")

    def __post_init__(self):
        for name in ("beta", "hide", "floor", "ema_decay"):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def game(self) -> Game:
        """The game that `fit` and `sweep` train."""
        return GAME

    @property
    def features(self) -> int:
        """Cells of an example."""
        return sum(self.groups)


def check_knobs(knobs: MIWAE) -> None:
    """Raises UserError for a number that is not finite or outside its range."""
    check_numbers(knobs)
    check_shares("vae", knobs, "hide")


# ---- the networks ------------------------------------------------------------------------------


def encode(knobs: MIWAE, params: Any, x: Float[Array, "b k"], shown: Bool[Array, "b k"]) -> Posterior:
    """q(z|x) of the cells that are shown.

    x: 0, or any finite number, in the other cells
    """
    side, shown = knobs.encoder, shown.astype(x.dtype)
    rows = jnp.concatenate([x * shown, shown], -1)
    output, _ = side.net.apply(params["encoder"], {}, rows, None, EVALUATION, side.numbers)
    return Posterior(*jnp.split(output, 2, axis=-1))


def decode(knobs: MIWAE, params: Any, z: Float[Array, "b d"]) -> tuple[Float[Array, "b k"], Array]:
    """(means, or probabilities of categories; log scales, with the floor) of p(x|z)."""
    side = knobs.decoder
    (mean, log_scale), _ = side.net.apply(params["decoder"], {}, z, None, EVALUATION, side.numbers)
    return mean, jnp.log(jnp.exp(log_scale) + jnp.asarray(knobs.floor, mean.dtype))


def is_category(knobs: MIWAE) -> np.ndarray:
    """[k]: which cells belong to a category."""
    return np.repeat(np.asarray(knobs.groups) > 1, knobs.groups)


def cell_densities(knobs: MIWAE, mean: Array, log_scale: Array, x: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """log p(x|z) of each cell. A number has a normal density. A cell of a one-hot category has x
    log p, so that the category's cells sum to log p of its value."""
    return jnp.where(
        is_category(knobs), x * jnp.log(jnp.maximum(mean, LEAST_PROBABILITY)), likelihoods.gaussian(mean, log_scale, x)
    )


def weigh(knobs: MIWAE, params: Any, posterior: Posterior, noise: Float[Array, "b d"], x: Array, mask: Array):
    """(log p(x_obs|z) [b], log p(z) - log q(z|x) [b], decoder's means [b, k]) of one z per row."""
    z = posterior.draw(noise)
    mean, log_scale = decode(knobs, params, z)
    log_p = jnp.where(mask, cell_densities(knobs, mean, log_scale, x), 0).sum(-1)
    return log_p, posterior.log_ratio(noise, z), mean


# ---- one step ----------------------------------------------------------------------------------


def init(knobs: MIWAE, key: Key[Array, ""]) -> VAEState:
    """A fresh state in `knobs.dtype`. ema: {"params": {"encoder", "decoder"}, "stats": {}}.

    Raises UserError for penalties: neither network takes any.
    """
    refuse_penalties("VAE", knobs, "encoder", "decoder")
    resolved = resolve(knobs, jnp.int32(0))

    def player(name: str, inputs: int) -> Player:
        rows = jnp.zeros((2, inputs), resolved.dtype)
        return init_player(getattr(resolved, name), named(key, name), rows, None, resolved.dtype)

    encoder, decoder = player("encoder", 2 * resolved.features), player("decoder", resolved.latent_dim)
    return VAEState(jnp.int32(0), key, encoder, decoder, jax.tree.map(jnp.copy, _latest(encoder, decoder)))


def _latest(encoder: Player, decoder: Player) -> dict:
    return {"params": {"encoder": encoder.params, "decoder": decoder.params}, "stats": {}}


def shown_of(knobs: MIWAE, mask: Bool[Array, "b k"], draws: Draws) -> Bool[Array, "b k"]:
    """The observed cells that the encoder sees in this step; a column is hidden as a whole."""
    kept = draws.named("hide").uniform((len(knobs.groups),)) >= knobs.hide
    return mask & of_columns(knobs.groups, kept)


def terms(knobs: MIWAE, params: Any, x: Array, mask: Array, draws: Draws) -> dict[str, Float[Array, "b"]]:
    """Of each example: the loss, the bound of log p(x_obs) by these draws, the KL and the log
    likelihood, in nats."""
    posterior = encode(knobs, params, x, shown_of(knobs, mask, draws))
    noise = draws.named("posterior").normal((knobs.draws, knobs.latent_dim), x.dtype)
    one = lambda noise: weigh(knobs, params, posterior, noise, x, mask)[:2]
    log_p, ratio = jax.vmap(one, in_axes=1)(noise)  # [K, b]
    beta, kl = jnp.asarray(knobs.beta, x.dtype), posterior.kl().sum(-1)
    if knobs.draws == 1:  # the closed form varies less
        loss, bound = beta * kl - log_p[0], log_p[0] - kl
    else:
        weight = lambda beta: jax.nn.logsumexp(log_p + beta * ratio, axis=0) - np.log(knobs.draws)
        loss, bound = -weight(beta), weight(1)
    return {"loss": loss, "bound": bound, "kl": kl, "log_likelihood": log_p.mean(0)}


def step(knobs: MIWAE, state: VAEState, batch: Batch, axis_name: str | None = None) -> tuple[VAEState, dict]:
    """One optimizer step of both networks down one loss. Returns the new state, and scalars
    averaged over the whole batch, in nats."""
    resolved = resolve(knobs, state.step)
    values, mask = cells_of(batch.images, batch.mask)
    x = jnp.where(mask, values, 0)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)

    def objective(params):
        metrics = {k: v.mean() for k, v in terms(resolved, params, x, mask, draws).items()}
        return metrics["loss"], metrics

    gradient, metrics = jax.grad(objective, has_aux=True)(_latest(state.encoder, state.decoder)["params"])
    gradient, metrics = device_mean((gradient, {f"vae/{k}": v for k, v in metrics.items()}), axis_name)
    metrics |= {f"{name}/gradient_norm": optax.tree.norm(g) for name, g in gradient.items()}
    new = {name: optimizer_step(getattr(resolved, name), getattr(state, name), g, {}) for name, g in gradient.items()}
    return finish_step(knobs, resolved, state, state.replace(**new), _latest(**new)), metrics


# ---- what a trained one is for -----------------------------------------------------------------


def averaged(knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any, draws: int, index: Array):
    """(log 1/L sum_l w_l [b], sum_l w_l E[x|z_l] / sum_l w_l [b, k]) of L = `draws`. The draws come
    one after the other, so that memory is needed for one."""
    mask = mask > 0
    x = jnp.where(mask, values, 0)
    posterior = encode(knobs, params, x, mask)

    def add(carry, turn):
        top, total, mean = carry
        noise = Draws(jax.random.fold_in(key, turn), index).named("posterior").normal((knobs.latent_dim,), x.dtype)
        log_p, ratio, cells = weigh(knobs, params, posterior, noise, x, mask)
        higher = jnp.maximum(top, log_p + ratio)
        old, new = jnp.exp(top - higher), jnp.exp(log_p + ratio - higher)
        return (higher, old * total + new, old[:, None] * mean + new[:, None] * cells), None

    nothing = jnp.full(len(x), -jnp.inf, x.dtype), jnp.zeros(len(x), x.dtype), jnp.zeros_like(x)
    (top, total, mean), _ = jax.lax.scan(add, nothing, jnp.arange(draws))
    return top + jnp.log(total) - np.log(draws), mean / total[:, None]


def impute(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any = None, draws: int = IMPUTING_DRAWS
) -> Float[Array, "b k"]:
    """E[x|x_obs] for every cell of rows [b, k], observed cells too; for categories, their
    probabilities.

    params: `state.ema["params"]`
    key:    of the draws of z; None for the same draws in every call. All rows share the draws, so
            that a row's answer does not depend on the other rows or on its place.
    draws:  L. The error falls as 1 / sqrt(L), and faster for a better q.
    """
    key = jax.random.key(EVALUATION_KEY) if key is None else key
    return averaged(knobs, params, values, mask, key, draws, jnp.zeros(len(values), jnp.int32))[1]


def log_likelihood(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any = None, draws: int = IMPUTING_DRAWS
) -> Float[Array, "b"]:
    """log 1/L sum_l w_l of the observed cells of each row, in nats, where L is `draws`. Its mean is
    at most log p(x_obs), and comes nearer to it as L grows."""
    key = jax.random.key(EVALUATION_KEY) if key is None else key
    return averaged(knobs, params, values, mask, key, draws, jnp.arange(len(values)))[0]


def draw(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Key[Array, ""], draws: int = IMPUTING_DRAWS
) -> Float[Array, "b k"]:
    """One draw of all cells of each row from p(x|x_obs), for multiple imputation (Rubin, 1987).

    z is one of L = `draws` draws from q, chosen with probability proportional to its weight
    (sampling
    importance resampling: Rubin, 1987), which is exact as L grows. Numbers then have their normal
                      noise,
    and may leave [0, 1]. Categories are one-hot.
    """
    mask, draws_of = mask > 0, Draws(key, jnp.arange(len(values)))
    x = jnp.where(mask, values, 0)
    posterior = encode(knobs, params, x, mask)

    def better(carry, turn):  # the Gumbel-max trick: the largest is a draw by weight
        best, chosen = carry
        mine = draws_of.replace(key=jax.random.fold_in(key, turn))
        noise = mine.named("posterior").normal((knobs.latent_dim,), x.dtype)
        log_p, ratio, _ = weigh(knobs, params, posterior, noise, x, mask)
        score = log_p + ratio + mine.named("choice").per_example(lambda k: jax.random.gumbel(k, (), x.dtype))
        return (jnp.maximum(best, score), jnp.where((score > best)[:, None], noise, chosen)), None

    first = jnp.full(len(x), -jnp.inf, x.dtype), jnp.zeros_like(posterior.mean)
    (_, noise), _ = jax.lax.scan(better, first, jnp.arange(draws))
    return observe(knobs, *decode(knobs, params, posterior.draw(noise)), draws_of)


def observe(knobs: MIWAE, mean: Float[Array, "b k"], log_scale: Array, draws: Draws) -> Float[Array, "b k"]:
    """x ~ p(x|z)."""
    x = mean + jnp.exp(log_scale) * draws.named("cells").normal((knobs.features,), mean.dtype)
    score = jnp.log(jnp.maximum(mean, LEAST_PROBABILITY))
    score += draws.named("categories").per_example(lambda key: jax.random.gumbel(key, (knobs.features,), mean.dtype))
    for end, k in zip(np.cumsum(knobs.groups), knobs.groups, strict=True):
        if k > 1:
            one_hot = jax.nn.one_hot(score[:, end - k : end].argmax(-1), k, dtype=mean.dtype)
            x = x.at[:, end - k : end].set(one_hot)
    return x


def log_density(knobs: MIWAE, state: VAEState, images: Array, labels: Any = None) -> Float[Array, "b"]:
    """The bound of each example's observed cells under the moving average, in nats, by a few fixed
    draws."""
    resolved, (values, mask) = resolve(knobs, state.step), cells_of(images.astype(knobs.dtype))
    return log_likelihood(resolved, state.ema["params"], values, mask, draws=EVALUATION_DRAWS)


def evaluate(knobs: MIWAE, state: VAEState, train: tuple, validation: tuple) -> dict[str, Array]:
    """RMSE on training and held-out rows (see `cells.errors_of`), the bound of their observed
    cells, and the gap between the two bounds, in nats."""
    answer = partial(impute, resolve(knobs, state.step), state.ema["params"], draws=EVALUATION_DRAWS)
    t, v = (log_density(knobs, state, images).mean() for images, _ in (train, validation))
    bounds = {"VAE/train_bound": t, "VAE/validation_bound": v, "VAE/bound_gap": t - v}
    return errors_of(answer, train, validation, knobs.dtype) | bounds


def check(knobs: MIWAE, data: Any) -> None:
    """Raises UserError for a number out of its range, and for data that do not fit the knobs."""
    check_knobs(knobs)
    check_cells("VAE", knobs.features, data)


GAME = part("imputation", "vae.GAME")(
    Game(init, step, lambda knobs: knobs.batch_size, lambda knobs: knobs.dtype, check, evaluate, log_density=log_density)
)
