"""One call of `fit`: its initial state, chunks, log and files. The loop is `loop.train`."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import plots
from gan_jax.core.batch import Feed
from gan_jax.core.errors import UserError, say
from gan_jax.core.game import Game
from gan_jax.core.rng import named
from gan_jax.data.splits import Splits
from gan_jax.data.streaming import Stream
from gan_jax.gan.state import warm_started
from gan_jax.training import distributed, loop
from gan_jax.training.checkpoints import Checkpoints
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.feed import Windows, evaluation_sets, feed_of
from gan_jax.training.folder import RunFolder, environment, identity_digest, writing
from gan_jax.training.placement import Placement
from gan_jax.training.progress import Progress
from gan_jax.training.run import PICTURED, Run, open_run
from gan_jax.training.signals import StopSignal

IN_MEMORY = "a run in memory"


@lru_cache(maxsize=32)
def _evaluator(game: Game):
    return jax.jit(game.evaluate_and_observe) if game.evaluate else None


def warn_of_environment(meta: dict[str, Any]) -> None:
    """Warn where a checkpoint was made under other versions, devices or threads."""
    now = environment()
    if changed := ", ".join(k for k in now if meta.get("environment", now).get(k) != now[k]):
        say(f"resuming under another {changed}: the run goes on, but not bit for bit as if never stopped")


def _in_memory(like: jax.ShapeDtypeStruct) -> Any:
    """An empty NumPy array of this shape; of a PRNG key, which NumPy cannot hold, the shape
    itself."""
    return like if distributed.is_key(like) else np.empty(like.shape, like.dtype)


def _cpu() -> Any:
    """This process's CPU, with the host's memory; None where JAX was started without it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


