"""A VAE of incomplete data (MIWAE: Mattei & Frellsen, 2019): z explains the observed cells, and
says what the others may be.

    log w_k = log p(x_obs|z_k) + log p(z_k) - log q(z_k|x_obs),  z_1 ... z_K ~ q(z|x_obs)
    bound   = E log 1/K sum_k w_k  <=  log p(x_obs)

The encoder sees [m x, m]: 0 where a cell is missing, and which are; the decoder gives every cell's
law, and only observed cells enter the likelihood. If whether a cell is missing depends on observed
cells alone (MCAR, MAR), no more is needed: the mechanism drops out of the likelihood of what was
observed (Rubin, 1976). K = 1 is a VAE with the ELBO of observed cells (Nazabal et al., 2020); a
larger K makes the bound tighter (Burda et al., 2016).

    impute          E[x|x_obs] ~ sum_l w_l E[x|z_l] / sum_l w_l: self-normalised importance sampling
    draw            a draw from p(x|x_obs): z by sampling importance resampling, then x ~ p(x|z)
    log_likelihood  the bound of each row: higher on training than on held-out rows is overfitting too

It is a `Game`: `gan.fit(vae.recipe(30), data)` and `gan.sweep` train it, and every number is a
leaf. See `cells.py` for what an example is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from gan_jax import likelihoods
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.bind import Bound, Schedule, number, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game, refuse_penalties
from gan_jax.core.net import EVALUATION, Mode, Net, cast
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws, named
from gan_jax.data.splits import as_integer
from gan_jax.games.imputation.cells import cells_of, check_cells, errors_of, groups_of, of_columns
from gan_jax.games.imputation.gain import Cells
from gan_jax.games.vae import EVALUATION_KEY, Posterior, VAEState
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, moving_average
from gan_jax.gan.turns import optimizer_step
from gan_jax.networks.decoder import FASTER
from gan_jax.optimizers import adam

IMPUTING_DRAWS = 100  # of z, for one answer
EVALUATION_DRAWS = 20
LEAST_PROBABILITY = 1e-30  # of a category, whose logarithm stays finite


@part("imputation")
class Scaled(nn.Module):
    """z [b, d] -> (what `cells` says of them [b, k], a log scale for each cell [k], learned).
    start: its value at first."""

    cells: nn.Module
    start: float = -2.0

    @nn.compact
    def __call__(self, z, labels, mode: Mode, **numbers):
        mean = self.cells(z, labels, mode, **numbers)
        optimizer_step = self.param("log_scale", nn.initializers.zeros_init(), mean.shape[-1:])
        return mean, jnp.asarray(self.start + FASTER * optimizer_step, mean.dtype)


@part("imputation")
class MIWAE(struct.PyTreeNode):
    """An imputing VAE, as data: numbers are leaves, so that a sweep over any is one program (see
    `recipe` for what they mean).

    encoder: its net is given [b, 2 k] (values, which are seen) and gives 2 d numbers: means and log
        variances of z
    decoder: its net is given z [b, d] and gives (means, or probabilities of categories [b, k]; log
        scales [k] or [b, k])
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
        """What `fit` and `sweep` play with it."""
        return GAME

    @property
    def features(self) -> int:
        """Cells of an example."""
        return sum(self.groups)


