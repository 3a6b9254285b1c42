"""Complete published settings, with sources, and with what the source does and these do not.

Each is a function of the images' shape (square, grey or RGB). Widths, batch and schedules are the
published ones by default, mostly CIFAR-10's, and can be made smaller. Schedules end where the
published run did. fields: any field of Recipe. conditioning: how D knows of classes, by projection
as published, or another of those in `networks/heads.py`.
"""

from typing import Any

import optax

from gan_jax import augment, controllers, optimizers, penalties, schedules
from gan_jax.core.bind import Bound, bind
from gan_jax.core.net import Net
from gan_jax.gan.recipe import Recipe, Side
from gan_jax.networks import biggan as biggan_networks
from gan_jax.networks import r3gan as r3gan_networks
from gan_jax.networks import sngan as sngan_networks
from gan_jax.networks import stylegan2
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.recipes.edits import with_optimizer, with_penalty
from gan_jax.recipes.starting import assembled, checked, dcgan, side_and_channels


def _maps(classes: int, conditioning: str) -> tuple[str, ...]:
    """What spectral norm skips in D: a map of the label is an input, and would fade."""
    return ("label",) if classes and conditioning == "embedding" else ()


@checked
def wgan_gp(image_shape: tuple[int, ...], *, width: int = 64, latent_dim: int = 128, **fields: Any) -> Recipe:
    """WGAN-GP (Gulrajani et al., 2017, algorithm 1) on the article's DCGAN without batch norm in D:
    weight 10, 5 critic turns a step, Adam 1e-4 with betas (0, .9), batches of 64."""
    fields = {"loss": "wasserstein", "d_steps": 5, "batch_size": 64} | fields
    made = dcgan(image_shape, width=width, latent_dim=latent_dim, **fields)
    return with_penalty(with_optimizer(made, optimizers.adam(1e-4, 0.0, 0.9)), "wgan_gp", weight=10.0)


@checked
def sngan(
    image_shape: tuple[int, ...], *, width: int | None = None, d_width: int | None = None, classes: int = 0,
    conditioning: str = "projection", steps: float = 100_000, **fields: Any,
) -> Recipe:  # fmt: skip
    """SNGAN's ResNet on CIFAR-10 (Miyato et al., 2018), with classes cGAN-PD's (Miyato & Koyama,
    2018).

    Hinge loss, 5 turns of D a step, batches of 64, 128 latents; Adam 2e-4 with betas (0, .9), the
    rate falling to 0 over 100,000 steps (the paper's table 3 and appendix B; mimicry's example).
    The paper draws 128 fakes for G's turn: here 64. width, d_width: None for the published plan.
    """
    size, channels = side_and_channels(image_shape, "sngan makes")
    rate: Any = schedules.linear(2e-4, 0.0, steps)
    generator = Net(sngan_networks.Generator(size, channels, width, classes))
    d = Net(sngan_networks.Discriminator(d_width, classes, conditioning))
    discriminator = SpectralNorm(d, skip=_maps(classes, conditioning))
    sides = [Side(net=net, optimizer=optimizers.adam(rate, 0.0, 0.9)) for net in (generator, discriminator)]
    fields = {"d_steps": 5, "batch_size": 64} | fields
    return assembled(sides, fields.pop("loss", "hinge"), 128, classes=classes, **fields)


@checked
def biggan(
    image_shape: tuple[int, ...], *, width: int = 64, classes: int = 0, conditioning: str = "projection", **fields: Any
) -> Recipe:
    """BigGAN on CIFAR-10, by the authors' script launch_cifar_ema.sh (Brock et al., 2019).

    Hinge loss, 4 turns of D a step, batches of 50, 128 latents, kernels from N(0, .02^2), spectral
    norm in both players; Adam 2e-4 with betas (0, .999) for both; the moving average, .9999, starts
    at step 1,000. Labels enter by conditional batch norm and projection.
    """
    size, channels = side_and_channels(image_shape, "biggan makes")
    g = biggan_networks.Generator(size, channels, width, classes, shared=0, hierarchical=False, start="normal")
    d = biggan_networks.Discriminator(width, classes, start="normal", conditioning=conditioning)
    nets = (
        SpectralNorm(Net(g), epsilon=1e-8, skip=("scale", "shift") if classes else ()),
        SpectralNorm(Net(d), epsilon=1e-8, skip=_maps(classes, conditioning)),
    )
    sides = [Side(net=net, optimizer=optimizers.adam(2e-4, 0.0, 0.999)) for net in nets]
    fields = {"d_steps": 4, "batch_size": 50, "ema_decay": schedules.switch(0.0, 0.9999, 1000)} | fields
    return assembled(sides, fields.pop("loss", "hinge"), 128, classes=classes, **fields)


@checked
def biggan_diffaugment(image_shape: tuple[int, ...], *, consistency: float | None = None, **fields: Any) -> Recipe:
    """`biggan` with DiffAugment's translation and cutout (Zhao et al., 2020: their CIFAR scripts,
    whose data are mirrored).

    consistency: weight of CR, 10 in their CR rows; None leaves it out. CR shifts the reals itself,
    so that the policy is cutout alone, as in their scripts for all of CIFAR. With 20% and 10% of it
    they keep both words, and CR has no transformation but DiffAugment's.
    """
    policy = "translation,cutout" if consistency is None else "cutout"
    fields = {"augment": augment.diffaugment(policy)} | fields
    made = biggan(image_shape, **fields)
    return made if consistency is None else with_penalty(made, "cr", weight=consistency, flip=True)


