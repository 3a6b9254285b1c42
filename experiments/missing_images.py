"""Half of the pixels are missing: who fills them in, and can a GAN learn whole images from such
ones alone?

    # digits, 50 % of the pixels
    python experiments/missing_images.py
    python experiments/missing_images.py --data mnist --size 16 --subset 5000 --judged 1000
    python experiments/missing_images.py --data mnist --size 28 --subset 5000 --judged 1000 \\
        --mechanism blocks --rate 0.3

No imputer sees a whole image of the training images T, or a hidden pixel of the validation images
V. Compared are the mean and kNN (scikit-learn's), GAIN (on cells, as published), GAIN with U-Nets,
a VAE and MisGAN's imputer. Every seed has its own masks and first weights; all seeds of a method
train as one population. MisGAN (Li et al., 2019) also makes whole images from noise: its samples
are judged and shown. Its rates are five times the authors', who train a hundred times longer.

RMSE: hidden pixels of held-out images, in [0, 1]. gap: less that of training images, what is gained
by having trained on the image. FD: of completed held-out images to the whole images of T, in the
features of a classifier trained on the extractor split (whole images: a yardstick, which no imputer
sees); the row "complete data" is what real images score. Accuracy: a logistic regression learnt
from completed training images, on completed held-out ones.

Cost: the second command 30 minutes on one CPU core (Python 3.12.1, jax 0.12.0.1), most of them
MisGAN's.

Finding (MNIST at side 16, 5,000 images, 50 % of the pixels missing one by one, five seeds, on V):
GAIN with U-Nets fills best, RMSE .106 +- .002 and FD 3.9 (kNN .164 and 11.3, p < .001 both; FD of
real images .8), once its networks were normalised: two runs before, without it, its answers were
black. Published GAIN, to which pixels are cells without neighbours, is at .210 and 40.2, the VAE at
.184 and 18.9, the mean at .235 and 57.3. MisGAN's answers look like digits (FD 6.3, better than
kNN's, p < .001) and are further from the truth (.225): it draws, where the others give means. About
two thirds of its samples are legible after 3,000 steps (FD 14.1 +- .5). No gap exceeds .0043.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gan_jax.cli.options import DataOptions
from gan_jax.cli.run import cores, prepare_devices, run
from gan_jax.cli.types import Count, Few, Share
from gan_jax.core.errors import UserError
from gan_jax.tables import to_csv

if TYPE_CHECKING:
    import pandas as pd

COMPLETE, BASELINE, SAMPLES = "complete data", "kNN", "MisGAN's samples"
NUMBERS = {  # of the table: title, form
    "rmse": ("RMSE", ".4f"),
    "gap": ("gap", "+.4f"),
    "fd": ("FD to T", ".1f"),
    "accuracy": ("accuracy", ".3f"),
}
SHOWN = 12  # images in a row of the picture
CHUNK = 256  # images that are filled in at a time


@dataclass
class Options(DataOptions):
    """Hide pixels, fill them in by every method, and compare."""

    rate: Share = 0.5
    """Share of the pixels that are missing."""
    mechanism: Literal["mcar", "blocks"] = "mcar"
    """Each pixel for itself, or squares."""
    block: Count = 4
    """Side of the squares."""
    seeds: Few = 5
    """Masks and first weights; with fewer than 5 nothing is tested."""
    judged: Count = 200
    """Images of T, and of V, that are filled in and judged."""
    steps: Count = 5000
    """Of GAIN and of the VAE."""
    unet_steps: Count = 2000
    """Of the GAIN with U-Nets, in batches of 32."""
    misgan_steps: Count = 3000
    """Of MisGAN: updates of its generators, each after five of its critics."""
    width: Few = 16
    """Channels of MisGAN's convolutions and of the U-Nets."""
    only: tuple[str, ...] = ()
    """These methods; all when left out."""
    devices: Count | None = None
    """Spread the seeds over this many devices; over all cores when left out."""
    out: Path = Path("runs/missing_images")
    """Folder of the table, the picture and what each method filled in; --resume keeps the methods
    that are done."""


