"""VAE or GAN? Who is sharper, who covers more, and who copies, as training images become fewer?

    # digits: all, 20 %; 5 methods x 5 seeds
    python experiments/vae_vs_gan.py --final
    python experiments/vae_vs_gan.py --data mnist --size 16 --sizes 5000 1000 200 --steps 5000 \\
        --final
    python experiments/vae_vs_gan.py --only gan vae --beta 0.5

Five methods are compared: the article's DCGAN; a VAE of the same networks, whose decoder is the
generator without its tanh and whose encoder is the discriminator with 2 d outputs; the same VAE
with beta in front of its KL term; a VAE with a Gaussian law in place of the discretised logistic
one; and the VAE-GAN. Latents, updates, batches, data and seeds are equal, and the numbers of
parameters, which are printed, are as near as a width allows. All methods are members of one sweep
and are judged by one report, on the validation images V. Samples of a VAE are means of its law, as
published pictures show them.

Sharpness is not in the report. It is the mean size of the Laplacian of the samples over that of
held-out images: 1 is as sharp as real images, and noise is above 1. A VAE also has a likelihood:
its evidence bound on the training images T less its bound on V shows overfitting as well, and so
does the importance-weighted bound of 64 draws (log p of an image). With `--final` the bounds are
also taken on the test images S, for the methods that S is opened for.

Cost: 5 minutes on one CPU core (Python 3.12.1, jax 0.12.0.1).

Finding (digits, 1,069 and 214 images, 2,500 steps, five seeds, on V): the VAE's samples are less
sharp than real images (.83 +- .01, p < .001) and cover no less (.89 +- .08 against the GAN's .85 +-
.04); beta 4 and a Gaussian law are blurrier still (.71, .74) and farther (FD 56 and 42 against
18.8, p .001 and .003). The VAE-GAN is as sharp as real (1.00 +- .02; the GAN, 1.04, is a little
noisy: p .007), at the GAN's FD and coverage. None copies: near-copies are .2 % of the VAE's
samples, more than the GAN's (p .017), where 5 % of fresh images count; a mean of many images is
near all of them. What gives the training set away with 214 images is the VAE's bound: it tells T
from V with AUC .80 (Gaussian law: .995), 26 nats apart, D of the GAN with .683. With beta 4 it is
.52. On V the report chooses the GAN, so S is opened for it alone: it underfits. Another run (Python
3.11.7, jax 0.10.2; README.md) agrees within these intervals, except that the VAE's near-copies are
not shown to be more (p .059). Its log p on T less that on V: .6 nats with 1,069 images and 21.5
with 214 (beta 4: -.2 and 1.0; Gaussian law: 3.6 and 56); fewer images cost log p on V 10 nats
(-161.6, -171.7), with beta 4 none (-175.4, -175.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.cli.options import ComparisonOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few, Positive, Weight
from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gan_jax.sweeps.result import Sweep

NUMBERS = {  # of the report, and sharpness: who is sharper, who covers more, who copies, what gives the training set away
    "fd": ("FD to V", ".1f"),
    "sharpness": ("sharpness", ".2f"),
    "precision": ("precision", ".2f"),
    "coverage": ("coverage", ".2f"),
    "near_copies": ("near-copies", ".1%"),
    "fd_gap": ("FD to V - FD to T", ".2f"),
    "d_auc": ("D: T from V (AUC)", ".3f"),
    "elbo_auc": ("bound: T from V (AUC)", ".3f"),
    "elbo_gap": ("bound on T - on V, nats", ".2f"),
    "iwae_train": ("log p on T, nats", ".1f"),
    "iwae_validation": ("log p on V, nats", ".1f"),
    "iwae_gap": ("log p on T - on V, nats", ".2f"),
    "iwae_test": ("log p on S, nats", ".1f"),
}
DRAWN = ("fd", "sharpness", "coverage", "near_copies")
TESTED = {  # title, whether higher is better
    "fd": ("FD to V", False),
    "unlike": ("|sharpness - 1|", False),
    "coverage": ("coverage", True),
    "near_copies": ("near-copies", False),
}
DRAWS = 64  # of z, for each log p
SHOWN = 16  # samples of each method in the picture


@dataclass
class Options(ComparisonOptions):
    """Train GANs, VAEs and a VAE-GAN of the same networks on the same images."""

    sizes: tuple[Positive, ...] = (1.0, 0.2)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Training images, nested: up to 1 a share of all, above it a number."""
    subset: Count | None = None
    """Begin with the first N images of a seeded, stratified order; with all when left out."""
    beta: Weight = 4.0
    """Of the VAE whose KL term has a weight."""
    latent_dim: Few = 32
    """Of every method."""
    rank_by: str = "G/validation_fd"
    """Metric of the pictures of training, smaller is better."""
    out: Path = Path("runs/vae_vs_gan")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{method: recipe}, the GAN first. Raises UserError for what is no image."""
    from gan_jax import recipes

    if len(image_shape) != 3:
        raise UserError(f"sharpness is of images, not of rows {image_shape}: use --data digits or other images")
    sizes: dict[str, Any] = {"batch_size": options.batch_size, "latent_dim": options.latent_dim}
    baseline = recipes.dcgan(image_shape, width=options.width, **sizes)
    alike = partial(of_as_many, parameters(baseline), options.width, image_shape=image_shape, **sizes)
    known = {
        "gan": baseline,
        "vae": alike(recipes.vae),
        f"vae, beta {options.beta:g}": alike(recipes.vae, beta=options.beta),
        "vae, gaussian": alike(recipes.vae, likelihood="gaussian"),
        "vae_gan": alike(recipes.vae_gan),
    }
    return options.choose(known)


def of_as_many(wanted: int, width: int, make: Callable[..., Any], **arguments: Any) -> Any:
    """The recipe of the width, at most `width`, whose number of parameters is nearest to what is
    wanted."""
    made = [make(width=w, **arguments) for w in range(max(1, width // 2), width + 1)]
    return min(made, key=lambda recipe: abs(parameters(recipe) - wanted))


def counts(sizes: tuple[float, ...], images: int) -> tuple[int, ...]:
    """Numbers of training images, most first."""
    return tuple(sorted({max(1, round(size * images)) if size <= 1 else int(size) for size in sizes}, reverse=True))


# ---- what is measured --------------------------------------------------------------------------


def laplacian(images: np.ndarray) -> np.ndarray:
    """The mean size of the Laplacian (4 neighbours) inside each uint8 image [n, h, w, c], [n]."""
    x = images.astype(np.float64)
    inside = 4 * x[:, 1:-1, 1:-1] - x[:, :-2, 1:-1] - x[:, 2:, 1:-1] - x[:, 1:-1, :-2] - x[:, 1:-1, 2:]
    return np.abs(inside).mean((1, 2, 3))


def with_sharpness(table: pd.DataFrame, swept: Sweep, n: int = 500) -> pd.DataFrame:
    """The report's table with the samples' mean Laplacian over that of V."""
    real = laplacian(swept.data.validation.images).mean()
    rows = zip(table["setting"].tolist(), table["seed"].tolist(), table["n"].tolist(), strict=True)
    runs = [swept.run(setting, seed, n) for setting, seed, n in rows]
    return table.assign(sharpness=[float(laplacian(run.samples(n)).mean() / real) for run in runs])


def with_bounds(table: pd.DataFrame, swept: Sweep, opened: Collection[str] = ()) -> pd.DataFrame:
    """The report's table with each VAE's mean importance-weighted bound of log p, nats an image, on
    as many images of T and V.

    opened: settings whose runs with the most images are also judged on S.
    """
    from gan_jax.data.splits import Split
    from gan_jax.games.vae import VAE, likelihood

    def of(row: Any) -> dict[str, float]:
        run, found = swept.run(row.setting, row.seed, row.n), {}
        if not isinstance(run.recipe, VAE):
            return found
        most = len(swept.data.validation)
        shown = {"train": run.data.train, "validation": swept.data.validation}
        if row.setting in opened and row.n == table["n"].max():
            shown["test"] = swept.data.test
        for name, split in shown.items():
            some = Split(split.images[:most], None if split.labels is None else split.labels[:most])
            found[f"iwae_{name}"] = float(likelihood(run, some, DRAWS).mean())
        return found | {"iwae_gap": found["iwae_train"] - found["iwae_validation"]}

    rows: list[Any] = list(table.itertuples())
    found = [of(row) for row in rows]
    return table.assign(**{k: [x.get(k, np.nan) for x in found] for k in NUMBERS if any(k in x for x in found)})


def parameters(recipe: Any) -> int:
    """Of all networks, trained ones."""
    import jax

    from gan_jax.gan.game import game_of

    state = jax.eval_shape(game_of(recipe).init, recipe, jax.random.key(0))
    players = [getattr(state, name, None) for name in ("generator", "discriminator", "encoder", "decoder")]
    return sum(x.size for player in players if player is not None for x in jax.tree.leaves(player.params))


# ---- what is shown -----------------------------------------------------------------------------


def summary(table: pd.DataFrame, settings: dict[str, Any]) -> str:
    """Means over seeds with 95 % intervals, a block for each n."""
    import pandas as pd

    from gan_jax.metrics.ranking import mean_interval

    def cell(values: Any, form: str) -> str:
        if not len(values) or np.isnan(values).all():
            return "-"
        mean, _, high = map(float, mean_interval(values))
        return f"{mean:{form}}" + ("" if np.isnan(high) else f" +- {high - mean:{form}}")

    blocks = []
    for n, group in sorted(table.groupby("n"), reverse=True):
        rows: dict[str, Any] = {name: group[group["setting"] == name] for name in settings}
        cells = {
            label: [cell(r[key].to_numpy(float), form) if key in r else "-" for r in rows.values()]
            for key, (label, form) in NUMBERS.items()
        }
        made = {"parameters": [f"{parameters(recipe):,}" for recipe in settings.values()]} | cells
        blocks.append(f"n = {n}\n{pd.DataFrame(made, index=list(rows)).T.to_string()}")
    notes = "+-: 95 % Student-t interval over seeds; everything but T's and S's log p is judged on V\n"
    notes += (
        f"log p: the importance-weighted bound of {DRAWS} draws, of an image; a Gaussian's is a density of pixels in [-1, 1]"
    )
    return "\n\n".join([*blocks, notes])


def tests(table: pd.DataFrame, baseline: str) -> str:
    """Each method against the GAN, paired over seeds, Holm's correction over methods and sizes."""
    from gan_jax.metrics import ranking

    table = table.assign(unlike=(table["sharpness"] - 1).abs())
    rank = lambda key, higher: ranking.rank(table, key, baseline=baseline, higher_is_better=higher)
    return "\n\n".join(ranking.ranking_text(rank(key, higher), title) for key, (title, higher) in TESTED.items())


