"""The variational autoencoder (VAE: Kingma & Welling, 2014) as a game: two networks, one loss.

    loss = E_q(z|x) [-log p(x|z)] + beta * KL(q(z|x) || N(0, I))

The decoder is a GAN's generator without its last activation, and the encoder is a GAN's
discriminator with 2 d outputs in place of one. A comparison with a GAN therefore compares two ways
of training. `gan.fit(gan.recipes.vae(shape), data)` trains a VAE; sweeps, checkpoints and reports
take it as they take a GAN. A VAE overfits its likelihood where the evidence lower bound (ELBO) is
higher on training images than on held-out images.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from gan_jax.arguments import count
from gan_jax.checks import check_decoded, check_encoded
from gan_jax.core.batch import Batch, device_mean, to_unit
from gan_jax.core.bind import Bound, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Mode, cast
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import check_fit, refuse_penalties
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Split, Splits
from gan_jax.games.common import Knobs, gradient_step
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, finish_step, init_player
from gan_jax.metrics.training import pair_auc, training_metrics
from gan_jax.training.run import Run

EVALUATION_KEY = 20131220  # every evaluation draws the same latents, so that its curve is smooth
BATCH = 256


@part("vae")
class VAE(Knobs):
    """A whole VAE, as data.

    encoder:    a network from images to 2 d numbers, the means and log variances of z (a
                discriminator with `representation` 2 d)
    decoder:    a network from z to a mean and a log scale of each number of the image
                (`networks.decoder.Decoder`)
    likelihood: (mean, log_scale, images) -> log density of each number (see `likelihoods.py`)
    beta:       weight of the KL term (Higgins et al., 2017); 1 gives the ELBO. May be a schedule.
    free_bits:  nats of KL, averaged over the batch, that each latent has without cost (Kingma et
                al., 2016, equation 15)
    ema_decay:  of the moving average of both networks, in [0, 1); see `gan.state.finish_step`
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

    game = property(lambda vae: GAME)


class VAEState(struct.PyTreeNode):
    """Everything that changes in training. ema: {"encoder", "decoder": {"params", "stats"}}."""

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
        """The KL divergence of each latent from N(0, 1), in nats."""
        return 0.5 * (self.mean**2 + jnp.exp(self.log_variance) - 1 - self.log_variance)


def encode(vae: Any, params, stats, images, labels, mode: Mode) -> tuple[Posterior, Any]:
    """(q(z|x), new statistics) of images in the scale of the data."""
    side = vae.encoder
    output, stats = side.net.apply(params, stats, images, labels, mode, side.numbers, vae.compute_dtype)
    check_encoded(output, len(images))
    return Posterior(*jnp.split(output.features, 2, axis=-1)), stats


def decode(vae: VAE, params, stats, z, labels, mode: Mode) -> tuple[tuple[Array, Array], Any]:
    """((mean, log_scale) of p(x|z), new statistics)."""
    side = vae.decoder
    law, stats = side.net.apply(params, stats, z, labels, mode, side.numbers, vae.compute_dtype)
    check_decoded(law, len(z))
    return law, stats


def per_example(values: Float[Array, "b ..."]) -> Float[Array, "b"]:
    """The sum over all axes but the first."""
    return values.reshape(len(values), -1).sum(-1)


def init(vae: VAE, key: Key[Array, ""]) -> VAEState:
    """A fresh state in `vae.dtype`. Raises UserError for penalties: neither network takes any."""
    refuse_penalties("VAE", vae, "encoder", "decoder")
    vae = resolve(vae, jnp.int32(0))
    labels = jnp.zeros(2, jnp.int32) if vae.classes else None
    z = jnp.zeros((2, vae.latent_dim), jnp.float32)
    decoder = init_player(vae.decoder, named(key, "decoder"), z, labels, vae.dtype)
    (mean, _), _ = decode(vae, decoder.params, decoder.stats, cast(z, vae.dtype), labels, EVALUATION)
    encoder = init_player(vae.encoder, named(key, "encoder"), mean, labels, vae.dtype)
    state = VAEState(jnp.int32(0), key, encoder, decoder, ema=None)
    return state.replace(ema=jax.tree.map(jnp.copy, _averaged(state)))


