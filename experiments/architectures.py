"""Does the architecture decide whether a GAN overfits on few images, and what does capacity of D
do?

    python experiments/architectures.py              # digits, 8 settings x 5 seeds
    python experiments/architectures.py --published  # 5,000 images of CIFAR-10, own batches: a GPU

Each family trains at a small width, with the loss, optimizer and regularisers that it was published
with. The rows are whole recipes, so they compare complete methods, not one layer. Two rows change
the article's DCGAN in one thing, D's width. The run ends in the overfitting report. The report
chooses on the validation images V, by the share of samples nearest to T with FD as the price
(`gan_jax.metrics.choice`), and shows D's AUC beside it; `--final` opens the test images S for the
chosen setting and the baseline.

Cost: 43 minutes on one CPU core (Python 3.12.1, jax 0.12.0.1), nearly all of it the last four
architectures'.

Finding (200 digits, 2,500 steps, five seeds, judged on V): no architecture is shown to close the
gap of FD (2.7 +- 1.4 for the article's DCGAN). D's AUC follows its capacity: .607 at half the
width, .684, .762 at twice (p .003, < .001); spectral norm alone lowers it (.631, p .003) at no
shown price in FD. BigGAN's D, spectrally normalised as well, tells T from V with AUC .976 (p <
.001); it is the only one that makes more near-copies (.5 % of the samples against .01 %, p .025),
and gains nothing shown in FD (17.5 against 20.0). R3GAN (.515), StyleGAN2 (.551) and SNGAN (.617)
have a lower AUC because they have not learnt the images yet: their FD is 196, 75 and 25.5, all
shown worse. S stayed closed; --published was not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli.options import RemedyOptions
from gan_jax.cli.run import run
from gan_jax.core.errors import UserError


@dataclass
class Options(RemedyOptions):
    """Compare architectures."""

    out: Path = Path("runs/architectures")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{family: recipe}, the article's DCGAN first. Raises UserError for what is no image."""
    from gan_jax import recipes
    from gan_jax.networks.spectral import SpectralNorm

    if len(image_shape) != 3:
        raise UserError(f"architectures are of images, not of rows {image_shape}: use --data digits or another set of images")
    width: Any = options.width  # among settings that are not all numbers
    batch: dict[str, Any] = {"batch_size": options.batch_size}
    small: dict[str, Any] = {} if options.published else {"width": width} | batch
    dcgan = recipes.dcgan(image_shape, **small)
    d_width = dcgan.discriminator.net.module.width
    other_widths: list[dict[str, Any]] = [small | {"width": int(d_width * times)} for times in (0.5, 2)]
    half, double = (recipes.dcgan(image_shape, **changed) for changed in other_widths)
    small_style = {} if options.published else {"channel_base": 16 * width, "channel_max": 2 * width, "group": 16} | batch
    most = 512 if options.published else options.batch_size  # R3GAN's batch
    batch_of_r3gan: dict[str, Any] = {"batch_size": most}
    small_sn = {} if options.published else {"width": 2 * width, "d_width": width, "d_steps": 1} | batch
    known = {
        "dcgan": dcgan,
        "dcgan, D half as wide": dcgan.replace(discriminator=half.discriminator),
        "dcgan, D twice as wide": dcgan.replace(discriminator=double.discriminator),
        "dcgan, spectral norm": recipes.with_network(dcgan, "discriminator", SpectralNorm),
        "sngan": recipes.sngan(image_shape, **small_sn, steps=options.steps),
        "biggan": recipes.biggan(image_shape, **({} if options.published else {"width": width, "d_steps": 1} | batch)),
        "stylegan2": recipes.stylegan2_ada(image_shape, **small_style, augment={}, controllers={}),
        "r3gan": recipes.r3gan(image_shape, **(small | batch_of_r3gan), images=options.steps * most, augmentation=0.0),
    }
    return options.choose(known)


def main(options: Options) -> int:
    return options.compare(settings_of)


if __name__ == "__main__":
    run(main)
