"""Samples of a trained generator, and interpolations between them, as pictures.

    # samples.png and paths.png in runs/quickstart/samples
    python scripts/samples.py runs/quickstart
    # likelier samples, of the generator without averaging
    python scripts/samples.py runs/quickstart --truncation 0.7 --raw
    # of these classes alone, and a path of each
    python scripts/samples.py runs/conditional --labels 3 8 --paths 2

samples.png shows the samples by number, row by row; a conditional GAN's has a class in each column.
paths.png shows interpolations: each row goes from one sample to another. The latents of a row lie
on an arc where latents are normal, and on a straight line where they are uniform. A generator of
points has one picture, of its samples over held-out points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from gan_jax.cli.run import run
from gan_jax.cli.types import Few, FewOrNone, Natural, Seed, Weight


@dataclass
class Options:
    """Write pictures of a run's samples and of interpolations between them."""

    folder: tyro.conf.Positional[Path]
    """The run's folder."""
    number: Few = 64
    """How many samples; of points, 2,000 are usual."""
    paths: FewOrNone = 8
    """Rows of paths between samples, of a GAN of images; 0 for none."""
    steps: Few = 9
    """Images of a path, both ends included."""
    truncation: Weight | None = None
    """Of StyleGAN2 psi, of other GANs the threshold of normal latents: the smaller, the likelier
    and the less varied."""
    labels: tuple[str, ...] = ()
    """Classes by name or number, in turn; all when left out. Of a conditional GAN."""
    raw: bool = False
    """The generator as it is, not its moving average."""
    step: Natural | None = None
    """Of the checkpoint; the newest when left out."""
    seed: Seed = 0
    """Of the latents."""
    out: Path | None = None
    """The folder of the pictures; `samples` in the run's folder when left out."""


def main(options: Options) -> None:
    import numpy as np

    import gan_jax as gan
    from gan_jax import plots

    trained, out = gan.open_run(options.folder, step=options.step), options.out or options.folder / "samples"
    same = {"ema": not options.raw, "seed": options.seed, "truncation": options.truncation}
    labels = lambda n: np.resize(options.labels, n) if options.labels else None
    made = trained.samples(options.number, labels=labels(options.number), **same)
    if made.ndim != 4:
        print(plots.points_plot(out / "samples.png", made, trained.data.validation.images))
        return
    classes = len(options.labels) or getattr(trained.recipe, "classes", 0)
    columns = classes * max(1, round(options.number**0.5 / classes)) if classes else None
    grids = {"samples.png": plots.sample_grid(made, columns)}
    if options.paths and isinstance(trained.recipe, gan.Recipe):
        paths = trained.interpolate(options.paths, options.steps, labels=labels(options.paths), **same)
        grids["paths.png"] = np.asarray(paths)
    for name, grid in grids.items():
        print(plots.save_png(out / name, grid))


if __name__ == "__main__":
    run(main)
