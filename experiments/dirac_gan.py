"""Does the game converge at all? The Dirac-GAN under every loss, regulariser and order of play,
beside its theory.

    # 20 to 30 seconds on two CPU cores
    python experiments/dirac_gan.py
    python experiments/dirac_gan.py --learning-rate 0.05 --steps 2000 --gammas 0.1 1 10 \\
        --play alternating

The data is the point 0, the generator a point theta, D(x) = psi * x (Mescheder et al., 2018). Near
(0, 0) one step of training is a 2 x 2 matrix: its spectral radius stands beside the contraction
that `train_step` shows there. Further out each run starts from (1, -1); where a law for its last
radius is known, that stands beside it. In alternating play our D moves first. With G first the
eigenvalues are the same but the radii are not, so both are printed; the radii that Mescheder's own
code gives (G first, D of the opposite sign) are those to compare with. R2 is left out: for a linear
D it is R1.

Finding (500 steps of .2). The contraction agrees with theory to 1e-4 without noise (2e-3 where an
eigenvalue is double), to 8e-4 with it; only hinge with noise leaves the linear region. All 16 of
Mescheder's radii are met to three digits. Without a regulariser nothing converges at a rate:
minimax and Wasserstein circle in turns and spiral out together, non-saturating falls as 1 / sqrt(t)
in turns and keeps a circle of radius sqrt(2 h) together, hinge circles. R1 converges under every
loss but least squares, whose D is content with psi = 0 wherever theta is, so G stops off target (R1
1 in simultaneous play happens to start on the one line that leads to 0). WGAN-GP keeps moving, or
lingers off target. Instance noise damps the logistic losses, down to its own sampling noise, and
does nothing for Wasserstein.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from dirac_theory import MESCHEDER, OUTCOMES, START, STD, WEIGHT, Regulariser, Slopes, contraction, law, outcome, radius

import gan_jax as gan
from gan_jax.cli.run import run
from gan_jax.cli.types import Few, Positive, Weight
from gan_jax.core.errors import UserError

BATCH = 64  # instance noise is averaged over it; nothing else depends on it
NEAR = (6e-4, -8e-4)


@dataclass
class Options:
    """Train the Dirac-GAN with every loss, regulariser and order of play, and compare it with its
    theory."""

    steps: Few = 500
    """Training steps: updates of the generator."""
    learning_rate: Positive = 0.2
    """Of both players' plain gradient descent."""
    gammas: tuple[Weight, ...] = (0.3, 1.0, 2.0)
    """Strengths of R1; the flow of the logistic losses is critically damped at 1."""
    play: Literal["both", "alternating", "simultaneous"] = "both"
    """Each player in turn, both gradients at the same point, or one after the other."""
    out: Path = Path("runs/dirac_gan")
    """Folder of table.csv and trajectories.png."""

    def check(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "table.csv").touch()
        except OSError as error:
            raise UserError(f"--out {self.out} cannot be written ({error.strerror}); choose another folder") from error

    @property
    def plays(self) -> tuple[str, ...]:
        return ("alternating", "simultaneous") if self.play == "both" else (self.play,)


def regularisers(gammas: Sequence[float]) -> list[Regulariser]:
    r1 = [Regulariser(f"R1 {gamma:g}", r1=gamma) for gamma in gammas]
    others = Regulariser(f"WGAN-GP {WEIGHT:g}", gp=WEIGHT), Regulariser(f"noise {STD:g}", noise=STD)
    return [Regulariser("none"), *r1, *others]


# ---- the games ---------------------------------------------------------------------------------


def recipe_of(loss: str, play: str, learning_rate: float, regulariser: Regulariser):
    penalties = {
        "r1": gan.bind(gan.penalties.r1, gamma=regulariser.r1),
        "wgan_gp": gan.bind(gan.penalties.wgan_gp, weight=regulariser.gp),
    }
    recipe = gan.recipes.dirac(
        loss=loss, learning_rate=learning_rate, play=gan.bind(getattr(gan, play)), dtype="float64", batch_size=BATCH,
        augment={"noise": gan.bind(gan.augment.instance_noise, std=regulariser.noise)},
    )  # fmt: skip
    return recipe.replace(discriminator=recipe.discriminator.replace(penalties=penalties))