@checked
def lecam(image_shape: tuple[int, ...], *, weight: float = 0.3, decay: float = 0.99, **fields: Any) -> Recipe:
    """`biggan` with LeCam regularisation (Tseng et al., 2021; their code's BigGAN on CIFAR-10,
    whose data are mirrored): weight .3, from step 1,000. decay: of the averages, .99 in the paper
    (the default), .9 in their code."""
    return with_penalty(biggan(image_shape, **fields), "lecam", weight=weight, decay=decay, start=1000.0)


@checked
def stylegan2_ada(
    image_shape: tuple[int, ...], *, channel_base: int = 32768, channel_max: int = 512, gamma: float = 0.01, classes: int = 0,
    conditioning: str = "projection", target: float = 0.6, group: int = 32, **fields: Any,
) -> Recipe:  # fmt: skip
    """StyleGAN2-ADA's configuration for CIFAR-10, `cfg=cifar` (Karras et al., 2020b).

    Non-saturating loss, batches of 64, Adam .0025 with betas (0, .99), R1 of gamma .01 every 16
    steps, pipe bgc with p driven to r_t = .6 over 500,000 images, moving average of half-life
    500,000 images, ramped by .05. No path length, no mixing. The source updates D for R1 alone,
    with rates rescaled for it, and computes the highest resolutions in float16; here both terms
    share one update, at the plain rates.

    group: of the minibatch standard deviation; it divides the batch of each device.
    """
    size, channels = side_and_channels(image_shape, "stylegan2_ada makes")
    widths: dict[str, Any] = {"channel_base": channel_base, "channel_max": channel_max, "classes": classes}
    g = stylegan2.Generator(size, channels, mapping=2, **widths)
    d = stylegan2.Discriminator("orig", group=group, conditioning=conditioning, **widths)
    adam = optimizers.adam(0.0025, 0.0, 0.99)
    r1 = {"r1": penalties.lazy(bind(penalties.r1, gamma=gamma), 16)}
    sides = [
        Side(net=Net(g), optimizer=adam, numbers={"noise": 1.0}),
        Side(net=Net(d), optimizer=adam, penalties=r1),
    ]
    batch_size = fields.pop("batch_size", 64)
    ada = {
        "augment": {"ada": bind(augment.ada, p=0.0, pipe="bgc")},
        "controllers": {"augment.ada.p": controllers.ada(target)},
        "ema_decay": schedules.half_life(500_000, batch_size, 0.05),
    }
    chosen = fields.pop("loss", "non_saturating")
    return assembled(sides, chosen, g.style, batch_size=batch_size, classes=classes, **ada | fields)


@checked
def r3gan(
    image_shape: tuple[int, ...], *, width: int = 768, blocks: int = 2, per_group: int = 8, classes: int = 0,
    conditioning: str = "projection", batch_size: int = 512, images: float = 2e7, augmentation: float = 0.55, **fields: Any,
) -> Recipe:  # fmt: skip
    """R3GAN's configuration for CIFAR-10, "config E" (Huang et al., 2024; train.py of its
    repository, whose data are mirrored).

    Relativistic pairing loss, R1 and R2 every step, 64 latents, Adam with b1 0. Along half a cosine
    over 2e7 `images`: rate 2e-4 to 5e-5, gamma .05 to .005, b2 .9 to .99, augmentation p 0 to .55
    (geometry and cutout at p, colours at half of it), half-life of the moving average 0 to 5e6
    images. augmentation: 0 leaves it out.
    """
    size, channels = side_and_channels(image_shape, "r3gan makes")
    steps = images / batch_size
    along = lambda start, stop: schedules.cosine(start, stop, steps)
    plan: Any = r3gan_networks.plan(size, width, blocks, per_group)
    nets = (
        Net(r3gan_networks.Generator(size, channels, **plan, classes=classes)),
        Net(r3gan_networks.Discriminator(**plan, classes=classes, conditioning=conditioning)),
    )
    adam: Bound = bind(optax.adam, learning_rate=along(2e-4, 5e-5), b1=0.0, b2=along(0.9, 0.99))
    gradients = {name: bind(getattr(penalties, name), gamma=along(0.05, 0.005)) for name in ("r1", "r2")}
    sides = [Side(net=nets[0], optimizer=adam), Side(net=nets[1], optimizer=adam, penalties=gradients)]
    fields = {"ema_decay": schedules.half_life(along(0.0, 5e6), batch_size)} | fields
    if augmentation:
        p, half = along(0.0, augmentation), along(0.0, augmentation / 2)
        seen = {"bg": bind(augment.ada, p=p, pipe="bg"), "color": bind(augment.ada, p=half, pipe="color")}
        fields = {"augment": seen | {"cutout": bind(augment.ada, p=p, pipe="cutout")}} | fields
    return assembled(sides, fields.pop("loss", "rpgan"), 64, classes=classes, batch_size=batch_size, **fields)
