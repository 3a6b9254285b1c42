"""Which loss overfits least, and what does it cost in sample quality?

    python experiments/losses.py                                                # digits, 12 losses x 5 seeds, one program
    python experiments/losses.py --data cifar10 --size 32 --width 64 --steps 50000 --subset 5000
    python experiments/losses.py --only non_saturating rpgan hinge --r1 1

The article's DCGAN with each loss, everything else being equal; --r1 adds a gradient penalty to all of them, which the critics
of Wasserstein and relativistic losses were published with. `losses.blend` makes the loss a number of the recipe, so that all of
them are members of one population. Ends in the overfitting report: settings ranked on V by the gap of Frechet distances, then
by near-copies and D's AUC, quality beside them; `--final` opens S for the chosen one and the baseline.

Cost: not measured yet (regularization_sweep.py, of the same size, takes 4 min 39 s on two CPU cores).
Finding: none yet: the full comparison has not been run, only its settings have been tried for a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli import ComparisonOptions, run

LABELLED = ("multi_class", "multi_hinge", "auxiliary_classifier")  # they need labels, and so compare with nothing here


@dataclass
class Options(ComparisonOptions):
    """Compare losses."""

    r1: float = 0.0
    """Gradient penalty gamma / 2 |grad D|^2 on reals, with every loss."""
    out: Path = Path("runs/losses")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{loss: recipe}, all of one structure."""
    import gan_jax as gan

    known = {name: loss for name, loss in gan.losses.LOSSES.items() if name not in LABELLED}
    recipe = gan.recipes.for_data(
        image_shape, width=options.width, batch_size=options.batch_size, loss=gan.losses.blend(*known.values())
    )
    r1 = {"r1": gan.bind(gan.penalties.r1, gamma=options.r1)}
    recipe = recipe.replace(discriminator=recipe.discriminator.replace(penalties=r1 if options.r1 else {}))
    names = dict(zip(known, (part.name for part in recipe.loss.parts), strict=True))
    return options.choose({name: gan.with_leaves(recipe, {f"loss.{names[name]}": 1.0}) for name in known})


def main(options: Options) -> int:
    options.prepare()
    data = options.load()
    return options.compare(settings_of(options, data.image_shape), data)


if __name__ == "__main__":
    run(main)
