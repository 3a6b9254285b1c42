"""Which augmentation of what D sees keeps it from memorising, and does any harm the samples?

    python experiments/augmentation.py                                          # digits, 11 settings x 5 seeds
    python experiments/augmentation.py --data cifar10 --size 32 --width 64 --steps 50000 --subset 5000

The article's DCGAN; reals and fakes pass through the same random operations on their way to D: each of DiffAugment's operations
alone and together, ADA's pipeline at a fixed p and with p driven by r_t, APA, and instance noise. Digits are grey: saturation
changes nothing there. Rotations and flips can leak into the samples: see leaking.py. Ends in the overfitting report: settings
ranked on V by the gap of Frechet distances, then by near-copies and D's AUC, quality beside them; `--final` opens S for the
chosen one and the baseline.

Cost: not measured yet (regularization_sweep.py, of the same size, takes 4 min 39 s on two CPU cores).
Finding: none yet: the full comparison has not been run, only its settings have been tried for a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli import ComparisonOptions, run
from gan_jax.errors import UserError


@dataclass
class Options(ComparisonOptions):
    """Compare augmentations."""

    p: float = 0.5
    """Probability of ADA's operations where it is fixed."""
    pipe: str = "bgc"
    """Of ADA: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn or bgcfnc."""
    out: Path = Path("runs/augmentation")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{augmentation: recipe}, none first. Raises UserError for what is no image."""
    import gan_jax as gan
    from gan_jax import augment, controllers

    if len(image_shape) != 3:
        raise UserError(f"augmentations are of images, not of rows {image_shape}: use --data digits or another set of images")
    base = gan.recipes.dcgan(image_shape, width=options.width, batch_size=options.batch_size)
    seen = lambda made, **fields: base.replace(augment=made, **fields)
    ada = lambda p: {"ada": gan.bind(augment.ada, p=p, pipe=options.pipe)}
    horizon = options.steps * options.batch_size / 2  # images in which p may cross its whole range
    known = {
        "none": base,
        "instance_noise": seen({"noise": gan.bind(augment.instance_noise, std=0.2)}),
        **{name: seen(augment.diffaugment(name)) for name in ("color", "translation", "cutout")},
        "translation,cutout": seen(augment.diffaugment("translation,cutout")),
        "diffaugment": seen(augment.diffaugment()),
        "ada, fixed p": seen(ada(options.p)),
        "ada": seen(ada(0.0), controllers={"augment.ada.p": controllers.ada(horizon=horizon)}),
        "apa": seen(
            {"apa": gan.bind(augment.adaptive_pseudo, p=0.0)},
            controllers={"augment.apa.p": controllers.ada(horizon=horizon)},
        ),
        "bcr": gan.zoo.penalty("bcr", weight=10.0)(base),
    }
    return options.choose(known)


def main(options: Options) -> int:
    options.prepare()
    data = options.load()
    return options.compare(settings_of(options, data.image_shape), data)


if __name__ == "__main__":
    run(main)
