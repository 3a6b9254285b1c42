"""What only a run can tell: its discriminator's logits, its generator's range, and how often S was
opened for it."""

from __future__ import annotations

import datetime
import sys
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import losses
from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.gan.evaluate import discriminator_logits
from gan_jax.report.numbers import Measured, References, discriminator_numbers, likelihood_numbers
from gan_jax.training.folder import RunFolder
from gan_jax.training.run import Run

JUDGED = 10_000  # training images that D judges, at most
BATCH = 256
OPENINGS = "openings.jsonl"


def measure_run(
    run: Run, references: References, recovery: int
) -> tuple[dict[str, Measured], dict[str, Measured], dict[str, np.ndarray]]:
    """Rows 10 and 11 of a run, row 10 of a real control (E in the place of T), and D's logits for
    the picture of them.

    D has seen neither half of V, so it judges all of V. Of a game with a likelihood and no D, row
    10 is of that.
    """
    sets = references.sets
    held_out = sets.splits.validation if sets.splits and sets.held_out_name == "V" else sets.held_out
    reals = {"train": sets.train, "held_out": held_out} | ({"control": sets.splits.extractor} if sets.splits else {})
    if not hasattr(run.state, "discriminator"):
        return _measure_likelihood(run, reals, recovery)
    logits = {name: logits_of(run, split.images, split.labels, JUDGED) for name, split in reals.items()}
    logits["samples"] = _logits_of_samples(run, min(len(held_out), JUDGED))
    boundary = losses.boundary(run.recipe.loss)
    if boundary is None:
        boundary = float(logits["train"].mean() + logits["samples"].mean()) / 2
    found, control = discriminator_numbers(logits, boundary), {}
    if sets.splits:
        control = discriminator_numbers(logits | {"train": logits["control"]}, boundary)
    if recovery:
        found |= _recovery(run, references, recovery)
    return found, control, {"train": logits["train"], "held out": logits["held_out"], "samples": logits["samples"]}


def _measure_likelihood(run: Run, reals: dict[str, Any], recovery: int) -> tuple[dict, dict, dict]:
    """Row 10 by the game's bound of the log density."""
    if run.game.log_density is None or recovery:
        raise UserError(
            "this run's game has neither a discriminator nor a likelihood to ask, or no way to search its range: "
            "give its samples (run.samples(n)) and data, and leave recovery out"
        )
    bounds = {name: _over(run.game.log_density, run, s.images, s.labels, JUDGED) for name, s in reals.items()}
    found = [likelihood_numbers(bounds[name], bounds["held_out"]) for name in reals if name != "held_out"]
    return found[0], (found[1] if len(found) > 1 else {}), {}


def logits_of(run: Run, images: np.ndarray, labels: np.ndarray | None = None, most: int | None = None) -> np.ndarray:
    """[n] logits of uint8 images (or points), the first `most`, by the run's D: evaluation mode, no
    augmentation."""
    return _over(discriminator_logits, run, images, labels, most)


def _over(function: Any, run: Run, images: np.ndarray, labels: np.ndarray | None, most: int | None) -> np.ndarray:
    """[n] values of (knobs, state, images, labels), in parts of one shape."""
    images, parts = images[:most], []
    for first in range(0, len(images), BATCH):
        part, y = images[first : first + BATCH], None if labels is None else labels[first : first + BATCH].astype(np.int32)
        full = np.resize(np.arange(len(part)), BATCH)  # one shape, one program
        part = to_unit(jnp.asarray(part[full]), run.recipe.dtype)
        y = y if y is None else jnp.asarray(y[full])
        parts.append(np.asarray(_compiled(function)(run.recipe, run.state, part, y), np.float64))
    return np.concatenate(parts)[: len(images)]


@lru_cache(maxsize=8)
def _compiled(function: Any) -> Any:
    return jax.jit(function)


def _logits_of_samples(run: Run, n: int) -> np.ndarray:
    """What D says of what it plays against: the raw generator."""
    images = run.samples(n, ema=False)
    labels = np.arange(n) % run.recipe.classes if run.recipe.classes else None
    return logits_of(run, images, labels)


def _recovery(run: Run, references: References, n: int) -> dict[str, Measured]:
    from gan_jax.report.recovery import latent_recovery
    from gan_jax.training.generation import generator_of

    train, held_out = references.sets.train, references.sets.held_out
    generate, draw = generator_of(run.recipe, run.state)
    labels = None
    if run.recipe.classes and train.labels is not None and held_out.labels is not None:
        labels = (train.labels[:n], held_out.labels[:n])
    key = jax.random.key(references.seed)
    found = latent_recovery(generate, train.images[:n], held_out.images[:n], draw, key, labels=labels)
    ends = _resampled_gap(found.train_error, found.held_out_error, references.seed)
    return {"recovery_gap": Measured(found.gap, *ends), "recovery_p": Measured(found.p_value)}


def _resampled_gap(train: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the gap of medians, over draws of the images that were
    searched for."""
    random = np.random.Generator(np.random.PCG64(seed))
    t, h = (np.median(random.choice(errors, (1000, len(errors))), 1) for errors in (train, held_out))
    low, high = np.quantile((h - t) / np.maximum(h, 1e-12), [0.025, 0.975])
    return float(low), float(high)


# ---- S is opened once --------------------------------------------------------------------------


def check_finished(run: Run) -> None:
    """Refuse a run that its folder calls unfinished: neither at its last step nor stopped by a loss
    that is not finite."""
    if run.folder is None or (run.stopped and run.stopped.startswith("not finite")):
        return
    steps = RunFolder(run.folder).read()["steps"]
    if run.step < steps:
        raise UserError(
            f"{run.folder} is at step {run.step} of {steps}: finish it with --resume, or judge it with --step {run.step}"
        )


def record_opening(run: Run) -> None:
    """Write down, in the run's folder, that S is opened for it: when, and by which command."""
    if run.folder is not None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        RunFolder(run.folder).append(OPENINGS, {"time": now, "step": run.step, "command": " ".join(sys.argv)})


def openings(run: Run) -> list[dict[str, Any]]:
    """Every time that S was opened for this run, first to last."""
    return RunFolder(run.folder).rows(OPENINGS) if run.folder is not None else []
