"""When does an augmentation leak into the samples?

    python experiments/leaking.py  # digits: rotations and cutout, 3 seeds
    python experiments/leaking.py --data mnist --size 16 --steps 5000 --p 0 0.5 0.8 0.9 1

D sees every image, real or generated, only after a random change with probability p. G should learn
the unchanged images: the change can be undone in distribution unless p is near 1 (Karras et al.,
2020, "Limited Data", section 2.2 and appendix C). The article's DCGAN trains under 90-degree
rotations or under cutout, as p grows; measured is the share of its samples that are turned or cut.

Turned: the nearest of the training images and their three rotations, by pixels, is a rotated one.
Cut: some 3 x 3 pixels lie nearer to mid-grey, which cutout leaves, than those of all but 2 % of the
training images. Both err, so a share s is placed between what held-out images give as they are (a)
and changed (b): (s - a) / (b - a). At p, D sees 3/4 p of the images turned (a quarter of the
rotations is by 0 degrees), or p of them cut: the dotted line is a G that leaves all of it in.

Cost: 2 min 6 s of CPU time with the default; 10 minutes on two cores that other work kept busy
(load 12; Python 3.12.1, jax 0.12.0.1).

Finding (digits, 2,500 steps, seeds 0 to 2): rotations do not leak at p = .5 (.14 of the samples
look turned, as do .13 at p = 0: that much is bad drawing), begin to at .8 (.26 to .31, where D sees
.60 turned), and at p = 1 anything goes: in two seeds every sample is turned, in one .30. Cutout
leaks at no p: a hole that moves is not in the samples even where D sees no image without one
(shares within .02 of 0). Three seeds test nothing; how much of .8's share more steps would undo was
not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.cli.options import SweepOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few, Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANGES = {"rotation": 0.75, "cutout": 1.0}  # the share of the examples chosen with probability p that look changed
SHOWN = 12  # samples of each setting in the picture
PATCH = 3  # pixels on a side of what must be grey


@dataclass
class Options(SweepOptions):
    """Train under ever more probable rotations or holes, and count them in the samples."""

    p: tuple[Share, ...] = (0.0, 0.5, 0.8, 1.0)
    """Probabilities of the change."""
    seeds: Few = 3
    """Runs of each setting."""
    out: Path = Path("runs/leaking")
    """The sweep folder."""
    steps: Count = 2500
    """Training steps: updates of the generator."""
    width: Few = 16
    """Channels of the widest image layers; deeper layers have multiples."""
    batch_size: Count = 32
    """Images per discriminator turn."""
    samples: Count = 500
    """Of each run, in which changes are counted."""


def settings_of(options: Options, shape: tuple[int, ...]) -> dict[str, Any]:
    """{"rotation, p = .5": recipe}: p is a leaf, so each change is one program."""
    import gan_jax as gan

    plain = gan.recipes.for_data(shape, width=options.width, batch_size=options.batch_size)
    functions = {"rotation": gan.augment.ada_geometry.rotate90, "cutout": gan.augment.ada_corruptions.cutout}
    bound = {(change, p): gan.bind(functions[change], p=p) for change in CHANGES for p in options.p}
    return {named(change, p): plain.replace(augment={change: f}) for (change, p), f in bound.items()}


def named(change: str, p: float) -> str:
    return f"{change}, p = {p:g}"


# ---- what is measured --------------------------------------------------------------------------

Detector = Callable[[np.ndarray], np.ndarray]  # images [n, h, w, c] in [-1, 1] -> which look changed [n]


def turned(train: np.ndarray) -> Detector:
    """Whether the nearest of the training images and their rotations is a rotated one."""
    flat = lambda x: x.reshape(len(x), -1).astype(np.float64)
    upright, rotated = (np.concatenate([flat(np.rot90(train, k, axes=(1, 2))) for k in turns]) for turns in ((0,), (1, 2, 3)))
    distance = lambda x, y: ((y**2).sum(1) - 2 * flat(x) @ y.T).min(1)
    return lambda images: distance(images, rotated) < distance(images, upright)


def cut(train: np.ndarray) -> Detector:
    """Whether some patch is nearer to 0 than those of all but 2 % of the training images."""

    def greyest(images):
        patches = np.lib.stride_tricks.sliding_window_view(np.abs(images), (PATCH, PATCH), (1, 2))
        return patches.mean((3, 4, 5)).min((1, 2))

    edge = np.quantile(greyest(train), 0.02)
    return lambda images: greyest(images) < edge


def changed(change: str, images: np.ndarray, seed: int) -> np.ndarray:
    """Held-out images, each of them changed."""
    import jax
    import jax.numpy as jnp

    from gan_jax.augment import ada_corruptions
    from gan_jax.core.rng import Draws

    if change == "rotation":
        turns = np.random.default_rng(seed).integers(1, 4, len(images))
        return np.stack([np.rot90(image, k) for image, k in zip(images, turns, strict=True)])
    draws = Draws(jax.random.key(seed), jnp.arange(len(images)))
    return np.asarray(ada_corruptions.cutout(jnp.asarray(images), None, draws, p=1.0))


def shares(options: Options, data: Any, samples: dict[str, list[np.ndarray]]) -> dict[str, tuple[float, float, dict]]:
    """{change: (a, b, {p: corrected shares of the seeds})} of uint8 samples."""
    scaled = lambda images: np.asarray(images, np.float32) / 127.5 - 1
    train, held_out = scaled(data.train.images), scaled(data.validation.images)
    found = {}
    for change, detector in {"rotation": turned(train), "cutout": cut(train)}.items():
        a, b = detector(held_out).mean(), detector(changed(change, held_out, options.seed)).mean()
        rows = {p: [(detector(scaled(x)).mean() - a) / (b - a) for x in samples[named(change, p)]] for p in options.p}
        found[change] = a, b, rows
    return found


# ---- what is shown -----------------------------------------------------------------------------


def text(found: dict[str, tuple[float, float, dict]]) -> str:
    lines = []
    for change, (a, b, rows) in found.items():
        lines.append(f"{change}: detected in {a:.1%} of held-out images as they are, in {b:.1%} of them changed")
        for p, values in rows.items():
            each = ", ".join(f"{v:.2f}" for v in values)
            lines.append(
                f"  p = {p:<4g} D sees {CHANGES[change] * p:.2f} changed; of the samples {np.mean(values):.2f} ({each})"
            )
    return "\n".join(lines)


def figure_of(found: dict[str, tuple[float, float, dict]], samples: dict[str, list[np.ndarray]]) -> Figure:
    """The shares against p, and below them the first seed's samples, a row for each p."""
    from gan_jax.plots import figures, grids

    figure, axes = figures.new(4, (9, 5), 2, sharex=False, height_ratios=(1, 0.6))
    for panel, grid, (change, (_, _, rows)) in zip(axes[:2], axes[2:], found.items(), strict=True):
        probabilities = sorted(rows)
        most = CHANGES[change]
        panel.plot([0, 1], [0, most], color=figures.BLACK, linestyle=":", linewidth=1, label="what D sees")
        for i, values in enumerate(zip(*(rows[p] for p in probabilities), strict=True)):
            panel.plot(probabilities, values, "o", color=figures.BLUE, markersize=4, label="runs" if not i else None)
        means = [np.mean(rows[p]) for p in probabilities]
        panel.plot(probabilities, means, color=figures.BLUE, label="their mean")
        panel.set(xlabel="p", ylim=(-0.1, 1.1))
        panel.set_title(f"{change}: share of changed samples", fontsize=10, loc="left")
        shown = np.concatenate([samples[named(change, p)][0][:SHOWN] for p in probabilities])
        grid.imshow(grids.sample_grid(shown, columns=SHOWN), interpolation="nearest")
        grid.set_title(f"samples of one seed; rows: p = {', '.join(f'{p:g}' for p in probabilities)}", fontsize=9, loc="left")
        grid.set_axis_off()
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def main(options: Options) -> int:
    options.prepare()
    from gan_jax.plots import figures

    data = options.load()
    settings = settings_of(options, data.image_shape)
    swept = options.run(settings, data, steps=options.steps, rank_by="G/validation_fd", log_every=options.steps)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    seeds = range(options.seed, options.seed + options.seeds)
    samples = {name: [swept.run(name, seed).samples(options.samples) for seed in seeds] for name in settings}
    found = shares(options, data, samples)
    print(text(found))
    print(f"picture: {figures.save(options.out / 'pictures' / 'leaking.png', figure_of(found, samples))}")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
