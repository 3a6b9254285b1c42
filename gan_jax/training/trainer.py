"""A run as it goes: feed, log, save, restore, stop cleanly. The device runs whole chunks; the host
never waits inside one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import plots
from gan_jax.core.batch import Feed
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.rng import named
from gan_jax.data.streaming import Stream
from gan_jax.gan.state import warm_started
from gan_jax.training import distributed
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.feed import Windows, feed_of, judged_of
from gan_jax.training.folder import environment, writing
from gan_jax.training.placement import Placement
from gan_jax.training.progress import Progress
from gan_jax.training.run import FILM, Run, open_run
from gan_jax.training.stop import Stop

IN_MEMORY = "a run in memory"


@lru_cache(maxsize=32)
def _evaluator(game: Game):
    return jax.jit(game.look) if game.evaluate else None


def say_environment(meta: dict) -> None:
    """Warn where a checkpoint was made under other versions, devices or threads."""
    now = environment()
    changed = [k for k in now if meta.get("environment", now).get(k) != now[k]]
    if changed:
        print(
            f"resuming under another {', '.join(changed)}: the run goes on, but not bit for bit as if never stopped",
            file=sys.stderr,
        )


class RunTrainer:
    """One call of `fit`."""

    def __init__(self, recipe, data, seed, game, placement: Placement, folder, intervals, keep):
        self.recipe, self.data, self.game, self.placement = recipe, data, game, placement
        self.log_every, self.checkpoint_every, self.sample_every = intervals
        self.key = jax.random.key(seed)
        self.run_result = Run(recipe, None, data, seed, game, folder=folder.path if folder else None)
        self.warm_start: Run | str | Path | None = None
        self.files = folder if distributed.is_primary() else None  # to write to
        self.checkpoints = None
        self.found, self.noted = list[dict[str, str]](), set[str]()  # damaged examples, here and in the folder
        if self.files:
            from gan_jax.training.checkpoints import Checkpoints

            self.checkpoints = Checkpoints(self.files.checkpoints, keep=keep)

    # ---- starting -------------------------------------------------------------------------------

    def begin(self) -> Any:
        """The state to start from, laid out, the same on all hosts: the newest intact checkpoint's,
        or a fresh one.

        A state that is split is never whole on a device, which it may not fit: it is made in its
        shares, or comes from the memory of the hosts.
        """
        target, lie = jax.eval_shape(self.game.init, self.recipe, self.key), None
        like, several = target, self.placement.spans_hosts
        if several:  # process 0 reads for all
            like = jax.tree.map(distributed.in_memory, target)
        elif self.placement.shard:
            lie = self.placement.layout(target)
            like = jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), target, lie)
        state, self.run_result.history = distributed.broadcast_state(partial(self.begun, like, lie), target)
        if state is None:
            state = self.fresh(self.placement.layout(target) if several else lie)
        return self.placement.shard_state(state)

    def fresh(self, lie: Any) -> Any:
        return jax.jit(self.game.init, out_shardings=lie)(self.recipe, self.key)

    def begun(self, like: Any, lie: Any) -> tuple[Any, list]:
        """The state to start from, or None for a fresh one, and what was logged before it."""
        state, history = self.restored(like)
        if state is None and self.warm_start is not None:
            with jax.default_device(distributed.cpu()) if self.placement.spans_hosts else nullcontext():
                state = warm_started(self.fresh(lie), self.origin())
        return state, history

    def restored(self, like: Any) -> tuple[Any, list]:
        """The newest intact checkpoint's state, or None, and what was logged before it."""
        if not (self.checkpoints and self.files):
            return None, []
        if found := self.checkpoints.restore_latest(like):
            state, meta, step = found
            say_environment(meta)
            return state, self.files.truncate(step)
        self.files.truncate(-1)
        return None, []

    def origin(self) -> Any:
        """The state of the run that this one begins from."""
        if self.warm_start == IN_MEMORY:
            raise UserError("the run began from another one in memory, and has no checkpoint yet: give it again as warm_start")
        known = self.warm_start if isinstance(self.warm_start, Run) else open_run(str(self.warm_start), data=self.data)
        return known.state

    # ---- running --------------------------------------------------------------------------------

    @contextmanager
    def feeding(self, steps: int) -> Iterator[Feed | Windows]:
        """The training set on the devices; where it is streamed, its batches, until the run is
        over."""
        train, key = self.data.train, named(self.key, "order")
        if not isinstance(train, Stream):
            yield feed_of(self.data, key, self.placement)
            return
        known = {row["name"]: row["why"] for row in self.files.rows("damaged.jsonl")} if self.files else {}
        train.damaged_examples |= known
        self.noted |= known.keys()
        with Windows(train, key, self.game.examples(self.recipe), self.placement, steps, self.found.append, known) as windows:
            yield windows

    def advance(self, state: Any, feed: Feed | Windows, step: int, until: int) -> tuple[Any, dict]:
        """The steps up to `until`, in one chunk or window by window."""
        if isinstance(feed, Feed):
            return compiled_chunk(self.game, until - step, self.placement)(self.recipe, state, feed)
        pieces = []
        for window in feed.upto(step, until):
            state, metrics = compiled_chunk(self.game, len(window.images), self.placement, True)(self.recipe, state, window)
            pieces.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.concatenate(values), *pieces)

    def note_damaged(self) -> None:
        """Each damaged example once, whichever processes have found it; all of them call this."""
        if not isinstance(self.data.train, Stream):
            return
        rows, self.found[:] = sum(distributed.gather(self.found), []), []
        for row in rows:
            self.data.train.damaged_examples.setdefault(row["name"], row["why"])
            if self.files and row["name"] not in self.noted:
                self.noted.add(row["name"])
                self.files.append("damaged.jsonl", row)

    def run(self, steps: int, progress: bool) -> Run:
        with distributed.together(), self.feeding(steps) as feed:
            return self.train(feed, steps, progress and distributed.is_primary())

    def train(self, feed: Feed | Windows, steps: int, progress: bool) -> Run:
        result, data = self.run_result, self.data
        judged = judged_of(data, len(data.train))
        judged = self.placement.replicate(judged) if self.placement.spans_hosts else judged
        state = self.begin()
        step = start = int(state.step)
        if progress and len(self.placement.devices) > 1 and hasattr(self.recipe, "batch_size"):
            print(self.placement.shares(self.recipe.batch_size, getattr(self.recipe, "accumulate", 1)), file=sys.stderr)
        with Stop() as stop, Progress(step, steps, self.game.examples(self.recipe), enabled=progress) as bar:
            if step == 0:
                self.picture(state, 0)
            pending, evaluate, asked = None, _evaluator(self.game), None
            while step < steps and not result.stopped and not (asked := distributed.any_signal(stop.signal)):
                until = min(steps, (step // self.log_every + 1) * self.log_every)
                state, metrics = self.advance(state, feed, step, until)
                row = {}
                if evaluate and judged:
                    row, changed = evaluate(self.recipe, state, until - step, *judged)
                    state = state.replace(**changed)
                if pending:
                    self.log(bar, *pending)
                pending, step = (step, until, metrics, row), until
                if step % self.checkpoint_every == 0 or step % self.sample_every == 0 or step >= steps:
                    self.log(bar, *pending)
                    pending = None
                    self.keep(state, step, steps)
            if pending:
                self.log(bar, *pending)
            if asked:
                result.stopped = result.stopped or asked
            if result.stopped:
                self.save(state)
        result.state = distributed.fetch(state)
        self.note_damaged()
        distributed.broadcast(partial(self.finish, step > start))
        return result

    def log(self, bar: Progress, start: int, until: int, metrics: dict, row: dict) -> None:
        """One row: means over the chunk, and what D says at its end. A loss that is not finite
        stops the run."""
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
        self.note_damaged()
        if self.files:
            self.files.append("metrics.jsonl", full)
            self.files.append("timings.jsonl", {"step": until} | timing)

    def keep(self, state: Any, step: int, steps: int) -> None:
        """The checkpoint and the picture that are due."""
        if self.run_result.stopped:
            return
        state = distributed.fetch(state)  # gathered once for both
        if step % self.checkpoint_every == 0 or step >= steps:
            self.save(state)
        if step % self.sample_every == 0 or step >= steps:
            self.picture(state, step)

    def save(self, state: Any) -> None:
        state = distributed.fetch(state)
        if self.checkpoints and (step := int(state.step)) not in self.checkpoints.steps():
            self.checkpoints.save(step, state, {"environment": environment()})

    def picture(self, state: Any, step: int) -> None:
        """The samples of the same latents as ever, from the moving average and from the raw
        generator."""
        state = distributed.fetch(state)
        if not self.files or not self.game.sample:
            return
        run = Run(self.recipe, state, self.data, game=self.game)
        for name, ema in (("ema", True), ("raw", False)):
            made, path = run.samples(FILM, ema=ema), self.files.path / "samples" / f"{step:08d}_{name}.png"
            with writing(path.parent):
                if made.ndim == 4:
                    plots.save_png(path, plots.sample_grid(made))
                elif made.shape[1:] == (2,) == self.data.image_shape:
                    plots.points_plot(path, run.samples(2048, ema=ema), self.data.validation.images[:2048])

    def finish(self, moved: bool) -> None:
        if self.checkpoints:
            self.checkpoints.close()
        if self.files:
            self.files.write_status(self.run_result.step, self.run_result.stopped)
        if self.files and self.run_result.history and (moved or not (self.files.path / "curves.png").exists()):
            with writing(self.files.path):
                plots.training_curves(self.files.path / "curves.png", self.run_result.history)