def figure_of(table: pd.DataFrame, samples: dict[str, np.ndarray]) -> Figure:
    """Samples of each method's first seed with the fewest images, and the numbers that answer the
    question against n."""
    import itertools

    from gan_jax.metrics.ranking import mean_interval
    from gan_jax.plots import figures, grids

    columns = len(DRAWN)
    figure, axes = figures.new(2 * columns, (11, 7), columns, sharex=False, height_ratios=(3, 2))
    whole: Any = axes[0].get_gridspec()
    for axis in axes[:columns]:
        axis.remove()
    top = figure.add_subplot(whole[0, :])
    grid = grids.sample_grid(np.concatenate(list(samples.values())), columns=SHOWN)
    top.imshow(grid, interpolation="nearest")
    names = [name.replace(", ", "\n") for name in samples]
    top.set_yticks((np.arange(len(samples)) + 0.5) * len(grid) / len(samples), names, fontsize=8)
    top.set_xticks([])
    top.spines[:].set_visible(False)
    top.tick_params(length=0)
    palette = figures.BLACK, figures.BLUE, figures.GREEN, figures.ORANGE, figures.PINK
    colours = dict(zip(dict.fromkeys(table["setting"]), itertools.cycle(palette), strict=False))
    for axis, key in zip(axes[columns:], DRAWN, strict=True):
        for name, colour in colours.items():
            own: Any = table[table["setting"] == name]
            sizes = sorted(set(own["n"].tolist()))
            each = (mean_interval(own.loc[own["n"] == n, key].to_numpy(float)) for n in sizes)
            mean, low, high = zip(*(map(float, found) for found in each), strict=True)
            axis.plot(sizes, mean, "o-", label=name, markersize=4, color=colour)
            axis.fill_between(sizes, low, high, alpha=0.2, linewidth=0, color=colour)
        axis.set_xscale("log")
        axis.set_xticks(sorted(set(table["n"])), sorted(set(table["n"])))
        axis.minorticks_off()
        axis.set_title(NUMBERS[key][0], fontsize=10, loc="left")
        axis.set_xlabel("training images")
    axes[columns].legend(frameon=False, fontsize=8)
    return figure


def main(options: Options) -> int:
    options.prepare()
    from gan_jax.plots import figures
    from gan_jax.report import sweep_report
    from gan_jax.report.controls import sets_of

    data = options.load()
    options.sizes = counts(options.sizes, len(data.train))
    sets_of(data.subset(min(options.sizes)), final=False)  # refuses what the report could not judge, before anything is trained
    settings = settings_of(options, data.image_shape)
    swept = options.run(settings, data, steps=options.steps, rank_by=options.rank_by, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    report = sweep_report(swept, final=options.final)
    page = report.save(options.out)
    table = with_bounds(with_sharpness(report.table, swept), swept, opened=report.final)
    few = min(options.sizes)
    samples = {"real (V)": data.validation.images[:SHOWN]}
    samples |= {name: swept.run(name, n=few).samples(SHOWN) for name in settings}
    picture = figures.save(options.out / "pictures" / "vae_vs_gan.png", figure_of(table, samples))
    print(f"\n{report.text()}\n\n{tests(table, swept.baseline)}\n\n{summary(table, settings)}")
    print(f"\npicture: {picture}    table: {options.out}/table.csv    report: {page}")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