class Task(NamedTuple):
    """A seed's images [n, h, w, c] in [0, 1] and what is observed of them: of T whole, and of those
    of T and V to fill in."""

    train: np.ndarray
    train_mask: np.ndarray
    held: np.ndarray
    held_mask: np.ndarray


def tasks_of(options: Options, data: Any) -> list[Task]:
    """One for each seed. Raises UserError for what is no image, and for bad rates or blocks."""
    from gan_jax.data import missing

    if options.rate <= 0:
        raise UserError(f"--rate {options.rate:g}: nothing would be missing; give a share above 0")
    if len(data.image_shape) != 3:
        raise UserError(f"these are images' missing pixels, and {data.name} has rows {data.image_shape}: use missing_values.py")
    most = min(len(data.train), len(data.validation))
    if not 50 <= options.judged <= most:
        raise UserError(f"--judged {options.judged}: there are {most} images to judge; give a number from 50 to that")
    size = {"size": options.block} if options.mechanism == "blocks" else {}
    how = partial(missing.incomplete, data, options.rate, mechanism=missing.MECHANISMS[options.mechanism], **size)
    tasks = []
    for seed in range(options.seed, options.seed + options.seeds):
        holed = how(seed=seed)
        train, held = holed.train.images, holed.validation.images[: options.judged]
        tasks.append(Task(train[:, 0], train[:, 1] > 0.5, held[:, 0], held[:, 1] > 0.5))
    return tasks


# ---- methods: (options, tasks) -> for each seed what fills in (values, observed) [n, h, w, c] ----

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_rows(name: str, options: Options, tasks: list[Task]) -> list[Fill]:
    """One of scikit-learn's imputers, for which an image is a row."""
    from gan_jax.games.imputation.baselines import IMPUTERS

    flat = lambda values, mask: np.where(mask, values, np.nan).reshape(len(values), -1)
    fitted = [IMPUTERS[name](i).fit(flat(t.train, t.train_mask)) for i, t in enumerate(tasks)]
    return [lambda values, mask, f=f: f.transform(flat(values, mask)).reshape(values.shape) for f in fitted]


def trained(options: Options, tasks: list[Task], knobs: Any, steps: int) -> Any:
    """The states of one population, a member for each seed."""
    from gan_jax.games.imputation import training

    tables = [(np.where(t.train_mask, t.train, 0), t.train_mask) for t in tasks]
    seeds = range(options.seed, options.seed + len(tasks))
    return training.train([knobs], tables, seeds, steps=steps, devices=options.devices or cores())[0]


def answers(impute: Callable, knobs: Any, states: Any, seeds: int) -> list[Fill]:
    """For each member its answers, `impute(knobs, state, values [n, cells], observed)`, some images
    at a time."""
    import jax

    once = jax.jit(impute)

    def fill(values, mask, state):
        rows = [np.resize(np.arange(i, min(i + CHUNK, len(values))), CHUNK) for i in range(0, len(values), CHUNK)]
        flat = lambda x: x.reshape(len(x), -1)
        found = [np.asarray(once(knobs, state, flat(np.where(mask, values, 0)[k]), flat(mask[k]))) for k in rows]
        return np.concatenate(found)[: len(values)].reshape(values.shape)

    states = states.replace(key=None)
    return [partial(fill, state=jax.tree.map(lambda x, i=i: x[i], states)) for i in range(seeds)]


def by_gain(options: Options, tasks: list[Task], unet: bool = False) -> list[Fill]:
    """As published; or with U-Nets, pixels hidden on purpose (share and weight as chosen in a
    table) and an average."""
    from gan_jax.games.imputation import gain

    shape = tasks[0].train.shape[1:]
    convolutional = {"image_shape": shape, "width": options.width, "alpha": 1000.0, "hide": 0.3, "batch_size": 32}
    own: dict[str, Any] = convolutional | {"ema_decay": 0.999} if unet else {}
    knobs = gain.recipe(int(np.prod(shape)), **own)
    impute = lambda k, state, values, mask: gain.impute(k, state.ema["params"], values, mask)
    steps = options.unet_steps if unet else options.steps
    return answers(impute, knobs, trained(options, tasks, knobs, steps), len(tasks))