def recipe(
    features: int | tuple[int, ...],
    *,
    latent_dim: int = 20,
    width: int = 128,
    depth: int = 2,
    draws: int = 1,
    beta: float = 1.0,
    hide: float = 0.2,
    floor: float = 0.01,
    optimizer: Bound | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    ema_decay: float = 0.99,
    batch_size: int = 128,
    dtype: str = "float32",
) -> MIWAE:
    """A VAE for examples of so many cells, numbers in [0, 1]; p(x|z) is Gaussian for numbers,
    categorical for categories.

    features:   cells of an example (an image is flattened), or for a mixed table the cells of each
                of its columns: 1 for a number, k for a category of k values, one-hot.
    latent_dim: d, of z. width, depth: of both networks' hidden layers (ReLU).
    draws:      K of the bound in training, >= 1. At 1 the KL is in closed form.
    beta:       weight of log p(z) - log q(z|x) in each log weight; at K = 1 that of the KL (Higgins
                et al., 2017), otherwise without that meaning; 1 is the bound. In training alone:
                imputation and likelihoods weigh with 1.
    hide:       share of the observed columns of each row that the encoder does not see in this
                step, but that stay in the likelihood: a bound too, as it is for any q; the encoder
                meets rows with more missing, also where none are.
    floor:      added to every learned scale, >= 0: a constant column's would fall to 0 and its
                density grow without bound.
    optimizer:  of both networks; Adam(1e-3, .9, .999).
    encoder:    another module in place of the rows' network, (rows [b, 2 k], labels, mode) -> [b, 2
                d]; decoder: one that makes cells of z, (z, labels, mode) -> [b, k]. Neither may
                have batch statistics.
    ema_decay:  of a moving average of both networks, which imputes; 0 is the last ones. The
    defaults are this project's own, by a trial of 3,000 steps on one training fold of
    scikit-learn's breast cancer (20 % missing): RMSE .057 at beta .1 and hide .2, but .088 at hide
    0; .068 at beta 1 and hide .2.
    Raises UserError for a number out of its range or a structure that cannot be.
    """
    groups = groups_of("vae", features)
    structure = {"latent_dim": latent_dim, "width": width, "depth": depth, "draws": draws, "batch_size": batch_size}
    for name, value in structure.items():
        as_integer(value, f"vae: {name}", least=1)
    total, optimizer = sum(groups), optimizer or adam(1e-3, b1=0.9)
    decoder = decoder or Cells(total, width, depth, groups, "columns")
    knobs = MIWAE(
        Side(net=Net(encoder or Cells(2 * latent_dim, width, depth)), optimizer=optimizer),
        Side(net=Net(Scaled(decoder)), optimizer=optimizer),
        beta, hide, floor, ema_decay, draws, latent_dim, groups, batch_size, dtype,
    )  # fmt: skip
    check_knobs(knobs)
    return knobs


def check_knobs(knobs: MIWAE) -> None:
    """Raises UserError for a number that is not finite or outside its range."""
    check_numbers(knobs)
    if not isinstance(knobs.hide, Bound) and np.any(np.asarray(knobs.hide) > 1):
        raise UserError(f"vae: hide is {float(np.max(knobs.hide)):g}: it is a share, give a number in [0, 1]")


# ---- the networks ------------------------------------------------------------------------------


def encode(knobs: MIWAE, params: Any, x: Float[Array, "b k"], shown: Bool[Array, "b k"]) -> Posterior:
    """q(z|x) of what is shown; x is 0 or anything finite elsewhere."""
    side, shown = knobs.encoder, shown.astype(x.dtype)
    said, _ = side.net.apply(params["encoder"], {}, jnp.concatenate([x * shown, shown], -1), None, EVALUATION, side.numbers)
    return Posterior(*jnp.split(said, 2, axis=-1))


def decode(knobs: MIWAE, params: Any, z: Float[Array, "b d"]) -> tuple[Float[Array, "b k"], Array]:
    """(means, or probabilities of categories; log scales, the floor included) of p(x|z)."""
    side = knobs.decoder
    (mean, log_scale), _ = side.net.apply(params["decoder"], {}, z, None, EVALUATION, side.numbers)
    return mean, jnp.log(jnp.exp(log_scale) + jnp.asarray(knobs.floor, mean.dtype))


def is_category(knobs: MIWAE) -> np.ndarray:
    """[k]: which cells are a category's."""
    return np.repeat(np.asarray(knobs.groups) > 1, knobs.groups)


