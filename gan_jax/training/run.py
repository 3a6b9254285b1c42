"""A trained run: its samples, pictures and verdict. `open_run` reads it from a run folder."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from gan_jax import arguments, plots
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.data import Splits, load
from gan_jax.data.labels import class_numbers
from gan_jax.gan.game import game_of
from gan_jax.gan.recipe import Recipe
from gan_jax.training import generation
from gan_jax.training.checkpoints import Checkpoints
from gan_jax.training.folder import RunFolder, identity_digest, sources_of
from gan_jax.training.serialization import differences_of_data, from_json

EVALUATED = 512  # training images in an evaluation, at most, and as many validation images
PICTURED = 64  # images in each picture of samples, always of the same latents


@dataclass
class Run:
    """A trained run. game: by default that of the recipe. history: one dict per log. folder: of the
    files, None in memory. stopped: why the run ended early, or None. D is the discriminator."""

    recipe: Any
    state: Any
    data: Splits
    seed: int = 0
    game: Game = None  # pyright: ignore[reportAssignmentType] # __post_init__ sets it
    history: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    stopped: str | None = None

    def __post_init__(self):
        self.game = game_of(self.recipe, self.game)

    def __repr__(self) -> str:
        where = f"in {self.folder}" if self.folder else "in memory"
        return f"Run({type(self.recipe).__name__} at step {self.step}, seed {self.seed}, {where}, of {self.data!r})"

    @property
    def step(self) -> int:
        return int(self.state.step)

    @property
    def exit_code(self) -> int:
        """0 for a complete run, 128 + the signal that stopped the run, 1 for one that diverged."""
        return exit_code(self.stopped)

    def samples(self, n: int, *, labels=None, ema: bool = True, seed: int = 0, truncation: float | None = None) -> np.ndarray:
        """n generated examples: uint8 [n, h, w, c] for images, float32 [n, d] for points.

        labels: for a conditional GAN, one for all or [n]: class numbers, or names of
        `data.class_names`; by default every class in turn. ema: whether they are of the moving
        average or of the generator itself. truncation: see `generation.with_truncation`.
        Raises UserError for n < 1, and for labels or a truncation that do not fit the recipe.
        """
        n, ema, seed = arguments.count(n, "n"), arguments.flag(ema, "ema"), arguments.seed(seed)
        labels = self._labels(labels, n, "samples")
        recipe = self.recipe if truncation is None else generation.with_truncation(self.recipe, truncation)
        key, pieces = jax.random.key(seed), []
        for first in range(0, n, 256):
            size = min(256, n - first)
            part = None if labels is None else labels[first : first + size]
            pieces.append(np.asarray(_sampler(self.game, size, ema)(recipe, self.state, key, part, first)))
        made = np.concatenate(pieces)
        return plots.to_uint8(made) if made.ndim == 4 else made.astype(np.float32)

    def _labels(self, labels: Any, n: int, what: str) -> np.ndarray | None:
        """Labels of n samples or paths (`what`) as class numbers, see `class_numbers`."""
        if labels is None:
            return None
        if not (classes := getattr(self.recipe, "classes", 0)):
            raise UserError("the generator knows no classes: leave the labels out, or train a conditional one")
        names = getattr(self.data, "class_names", ())
        return class_numbers(labels, n, names if len(names) == classes else [str(i) for i in range(classes)], what)

    def show(self, n: int = PICTURED, **settings: Any) -> Image.Image:
        """A grid of n samples as a PIL image, for runs of images. settings: as for `samples`."""
        return Image.fromarray(plots.sample_grid(self.samples(n, **settings)))

    def interpolate(self, rows: int = 8, steps: int = 9, **settings: Any) -> Image.Image:
        """Paths between samples as a PIL image: row i goes from sample i to sample rows + i.

        settings: labels (one for each row), ema, seed, truncation, spherical: `generation.paths`.
        Raises UserError for a run of anything but a GAN of images.
        """
        if not isinstance(self.recipe, Recipe) or len(self.data.image_shape) != 3:
            raise UserError("interpolate makes a picture of a GAN's images: this run is of something else; use samples")
        rows = arguments.count(rows, "rows")
        settings["labels"] = self._labels(settings.get("labels"), rows, "paths")
        starts = np.arange(rows)
        images = generation.paths(self.recipe, self.state, starts, rows + starts, steps, **settings)
        return Image.fromarray(plots.interpolation_grid(np.asarray(images)))

    def curves(self) -> Image.Image:
        """Losses, and D's logits and accuracies on training, validation and generated images."""
        return plots.as_image(plots.curves_figure(self.history))

    def verdict(self) -> str:
        """One line: whether D overfits, by its AUC of n training and n held-out images.

        Overfitting has begun where the AUC is more than 3 standard errors above chance, and stays
        so in all later logs. By chance alone the standard error is that of the Mann-Whitney
        statistic, sqrt((2 n + 1) / (12 n^2)).
        """
        rows = [row for row in self.history if np.isfinite(row.get("D/train_validation_auc", np.nan))]
        if not rows:
            return "D: nothing was evaluated, so nothing can be said of overfitting"
        n = min(EVALUATED, len(self.data.train), len(self.data.validation))
        error = ((2 * n + 1) / (12 * n * n)) ** 0.5
        over = [row["D/train_validation_auc"] - 0.5 > 3 * error for row in rows]
        since = len(over) - next((i for i, o in enumerate(reversed(over)) if not o), len(over))
        last = rows[-1]
        measured = (
            f"AUC {last['D/train_validation_auc']:.3f} for {n} training against {n} held-out images at step {last['step']}, "
            f"chance .500 +- {3 * error:.3f} (3 standard errors); "
            f"mean logit {last['D/train_logit']:+.2f} against {last['D/validation_logit']:+.2f}"
        )
        if over[-1]:
            return f"D has begun to overfit, since step {rows[since]['step']}: {measured}"
        return f"D shows no overfitting yet: {measured}"


