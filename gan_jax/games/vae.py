"""The variational autoencoder (Kingma & Welling, 2014) as a game, to compare a GAN with: one loss,
two networks.

    loss = E_q(z|x) [-log p(x|z)] + beta * KL(q(z|x) || N(0, I))

Its decoder is a GAN's generator without the last activation, its encoder a GAN's discriminator with
2 d outputs in place of one, so that the two methods differ in how they are trained and in nothing
else. Everything trains, sweeps, resumes and reports as the GAN does:
`gan.fit(gan.recipes.vae(shape), data)`.

    log_density  the evidence lower bound (ELBO) of each image, in nats
    importance   the importance-weighted bound of k draws (Burda et al., 2016): no lower in the mean, and log p(x) as k grows

An ELBO that is higher on training than on held-out images is overfitting as well: of the
likelihood.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from gan_jax.core.batch import Batch, device_mean, to_unit
from gan_jax.core.bind import Bound, Schedule, number, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game, check_fit, refuse_penalties
from gan_jax.core.net import EVALUATION, Mode, cast
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import as_integer
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, moving_average
from gan_jax.gan.turns import optimizer_step
from gan_jax.metrics.training import training_metrics

EVALUATION_KEY = 20131220  # evaluation draws the same latents at every step, so that curves compare
BATCH = 256


@part("vae")
class VAE(struct.PyTreeNode):
    """A whole VAE, as data. Leaves can be swept inside one program; static fields cannot.

    encoder:    of images to 2 d numbers: means and log variances of z (a discriminator with
                `representation` 2 d)
    decoder:    of z to a mean and a log scale of each number of the image
                (`networks.decoder.Decoder`)
    likelihood: (mean, log_scale, images) -> log density of each number (see `likelihoods.py`)
    beta:       weight of the KL term (Higgins et al., 2017); 1 is the ELBO. May be a schedule
    free_bits:  nats of KL that each latent has for nothing, in the batch's mean (Kingma et al.,
                2016, equation 15)
    ema_decay:  of the decoder's and the encoder's moving average, in [0, 1); a constant ramps up as
                (1 + t) / (10 + t)
    """

    encoder: Side
    decoder: Side
    likelihood: Bound
    beta: Any = 1.0
    free_bits: Any = 0.0
    ema_decay: Any = 0.999
    latent_dim: int = static(default=100)
    batch_size: int = static(default=64)
    classes: int = static(default=0)
    dtype: str = static(default="float32")
    compute_dtype: str | None = static(default=None)

    def __post_init__(self):
        for name in ("beta", "free_bits", "ema_decay"):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def game(self) -> Game:
        """What `fit` and `sweep` play with it."""
        return GAME


class VAEState(struct.PyTreeNode):
    """Everything that changes in training. ema: {"encoder", "decoder": {"params", "stats"}}, their
    moving average."""

    step: Int[Array, ""]
    key: Key[Array, ""]
    encoder: Player
    decoder: Player
    ema: Any


class Posterior(NamedTuple):
    """q(z|x) = N(mean, exp(log_variance)), [b, d] each."""

    mean: Float[Array, "b d"]
    log_variance: Float[Array, "b d"]

    def draw(self, noise: Float[Array, "b d"]) -> Float[Array, "b d"]:
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def log_ratio(self, noise: Float[Array, "b d"], z: Float[Array, "b d"]) -> Float[Array, "b"]:
        """log p(z) - log q(z|x) of z = draw(noise), in nats."""
        return 0.5 * (noise**2 - z**2).sum(-1) + 0.5 * self.log_variance.sum(-1)

    def kl(self) -> Float[Array, "b d"]:
        """To N(0, 1), of each latent, in nats."""
        return 0.5 * (self.mean**2 + jnp.exp(self.log_variance) - 1 - self.log_variance)


# ---- the networks ------------------------------------------------------------------------------


def encode(vae: Any, params, stats, images, labels, mode: Mode) -> tuple[Posterior, Any]:
    """(q(z|x), new stats) of images in the data's scale."""
    side = vae.encoder
    judged, stats = side.net.apply(params, stats, images, labels, mode, side.numbers, vae.compute_dtype)
    return Posterior(*jnp.split(judged.features, 2, axis=-1)), stats


def decode(vae: VAE, params, stats, z, labels, mode: Mode) -> tuple[tuple[Array, Array], Any]:
    """((mean, log_scale), new stats) of p(x|z)."""
    side = vae.decoder
    return side.net.apply(params, stats, z, labels, mode, side.numbers, vae.compute_dtype)