def step(vae: VAE, state: VAEState, batch: Batch, axis_name: str | None = None) -> tuple[VAEState, dict]:
    """One optimizer step of both networks down one loss. Metrics are in nats."""
    resolved = resolve(vae, state.step)
    labels = batch.labels if resolved.classes else None
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    mode = lambda name: Mode(True, draws.named(name), axis_name)

    def loss(params):
        posterior, e_stats = encode(resolved, params["encoder"], state.encoder.stats, batch.images, labels, mode("encode"))
        z = posterior.draw(draws.named("posterior").normal((resolved.latent_dim,), batch.images.dtype))
        law, d_stats = decode(resolved, params["decoder"], state.decoder.stats, z, labels, mode("decode"))
        log_p = per_example(resolved.likelihood(*law, batch.images))
        kl = posterior.kl()
        average = device_mean(kl.mean(0), axis_name)
        # A latent with less KL than is free counts as the free nats, and has no gradient.
        paid = jnp.maximum(average, jnp.asarray(resolved.free_bits, kl.dtype)).sum()
        total = -device_mean(log_p.mean(), axis_name) + jnp.asarray(resolved.beta, kl.dtype) * paid
        metrics = {
            "vae/loss": total,
            "vae/log_likelihood": log_p.mean(),
            "vae/kl": average.sum(),
            "vae/elbo": log_p.mean() - kl.sum(-1).mean(),
            "vae/used_latents": (average > 0.01).sum().astype(kl.dtype),
            "vae/log_scale": law[1].mean(),
        }
        return total, ({"encoder": e_stats, "decoder": d_stats}, metrics)

    new, norms, metrics = gradient_step(resolved, state, ("encoder", "decoder"), loss, axis_name)
    return finish_step(vae, resolved, state, new, _averaged(new)), device_mean(metrics, axis_name) | norms


def _averaged(state: VAEState) -> dict:
    players = {"encoder": state.encoder, "decoder": state.decoder}
    return {name: {"params": player.params, "stats": player.stats} for name, player in players.items()}


def sample(vae: VAE, state: VAEState, key: Key[Array, ""], n: int, labels=None, *, ema: bool = True, first: int = 0):
    """n means of p(x|z), z ~ N(0, I), [n, ...] in the scale of the data.

    Example i depends on the key and on `first + i` alone. ema: decode with the moving average, or
    else with the decoder as it is. The likelihood's noise is not drawn, as in published samples.
    """
    resolved = resolve(vae, state.step)
    index = first + jnp.arange(n)
    if resolved.classes and labels is None:
        labels = index % resolved.classes
    z = Draws(named(key, "latent"), index).normal((resolved.latent_dim,), jnp.dtype(resolved.dtype))
    source = (state.ema if ema else _averaged(state))["decoder"]
    return decode(resolved, source["params"], source["stats"], z, labels, EVALUATION)[0][0]


def log_weights(vae: VAE, state: VAEState, images, labels, draws: Draws):
    """(log p(x, z) - log q(z|x), log p(x|z) - KL) of one z ~ q for each image, under the moving
    average: [b] each, in nats.

    Both have the ELBO as their mean. The first is the logarithm of an importance weight, whose mean
    over draws of z is p(x). The second has the KL in closed form, and so a smaller variance.
    """
    resolved = resolve(vae, state.step)
    labels = labels if resolved.classes else None
    parts = lambda name: (state.ema[name]["params"], state.ema[name]["stats"])
    posterior, _ = encode(resolved, *parts("encoder"), images, labels, EVALUATION)
    noise = draws.named("posterior").normal((resolved.latent_dim,), images.dtype)
    z = posterior.draw(noise)
    law, _ = decode(resolved, *parts("decoder"), z, labels, EVALUATION)
    log_p = per_example(resolved.likelihood(*law, images))
    return log_p + posterior.log_ratio(noise, z), log_p - posterior.kl().sum(-1)


def log_density(vae: VAE, state: VAEState, images, labels=None) -> Float[Array, "b"]:
    """The ELBO of each image [b, ...] under the moving average, in nats, from one fixed draw."""
    draws = Draws(jax.random.key(EVALUATION_KEY), jnp.arange(len(images)))
    return log_weights(vae, state, images, labels, draws)[1]