def cell_densities(knobs: MIWAE, mean: Array, log_scale: Array, x: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """log p(x|z) of each cell: a normal density, or x log p of a one-hot category, whose cells sum
    to log p of its value."""
    return jnp.where(
        is_category(knobs), x * jnp.log(jnp.maximum(mean, LEAST_PROBABILITY)), likelihoods.gaussian(mean, log_scale, x)
    )


def weigh(knobs: MIWAE, params: Any, posterior: Posterior, noise: Float[Array, "b d"], x: Array, mask: Array):
    """(log p(x_obs|z) [b], log p(z) - log q(z|x) [b], what the decoder says [b, k]) of one draw z
    each."""
    z = posterior.draw(noise)
    mean, log_scale = decode(knobs, params, z)
    said = jnp.where(mask, cell_densities(knobs, mean, log_scale, x), 0).sum(-1)
    return said, posterior.log_ratio(noise, z), mean


# ---- one step ----------------------------------------------------------------------------------


def init(knobs: MIWAE, key: Key[Array, ""]) -> VAEState:
    """A fresh state in `knobs.dtype`. ema: {"params": {"encoder", "decoder"}, "stats": {}}.

    Raises UserError for penalties: neither side takes any.
    """
    refuse_penalties("VAE", knobs, "encoder", "decoder")
    live = resolve(knobs, jnp.int32(0))

    def player(name: str, cells: int) -> Player:
        side, inputs = getattr(live, name), jnp.zeros((2, cells), live.dtype)
        params, stats = cast(side.net.init(named(key, name), inputs, None, side.numbers), live.dtype)
        return Player(params, stats, cast(side.optimizer().init(params), live.dtype))

    encoder, decoder = player("encoder", 2 * live.features), player("decoder", live.latent_dim)
    return VAEState(jnp.int32(0), key, encoder, decoder, jax.tree.map(jnp.copy, _latest(encoder, decoder)))


def _latest(encoder: Player, decoder: Player) -> dict:
    return {"params": {"encoder": encoder.params, "decoder": decoder.params}, "stats": {}}


def shown_of(knobs: MIWAE, mask: Bool[Array, "b k"], draws: Draws) -> Bool[Array, "b k"]:
    """What of the observed cells this step's encoder sees; the cells of a column go together."""
    kept = draws.named("hide").uniform((len(knobs.groups),)) >= knobs.hide
    return mask & of_columns(knobs.groups, kept)


def terms(knobs: MIWAE, params: Any, x: Array, mask: Array, draws: Draws) -> dict[str, Float[Array, "b"]]:
    """The loss of each example, the bound of these draws (of log p(x_obs), in nats), and its two
    parts."""
    posterior = encode(knobs, params, x, shown_of(knobs, mask, draws))
    noise = draws.named("posterior").normal((knobs.draws, knobs.latent_dim), x.dtype)
    one = lambda noise: weigh(knobs, params, posterior, noise, x, mask)[:2]
    said, ratio = jax.vmap(one, in_axes=1)(noise)  # [K, b]
    beta, kl = jnp.asarray(knobs.beta, x.dtype), posterior.kl().sum(-1)
    if knobs.draws == 1:  # the closed form varies less
        loss, bound = beta * kl - said[0], said[0] - kl
    else:
        weight = lambda beta: jax.nn.logsumexp(said + beta * ratio, axis=0) - np.log(knobs.draws)
        loss, bound = -weight(beta), weight(1)
    return {"loss": loss, "bound": bound, "kl": kl, "log_likelihood": said.mean(0)}


def step(knobs: MIWAE, state: VAEState, batch: Batch, axis_name: str | None = None) -> tuple[VAEState, dict]:
    """Both networks move once down one loss. Returns the new state and scalars averaged over the
    whole batch, in nats."""
    live = resolve(knobs, state.step)
    values, mask = cells_of(batch.images, batch.mask)
    x = jnp.where(mask, values, 0)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)

    def objective(params):
        metrics = {k: v.mean() for k, v in terms(live, params, x, mask, draws).items()}
        return metrics["loss"], metrics

    gradient, metrics = jax.grad(objective, has_aux=True)(_latest(state.encoder, state.decoder)["params"])
    gradient, metrics = device_mean((gradient, {f"vae/{k}": v for k, v in metrics.items()}), axis_name)
    metrics |= {f"{name}/gradient_norm": optax.tree.norm(g) for name, g in gradient.items()}
    new = {name: optimizer_step(getattr(live, name), getattr(state, name), g, {}) for name, g in gradient.items()}
    ramp = not isinstance(knobs.ema_decay, Schedule)
    ema = moving_average(live.ema_decay, state.step, state.ema, _latest(**new), ramp)
    new = state.replace(step=state.step + 1, ema=ema, **new)
    return jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), new, state), metrics


# ---- what a trained one is for -----------------------------------------------------------------