def by_vae(options: Options, tasks: list[Task]) -> list[Fill]:
    from gan_jax.games.imputation import vae

    knobs = vae.recipe(int(np.prod(tasks[0].train.shape[1:])))
    impute = lambda k, state, values, mask: vae.impute(k, state.ema["params"], values, mask)
    return answers(impute, knobs, trained(options, tasks, knobs, options.steps), len(tasks))


def by_misgan(options: Options, tasks: list[Task]) -> tuple[list[Fill], np.ndarray]:
    """Its imputer's answers, and for each seed as many samples as images are judged [seeds, n, h,
    w, c]."""
    import jax

    from gan_jax.games.imputation import misgan
    from gan_jax.optimizers import adam

    rates: dict[str, Any] = {"optimizer": adam(5e-4, 0.5, 0.9), "imputer_optimizer": adam(1e-3, 0.5, 0.9)}
    knobs = misgan.recipe(tasks[0].train.shape[1:], width=options.width, **rates)
    states = trained(options, tasks, knobs, options.misgan_steps)
    impute = lambda k, state, values, mask: misgan.impute(k, state.ema["params"], values, mask)
    draw = jax.jit(lambda state: misgan.sample(knobs, state, jax.random.key(options.seed), options.judged))
    each = [jax.tree.map(lambda x, i=i: x[i], states.replace(key=None)) for i in range(len(tasks))]
    return answers(impute, knobs, states, len(tasks)), np.stack([np.asarray(draw(state)) for state in each])


METHODS: dict[str, Callable[[Options, list[Task]], Any]] = {
    "mean": partial(by_rows, "mean"),
    BASELINE: partial(by_rows, "kNN"),
    "GAIN": by_gain,
    "GAIN, U-Net": partial(by_gain, unet=True),
    "VAE": by_vae,
    "MisGAN": by_misgan,
}


def completed(options: Options, tasks: list[Task], method: str) -> dict[str, np.ndarray]:
    """{"train", "held": [seeds, n, h, w, c] images with their missing pixels filled in, "samples":
    MisGAN's}, in [0, 1]."""
    fills, more = METHODS[method](options, tasks), {}
    if isinstance(fills, tuple):
        fills, more = fills[0], {"samples": fills[1]}
    n, parts = options.judged, {}
    for part in ("train", "held"):
        each = [(getattr(t, part)[:n], getattr(t, f"{part}_mask")[:n]) for t in tasks]
        parts[part] = np.stack(
            [np.where(m, v, np.clip(fill(v, m), 0, 1)) for fill, (v, m) in zip(fills, each, strict=True)]
        ).astype(np.float32)
    return parts | more


# ---- what is measured --------------------------------------------------------------------------


def to_bytes(images: np.ndarray) -> np.ndarray:
    return np.rint(255 * images).astype(np.uint8)


