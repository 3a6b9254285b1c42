"""The small runs, sweeps and reports that the fault campaign disturbs. Each is a function of its
folder; called again, it goes on where it was."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

import gan_jax as gan
from gan_jax.report import sweep_report  # noqa: F401  # imported in the server, once for all children
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.training.folder import RunFolder

STEPS, LOG, CHECKPOINT = 60, 5, 10
SWEEP_STEPS = 20


@functools.cache
def data() -> gan.Splits:
    """The embedded digits, few of them."""
    return gan.load("digits", subset=120)


@functools.cache
def recipe(rate: float = 2e-4) -> gan.Recipe:
    """The smallest GAN of digits."""
    made = gan.recipes.dcgan((8, 8, 1), width=4, latent_dim=4, batch_size=8)
    return made.replace(discriminator=made.discriminator.replace(optimizer=gan.optimizers.adam(rate)))


def use_cache(folder: Path) -> None:
    """Keep compiled programs beside the folders, so that each is compiled once a campaign."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def train_run(folder: Path, cache: Path, steps: int = STEPS) -> None:
    use_cache(cache)
    begun = RunFolder(folder).exists
    gan.fit(
        recipe(), data(), steps=steps, out=folder, resume=begun, log_every=LOG, checkpoint_every=CHECKPOINT,
        sample_every=STEPS // 2, progress=False,
    )  # fmt: skip


def train_sweep(folder: Path, cache: Path, steps: int = SWEEP_STEPS) -> None:
    use_cache(cache)
    settings = {"slow": recipe(1e-4), "fast": recipe(4e-4), "simultaneous": recipe().replace(play=gan.bind(gan.simultaneous))}
    begun = SweepFolder(folder).exists
    gan.sweep(
        settings, data(), steps=steps, seeds=2, out=folder, resume=begun, log_every=LOG, checkpoint_every=LOG, progress=False,
        devices=1,
    )  # fmt: skip


def report_run(folder: Path, cache: Path) -> None:
    """A run, trained if it is not, and its report."""
    train_run(folder, cache)
    gan.overfitting_report(gan.open_run(folder), features="pixels").save(folder)


def open_again(folder: Path, cache: Path, note: Path) -> None:
    """Open a run or sweep folder, and write down what it holds."""
    use_cache(cache)
    note.write_text(contents(folder))


def contents(folder: Path) -> str:
    """What a folder means: a digest of its states, rows and table."""
    if SweepFolder(folder).exists:
        swept = gan.open_sweep(folder)
        states = [swept.states[i]() for i in sorted(swept.states)]
        return digest(states, swept.table.to_csv(index=False))
    run = gan.open_run(folder)
    return digest(run.state, repr(run.history) + repr(run.seed))


def digest(state: Any, text: str) -> str:
    """sha256 of every leaf of a state, and of a text."""
    sha = hashlib.sha256(text.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()
