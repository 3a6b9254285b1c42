"""The host: feed, log, save, restore, stop cleanly. The device runs whole chunks; the host never waits inside one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import pictures
from gan_jax.draws import MAX_POSITION, named
from gan_jax.errors import UserError
from gan_jax.folder import RunFolder, environment, git_commit, writing
from gan_jax.game import Feed, Game
from gan_jax.gan import GAN
from gan_jax.parallel import Placement, compiled_chunk, place
from gan_jax.progress import Progress
from gan_jax.recipe import check_numbers, leaves
from gan_jax.record import from_json, to_json

EVALUATED = 512  # images of T, and as many of V, that the discriminator judges at each log
FILM = 64  # images in each picture of samples, always from the same latents


@dataclass
class Run:
    """A trained game. `history`: one dict per log; `stopped`: why it ended early, or None; `folder`: its files, or None."""

    recipe: Any
    state: Any
    data: Any
    seed: int = 0
    game: Game = GAN
    history: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    stopped: str | None = None

    @property
    def step(self) -> int:
        return int(self.state.step)

    @property
    def exit_code(self) -> int:
        """For a command line: 0 when the run is complete, 128 + the signal that stopped it, 1 when it diverged."""
        if self.stopped is None:
            return 0
        return 128 + signal.Signals[self.stopped] if self.stopped in signal.Signals.__members__ else 1

    def samples(self, n: int, *, labels=None, ema: bool = True, seed: int = 0) -> np.ndarray:
        """n generated examples: uint8 [n, h, w, c] for images, float32 [n, d] for points. Raises UserError for n < 1."""
        if n < 1:
            raise UserError(f"samples asked for: {n}; ask for at least 1")
        if labels is not None and len(labels) != n:
            raise UserError(f"{len(labels)} labels for {n} samples: give one each")
        key, pieces = jax.random.key(seed), []
        for first in range(0, n, 256):
            size = min(256, n - first)
            part = None if labels is None else jnp.asarray(labels[first : first + size], jnp.int32)
            pieces.append(np.asarray(_sampler(self.game, size, ema)(self.recipe, self.state, key, part, first)))
        made = np.concatenate(pieces)
        return pictures.to_uint8(made) if made.ndim == 4 else made.astype(np.float32)

    def show(self, n: int = FILM, **settings: Any):
        """A grid of n samples (settings as for `samples`) as a PIL image, which a notebook shows. Images only."""
        from PIL import Image

        return Image.fromarray(pictures.sample_grid(self.samples(n, **settings)))

    def curves(self):
        """The training curves as a PIL image: losses, and D's logits and accuracies on T, V and fakes."""
        return pictures.as_image(pictures.curves_figure(self.history))

    def verdict(self) -> str:
        """One line: has the discriminator begun to tell training images from held-out ones?"""
        return discriminator_verdict(self.history, min(EVALUATED, len(self.data.train), len(self.data.validation)))


@lru_cache(maxsize=32)
def _sampler(game: Game, n: int, ema: bool):
    if game.sample is None:
        raise UserError("this game makes no samples")
    sample = game.sample
    return jax.jit(lambda knobs, state, key, labels, first: sample(knobs, state, key, n, labels, ema=ema, first=first))


@lru_cache(maxsize=32)
def _evaluator(game: Game):
    return jax.jit(game.evaluate) if game.evaluate else None


def discriminator_verdict(history: list[dict], n: int) -> str:
    """Overfitting of D in one line, from the AUC of telling n training from n held-out images (standard error under chance
    sqrt((2n + 1) / (12 n^2)); begun: more than 3 standard errors above chance, from the first log after which it stays so)."""
    rows = [row for row in history if np.isfinite(row.get("D/train_validation_auc", np.nan))]
    if not rows:
        return "D: nothing was evaluated, so nothing can be said of overfitting"
    error = ((2 * n + 1) / (12 * n * n)) ** 0.5
    over = [row["D/train_validation_auc"] - 0.5 > 3 * error for row in rows]
    since = len(over) - next((i for i, o in enumerate(reversed(over)) if not o), len(over))
    last = rows[-1]
    measured = (
        f"AUC {last['D/train_validation_auc']:.3f} for {n} training against {n} held-out images at step {last['step']}, "
        f"chance .500 +- {error:.3f}; mean logit {last['D/train_logit']:+.2f} against {last['D/validation_logit']:+.2f}"
    )
    if over[-1]:
        return f"D has begun to overfit, since step {rows[since]['step']}: {measured}"
    return f"D shows no overfitting yet: {measured}"


