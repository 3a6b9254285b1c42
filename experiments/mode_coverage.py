"""How many modes of the 8-ring and the 25-grid does a published GAN cover, and does R3GAN's
objective cover them all?

    # 20,000 steps, 3 seeds: a quarter of an hour on two CPU cores
    python experiments/mode_coverage.py
    # 400 epochs, 10 seeds, as published: over half a day
    python experiments/mode_coverage.py --published
    python experiments/mode_coverage.py --toys grid --recipes gan rpgan_r1_r2 \\
        --optimizer annealed --seeds 5
    python experiments/mode_coverage.py --toys grid --recipes rpgan_r1_r2 --optimizer annealed \\
        --d-rate 4 --steps 30000 --seeds 5

Trains the GAN of PacGAN's toy experiments (Lin et al., 2018), without packing, on 100,000 points of
each toy, all seeds in one program. Measured as published: 2,500 samples of the raw generator; a
sample within 3 sigma of the nearest mode is of high quality, a mode with one of them is covered,
and KL(their histogram || uniform) says how evenly. The published rows stand below for context. The
same "GAN" covers 1 mode of 8 in one paper and 6.3 in another, so compare rows of one code base
only.

Its architecture, initialisation, optimizer, loss, batch and play (both gradients at one point;
--play alternating is the other) are those of the published code; differences: each player draws z
of its own, and batch norm averages variances where theirs averages deviations.

--recipes adds, on the same networks: PacGAN (100 packets a turn as in its code, which
batch-normalises the members of packets apart, here together), and relativistic pairing with R1 and
R2 (Huang et al., 2024), gamma .01 falling to a tenth. --optimizer annealed is for short runs; it
and gamma were chosen for RpGAN in a pilot (seed 0, 3,000 steps, gammas .1, .03 and .01: 17.9, 28.6
and 29.0 % of high quality; at 1,500 steps with Adam as published, gammas .1 and .01: under 2 %).
--d-rate 4 was chosen likewise (seed 100, 4,000 and 6,000 steps: 32.6 % with equal rates and 52.3 %
with D's doubled; 60.0 % doubled and 64.4 % times four), among them a threefold rate (46.5 %),
gammas of .001 and .0001 (48.2, 39.8 %), b1 .5 (25.4 %) and b2 .9 (43.6 %).

Cost: about 18 ms a step for the three seeds on two CPU cores (Python 3.12.1, jax 0.12.0.1): a
quarter of an hour for both. With R1 and R2 a step takes 1.3 times the CPU time; the 20,000 steps of
both recipes and five seeds below took 42 min of it, the 30,000 of one about half an hour.

Finding (the last command above; grid, means +- standard errors of seeds 0 to 4): with D four times
as fast, RpGAN with R1 and R2 covers 25.0 +- .0 modes, with 88.5 +- 1.7 % of high quality and a
reverse KL of .110 +- .072. The rest lies on lines between neighbouring modes. That is still short
of the 94 % that were hoped for (PacGAN4: 24.8 +- .2, 93.6 +- .6 % and .04 after 400,000 steps).

Finding (equal rates; grid, 20,000 steps, annealed, simultaneous play, seeds 0 to 4): RpGAN with R1
and R2 covers 25.0 +- .0 of 25 modes, in every seed, with 80.3 +- 1.4 % of high quality and a
reverse KL of .225 +- .045; the plain GAN 11.6 +- 1.3 modes, 94.7 +- .4 % and 1.780 +- .100. After
5,000 steps (seeds 0 to 2) it was 22.7 +- .3 modes, 45.9 +- 2.8 % and .602 +- .119 against 16.3 +-
.9, 79.5 +- 3.0 % and 1.451 +- .211. PacGAN was not run, nor alternating play.

Finding (plain GAN, Adam as published, 20,000 steps, seeds 0 to 2, means +- standard errors; the
ring was resumed once at step 15,000): ring 7.3 +- .3 of 8 modes, 85.7 +- 4.6 % of high quality,
reverse KL .302 +- .108; grid 19.7 +- .9 of 25 modes, 56.1 +- 6.0 %, .840 +- .113. A twentieth of
the published length: on the grid the samples still lie along streaks between modes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gan_jax as gan
from gan_jax.cli.run import prepare_devices, run
from gan_jax.cli.types import Count, Few, Positive, Weight
from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    from gan_jax.sweeps.result import Sweep

SAMPLES = 2500
EPOCH = 1000  # steps: 100,000 points in batches of 100
METRICS = ("modes", "high_quality", "reverse_kl")
RECIPES = "gan", "pacgan2", "pacgan3", "pacgan4", "rpgan_r1_r2"
PUBLISHED = {  # mean and standard error of modes, share of high quality in %, reverse KL
    "ring": {
        "GAN (VEEGAN's paper, 5 runs)": ((1.0, None), (99.3, None), None),
        "VEEGAN (5 runs)": ((8.0, None), (52.9, None), None),
        "GAN (PacGAN's code, 10 runs)": ((6.3, 0.5), (98.2, 0.2), (0.45, 0.09)),
        "PacGAN2 (10 runs)": ((7.9, 0.1), (95.6, 2.0), (0.07, 0.03)),
        "PacGAN3 (10 runs)": ((7.8, 0.1), (97.7, 0.3), (0.10, 0.02)),
        "PacGAN4 (10 runs)": ((7.8, 0.1), (95.9, 1.4), (0.07, 0.02)),
    },
    "grid": {
        "GAN (VEEGAN's paper, 5 runs)": ((3.3, None), (0.5, None), None),
        "VEEGAN (5 runs)": ((24.6, None), (40.0, None), None),
        "GAN (PacGAN's code, 10 runs)": ((17.3, 0.8), (94.8, 0.7), (0.70, 0.07)),
        "PacGAN2 (10 runs)": ((23.8, 0.7), (91.3, 0.8), (0.13, 0.04)),
        "PacGAN3 (10 runs)": ((24.6, 0.4), (94.2, 0.4), (0.06, 0.02)),
        "PacGAN4 (10 runs)": ((24.8, 0.2), (93.6, 0.6), (0.04, 0.01)),
    },
}


@dataclass
class Options:
    """Train a published GAN on 2-D mixtures, and count the modes that it covers."""

    toys: tuple[Literal["ring", "grid"], ...] = ("ring", "grid")
    """8 modes on a circle, 25 on a square, or both."""
    recipes: tuple[Literal["gan", "pacgan2", "pacgan3", "pacgan4", "rpgan_r1_r2"], ...] = ("gan",)
    """The plain GAN, packets of 2 to 4 examples for D, or relativistic pairing with R1 and R2
    (R3GAN's objective)."""
    optimizer: Literal["published", "annealed"] = "published"
    """PacGAN's Adam 1e-4 with b1 .8; or, for short runs, 1e-3 to 1e-5 along half a cosine with
    betas (0, .99)."""
    d_rate: Positive = 1.0
    """D's learning rate over G's with --optimizer annealed (two time scales, Heusel et al.,
    2017)."""
    gamma: Weight = 0.01
    """Of R1 and R2 at the start; a tenth of it at the end, along half a cosine."""
    published: bool = False
    """400 epochs (400,000 steps) and 10 seeds, as published."""
    steps: Count | None = None
    """Training steps: updates of the generator; 20,000 when left out."""
    seeds: Few | None = None
    """Runs of each toy, from other first weights, draws and order of the data; 3 when left out."""
    play: Literal["simultaneous", "alternating"] = "simultaneous"
    """Both gradients at the same point, as in the published code, or each player in turn."""
    log_every: Count = EPOCH
    """Steps between counts."""
    out: Path = Path("runs/mode_coverage")
    """Folder of both sweeps and their pictures."""
    resume: bool = False
    """Continue the sweeps in the folder."""
    overwrite: bool = False
    """Delete the sweeps in the folder and start again."""

    def check(self) -> None:
        if self.published and (self.steps is not None or self.seeds is not None):
            raise UserError("--published says how many steps and seeds: leave --steps and --seeds out")
        if self.d_rate != 1 and self.optimizer != "annealed":
            raise UserError("--d-rate is of the annealed optimizer: add --optimizer annealed")
        if not self.toys:
            raise UserError("--toys is empty: name ring, grid or both")
        if not self.recipes:
            raise UserError(f"--recipes is empty: name some of {', '.join(RECIPES)}")

    @property
    def size(self) -> tuple[int, int]:
        """(steps, seeds)"""
        steps, seeds = (400 * EPOCH, 10) if self.published else (20 * EPOCH, 3)
        return self.steps or steps, self.seeds or seeds


# ---- what is measured --------------------------------------------------------------------------


def _covered(density, recipe, state) -> dict:
    """`coverage` of the raw generator, from the same latents at every step (as published)."""
    import jax

    from gan_jax.gan.evaluate import EVALUATION_KEY
    from gan_jax.metrics.modes import coverage

    points = gan.sample(recipe, state, jax.random.key(EVALUATION_KEY), SAMPLES, ema=False)
    return coverage(points, density.modes, density.sigma)


def ring_coverage(recipe, state, train, validation) -> dict:
    from gan_jax.data.toys import ring

    return _covered(ring(), recipe, state)


def grid_coverage(recipe, state, train, validation) -> dict:
    from gan_jax.data.toys import grid

    return _covered(grid(), recipe, state)


def recipe_of(name: str, options: Options, image_shape: tuple[int, ...]) -> Any:
    """The recipe of this name: same networks (a packed D has wider inputs), optimizer and play."""
    from gan_jax.networks.packing import Packed

    steps, _ = options.size
    recipe = gan.recipes.pacgan_toy(image_shape, play=gan.bind(getattr(gan, options.play)))
    g, d = recipe.generator, recipe.discriminator
    if options.optimizer == "annealed":
        rate: Any = lambda times: gan.schedules.cosine(1e-3 * times, 1e-5, steps)
        adam = lambda times: gan.optimizers.adam(rate(times), 0.0, 0.99)
        g, d = g.replace(optimizer=adam(1)), d.replace(optimizer=adam(options.d_rate))
    if name.startswith("pacgan"):
        size = int(name.removeprefix("pacgan"))
        d, recipe = d.replace(net=Packed(d.net, size)), recipe.replace(batch_size=size * recipe.batch_size)
    if name == "rpgan_r1_r2":
        gamma = gan.schedules.cosine(options.gamma, options.gamma / 10, steps)
        d = d.replace(penalties={name: gan.bind(getattr(gan.penalties, name), gamma=gamma) for name in ("r1", "r2")})
        recipe = recipe.replace(loss=gan.recipes.loss("rpgan"))
    return recipe.replace(generator=g, discriminator=d)


def train(toy: str, options: Options) -> Sweep:
    """The sweep over recipes and seeds: one program for each recipe."""
    steps, seeds = options.size
    data = gan.load(toy)
    game = replace(gan.GAN, evaluate={"ring": ring_coverage, "grid": grid_coverage}[toy])
    settings = {name: recipe_of(name, options, data.image_shape) for name in dict.fromkeys(options.recipes)}
    return gan.sweep(
        settings, data, steps=steps, seeds=seeds, out=options.out / toy, resume=options.resume,
        overwrite=options.overwrite, log_every=options.log_every, rank_by="modes", higher_is_better=True, game=game,
    )  # fmt: skip


# ---- the report --------------------------------------------------------------------------------


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; None for a single value."""
    n, mean = len(values), math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1) / n) if n > 1 else None


def measured(table) -> tuple:
    """Each metric at the last step, over the seeds that have not diverged: mean and standard error,
    shares in %."""
    last = table.loc[(table["step"] == table["step"].max()) & ~table["diverged"]]
    if not len(last):
        return (None,) * len(METRICS)
    return tuple(mean_and_error([(100 if name == "high_quality" else 1) * float(x) for x in last[name]]) for name in METRICS)


def exact(modes: int) -> tuple:
    """What an exact sampler has: all modes, P(|z| < 3) of high quality, and the KL of that many
    samples of `modes` cells."""
    high = 1 - math.exp(-4.5)
    return (float(modes), None), (100 * high, None), ((modes - 1) / (2 * SAMPLES * high), None)


def row(name: str, values: Sequence, forms: Sequence[str]) -> list[str]:
    """The cells of one line: mean +- standard error; what is not known is empty."""
    cells = [name]
    for pair, form in zip(values, forms, strict=True):
        mean, error = pair or (None, None)
        cells.append(("" if mean is None else format(mean, form)) + ("" if error is None else f" +- {error:{form}}"))
    return cells


def show(toy: str, options: Options, table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    steps, seeds = options.size
    scale = "as published" if options.published else "published: 400,000 and 10"
    title = f"{toy}, {options.play} play, {options.optimizer} optimizer: {steps:,} steps, seeds: {seeds} ({scale})"
    caption = "+-: standard error over seeds. Published rows are context: compare only inside one code base"
    heads = "", "modes", "high quality, %", "reverse KL, nats"
    shown = Table(*heads, box=box.SIMPLE, title=title, caption=caption, min_width=max(len(title), len(caption)))
    for column in shown.columns[1:]:
        column.justify = "right"
    for recipe, rows in table.groupby("setting", sort=False):
        diverged = int(rows.groupby("seed")["diverged"].any().sum())
        name = f"this run, {recipe}" + (f" ({diverged} of {seeds} diverged)" if diverged else "")
        shown.add_row(*row(name, measured(rows), (".1f", ".1f", ".3f")))
    shown.add_row(*row("an exact sampler", exact(8 if toy == "ring" else 25), (".1f", ".1f", ".3f")), end_section=True)
    for name, values in PUBLISHED[toy].items():
        shown.add_row(*row(name, values, (".1f", ".1f", ".2f")))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe
    console.print(shown)


def main(options: Options) -> int:
    options.check()
    prepare_devices(options.size[1], collectives=False)  # of a CPU, one for each seed: nearly twice as fast
    for toy in dict.fromkeys(options.toys):
        sweep = train(toy, options)
        if sweep.stopped:
            print(f"stopped: {sweep.stopped}; --resume continues {options.out / toy}")
            return sweep.exit_code
        show(toy, options, sweep.table)
        for name, points in sweep.samples(SAMPLES, ema=False).items():
            picture = options.out / f"{toy}_{name}.png"
            gan.plots.points_plot(picture, points, sweep.data.validation.images[:SAMPLES])
            print(f"{name}: samples of the first seed, raw generator, on the modes: {picture}")
    return 0


if __name__ == "__main__":
    run(main)
