"""Which regulariser keeps a GAN from copying its training images, and at what price in sample
quality?

    # digits, 7 settings x 5 seeds
    python experiments/regularization_sweep.py
    python experiments/regularization_sweep.py --only none r1_1 wgan_gp --data cifar10 --size 16 \\
        --steps 20000
    python experiments/regularization_sweep.py --only r1_1 \\
        --vary discriminator.penalties.r1.gamma=log:0.01:100 --draws 16

The article's DCGAN trains on 50 images T without and with each of six regularisers, at every seed,
as one program for each structure; --only names further ones of `gan_jax.recipes.regularizers`. The
run ends in the overfitting report on the validation images V, which chooses by one rule
(`gan_jax.metrics.choice`): shown better than no regulariser in the copy share (samples nearest to
T, above chance) at no price in FD to V. `--final` opens the test images S for every seed of the
choice and of the baseline. The run also writes curves with seed bands, samples and one tidy table.

Cost: 3 min 54 s with the default on two idle CPU cores (Python 3.11.7, jax 0.10.2), reports of 35
runs and pictures included. WGAN-GP, with five turns of D a step, is a third of it.

Finding (digits, n = 50, 4,000 steps, seeds 0 to 4; means with 95 % intervals, Holm over six
settings; they hold for one split): G copies without a regulariser (copy share .512 +- .025, near-
copies 11.3 +- 1.5 % in features and 17.1 +- 3.2 % in pixels), and each of the six is shown to lower
both, at no price: WGAN-GP, which is chosen (.284 +- .021, 1.5 %; S, opened once, confirms it: .184
against .358, p < .001), DiffAugment (.302, .6 %) and dropout (.308, 1.1 %) most (p < .001), batch
norm in D (.379, 3.0 %), R1 at 1 (.384, 7.7 %) and instance noise (.440, 4.9 %) less (p .006, .006,
.019). FD to V, 46.4 +- 4.2, is shown lower with all but R1 (35.5 to 38.6, p .019 to .024; R1 40.9,
p .060), while D tells T from V at the end no worse than before (AUC .926; .949 to 1.000, lower with
DiffAugment alone, .589): D's gap at the end is no surrogate for copying by G. No remedy cures: the
verdict is "generator memorises" in all runs but one, of DiffAugment.

Another finding (--subset 200 --batch-size 64 --steps 2500 --log-every 250, all but DiffAugment,
WGAN-GP with Adam 2e-4 and one turn of D; seeds 0 to 4): none of ten regularisers is shown to lower
the copy share (.24), so none is chosen. WGAN-GP and DRAGAN, whose D is near chance (.518 and .540),
are still training (about 1,300 and 1,900 more steps by their logs), and dropout is a little behind.
At equal sample quality D's AUC is shown higher with batch norm and R1 at 10, and lower with no
regulariser.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gan_jax.cli.options import ComparisonOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few
from gan_jax.core.errors import UserError

MAIN = ("none", "dropout", "instance_noise", "batch_norm", "r1_1", "diffaugment", "wgan_gp")  # settings of the main job


@dataclass
class Options(ComparisonOptions):
    """Sweep regularisers, and see which one keeps D from telling training images from held-out
    ones."""

    out: Path = Path("runs/regularization")
    """The sweep folder."""
    subset: Count | None = 50
    """Train on the first N images of a seeded, stratified order."""
    steps: Count = 4000
    """Training steps: updates of the generator."""
    batch_size: Count = 50
    """Images per discriminator turn."""
    only: tuple[str, ...] = MAIN
    """These settings of `gan_jax.recipes.regularizers`, the first being the baseline."""
    log_every: Count = 500
    """Steps between evaluations."""
    vary: tuple[str, ...] = ()
    """Vary numbers of the one setting left by --only: path=0.1,1,10 or, drawn, path=0.1:100 or
    path=log:0.1:100."""
    draws: Few = 16
    """How many draws from the ranges of --vary."""
    sampler: Literal["latin_hypercube", "random"] = "latin_hypercube"
    """How they are drawn."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """What the flags choose. Raises UserError for an unknown name, or --vary without one setting to
    vary."""
    from gan_jax.recipes import regularizers
    from gan_jax.sweeps.grid import from_text

    known = regularizers(image_shape, width=options.width, batch_size=options.batch_size)
    if options.only == MAIN:  # for points there are fewer
        options.only = tuple(name for name in MAIN if name in known)
    chosen = options.choose(known)
    if not options.vary:
        return chosen
    if len(chosen) != 1:
        raise UserError("--vary changes the numbers of one setting: name it with --only")
    (name,) = chosen
    return chosen | from_text(chosen[name], options.vary, options.draws, options.sampler, options.seed)


def main(options: Options) -> int:
    return options.compare(settings_of)


if __name__ == "__main__":
    run(main)
