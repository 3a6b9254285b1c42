"""`fit` and `resume`: check the arguments, then train one run in memory or in a run folder."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax import arguments
from gan_jax.arguments import count, flag
from gan_jax.core.bind import leaves
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.ranges import check_numbers
from gan_jax.data.order import MAX_POSITION
from gan_jax.data.splits import Splits
from gan_jax.gan.game import game_of
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import warm_started
from gan_jax.training import distributed
from gan_jax.training.feed import check_streamed
from gan_jax.training.folder import RunFolder, environment, git_commit, warm_start_of
from gan_jax.training.placement import place
from gan_jax.training.run import Run, check_data, load_again, open_run
from gan_jax.training.serialization import from_json, to_json
from gan_jax.training.trainer import IN_MEMORY, RunTrainer

# JAX settings that must be equal in all processes
SAME = ("jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable", "jax_default_matmul_precision")


def fit(
    recipe: Any,
    data: Splits,
    *,
    steps: int,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_every: int = 50,
    checkpoint_every: int | None = None,
    sample_every: int | None = None,
    keep: int = 2,
    devices: int = 1,
    parallel: str = "sharding",
    shard: str | None = None,
    warm_start: Run | str | Path | None = None,
    game: Game | None = None,
    progress: bool = True,
) -> Run:
    """Train `recipe` on `data` for `steps` steps, in memory or in the run folder `out`.

    Ctrl-C and SIGTERM save the run and return it with `run.stopped` set. A loss that is not finite
    does the same, with the last good state. Of several processes (see `distributed`) all call `fit`
    with the same arguments, and process 0 alone writes.

    log_every, checkpoint_every, sample_every: in steps. The latter two are multiples of log_every,
        by default the smallest that are at least 100 and at least 500.
    keep: how many of the newest checkpoints stay.
    resume: continue the run in `out` bit for bit, from step 0 where it has no checkpoint yet.
    overwrite: start again in `out`, whatever run is there.
    devices, parallel, shard: see `placement.place`.
    warm_start: begin with the networks, not the optimizers, of another GAN's run or run folder.
    game: by default that of the recipe (a GAN, a VAE, ...).
    progress: print it to stderr.
    Raises UserError for arguments that do not fit, for a folder that another process writes, and
        where what is saved cannot be read back; all before the first step.
    """
    check_data(data, given=True)
    game = game_of(recipe, game)
    check_numbers(recipe)
    steps, seed, log_every = count(steps, "steps"), arguments.seed(seed), count(log_every, "log_every")
    resume, overwrite, progress = flag(resume, "resume"), flag(overwrite, "overwrite"), flag(progress, "progress")
    checkpoint_every, sample_every = multiple(checkpoint_every, log_every, 100), multiple(sample_every, log_every, 500)
    check_intervals(steps, log_every, checkpoint_every, sample_every, keep)
    if steps * game.examples(recipe) > MAX_POSITION:
        raise UserError(f"{steps} steps of {game.examples(recipe)} examples are more than {MAX_POSITION}: take fewer")
    placement = place(devices, parallel, getattr(recipe, "batch_size", None), getattr(recipe, "accumulate", 1), shard)
    if game.check:
        game.check(recipe, data)
    check_streamed(recipe, data)
    record = {
        "recipe": to_json(recipe), "data": data.describe(), "seed": seed, "intervals": [log_every],
        "numbers": {k: np.asarray(v).tolist() for k, v in leaves(recipe).items()},
        "class_names": list(getattr(data, "class_names", ())),
        "source": getattr(data, "source", None), "schedule": [log_every, checkpoint_every, sample_every, keep],
        "steps": steps, "environment": environment(), "git_commit": git_commit(), "command": " ".join(sys.argv),
        "warm_start": describe_warm_start(warm_start),
    }  # fmt: skip
    if out is None and (resume or overwrite):
        raise UserError("resume and overwrite speak of a run folder: name it with out")
    same = {name: record[name] for name in (*RunFolder.identity, "schedule", "steps")}
    same |= {"devices": devices, "parallel": parallel, "shard": shard}
    distributed.check_same(same | {name: getattr(jax.config, name) for name in SAME})
    folder = None if out is None else RunFolder(arguments.path(out, "out"))

    def start() -> None:
        nonlocal warm_start
        if warm_start is not None and not resume:
            warm_start = origin_of(warm_start, data)
            check_origin(warm_start, recipe, game)  # before anything is written
        if folder:
            folder.acquire(record, resume, overwrite)

    intervals = (log_every, checkpoint_every, sample_every)
    try:
        distributed.broadcast(start)
        return RunTrainer(recipe, data, seed, game, placement, folder, intervals, keep, warm_start).run(steps, progress)
    finally:
        if folder:
            folder.release()


def describe_warm_start(warm_start: Run | str | Path | None) -> str | None:
    """The name of a warm start in a record."""
    return IN_MEMORY if isinstance(warm_start, Run) else warm_start and str(warm_start)


def origin_of(warm_start: Run | str | Path, data: Splits, trusted: Sequence[str] = ()) -> Run:
    """The run to begin from, given as a run or as its folder."""
    if isinstance(warm_start, Run):
        return warm_start
    return open_run(arguments.path(warm_start, "warm_start"), data=data, trusted=trusted)


def check_origin(run: Run, recipe: Any, game: Game) -> None:
    """Raises UserError where the run to begin from has other networks than the recipe."""
    if not (isinstance(recipe, Recipe) and isinstance(run.recipe, Recipe)):
        raise UserError(f"a warm start is of a GAN by a GAN, not of {type(recipe).__name__} by {type(run.recipe).__name__}")
    jax.eval_shape(lambda key: warm_started(game.init(recipe, key), run.state), jax.random.key(0))


def multiple(given: int | None, log_every: int, least: int) -> int:
    """The given interval; if None, the first multiple of `log_every` that is at least `least`."""
    return -(-least // max(1, log_every)) * log_every if given is None else given


def check_intervals(steps: int, log_every: int, checkpoint_every: int, sample_every: int, keep: int) -> None:
    """Raises UserError for what is no integer of at least 1, and for intervals that log_every does
    not divide."""
    intervals = {"checkpoint_every": checkpoint_every, "sample_every": sample_every}
    for name, value in ({"steps": steps, "log_every": log_every, "keep": keep} | intervals).items():
        count(value, name)
    for name, value in intervals.items():
        if value % log_every:
            raise UserError(f"{name} is {value}: it must be a multiple of log_every, {log_every}")


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: Splits | None = None,
    recipe: Any = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Continue the run in a folder with its own recipe, data, seed and intervals.

    steps: the step to train to, by default the run's own last step.
    data, recipe: to be given where the run was given its own in memory.
    trusted: modules of yours that the recipe names.
    settings: devices, parallel, shard and progress of `fit`.
    Raises UserError where there is no run, where it cannot be read, where another process writes
        it, and for fewer steps than it has done.
    """
    folder = arguments.path(folder, "folder")
    check_data(data)
    record = distributed.broadcast(RunFolder(folder).read)
    recipe = from_json(record["recipe"], trusted) if recipe is None else recipe
    data = load_again(record, folder) if data is None else data
    log_every, checkpoint_every, sample_every, keep = record["schedule"]
    settings = {"warm_start": warm_start_of(record, Path(folder))} | settings
    return fit(
        recipe, data, steps=record["steps"] if steps is None else steps, seed=record["seed"], out=folder, resume=True,
        log_every=log_every, checkpoint_every=checkpoint_every, sample_every=sample_every, keep=keep, game=game, **settings,
    )  # fmt: skip
