"""What a report takes from a run besides its samples: logits of its discriminator D, the range of
its generator, and how often the test split S was opened for it."""

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import losses
from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Split
from gan_jax.gan.evaluate import discriminator_logits
from gan_jax.metrics.order import labels_in_shares
from gan_jax.report.logit_numbers import discriminator_numbers, likelihood_numbers
from gan_jax.report.numbers import Measured, References
from gan_jax.report.recovery import latent_recovery
from gan_jax.training.folder import RunFolder
from gan_jax.training.generation import generator_of
from gan_jax.training.run import Run

EVALUATED = 10_000  # images of each set, at most
BATCH = 256
OPENINGS = "openings.jsonl"


def measure_run(
    run: Run, references: References, recovery: int
) -> tuple[dict[str, Measured], dict[str, Measured], dict[str, np.ndarray]]:
    """Rows 10 and 11 of a run; row 10 of a real control, with the extractor split E in the place of
    the training split T; and D's logits for their picture.

    Row 10 takes the whole validation split V, of which D has seen neither half. For a game without
    a discriminator, row 10 is of its likelihood.
    """
    sets = references.sets
    held_out = sets.splits.validation if sets.splits and sets.held_out_name == "V" else sets.held_out
    reals = {"train": sets.train, "held_out": held_out}
    if sets.splits and len(sets.splits.extractor):
        reals["control"] = sets.splits.extractor
    if not hasattr(run.state, "discriminator"):
        return _measure_likelihood(run, reals, recovery)
    logits = {name: logits_of(run, split.images, split.labels, EVALUATED) for name, split in reals.items()}
    n = min(len(held_out), EVALUATED)
    made = samples_of(run, n, sets.train, ema=False)  # D was trained against the raw generator
    logits["samples"] = logits_of(run, *made)
    boundary = losses.boundary(run.recipe.loss)
    if boundary is None:
        boundary = float(logits["train"].mean() + logits["samples"].mean()) / 2
    found, control = discriminator_numbers(logits, boundary), {}
    if "control" in logits:
        control = discriminator_numbers(logits | {"train": logits["control"]}, boundary)
    if recovery:
        found |= _recovery(run, references, recovery)
    return found, control, {"train": logits["train"], "held out": logits["held_out"], "samples": logits["samples"]}


def _measure_likelihood(run: Run, reals: dict[str, Split], recovery: int) -> tuple[dict, dict, dict]:
    """Row 10 by the game's bound of the log density."""
    if run.game.log_density is None or recovery:
        raise UserError(
            "this run's game has neither a discriminator nor a likelihood to ask, or no way to search its range: "
            "give its samples (run.samples(n)) and data, and leave recovery out"
        )
    bounds = {name: _over(run.game.log_density, run, s.images, s.labels, EVALUATED) for name, s in reals.items()}
    found = [likelihood_numbers(bounds[name], bounds["held_out"]) for name in reals if name != "held_out"]
    return found[0], (found[1] if len(found) > 1 else {}), {}


def samples_of(run: Run, n: int, train: Split, ema: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """n samples of a run, and the labels that they were made for where it is conditional: as
    frequent as in T, which the samples are compared with."""
    if not (classes := run.recipe.classes):
        return run.samples(n, ema=ema), None
    in_turn = (np.arange(n) % classes).astype(np.int32)
    labels = in_turn if train.labels is None else labels_in_shares(class_counts(train.labels, classes), n)
    return run.samples(n, labels=None if (labels == in_turn).all() else labels, ema=ema), labels


def logits_of(run: Run, images: np.ndarray, labels: np.ndarray | None = None, most: int | None = None) -> np.ndarray:
    """[n] logits of the first `most` uint8 images (or points), by the run's D in evaluation mode,
    without augmentation."""
    return _over(discriminator_logits, run, images, labels, most)


def _over(function: Callable, run: Run, images: np.ndarray, labels: np.ndarray | None, most: int | None) -> np.ndarray:
    """[n] values of function(knobs, state, images, labels), in parts of one shape."""
    compiled, images, parts = jax.jit(function), images[:most], []
    for first in range(0, len(images), BATCH):
        part, y = images[first : first + BATCH], None if labels is None else labels[first : first + BATCH].astype(np.int32)
        full = np.resize(np.arange(len(part)), BATCH)  # one shape, one program
        part = to_unit(jnp.asarray(part[full]), run.recipe.dtype)
        y = y if y is None else jnp.asarray(y[full])
        parts.append(np.asarray(compiled(run.recipe, run.state, part, y), np.float64))
    return np.concatenate(parts)[: len(images)]


def _recovery(run: Run, references: References, n: int) -> dict[str, Measured]:
    train, held_out = references.sets.train, references.sets.held_out
    generate, draw = generator_of(run.recipe, run.state)
    labels = None
    if run.recipe.classes and train.labels is not None and held_out.labels is not None:
        labels = (train.labels[:n], held_out.labels[:n])
    key = jax.random.key(references.seed)
    found = latent_recovery(generate, train.images[:n], held_out.images[:n], draw, key, labels=labels)
    # The 95 % interval of the gap of medians is that of the bootstrap of the images.
    random = np.random.Generator(np.random.PCG64(references.seed))
    errors = found.train_error, found.held_out_error
    t, h = (np.median(random.choice(part, (1000, len(part))), 1) for part in errors)
    low, high = np.quantile((h - t) / np.maximum(h, 1e-12), [0.025, 0.975])
    return {"recovery_gap": Measured(found.gap, float(low), float(high)), "recovery_p": Measured(found.p_value)}


def check_finished(run: Run) -> None:
    """Raises UserError for a run whose folder holds neither its last step nor a loss that is not
    finite."""
    if run.folder is None or (run.stopped and run.stopped.startswith("not finite")):
        return
    steps = RunFolder(run.folder).read()["steps"]
    if run.step < steps:
        raise UserError(
            f"{run.folder} is at step {run.step} of {steps}: finish it with --resume, or judge it with --step {run.step}"
        )


def record_opening(folder: Path | None, **what: Any) -> None:
    """Write into the folder of a run or a sweep that S is opened: when, for what, by which
    command."""
    if folder is not None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        RunFolder(folder).append(OPENINGS, {"time": now, **what, "command": " ".join(sys.argv)})


def openings(folder: Path | None) -> list[dict[str, Any]]:
    """What `record_opening` wrote, first to last."""
    return RunFolder(folder).rows(OPENINGS) if folder is not None else []