def averaged(knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any, draws: int, index: Array):
    """(log 1/L sum_l w_l [b], sum_l w_l E[x|z_l] / sum_l w_l [b, k]) of L = `draws`, one after the
    other: memory for one."""
    mask = mask > 0
    x = jnp.where(mask, values, 0)
    posterior = encode(knobs, params, x, mask)

    def add(carry, turn):
        top, total, mean = carry
        noise = Draws(jax.random.fold_in(key, turn), index).named("posterior").normal((knobs.latent_dim,), x.dtype)
        said, ratio, cells = weigh(knobs, params, posterior, noise, x, mask)
        higher = jnp.maximum(top, said + ratio)
        old, new = jnp.exp(top - higher), jnp.exp(said + ratio - higher)
        return (higher, old * total + new, old[:, None] * mean + new[:, None] * cells), None

    nothing = jnp.full(len(x), -jnp.inf, x.dtype), jnp.zeros(len(x), x.dtype), jnp.zeros_like(x)
    (top, total, mean), _ = jax.lax.scan(add, nothing, jnp.arange(draws))
    return top + jnp.log(total) - np.log(draws), mean / total[:, None]


def impute(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any = None, draws: int = IMPUTING_DRAWS
) -> Float[Array, "b k"]:
    """E[x|x_obs] for every cell of rows [b, k], observed ones too; for categories, their
    probabilities.

    params: `state.ema["params"]`. key: of the draws of z, None for always the same. All rows share
    them, so that a row's answer depends neither on the others nor on its place. draws: L; the error
    falls as 1 / sqrt(L), faster the better q is.
    """
    key = jax.random.key(EVALUATION_KEY) if key is None else key
    return averaged(knobs, params, values, mask, key, draws, jnp.zeros(len(values), jnp.int32))[1]


def log_likelihood(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Any = None, draws: int = IMPUTING_DRAWS
) -> Float[Array, "b"]:
    """log 1/L sum_l w_l of each row's observed cells, in nats: in the mean no more than log
    p(x_obs), and nearer as L grows."""
    key = jax.random.key(EVALUATION_KEY) if key is None else key
    return averaged(knobs, params, values, mask, key, draws, jnp.arange(len(values)))[0]


def draw(
    knobs: MIWAE, params: Any, values: Array, mask: Array, key: Key[Array, ""], draws: int = IMPUTING_DRAWS
) -> Float[Array, "b k"]:
    """One draw of all cells of each row from p(x|x_obs), for multiple imputation (Rubin, 1987):
    another key, another draw.

    z is one of L = `draws` from q, by their weights (sampling importance resampling: Rubin, 1987):
    exact as L grows. Numbers then have their normal noise, and may leave [0, 1]; categories are
    one-hot.
    """
    mask, draws_of = mask > 0, Draws(key, jnp.arange(len(values)))
    x = jnp.where(mask, values, 0)
    posterior = encode(knobs, params, x, mask)

    def better(carry, turn):  # the Gumbel-max trick: the largest is a draw by weight
        best, chosen = carry
        mine = draws_of.replace(key=jax.random.fold_in(key, turn))
        noise = mine.named("posterior").normal((knobs.latent_dim,), x.dtype)
        said, ratio, _ = weigh(knobs, params, posterior, noise, x, mask)
        score = said + ratio + mine.named("choice").per_example(lambda k: jax.random.gumbel(k, (), x.dtype))
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
    """The bound of each example's observed cells, of the moving average, by few draws (always the
    same): nats."""
    live, (values, mask) = resolve(knobs, state.step), cells_of(images.astype(knobs.dtype))
    return log_likelihood(live, state.ema["params"], values, mask, draws=EVALUATION_DRAWS)


def evaluate(knobs: MIWAE, state: VAEState, train: tuple, validation: tuple) -> dict[str, Array]:
    """RMSE on training and held-out rows (see `cells.errors_of`), the bound of their observed
    cells, and its gap: nats."""
    live, params = resolve(knobs, state.step), state.ema["params"]
    answer = lambda values, mask: impute(live, params, values, mask, draws=EVALUATION_DRAWS)
    t, v = (log_density(knobs, state, images).mean() for images, _ in (train, validation))
    bounds = {"VAE/train_bound": t, "VAE/validation_bound": v, "VAE/bound_gap": t - v}
    return errors_of(answer, train, validation, knobs.dtype) | bounds


def check(knobs: MIWAE, data: Any) -> None:
    """Raises UserError for numbers out of range, and where the data do not fit: see
    `cells.check_cells`."""
    check_knobs(knobs)
    check_cells("VAE", knobs.features, data)


def _examples(knobs: MIWAE) -> int:
    return knobs.batch_size


def _dtype(knobs: MIWAE) -> str:
    return knobs.dtype


GAME = part("imputation", "vae.GAME")(Game(init, step, _examples, _dtype, check, evaluate, log_density=log_density))