def exit_code(stopped: str | None) -> int:
    """See `Run.exit_code`."""
    if stopped is None:
        return 0
    return 128 + signal.Signals[stopped] if stopped in signal.Signals.__members__ else 1


@lru_cache(maxsize=32)
def _sampler(game: Game, n: int, ema: bool):
    if game.sample is None:
        raise UserError("this game makes no samples")
    sample = game.sample
    return jax.jit(lambda knobs, state, key, labels, first: sample(knobs, state, key, n, labels, ema=ema, first=first))


def load_again(record: dict[str, Any], folder: Path) -> Splits:
    """The data that the record in a folder names. Raises UserError where they have no name, are not
    there, or have changed."""
    about = record["data"]
    if not record.get("source"):
        raise UserError(f"the run's data, {about['name']!r}, were given in memory: give them again with data=")
    changed = []
    for source in sources_of(record, folder):
        data = load(**source)
        if data.hashes == about["hashes"]:
            return replace(data, name=about["name"], source=record["source"])
        changed = differences_of_data(data.describe() | {"name": about["name"]}, about)
    raise UserError(
        f"the data {about['name']!r} are not those of the run ({'; '.join(changed)}): put those back, or give data="
    )


def open_run(
    folder: str | Path,
    *,
    data: Splits | None = None,
    recipe: Any = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
    step: int | None = None,
) -> Run:
    """The run in a folder at its newest intact checkpoint, or at that of `step`. The other
    arguments are those of `resume`. Raises UserError where there is no such run or checkpoint."""
    files = RunFolder(arguments.path(folder, "folder"))
    step = None if step is None else arguments.count(step, "step", least=0)
    check_data(data)
    record = files.read()
    recipe = from_json(record["recipe"], trusted) if recipe is None else recipe
    data, game = load_again(record, files.path) if data is None else data, game_of(recipe, game)
    with Checkpoints(files.checkpoints, run=identity_digest(record), writes=False) as checkpoints:
        found = checkpoints.restore_latest(jax.eval_shape(game.init, recipe, jax.random.key(record["seed"])), step)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it first")
    state, about, at = found
    return Run(recipe, state, data, record["seed"], game, files.history(at, about), files.path, files.stopped(at))


def check_data(data: Any, given: bool = False) -> None:
    """Raises UserError for data that are no `Splits`, and for None where they must be `given`."""
    if not (isinstance(data, Splits) or (data is None and not given)):
        raise UserError(f"data is a {type(data).__name__}: give gan.load(...) or gan.from_arrays(images)")