def fit(
    recipe: Any,
    data: Any,
    *,
    steps: int,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_every: int = 50,
    checkpoint_every: int = 100,
    sample_every: int = 500,
    keep: int = 2,
    devices: int = 1,
    parallel: str = "sharding",
    game: Game = GAN,
    progress: bool = True,
    command: str | None = None,
) -> Run:
    """Train `recipe` on `data` (a Splits) for `steps` steps, in memory or in the run folder `out`.

    log_every, checkpoint_every, sample_every: in steps; the latter two are multiples of the first. keep: checkpoints kept.
    resume: continue the run in `out` bit for bit (from step 0 where it has no checkpoint yet). Ctrl-C and SIGTERM save and
    return with `run.stopped` set; so does a loss that is not finite, with the last good state.
    Raises UserError for anything that cannot be meant, before a step is run.
    """
    check_numbers(recipe)
    _check_intervals(steps, log_every, checkpoint_every, sample_every, keep)
    if steps * game.examples(recipe) > MAX_POSITION:
        raise UserError(f"{steps} steps of {game.examples(recipe)} examples are more than {MAX_POSITION}: take fewer")
    placement = place(devices, parallel, getattr(recipe, "batch_size", None))
    if game.check:
        game.check(recipe, data)
    record = {
        "recipe": to_json(recipe), "data": data.describe(), "seed": seed, "intervals": [log_every],
        "numbers": {k: np.asarray(v).tolist() for k, v in leaves(recipe).items()},
        "source": getattr(data, "source", None), "schedule": [log_every, checkpoint_every, sample_every, keep],
        "steps": steps, "environment": environment(), "git_commit": git_commit(), "command": command or " ".join(sys.argv),
    }  # fmt: skip
    folder = None
    if out is not None:
        folder = RunFolder(out)
        folder.start(record, resume, overwrite)
    elif resume or overwrite:
        raise UserError("resume and overwrite speak of a run folder: name it with out")
    session = _Session(recipe, data, seed, game, placement, folder, (log_every, checkpoint_every, sample_every), keep)
    return session.run(steps, progress)


def _check_intervals(steps: int, log_every: int, checkpoint_every: int, sample_every: int, keep: int) -> None:
    named_values = {"steps": steps, "log_every": log_every, "checkpoint_every": checkpoint_every, "keep": keep}
    for name, value in (named_values | {"sample_every": sample_every}).items():
        if value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    for name, value in {"checkpoint_every": checkpoint_every, "sample_every": sample_every}.items():
        if value % log_every:
            raise UserError(f"{name} is {value}: it must be a multiple of log_every, {log_every}")