def rmse(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Over the hidden pixels."""
    return float(np.sqrt(np.mean((images - truth)[~mask].astype(np.float64) ** 2)))


def measured(options: Options, data: Any, tasks: list[Task], found: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """A row for each method and seed, and for the complete data and MisGAN's samples."""
    import pandas as pd

    from gan_jax.data.splits import Split
    from gan_jax.metrics.features import classifier, pixels
    from gan_jax.metrics.frechet import frechet_distance, moments
    from gan_jax.metrics.per_class import usefulness

    n, space = options.judged, classifier(data) if data.classes else pixels(data.image_shape)
    reference, rows = moments(space(data.train.images)), []
    seen = lambda images: frechet_distance(space(images), reference)

    def useful(train, held):
        if not data.classes:
            return float("nan")
        tested = Split(held, data.validation.labels[:n])
        return usefulness(train, data.train.labels[:n], tested, data.classes)["balanced_accuracy"]

    for name, parts in found.items():
        for i, task in enumerate(tasks):
            train, held = parts["train"][i], parts["held"][i]
            off = rmse(held, task.held, task.held_mask)
            numbers = {"rmse": off, "gap": off - rmse(train, task.train[:n], task.train_mask[:n])}
            numbers |= {"fd": seen(to_bytes(held)), "accuracy": useful(to_bytes(train), to_bytes(held))}
            rows.append({"setting": name, "seed": options.seed + i} | numbers)
            if "samples" in parts:
                rows.append({"setting": SAMPLES, "seed": options.seed + i, "fd": seen(to_bytes(parts["samples"][i]))})
    whole = data.train.images[:n], data.validation.images[:n]
    rows.append({"setting": COMPLETE, "seed": options.seed, "fd": seen(whole[1]), "accuracy": useful(*whole)})
    return pd.DataFrame(rows).assign(n=len(data.train), step=0, diverged=False)


# ---- what is shown -----------------------------------------------------------------------------


def text(options: Options, table: pd.DataFrame) -> str:
    """Means over seeds with standard deviations, and each method against kNN, paired over seeds
    with Holm's correction."""
    import pandas as pd

    from gan_jax.metrics import ranking

    def cell(values: Any, form: str) -> str:
        values = values.dropna()
        spread = f" +- {values.std():{form.lstrip('+')}}" if len(values) > 1 else ""
        return f"{values.mean():{form}}{spread}" if len(values) else "-"

    names = list(dict.fromkeys(table["setting"]))
    cells = {
        title: [cell(table.loc[table["setting"] == s, key], form) for s in names] for key, (title, form) in NUMBERS.items()
    }
    parts = [f"{options.rate:.0%} of the pixels missing ({options.mechanism}): means and standard deviations over seeds"]
    parts.append(pd.DataFrame(cells, index=pd.Index(names)).to_string())
    compared: Any = table[~table["setting"].isin([COMPLETE, SAMPLES])]
    if BASELINE in names and compared["setting"].nunique() > 1:
        for key in ("rmse", "fd"):
            parts.append(ranking.ranking_text(ranking.rank(compared, key, baseline=BASELINE), NUMBERS[key][0]))
    return "\n\n".join(parts)


def picture(tasks: list[Task], found: dict[str, dict[str, np.ndarray]], path: Path) -> Path:
    """Rows: held-out images, what was seen of them (the rest in grey), each method's, and MisGAN's
    samples; the first seed."""
    from gan_jax.plots import figures, grids

    first = tasks[0]
    rows = {"held-out images": first.held, "observed": np.where(first.held_mask, first.held, 0.5)}
    rows |= {name: parts["held"][0] for name, parts in found.items()}
    if "MisGAN" in found:
        rows[SAMPLES] = found["MisGAN"]["samples"][0]
    figure, axes = figures.new(len(rows), (8, 0.95 * len(rows)), sharex=False)
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        axis.imshow(grids.sample_grid(to_bytes(images[:SHOWN]), columns=SHOWN), interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(name, fontsize=8, loc="left", pad=2)
    return figures.save(path, figure)


def main(options: Options) -> int:
    prepare_devices(options.devices or cores(), collectives=False)
    from gan_jax.training.folder import write_atomic, writing
    from gan_jax.training.study import StudyFolder

    if unknown := [name for name in options.only if name not in METHODS]:
        raise UserError(f"--only: no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    data = options.load()
    tasks = tasks_of(options, data)
    folder, left_out = StudyFolder(options.out), ("out", "resume", "overwrite", "only", "devices")
    told = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items() if k not in left_out}
    folder.start({"options": told}, options.resume, options.overwrite)
    found = {}
    for method in options.only or METHODS:
        print(f"{method} ...", flush=True)
        found[method] = folder.part(method.replace(", ", "_"), partial(completed, options, tasks, method))
    table = measured(options, data, tasks, found)
    with writing(options.out):
        write_atomic(options.out / "table.csv", to_csv(table))
    print(f"\n{data.name}, {len(data.train)} training images, {options.judged} judged; {text(options, table)}")
    print(f"\ntable: {options.out / 'table.csv'}    picture: {picture(tasks, found, options.out / 'pictures' / 'filled.png')}")
    return 0


if __name__ == "__main__":
    run(main)