def play_out(recipes: Sequence, starts, steps: int) -> np.ndarray:
    """(theta, psi) [recipes, starts, steps + 1, 2]: every recipe from every start, by the same
    draws, in one program."""
    import jax
    import jax.numpy as jnp

    batch = gan.Batch(jnp.zeros((BATCH, 1)), jnp.arange(BATCH))

    def path(recipe, start):
        state = gan.init(recipe, jax.random.key(0))
        g = state.generator.replace(params={"theta": start[0]})
        d = state.discriminator.replace(params={"psi": start[1]})

        def step(state, _):
            state, _ = gan.train_step(recipe, state, batch)
            return state, jnp.stack([state.generator.params["theta"], state.discriminator.params["psi"]])

        _, points = jax.lax.scan(step, state.replace(generator=g, discriminator=d), length=steps)
        return jnp.concatenate([start[None], points])

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *recipes)
    every = jax.vmap(jax.vmap(path, (None, 0)), (0, None))
    return np.asarray(jax.jit(every)(stacked, jnp.asarray(starts)))


def games(loss: str, play: str, options: Options) -> tuple[list[dict], np.ndarray]:
    """A row of the table for each regulariser, and its path [steps + 1, 2] from the start.

    None where theory says nothing (WGAN-GP is not smooth at psi = 0) or nothing could be measured.
    """
    h, kinds, slopes = options.learning_rate, regularisers(options.gammas), Slopes(loss)
    moved = (START[0] - h * slopes.generator(START[0] * START[1]) * START[1], START[1])  # G's first move, for G first
    recipes = [recipe_of(loss, play, h, kind) for kind in kinds]
    paths = play_out(recipes, [START, moved, NEAR, (0.0, 0.0)], options.steps)
    published = options.learning_rate == 0.2 and options.steps == 500
    rows = []
    for kind, (path, g_first, near, rest) in zip(kinds, paths, strict=True):
        eigenvalues = None if kind.gp else np.linalg.eigvals(slopes.matrix(play, h, kind))
        known = MESCHEDER.get((loss, kind.name)) if published else None
        last = float(radius(path[-1]))
        rows.append({
            "loss": loss, "regulariser": kind.name, "play": play,
            "eigenvalues": "" if eigenvalues is None else " ".join(f"{x:.5g}" for x in eigenvalues),
            "theory": None if eigenvalues is None else float(np.abs(eigenvalues).max()),
            "measured": None if eigenvalues is None else contraction(near - rest, eigenvalues),
            "law": law(loss, kind, play, h, options.steps),
            "radius": last,
            "radius_g_first": last if play == "simultaneous" else math.hypot(g_first[-2, 0], g_first[-1, 1]),
            "mescheder": known[play == "simultaneous"] if known else None,
            "outcome": outcome(path),
        })  # fmt: skip
    return rows, paths[:, 0]


# ---- the report --------------------------------------------------------------------------------


