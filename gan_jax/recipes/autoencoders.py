"""VAEs whose networks are those of the GANs beside them."""

import dataclasses
from typing import Any

from gan_jax import likelihoods, optimizers
from gan_jax.core.bind import Bound, bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import Net
from gan_jax.games.vae import VAE
from gan_jax.games.vae_gan import VAEGAN
from gan_jax.gan import dynamics
from gan_jax.gan.recipe import Side
from gan_jax.networks import dcgan, mlp
from gan_jax.networks.decoder import Decoder
from gan_jax.recipes.starting import check_fields, checked, for_data, side_and_channels

LIKELIHOODS = {"gaussian": likelihoods.gaussian, "discretized_logistic": likelihoods.discretized_logistic}


@checked
def vae(
    image_shape: tuple[int, ...],
    *,
    width: int | None = None,
    depth: int = 3,
    latent_dim: int = 32,
    likelihood: str | Bound | None = None,
    norm: str | None = "batch",
    classes: int = 0,
    conditioning: str = "embedding",
    **fields: Any,
) -> VAE:
    """A VAE of the networks of `dcgan` (images) or `mlp` (rows): the decoder is the generator, the
    encoder the discriminator. Both have Adam 1e-3 with b1 .9: Kingma & Ba's, usual for VAEs.

    width: 64, of rows 128. norm: of the decoder's hidden layers, as of `dcgan`'s generator.
    likelihood: 'discretized_logistic' (default for images), 'gaussian' (for rows), or a function.
    fields: any field of VAE. Raises UserError for a shape, a likelihood or a field that is not
    there, and for sizes below 1.
    """
    check_fields(VAE, fields, ("encoder", "decoder", "likelihood", "latent_dim", "classes"))
    rows = len(image_shape) == 1
    width = (128 if rows else 64) if width is None else width
    outputs = {"representation": 2 * latent_dim, "classes": classes, "conditioning": conditioning}
    if rows:
        made = mlp.Generator(image_shape[0], width, depth, classes=classes)
        encoder = mlp.Discriminator(width, depth, **outputs)
    else:
        size, channels = side_and_channels(image_shape, "this VAE makes rows, (features,), and")
        dcgan.stages(size)
        made = dcgan.Generator(size, channels, width, norm, classes, squash=False)
        encoder = dcgan.Discriminator(width, None, **outputs)
    chosen = likelihood or ("gaussian" if rows else "discretized_logistic")
    if isinstance(chosen, str):
        if chosen not in LIKELIHOODS:
            raise UserError(f"unknown likelihood {chosen!r}: use one of {', '.join(LIKELIHOODS)}")
        chosen = LIKELIHOODS[chosen]
    sides = [Side(net=Net(m), optimizer=optimizers.adam(1e-3, 0.9)) for m in (encoder, Decoder(made))]
    return VAE(*sides, likelihood=bind(chosen), latent_dim=latent_dim, classes=classes, **fields)


@checked
def vae_gan(
    image_shape: tuple[int, ...], *, latent_dim: int = 32, beta: float = 0.1, gamma: float = 1.0, **settings: Any
) -> VAEGAN:
    """The VAE-GAN (Larsen et al., 2016): `for_data`, and an encoder with the discriminator's
    network and the generator's optimizer.

    beta, gamma: see `vae_gan`. Theirs are 1 and 1e-6, on other features; .1 and 1 are this
    project's, from 16 pairs on digits (width 16, 2,500 steps, one seed): with beta 1 the KL
    collapses (under .5 nats), with .1 it is 3, with .001 45, and samples are as near to the data as
    the GAN's. settings: any of `dcgan` or `mlp`. Raises UserError as these, and for sizes below 1.
    """
    gan = for_data(image_shape, latent_dim=latent_dim, **{"play": bind(dynamics.simultaneous)} | settings)
    like = gan.discriminator.net.module.clone(conditioning="embedding", representation=2 * latent_dim, parent=None)
    encoder = Side(net=Net(like), optimizer=gan.generator.optimizer)
    fields = {field.name: getattr(gan, field.name) for field in dataclasses.fields(gan)}
    return VAEGAN(**fields, encoder=encoder, beta=beta, gamma=gamma)