def per_example(values: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """The sum over all but the first axis."""
    return values.reshape(len(values), -1).sum(-1)


# ---- the game ----------------------------------------------------------------------------------


def init(vae: VAE, key: Key[Array, ""]) -> VAEState:
    """A fresh state: parameters and statistics in `vae.dtype`, the moving average a copy of both
    networks.

    Raises UserError for penalties: neither side takes any.
    """
    refuse_penalties("VAE", vae, "encoder", "decoder")
    vae = resolve(vae, jnp.int32(0))
    labels = jnp.zeros(2, jnp.int32) if vae.classes else None
    z = jnp.zeros((2, vae.latent_dim), jnp.float32)

    def player(side: Side, name: str, inputs) -> Player:
        params, stats = cast(side.net.init(named(key, name), inputs, labels, side.numbers), vae.dtype)
        return Player(params, stats, cast(side.optimizer().init(params), vae.dtype))

    decoder = player(vae.decoder, "decoder", z)
    (mean, _), _ = decode(vae, decoder.params, decoder.stats, cast(z, vae.dtype), labels, EVALUATION)
    encoder = player(vae.encoder, "encoder", mean)
    return VAEState(jnp.int32(0), key, encoder, decoder, jax.tree.map(jnp.copy, _averaged(encoder, decoder)))


def step(vae: VAE, state: VAEState, batch: Batch, axis_name: str | None = None) -> tuple[VAEState, dict]:
    """Both networks move once down one loss. Returns the new state and scalars averaged over the
    whole batch, in nats."""
    live = resolve(vae, state.step)
    labels = batch.labels if live.classes else None
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    mode = lambda name: Mode(True, draws.named(name), axis_name)

    def objective(params):
        posterior, seen = encode(live, params["encoder"], state.encoder.stats, batch.images, labels, mode("encode"))
        z = posterior.draw(draws.named("posterior").normal((live.latent_dim,), batch.images.dtype))
        given, made = decode(live, params["decoder"], state.decoder.stats, z, labels, mode("decode"))
        said = per_example(live.likelihood(*given, batch.images))
        kl = posterior.kl()
        average = device_mean(kl.mean(0), axis_name)
        # as many nats as are free count as that many, and have no gradient
        paid = jnp.maximum(average, jnp.asarray(live.free_bits, kl.dtype)).sum()
        loss = -device_mean(said.mean(), axis_name) + jnp.asarray(live.beta, kl.dtype) * paid
        about = {"vae/log_likelihood": said.mean(), "vae/kl": average.sum(), "vae/elbo": said.mean() - kl.sum(-1).mean()}
        about |= {"vae/used_latents": (average > 0.01).sum().astype(kl.dtype), "vae/log_scale": given[1].mean()}
        return loss, (seen, made, {"vae/loss": loss} | about)

    players = {name: getattr(state, name) for name in ("encoder", "decoder")}
    (_, (seen, made, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(
        {k: p.params for k, p in players.items()}
    )
    gradient, metrics = device_mean(gradient, axis_name), {k: device_mean(v, axis_name) for k, v in metrics.items()}
    new = {
        k: optimizer_step(getattr(live, k), players[k], gradient[k], stats)
        for k, stats in (("encoder", seen), ("decoder", made))
    }
    metrics |= {f"{name}/gradient_norm": optax.tree.norm(gradient[name]) for name in new}
    ramp = not isinstance(vae.ema_decay, Schedule)
    ema = moving_average(live.ema_decay, state.step, state.ema, _averaged(**new), ramp)
    new = state.replace(step=state.step + 1, ema=ema, **new)
    return jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), new, state), metrics


def _averaged(encoder: Player, decoder: Player) -> dict:
    return {name: {"params": p.params, "stats": p.stats} for name, p in (("encoder", encoder), ("decoder", decoder))}


def sample(vae: VAE, state: VAEState, key: Key[Array, ""], n: int, labels=None, *, ema: bool = True, first: int = 0):
    """n means of p(x|z), z ~ N(0, I), [n, ...] in the data's scale, from the moving average or the
    raw decoder.

    Example i depends on key and `first + i` alone. The likelihood's own noise is not drawn: as
    published samples are shown.
    """
    live = resolve(vae, state.step)
    index = first + jnp.arange(n)
    if live.classes and labels is None:
        labels = index % live.classes
    z = Draws(named(key, "latent"), index).normal((live.latent_dim,), jnp.dtype(live.dtype))
    own = state.ema["decoder"] if ema else {"params": state.decoder.params, "stats": state.decoder.stats}
    return decode(live, own["params"], own["stats"], z, labels, EVALUATION)[0][0]


# ---- likelihoods -------------------------------------------------------------------------------


def log_weights(vae: VAE, state: VAEState, images, labels, draws: Draws, *, ema: bool = True):
    """(log p(x, z) - log q(z|x), log p(x|z) - KL) of one z ~ q each: [b] nats.

    Both have the ELBO as their mean; the second, which takes the KL in closed form, varies less.
    The first is the logarithm of an importance weight, whose mean over draws is p(x).
    """
    live = resolve(vae, state.step)
    labels = labels if live.classes else None
    own = state.ema if ema else _averaged(state.encoder, state.decoder)
    posterior, _ = encode(live, own["encoder"]["params"], own["encoder"]["stats"], images, labels, EVALUATION)
    noise = draws.named("posterior").normal((live.latent_dim,), images.dtype)
    z = posterior.draw(noise)
    given, _ = decode(live, own["decoder"]["params"], own["decoder"]["stats"], z, labels, EVALUATION)
    said = per_example(live.likelihood(*given, images))
    return said + posterior.log_ratio(noise, z), said - posterior.kl().sum(-1)


def log_density(vae: VAE, state: VAEState, images, labels=None) -> Float[Array, "b"]:
    """The ELBO of each image in the data's scale, of the moving average, by one draw of z (always
    the same): nats."""
    draws = Draws(jax.random.key(EVALUATION_KEY), jnp.arange(len(images)))
    return log_weights(vae, state, images, labels, draws)[1]


def importance(vae: VAE, state: VAEState, images, labels, key: Key[Array, ""], draws: int) -> Float[Array, "b"]:
    """log 1/k sum_k p(x, z_k) / q(z_k|x) of each image, k = `draws` (Burda et al., 2016, equation
    8): nats."""
    index = jnp.arange(len(images))
    one = lambda k: log_weights(vae, state, images, labels, Draws(jax.random.fold_in(key, k), index))[0]
    return jax.nn.logsumexp(jax.lax.map(one, jnp.arange(draws)), axis=0) - jnp.log(draws)


_importance = jax.jit(importance, static_argnums=5)


def likelihood(run: Any, split: Any, draws: int = 100, seed: int = 0) -> np.ndarray:
    """[n] importance-weighted bounds of log p(x) of a split's images, by a trained run: nats,
    float64.

    Divide by -log 2 and the numbers in an image for bits per number. draws: k, 1 being a noisy
    ELBO; cost grows with it.
    Raises UserError for a run that is not of a VAE, images of another shape or none, labels that
    the VAE does not know, or fewer than one draw.
    """
    if not isinstance(run.recipe, VAE):
        raise UserError(f"a {type(run.recipe).__name__} has no likelihood: give the run of a VAE")
    draws, key, found = as_integer(draws, "draws", least=1), jax.random.key(seed), []
    made = jax.eval_shape(lambda state: sample(run.recipe, state, key, 1), run.state).shape[1:]
    if not len(split.images) or split.images.shape[1:] != made:
        raise UserError(f"the VAE is of images {made}, and the split has {split.images.shape}: give it some of these")
    if run.recipe.classes:
        class_counts(split.labels, run.recipe.classes)  # refuses what is no label of its
    for first in range(0, len(split.images), BATCH):
        full = np.resize(np.arange(first, min(first + BATCH, len(split.images))), BATCH)  # one shape, one program
        images = to_unit(jnp.asarray(split.images[full]), run.recipe.dtype)
        labels = jnp.asarray(split.labels[full], jnp.int32) if run.recipe.classes else None
        found.append(np.asarray(_importance(run.recipe, run.state, images, labels, jax.random.fold_in(key, first), draws)))
    return np.concatenate(found)[: len(split.images)].astype(np.float64)


# ---- what the loop asks ------------------------------------------------------------------------


def evaluate(vae: VAE, state: VAEState, train: tuple, validation: tuple) -> dict[str, Array]:
    """The ELBO on training and held-out images, their gap, how well it tells them apart, and how
    far samples are from either.

    train, validation: (images, labels), equally many. See `measure.training_metrics` for the last.
    """
    live = resolve(vae, state.step)
    n, labels = len(train[0]), train[1] if live.classes else None
    reals, held_out = (to_unit(images, live.dtype) for images in (train[0], validation[0]))
    t, v = (log_density(vae, state, x, y) for x, y in ((reals, train[1]), (held_out, validation[1])))
    higher = jnp.sign(t[:, None] - v[None, :])
    row = {"VAE/train_elbo": t.mean(), "VAE/validation_elbo": v.mean(), "VAE/elbo_gap": t.mean() - v.mean()}
    row["VAE/train_validation_auc"] = (1 + higher.mean()) / 2
    samples = sample(vae, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | training_metrics(jnp.clip(samples, -1, 1) if samples.ndim == 4 else samples, reals, held_out)


def check_data(vae: VAE, data) -> None:
    """Refuse a VAE that does not fit the data. Raises UserError naming both sides."""
    made = jax.eval_shape(lambda key: sample(vae, init(vae, key), key, 1), jax.random.key(0)).shape[1:]
    check_fit("VAE", vae, made, data)


def _examples(vae: VAE) -> int:
    return vae.batch_size


def _dtype(vae: VAE) -> str:
    return vae.dtype


GAME = part("vae", "GAME")(Game(init, step, _examples, _dtype, check_data, evaluate, None, sample, log_density))
