"""Which augmentation of what D sees keeps it from memorising, and does any harm the samples?

    python experiments/augmentation.py              # digits, 11 settings x 5 seeds
    python experiments/augmentation.py --published  # 5,000 CIFAR-10 images, 100,000 steps: a GPU

The article's DCGAN trains while reals and fakes pass through the same random operations on their
way to D. Compared are each of DiffAugment's operations alone and together, ADA's pipeline at a
fixed p and with p driven by r_t, APA, instance noise and balanced consistency. Digits are grey, so
saturation changes nothing there. Rotations and flips can leak into the samples: see leaking.py. The
run ends in the overfitting report. The report chooses on the validation images V, by the share of
samples nearest to T with FD as the price (`gan_jax.metrics.choice`), and shows D's AUC beside it;
`--final` opens the test images S for the chosen setting and the baseline.

Cost: about 12 minutes of CPU time with the default, reports of 55 runs included (resumed once; half
an hour beside other work; Python 3.12.1, jax 0.12.0.1).

Finding (digits, n = 200, 2,500 steps, seeds 0 to 4; means with 95 % intervals, Holm over ten
settings): no augmentation is shown to close the gap of FD. D's AUC, .684 +- .018 without, is at
chance with DiffAugment (.490), translation with cutout (.497) and translation (.520; p at most
.001), lower with ADA at p = .5 (.549, p .006) and cutout (.607, p .039): all at a price, samples
being farther from V (FD 20.0 +- 1.8 without; cutout 21.9, translation 24.9, DiffAugment 25.8 +-
2.7, translation with cutout 27.4, ADA at .5 38.5 +- 7.5; p .002 to .048), so the report says
"underfits" where translation is, "mode loss" in three of five seeds of ADA at .5. On 8 x 8 pixels
an eighth of the side is a pixel: these operations were made for larger images. Colour and instance
noise lower the AUC at no shown price, not proved (-.037 +- .023, p .053; -.034 +- .031, p .11).
ADA's and APA's loops have hardly moved by the end (AUC .681 and .682; APA again in its present
form, `--only none apa`, 3.11.7, jax 0.10.2: p .006 at the end, AUC .687 against .685, FD 19.3
against 20.0, not shown). No setting makes near-copies (under .1 %). --final and --published were
not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli.options import RemedyOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Share
from gan_jax.core.errors import UserError


@dataclass
class Options(RemedyOptions):
    """Compare augmentations."""

    p: Share = 0.5
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
        "bcr": gan.recipes.with_penalty(base, "bcr", weight=10.0),
    }
    return options.choose(known)


def main(options: Options) -> int:
    return options.compare(settings_of)


if __name__ == "__main__":
    run(main)