def show(rows: Sequence[dict]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    heads = ("loss", "regulariser", "play", "theory:\nfactor", "\nmeasured", "law:\nradius", "\nmeasured", "\nG first")
    caption = "factor: of the radius per step near (0, 0). radius: after the last step; with G first it is Mescheder's game"
    table = Table(*heads, "\nMescheder", "\noutcome", box=box.SIMPLE, padding=0, caption=caption)
    for column in table.columns[3:9]:
        column.justify = "right"
    forms = {"theory": ".4f", "measured": ".4f"}
    forms |= dict.fromkeys(("law", "radius", "radius_g_first", "mescheder"), ".3g")
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        numbers = ["" if row[name] is None else format(row[name], form) for name, form in forms.items()]
        last = after is None or after["loss"] != row["loss"]
        table.add_row(row["loss"], row["regulariser"], row["play"], *numbers, row["outcome"], end_section=last)
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file or a pipe
    console.print(table)


def save_table(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def plot(path: Path, options: Options, rows: Sequence[dict], runs: Sequence[np.ndarray]) -> None:
    """A panel for each run: losses down, regularisers across, a block for each order of play."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    losses, kinds = list(dict.fromkeys(row["loss"] for row in rows)), regularisers(options.gammas)
    size = 1.6 * len(kinds) * len(options.plays) + 1, 1.7 * len(losses) + 1.2
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(1, len(options.plays), wspace=0.02, squeeze=False)[0]
    figure.suptitle(f"The Dirac-GAN from {START}: {options.steps} steps of {options.learning_rate:g}", fontsize=13)
    panels = {}
    for play, block in zip(options.plays, blocks, strict=True):
        block.suptitle(f"{play} play" + (" (D first)" if play == "alternating" else ""), fontsize=12)
        axes = block.subplots(len(losses), len(kinds), sharex=True, sharey=True, squeeze=False)
        panels |= {(loss, kind.name, play): axes[i, j] for i, loss in enumerate(losses) for j, kind in enumerate(kinds)}
        for panel, kind in zip(axes[0], kinds, strict=True):
            panel.set_title(kind.name, fontsize=10)
        for panel, loss in zip(axes[:, 0], losses, strict=True):
            panel.set_ylabel(f"{loss}\n$\\psi$ (D)", fontsize=9)
        for panel in axes[-1]:
            panel.set_xlabel("$\\theta$ (G)", fontsize=9)
    for row, points in zip(rows, runs, strict=True):
        draw(panels[row["loss"], row["regulariser"], row["play"]], points, OUTCOMES[row["outcome"]])
    seen = {row["outcome"] for row in rows}
    marks = [Line2D([], [], color=color, linewidth=2, label=name) for name, color in OUTCOMES.items() if name in seen]
    symbols = {"start": ("o", "white"), "end": ("s", "black"), "leaves the panel": ("^", "gray"), "the data": ("+", "black")}
    marks += [
        Line2D([], [], color="black", linestyle="", marker=marker, markerfacecolor=face, label=label)
        for label, (marker, face) in symbols.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def draw(panel, points: np.ndarray, color: str, view: float = 2.4) -> None:
    """One run; if it ends outside the panel, a triangle shows where it left."""
    panel.set(xlim=(-view, view), ylim=(-view, view), aspect="equal")
    panel.tick_params(labelsize=7)
    panel.set_facecolor((color, 0.08))
    panel.plot(*points.T, color=color, linewidth=0.8)
    panel.plot(0, 0, "+", color="black", markersize=7)
    panel.plot(*points[0], "o", color="black", markerfacecolor="white", markersize=4.5, zorder=4)
    inside = np.all(np.abs(points) < view, axis=1)
    if inside[-1]:
        panel.plot(*points[-1], "s", color="black", markersize=4, zorder=5)
        return
    out = int(np.argmin(inside))
    (x, y), (to_x, to_y) = points[out - 1], points[out] - points[out - 1]
    towards = math.degrees(math.atan2(to_y, to_x)) if np.isfinite(points[out]).all() else 0.0
    panel.plot(x, y, marker=(3, 0, towards - 90), color=color, markersize=9, clip_on=False, zorder=5)


def main(options: Options) -> None:
    options.check()
    import jax

    from gan_jax.training.progress import each

    options = replace(options, gammas=tuple(dict.fromkeys(options.gammas)))
    programs = [(loss, play) for play in options.plays for loss in gan.losses.POINTWISE]
    rows, runs = [], []
    with jax.enable_x64(True), np.errstate(all="ignore"):  # what diverges may overflow
        for loss, play in each(programs, "programs"):
            more, paths = games(loss, play, options)
            rows += more
            runs += list(paths)
    show(rows)
    save_table(options.out / "table.csv", rows)
    plot(options.out / "trajectories.png", options, rows, runs)
    print(f"table: {options.out}/table.csv    trajectories: {options.out}/trajectories.png")


if __name__ == "__main__":
    run(main)