@partial(jax.jit, static_argnums=5)
def importance(vae: VAE, state: VAEState, images, labels, key: Key[Array, ""], draws: int) -> Float[Array, "b"]:
    """log 1/k sum_k p(x, z_k) / q(z_k|x) of each image, in nats, where k is `draws`: equation 8 of
    Burda et al. (2016). In expectation it is no lower than the ELBO, and log p(x) as k grows."""
    index = jnp.arange(len(images))
    one = lambda k: log_weights(vae, state, images, labels, Draws(jax.random.fold_in(key, k), index))[0]
    return jax.nn.logsumexp(jax.lax.map(one, jnp.arange(draws)), axis=0) - jnp.log(draws)


def likelihood(run: Run, split: Split, draws: int = 100, seed: int = 0) -> np.ndarray:
    """`importance` of a split's images under a trained run: float64 [n], in nats.

    Divide by -log 2 and by the numbers in an image for bits per number. draws: k, at least 1, where
    1 is a noisy ELBO; the cost grows with k.
    Raises UserError for a run that is not of a VAE, for no images or images of another shape, for
    labels that the VAE does not know, and for fewer than one draw.
    """
    if not isinstance(run.recipe, VAE):
        raise UserError(f"a {type(run.recipe).__name__} has no likelihood: give the run of a VAE")
    draws, key, found = count(draws, "draws", least=1), jax.random.key(seed), []
    made = jax.eval_shape(lambda state: sample(run.recipe, state, key, 1), run.state).shape[1:]
    if not len(split.images) or split.images.shape[1:] != made:
        raise UserError(f"the VAE is of images {made}, and the split has {split.images.shape}: give it some of these")
    if run.recipe.classes:
        class_counts(split.labels, run.recipe.classes)  # raises for labels that the VAE does not know
    for first in range(0, len(split.images), BATCH):
        full = np.resize(np.arange(first, min(first + BATCH, len(split.images))), BATCH)  # one shape, one program
        images = to_unit(jnp.asarray(split.images[full]), run.recipe.dtype)
        labels = jnp.asarray(np.asarray(split.labels)[full], jnp.int32) if run.recipe.classes else None
        found.append(np.asarray(importance(run.recipe, run.state, images, labels, jax.random.fold_in(key, first), draws)))
    return np.concatenate(found)[: len(split.images)].astype(np.float64)


def evaluate(vae: VAE, state: VAEState, train: tuple, validation: tuple) -> dict[str, Array]:
    """The ELBO on training and held-out images (equally many), the gap between the two, and
    distances of samples (`metrics.training_metrics`). VAE/train_validation_auc is the probability
    that a training image has a higher ELBO than a held-out image."""
    n, labels = len(train[0]), train[1] if vae.classes else None
    reals, held_out = (to_unit(images, vae.dtype) for images in (train[0], validation[0]))
    t, v = (log_density(vae, state, x, y) for x, y in ((reals, train[1]), (held_out, validation[1])))
    row = {"VAE/train_elbo": t.mean(), "VAE/validation_elbo": v.mean(), "VAE/elbo_gap": t.mean() - v.mean()}
    row["VAE/train_validation_auc"] = pair_auc(t, v)
    samples = sample(vae, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | training_metrics(jnp.clip(samples, -1, 1) if samples.ndim == 4 else samples, reals, held_out)


def check_data(vae: VAE, data: Splits) -> None:
    """Raises UserError for a VAE that does not fit the data, naming both sides."""
    made = jax.eval_shape(lambda key: sample(vae, init(vae, key), key, 1), jax.random.key(0)).shape[1:]
    check_fit("VAE", vae, made, data)
    images, labels = jnp.zeros((2, *made), vae.dtype), jnp.zeros(2, jnp.int32)
    jax.eval_shape(lambda key: log_density(vae, init(vae, key), images, labels), jax.random.key(0))  # what the networks return


GAME = part("vae", "GAME")(
    Game(init, step, lambda vae: vae.batch_size, GAN.dtype, check_data, evaluate, sample=sample, log_density=log_density)
)
