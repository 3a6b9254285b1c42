"""Is it overfitting? The report of a run or of a sweep.

    # judged on V; S stays closed
    python scripts/report.py runs/quickstart
    # opens S, once, for what you chose
    python scripts/report.py runs/quickstart --final
    # a sweep: S for the chosen setting and the baseline only
    python scripts/report.py runs/regularization --final

Writes report.html (one page, nothing to load) and report.json into the folder, and prints the
verdict last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from gan_jax.cli.run import run
from gan_jax.cli.types import Count, FewOrNone, Natural, Seed
from gan_jax.core.errors import UserError


@dataclass
class Options:
    """Judge a run or a sweep."""

    folder: tyro.conf.Positional[Path]
    """The folder of a run or of a sweep."""
    final: bool = False
    """Open the test split S: for what you have chosen, once. The folder records each opening."""
    features: str = "auto"
    """classifier (trained on the split E), random, pixels, or auto: the classifier where the data
    have labels."""
    inception_weights: Path | None = None
    """Judge in Inception's features, from this file of the standard FID weights (.pth, .safetensors
    or .npz)."""
    resize: str = "tf1-bilinear"
    """How Inception's images are resized: tf1-bilinear, pytorch-bilinear or clean-bicubic."""
    step: Natural | None = None
    """The checkpoint to judge, which may be of an unfinished run; the last one of a finished run
    when left out."""
    n: Count | None = None
    """Images of T, held-out and samples that distances are taken with; as many as there are when
    left out."""
    recovery: FewOrNone = 0
    """Search the generator's range for this many images of T and as many held-out ones (slow; 256
    is usual)."""
    permutations: FewOrNone = 200
    """Exchanges of T and held-out images, for the p of the gap in Frechet distance; 0 for none. Of
    a run, not of a sweep."""
    seed: Seed = 0
    """Of subsets, cells and controls."""


def main(options: Options) -> None:
    import gan_jax as gan
    from gan_jax.metrics.features import inception
    from gan_jax.report import sweep_report
    from gan_jax.report.runs import check_finished
    from gan_jax.sweeps.folder import SweepFolder

    features = options.features
    if options.inception_weights is not None:
        features = inception(options.inception_weights, options.resize)
    settings = {"final": options.final, "features": features, "n": options.n, "seed": options.seed}
    if SweepFolder(options.folder).exists:
        if options.step is not None or options.recovery:
            raise UserError("--step and --recovery are for one run: a sweep is judged at its end, without the search")
        report = sweep_report(gan.open_sweep(options.folder), **settings)
        page = report.save(options.folder)
        print(f"report: {page}\n\n{report.text()}")
        return
    judged = gan.open_run(options.folder, step=options.step)
    if options.step is None:
        check_finished(judged)
    report = gan.overfitting_report(judged, recovery=options.recovery, permutations=options.permutations, **settings)
    page = report.save(options.folder)
    print(f"{report.text()}\n\nreport: {page}\n{report.verdict_line().splitlines()[0]}")


if __name__ == "__main__":
    run(main)