class _Session:
    """One call of `fit`."""

    def __init__(self, recipe, data, seed, game, placement: Placement, folder, intervals, keep):
        self.recipe, self.data, self.game, self.placement, self.folder = recipe, data, game, placement, folder
        self.log_every, self.checkpoint_every, self.sample_every = intervals
        self.key = jax.random.key(seed)
        self.run_result = Run(recipe, None, data, seed, game, folder=folder.path if folder else None)
        self.checkpoints = None
        if folder:
            from gan_jax.checkpoints import Checkpoints

            self.checkpoints = Checkpoints(folder.checkpoints, keep=keep)

    # ---- starting ----

    def feed(self) -> Feed:
        train, room = self.data.train, (self.placement.devices[0].memory_stats() or {}).get("bytes_limit", float("inf"))
        if train.images.nbytes > 0.8 * room:
            raise UserError(
                f"{train.images.nbytes / 2**30:.1f} GiB of training images do not fit on a device of {room / 2**30:.1f} GiB: "
                "take a subset, or a smaller size"
            )
        labels = None if train.labels is None else jnp.asarray(train.labels, jnp.int32)
        feed = Feed(jnp.asarray(train.images), labels, jnp.int32(len(train.images)), named(self.key, "order"))
        return self.placement.replicate(feed)

    def judged(self) -> tuple | None:
        """Equally many training and held-out examples, for the discriminator to judge."""
        n = min(EVALUATED, len(self.data.train.images), len(self.data.validation.images))
        pick = lambda s: (jnp.asarray(s.images[:n]), None if s.labels is None else jnp.asarray(s.labels[:n], jnp.int32))  # noqa: E731
        return (pick(self.data.train), pick(self.data.validation)) if n and self.game.evaluate else None

    def begin(self) -> Any:
        """The state to start from: the newest intact checkpoint's, or a fresh one."""
        fresh = jax.jit(self.game.init)
        if self.checkpoints and self.folder:
            target = jax.eval_shape(self.game.init, self.recipe, self.key)
            found = self.checkpoints.restore_latest(target)
            if found:
                state, meta, step = found
                self.say_environment(meta)
                self.run_result.history = self.folder.truncate(step)
                return state
            self.folder.truncate(-1)
        return fresh(self.recipe, self.key)

    def say_environment(self, meta: dict) -> None:
        now = environment()
        changed = [k for k in now if meta.get("environment", now).get(k) != now[k]]
        if changed:
            print(
                f"resuming under another {', '.join(changed)}: the run goes on, but not bit for bit as if never stopped",
                file=sys.stderr,
            )

    # ---- running ----

    def run(self, steps: int, progress: bool) -> Run:
        result, feed, judged = self.run_result, self.feed(), self.judged()
        state = self.begin()
        step = start = int(state.step)
        state = self.placement.replicate(state)
        with Stop() as stop, Progress(step, steps, self.game.examples(self.recipe), enabled=progress) as bar:
            if step == 0:
                self.picture(state, 0)
            pending, evaluate = None, _evaluator(self.game)
            while step < steps and not stop.signal and not result.stopped:
                until = min(steps, (step // self.log_every + 1) * self.log_every)
                state, metrics = compiled_chunk(self.game, until - step, self.placement)(self.recipe, state, feed)
                row = evaluate(self.recipe, state, *judged) if evaluate and judged else {}
                if pending:
                    self.log(bar, *pending)
                pending, step = (step, until, metrics, row), until
                if step % self.checkpoint_every == 0 or step % self.sample_every == 0 or step >= steps:
                    self.log(bar, *pending)
                    pending = None
                    self.keep(state, step, steps)
            if pending:
                self.log(bar, *pending)
            if stop.signal:
                result.stopped = result.stopped or stop.signal
                self.save(state)
        result.state = state
        self.finish(step > start)
        return result

    def log(self, bar: Progress, start: int, until: int, metrics: dict, row: dict) -> None:
        """One row: means over the chunk, and what D says at its end. A loss that is not finite stops the run."""
        result = self.run_result
        if result.stopped:
            return
        metrics, row = jax.device_get((metrics, row))
        bad = ~np.isfinite(np.stack(list(metrics.values())))
        if bad.any():
            first = int(bad.any(0).argmax())
            terms = ", ".join(name for name, b in zip(metrics, bad, strict=True) if b[first])
            result.stopped = f"not finite at step {start + first}: {terms}; the state is the last good one"
            return
        full = {"step": until} | {k: float(v.mean()) for k, v in metrics.items()} | {k: float(v) for k, v in row.items()}
        result.history.append(full)
        timing = bar.update(until, full)
        if self.folder:
            self.folder.append("metrics.jsonl", full)
            self.folder.append("timings.jsonl", {"step": until} | timing)

    def keep(self, state: Any, step: int, steps: int) -> None:
        """The checkpoint and the picture that are due."""
        if step % self.checkpoint_every == 0 or step >= steps or self.run_result.stopped:
            self.save(state)
        if (step % self.sample_every == 0 or step >= steps) and not self.run_result.stopped:
            self.picture(state, step)

    def save(self, state: Any) -> None:
        if self.checkpoints and (step := int(state.step)) not in self.checkpoints.steps():
            self.checkpoints.save(step, state, {"environment": environment()})

    def picture(self, state: Any, step: int) -> None:
        """The samples of the same latents as ever, from the moving average and from the raw generator."""
        if not self.folder or not self.game.sample:
            return
        run = Run(self.recipe, state, self.data, game=self.game)
        for name, ema in (("ema", True), ("raw", False)):
            made, path = run.samples(FILM, ema=ema), self.folder.path / "samples" / f"{step:08d}_{name}.png"
            with writing(path.parent):
                if made.ndim == 4:
                    pictures.save_png(path, pictures.sample_grid(made))
                elif made.shape[-1] == 2:
                    pictures.points_plot(path, run.samples(2048, ema=ema), self.data.validation.images[:2048])

    def finish(self, moved: bool) -> None:
        if self.checkpoints:
            self.checkpoints.close()
        if self.folder and self.run_result.history and (moved or not (self.folder.path / "curves.png").exists()):
            with writing(self.folder.path):
                pictures.training_curves(self.folder.path / "curves.png", self.run_result.history)


class Stop:
    """Ctrl-C and SIGTERM ask for a stop at the end of the chunk; a second one stops at once."""

    def __init__(self):
        self.signal: str | None = None
        self.old: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.old = {s: signal.signal(s, self.ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def ask(self, number, frame):
        if self.signal:
            self.__exit__()
            signal.raise_signal(number)
        self.signal = signal.Signals(number).name
        print(f"\n{self.signal}: stopping at the end of this chunk (once more stops at once)", file=sys.stderr)

    def __exit__(self, *_):
        for number, handler in self.old.items():
            signal.signal(number, handler)


def load_again(record: dict[str, Any]) -> Any:
    """The data of a run, loaded by name as they were; refused where they have changed since."""
    from gan_jax.data import load

    if not record.get("source"):
        raise UserError(f"the run's data, {record['data']['name']!r}, were given in memory: give them again with data=")
    data = load(**record["source"])
    if data.hashes != record["data"]["hashes"]:
        raise UserError(f"the data {data.name!r} are not those of the run: their hashes differ")
    return data


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: Any = None,
    recipe: Any = None,
    game: Game = GAN,
    trusted: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Continue the run in a folder with its own recipe, data, seed and intervals, to its own number of steps or to `steps`.

    data, recipe: where the run was given its own in memory. trusted: modules of yours that the recipe names.
    settings: devices, parallel, progress of `fit`. Raises UserError where there is no run or it cannot be read.
    """
    record = RunFolder(folder).read()
    recipe = from_json(record["recipe"], trusted) if recipe is None else recipe
    data = load_again(record) if data is None else data
    log_every, checkpoint_every, sample_every, keep = record["schedule"]
    return fit(
        recipe, data, steps=steps or record["steps"], seed=record["seed"], out=folder, resume=True, log_every=log_every,
        checkpoint_every=checkpoint_every, sample_every=sample_every, keep=keep, game=game, **settings,
    )  # fmt: skip


def open_run(folder: str | Path, *, data: Any = None, recipe: Any = None, game: Game = GAN, trusted: Sequence[str] = ()) -> Run:
    """The run in a folder, at its newest intact checkpoint, to look at; the arguments are those of `resume`."""
    from gan_jax.checkpoints import Checkpoints

    files = RunFolder(folder)
    record = files.read()
    recipe = from_json(record["recipe"], trusted) if recipe is None else recipe
    data = load_again(record) if data is None else data
    with Checkpoints(files.checkpoints) as checkpoints:
        found = checkpoints.restore_latest(jax.eval_shape(game.init, recipe, jax.random.key(record["seed"])))
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it first")
    return Run(recipe, found[0], data, record["seed"], game, files.rows(), files.path)