class RunTrainer:
    """One call of `fit`. `intervals`: steps between logs, checkpoints and pictures of samples."""

    def __init__(
        self, recipe: Any, data: Splits, seed: int, game: Game, placement: Placement, folder: RunFolder | None,
        intervals: tuple[int, int, int], keep: int, warm_start: Run | str | Path | None,
    ):  # fmt: skip
        self.recipe, self.data, self.game, self.placement = recipe, data, game, placement
        self.log_every, self.checkpoint_every, self.sample_every = intervals
        self.key, self.warm_start = jax.random.key(seed), warm_start
        self.result = Run(recipe, None, data, seed, game, folder=folder.path if folder else None)
        self.files = folder if distributed.is_primary() else None  # process 0 alone writes
        self.checkpoints = None
        if self.files:
            self.checkpoints = Checkpoints(self.files.checkpoints, keep=keep, run=identity_digest(self.files.read()))
        self.found = list[dict[str, str]]()  # damaged examples that this process found since the last log
        self.noted = set[str]()  # names of damaged examples that are in the folder

    # ---- starting -------------------------------------------------------------------------------

    def begin(self) -> Any:
        """The state to start from, placed on the devices and the same in all processes: that of the
        newest intact checkpoint or of a warm start, or a fresh one.

        A device may have no room for a whole state that is sharded. A fresh state is therefore made
        in its shards, and a restored one comes from the memory of the hosts.
        """
        target, shardings = jax.eval_shape(self.game.init, self.recipe, self.key), None
        like, several = target, self.placement.spans_hosts
        if several:  # process 0 reads for all
            like = jax.tree.map(_in_memory, target)
        elif self.placement.shard:
            shardings = self.placement.layout(target)
            like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), target, shardings)
        read = partial(self.restored_or_warm, like, shardings)
        state, self.result.history = distributed.broadcast_state(read, target)
        if state is None:
            state = self.fresh(self.placement.layout(target) if several else shardings)
        return self.placement.shard_state(state)

    def fresh(self, shardings: Any) -> Any:
        return jax.jit(self.game.init, out_shardings=shardings)(self.recipe, self.key)

    def restored_or_warm(self, like: Any, shardings: Any) -> tuple[Any, list[dict]]:
        """The state of the newest checkpoint or warm start, or None; and the rows before it."""
        history = []
        if self.checkpoints and self.files:
            found = self.checkpoints.restore_latest(like)
            history = self.files.truncate(*((found[2], found[1]) if found else (-1, {})))
            if found:
                warn_of_environment(found[1])
                return found[0], history
        if self.warm_start is None:
            return None, history
        if self.warm_start == IN_MEMORY:
            raise UserError("the run began from another one in memory, and has no checkpoint yet: give it again as warm_start")
        with jax.default_device(_cpu()) if self.placement.spans_hosts else nullcontext():
            origin = self.warm_start if isinstance(self.warm_start, Run) else open_run(self.warm_start, data=self.data)
            return warm_started(self.fresh(shardings), origin.state), history

    # ---- running --------------------------------------------------------------------------------

    def run(self, steps: int, progress: bool) -> Run:
        with distributed.together(), self.feeding(steps) as self.feed:
            return self.train(steps, progress and distributed.is_primary())

    def feeding(self, steps: int) -> AbstractContextManager[Feed | Windows]:
        """The training set on the devices or, where it is streamed, its batches."""
        train, key = self.data.train, named(self.key, "order")
        if not isinstance(train, Stream):
            return nullcontext(feed_of(self.data, key, self.placement))
        known = {row["name"]: row["why"] for row in self.files.rows("damaged.jsonl")} if self.files else {}
        train.damaged_examples |= known
        self.noted |= known.keys()
        return Windows(train, key, self.game.examples(self.recipe), self.placement, steps, self.found.append, known)

    def train(self, steps: int, progress: bool) -> Run:
        result, data = self.result, self.data
        sets = evaluation_sets(data, len(data.train))
        self.evaluation = self.placement.replicate(sets) if self.placement.spans_hosts else sets
        state = self.begin()
        start, self.steps = int(state.step), steps
        if progress and len(self.placement.devices) > 1 and hasattr(self.recipe, "batch_size"):
            say(self.placement.describe(self.recipe.batch_size, getattr(self.recipe, "accumulate", 1)))
        bar = Progress(start, steps, self.game.examples(self.recipe), enabled=progress)
        with StopSignal() as self.signals, bar as self.bar:
            if start == 0:
                self.rehearse(host := distributed.fetch(state))
                self.save_samples(host, 0)
            elif start >= steps and distributed.is_primary():
                say(f"step {start} is reached already: nothing to train")
            self.stop_signal: str | None = None
            state, step = loop.train(self, state, start, steps)
            result.state = distributed.fetch(state)
            result.stopped = result.stopped or self.stop_signal
            if result.stopped:
                self.save_checkpoint(result.state)
        self.note_damaged()
        distributed.broadcast(partial(self.finish, step > start))
        return result

    def stopping(self) -> bool:
        if not self.result.stopped:
            self.stop_signal = distributed.any_signal(self.signals.received)
        return bool(self.result.stopped or self.stop_signal)

    def run_chunk(self, state: Any, step: int, until: int) -> tuple[Any, tuple[dict, dict]]:
        state, metrics = self.advance(state, self.feed, step, until)
        row, evaluate = {}, _evaluator(self.game)
        if evaluate and self.evaluation:
            row, changed = evaluate(self.recipe, state, until - step, *self.evaluation)
            state = state.replace(**changed)
        return state, (metrics, row)

    def advance(self, state: Any, feed: Feed | Windows, step: int, until: int) -> tuple[Any, dict]:
        """The steps from `step` to `until`, in one chunk or window by window."""
        if isinstance(feed, Feed):
            return compiled_chunk(self.game, until - step, self.placement)(self.recipe, state, feed)
        pieces = []
        for window in feed.upto(step, until):
            state, metrics = compiled_chunk(self.game, len(window.images), self.placement, True)(self.recipe, state, window)
            pieces.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.concatenate(values), *pieces)

    # ---- writing --------------------------------------------------------------------------------

    def log(self, start: int, until: int, measured: tuple[dict, dict]) -> None:
        """Write the means of metrics over the chunk, or stop the run where one is not finite."""
        result = self.result
        if result.stopped:
            return
        metrics, row = jax.device_get(measured)
        bad = ~np.isfinite(np.stack(list(metrics.values())))
        if bad.any():
            first = int(bad.any(0).argmax())
            terms = ", ".join(name for name, b in zip(metrics, bad, strict=True) if b[first])
            result.stopped = f"not finite at step {start + first}: {terms}; the state is the last good one"
            return
        full = {"step": until} | {k: float(v.mean()) for k, v in metrics.items()} | {k: float(v) for k, v in row.items()}
        result.history.append(full)
        timing = self.bar.update(until, full)
        self.note_damaged()
        if self.files:
            self.files.log(full, timing)

    def due(self, step: int) -> bool:
        return step % self.checkpoint_every == 0 or step % self.sample_every == 0

    def save(self, state: Any, step: int) -> None:
        if self.result.stopped:
            return
        state = distributed.fetch(state)
        if step % self.checkpoint_every == 0 or step >= self.steps:
            self.save_checkpoint(state)
        if step % self.sample_every == 0 or step >= self.steps:
            self.save_samples(state, step)

    def rehearse(self, state: Any) -> None:
        """See `Checkpoints.rehearse`."""
        checkpoints = self.checkpoints
        distributed.broadcast(lambda: checkpoints.rehearse(state) if checkpoints else None)

    def save_checkpoint(self, state: Any) -> None:
        if self.checkpoints and self.files and (step := int(state.step)) not in self.checkpoints.steps():
            self.checkpoints.save(step, state, self.files.about())

    def save_samples(self, state: Any, step: int) -> None:
        """Pictures of samples of the moving average and of the generator, of the same latents."""
        if not self.files or not self.game.sample:
            return
        run = Run(self.recipe, state, self.data, game=self.game)
        for name, ema in (("ema", True), ("raw", False)):
            made, path = run.samples(PICTURED, ema=ema), self.files.path / "samples" / f"{step:08d}_{name}.png"
            with writing(path.parent):
                if made.ndim == 4:
                    plots.save_png(path, plots.sample_grid(made))
                elif made.shape[1:] == (2,) == self.data.image_shape:
                    plots.points_plot(path, run.samples(2048, ema=ema), self.data.validation.images[:2048])

    def note_damaged(self) -> None:
        """Write one row for each damaged example, whichever processes found it. All processes
        call this."""
        if not isinstance(self.data.train, Stream):
            return
        rows, self.found[:] = sum(distributed.gather(self.found), []), []
        for row in rows:
            self.data.train.damaged_examples.setdefault(row["name"], row["why"])
            if self.files and row["name"] not in self.noted:
                self.noted.add(row["name"])
                self.files.append("damaged.jsonl", row)

    def finish(self, trained: bool) -> None:
        if not (self.checkpoints and self.files):
            return
        self.checkpoints.close()
        self.files.write_status(self.result.step, self.result.stopped)
        curves = self.files.path / "curves.png"
        if self.result.history and (trained or not curves.exists()):
            with writing(self.files.path):
                plots.training_curves(curves, self.result.history)
