"""The host: feed, log, save, restore, stop cleanly. The device runs whole chunks; the host never waits inside one."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import hosts, pictures
from gan_jax.data.streaming import Stream, Windows, check_streamed
from gan_jax.draws import MAX_POSITION, named
from gan_jax.errors import UserError
from gan_jax.folder import RunFolder, environment, git_commit, writing
from gan_jax.game import Feed, Game, game_of
from gan_jax.parallel import Placement, compiled_chunk, place
from gan_jax.progress import Progress
from gan_jax.recipe import Recipe, check_numbers, leaves
from gan_jax.record import from_json, to_json
from gan_jax.run import EVALUATED, FILM, Run, load_again, open_run
from gan_jax.train import warm_started

IN_MEMORY = "a run in memory"
SAME = ("jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable", "jax_default_matmul_precision")  # in all hosts


@lru_cache(maxsize=32)
def _evaluator(game: Game):
    return jax.jit(game.look) if game.evaluate else None


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
    checkpoint_every: int | None = None,
    sample_every: int | None = None,
    keep: int = 2,
    devices: int = 1,
    parallel: str = "sharding",
    shard: str | None = None,
    warm_start: Run | str | Path | None = None,
    game: Game | None = None,
    progress: bool = True,
    command: str | None = None,
) -> Run:
    """Train `recipe` on `data` (a Splits, whose train may be a Stream) for `steps` steps, in memory or in the run folder `out`.

    log_every, checkpoint_every, sample_every: in steps; the latter two are multiples of the first, from 100 and 500 on when
    left out. keep: checkpoints kept.
    resume: continue the run in `out` bit for bit (from step 0 where it has no checkpoint yet). Ctrl-C and SIGTERM save and
    return with `run.stopped` set; so does a loss that is not finite, with the last good state.
    devices, parallel, shard: how many devices share a batch, by 'sharding' or 'pmap', and how much of the state ('optimizer',
    'parameters' or None): see `parallel.place`. devices counts those of all hosts: of
    several processes (`hosts`) all call `fit` with the same arguments, and process 0 alone writes.
    warm_start: begin with the networks of another GAN's run (or of its folder) in place of fresh ones; optimizers start anew.
    game: that of the recipe (a GAN, a VAE, ...) unless another is given.
    Raises UserError for anything that cannot be meant, before a step is run.
    """
    game = game_of(recipe, game)
    check_numbers(recipe)
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
        "source": getattr(data, "source", None), "schedule": [log_every, checkpoint_every, sample_every, keep],
        "steps": steps, "environment": environment(), "git_commit": git_commit(), "command": command or " ".join(sys.argv),
        "warm_start": IN_MEMORY if isinstance(warm_start, Run) else warm_start and str(warm_start),
    }  # fmt: skip
    if out is None and (resume or overwrite):
        raise UserError("resume and overwrite speak of a run folder: name it with out")
    same = {name: record[name] for name in (*RunFolder.identity, "schedule", "steps")}
    same |= {"devices": devices, "parallel": parallel, "shard": shard}
    hosts.check_same(same | {name: getattr(jax.config, name) for name in SAME})
    folder = None if out is None else RunFolder(out)

    def start() -> None:
        nonlocal warm_start
        if warm_start is not None and not resume:
            warm_start = _origin(recipe, data, game, warm_start)  # before anything is written
        if folder:
            folder.start(record, resume, overwrite)

    hosts.told(start)
    session = _Session(recipe, data, seed, game, placement, folder, (log_every, checkpoint_every, sample_every), keep)
    session.warm_start = warm_start
    return session.run(steps, progress)


def _origin(recipe: Any, data: Any, game: Game, warm_start: Run | str | Path) -> Run:
    """The run to begin from. Raises UserError where there is none, or its networks are others."""
    run = warm_start if isinstance(warm_start, Run) else open_run(warm_start, data=data)
    if not (isinstance(recipe, Recipe) and isinstance(run.recipe, Recipe)):
        raise UserError(f"a warm start is of a GAN by a GAN, not of {type(recipe).__name__} by {type(run.recipe).__name__}")
    jax.eval_shape(lambda key: warm_started(game.init(recipe, key), run.state), jax.random.key(0))
    return run


def multiple(given: int | None, log_every: int, least: int) -> int:
    """The interval given; where there is none, the first multiple of `log_every` that is at least so long."""
    return -(-least // max(1, log_every)) * log_every if given is None else given


def check_intervals(steps: int, log_every: int, checkpoint_every: int, sample_every: int, keep: int) -> None:
    named_values = {"steps": steps, "log_every": log_every, "checkpoint_every": checkpoint_every, "keep": keep}
    for name, value in (named_values | {"sample_every": sample_every}).items():
        if value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    for name, value in {"checkpoint_every": checkpoint_every, "sample_every": sample_every}.items():
        if value % log_every:
            raise UserError(f"{name} is {value}: it must be a multiple of log_every, {log_every}")


def say_environment(meta: dict) -> None:
    """Warn where a checkpoint was made under other versions, devices or threads."""
    now = environment()
    changed = [k for k in now if meta.get("environment", now).get(k) != now[k]]
    if changed:
        print(
            f"resuming under another {', '.join(changed)}: the run goes on, but not bit for bit as if never stopped",
            file=sys.stderr,
        )


def feed_of(data: Any, key: jax.Array, placement: Placement) -> Feed:
    """The training set on every device, in the order of `key`. Raises UserError where it does not fit."""
    if isinstance(data.train, Stream):
        raise UserError(f"{data.name} is streamed, which only a run of its own can be: load it without stream")
    train, room = data.train, (placement.local_devices[0].memory_stats() or {}).get("bytes_limit", float("inf"))
    if train.images.nbytes > 0.8 * room:
        raise UserError(
            f"{train.images.nbytes / 2**30:.1f} GiB of training images do not fit on a device of {room / 2**30:.1f} GiB: "
            "take a subset or a smaller size, or stream them from disk: load(..., stream=True)"
        )
    labels = None if train.labels is None else np.asarray(train.labels, np.int32)
    onto = placement.replicate if placement.spans_hosts else lambda tree: placement.replicate(jax.tree.map(jnp.asarray, tree))
    return onto(Feed(train.images, labels, jnp.int32(len(train)), key))  # pyright: ignore[reportArgumentType] # NumPy: not yet there


def judged_of(data: Any, most: int) -> tuple | None:
    """Equally many training (of the first `most`) and held-out examples, for an evaluation; None where there are too few."""
    n = min(EVALUATED, most, len(data.validation))
    pick = lambda s: (jnp.asarray(s.images[:n]), None if s.labels is None else jnp.asarray(s.labels[:n], jnp.int32))
    return (pick(data.train), pick(data.validation)) if n > 1 else None


class _Session:
    """One call of `fit`."""

    def __init__(self, recipe, data, seed, game, placement: Placement, folder, intervals, keep):
        self.recipe, self.data, self.game, self.placement = recipe, data, game, placement
        self.log_every, self.checkpoint_every, self.sample_every = intervals
        self.key = jax.random.key(seed)
        self.run_result = Run(recipe, None, data, seed, game, folder=folder.path if folder else None)
        self.warm_start: Run | str | Path | None = None
        self.files = folder if hosts.first() else None  # to write to
        self.checkpoints, self.noted = None, set[str]()  # damaged examples
        if self.files:
            from gan_jax.checkpoints import Checkpoints

            self.checkpoints = Checkpoints(self.files.checkpoints, keep=keep)

    # ---- starting ----

    def begin(self) -> Any:
        """The state to start from, laid out, the same on all hosts: the newest intact checkpoint's, or a fresh one.

        A state that is split is never whole on a device, which it may not fit: it is made in its shares, or comes from the
        memory of the hosts.
        """
        target, lie = jax.eval_shape(self.game.init, self.recipe, self.key), None
        like, several = target, self.placement.spans_hosts
        if several:  # process 0 reads for all
            like = jax.tree.map(hosts.in_memory, target)
        elif self.placement.shard:
            lie = self.placement.layout(target)
            like = jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), target, lie)
        state, self.run_result.history = hosts.told_state(partial(self.begun, like, lie), target)
        if state is None:
            state = self.fresh(self.placement.layout(target) if several else lie)
        return self.placement.lay(state)

    def fresh(self, lie: Any) -> Any:
        return jax.jit(self.game.init, out_shardings=lie)(self.recipe, self.key)

    def begun(self, like: Any, lie: Any) -> tuple[Any, list]:
        """The state to start from, or None for a fresh one, and what was logged before it."""
        state, history = self.restored(like)
        if state is None and self.warm_start is not None:
            with jax.default_device(hosts.cpu()) if self.placement.spans_hosts else nullcontext():
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

    # ---- running ----

    @contextmanager
    def feeding(self, steps: int) -> Iterator[Feed | Windows]:
        """The training set on the devices; where it is streamed, its batches, until the run is over."""
        train, key = self.data.train, named(self.key, "order")
        if not isinstance(train, Stream):
            yield feed_of(self.data, key, self.placement)
            return
        known = {row["name"]: row["why"] for row in self.files.rows("damaged.jsonl")} if self.files else {}
        train.damaged_examples |= known
        self.noted |= known.keys()
        note = self.note_damaged if self.files else partial(hosts.note, "damaged")
        with Windows(train, key, self.game.examples(self.recipe), self.placement, steps, note, known) as windows:
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

    def hear_damaged(self) -> None:
        """Those that other hosts have found."""
        for row in hosts.noted("damaged"):
            self.data.train.damaged_examples.setdefault(row["name"], row["why"])
            self.note_damaged(row)

    def note_damaged(self, row: dict[str, str]) -> None:
        """Once, whichever hosts have found it."""
        if self.files and row["name"] not in self.noted:
            self.noted.add(row["name"])
            self.files.append("damaged.jsonl", row)

    def run(self, steps: int, progress: bool) -> Run:
        with hosts.together(), self.feeding(steps) as feed:
            return self.train(feed, steps, progress and hosts.first())

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
            while step < steps and not result.stopped and not (asked := hosts.agree(stop.signal)):
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
        result.state = hosts.local(state)
        hosts.meet_again()
        hosts.told(partial(self.finish, step > start))
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
        self.hear_damaged()
        if self.files:
            self.files.append("metrics.jsonl", full)
            self.files.append("timings.jsonl", {"step": until} | timing)

    def keep(self, state: Any, step: int, steps: int) -> None:
        """The checkpoint and the picture that are due."""
        if self.run_result.stopped:
            return
        state = hosts.local(state)  # gathered once for both
        if step % self.checkpoint_every == 0 or step >= steps:
            self.save(state)
        if step % self.sample_every == 0 or step >= steps:
            self.picture(state, step)

    def save(self, state: Any) -> None:
        state = hosts.local(state)
        if self.checkpoints and (step := int(state.step)) not in self.checkpoints.steps():
            self.checkpoints.save(step, state, {"environment": environment()})

    def picture(self, state: Any, step: int) -> None:
        """The samples of the same latents as ever, from the moving average and from the raw generator."""
        state = hosts.local(state)
        if not self.files or not self.game.sample:
            return
        run = Run(self.recipe, state, self.data, game=self.game)
        for name, ema in (("ema", True), ("raw", False)):
            made, path = run.samples(FILM, ema=ema), self.files.path / "samples" / f"{step:08d}_{name}.png"
            with writing(path.parent):
                if made.ndim == 4:
                    pictures.save_png(path, pictures.sample_grid(made))
                elif made.shape[1:] == (2,) == self.data.image_shape:
                    pictures.points_plot(path, run.samples(2048, ema=ema), self.data.validation.images[:2048])

    def finish(self, moved: bool) -> None:
        if self.checkpoints:
            self.checkpoints.close()
        self.hear_damaged()
        if self.files:
            self.files.write_status(self.run_result.step, self.run_result.stopped)
        if self.files and self.run_result.history and (moved or not (self.files.path / "curves.png").exists()):
            with writing(self.files.path):
                pictures.training_curves(self.files.path / "curves.png", self.run_result.history)


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
        if hosts.first():
            print(f"\n{self.signal}: stopping at the end of this chunk (once more stops at once)", file=sys.stderr)

    def __exit__(self, *_):
        for number, handler in self.old.items():
            signal.signal(number, handler)


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: Any = None,
    recipe: Any = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Continue the run in a folder with its own recipe, data, seed and intervals, to its own number of steps or to `steps`.

    data, recipe: where the run was given its own in memory. trusted: modules of yours that the recipe names.
    settings: devices, parallel, shard, progress of `fit`. Raises UserError where there is no run or it cannot be read.
    """
    record = hosts.told(RunFolder(folder).read)
    recipe = from_json(record["recipe"], trusted) if recipe is None else recipe
    data = load_again(record) if data is None else data
    log_every, checkpoint_every, sample_every, keep = record["schedule"]
    settings = {"warm_start": record.get("warm_start")} | settings
    return fit(
        recipe, data, steps=steps or record["steps"], seed=record["seed"], out=folder, resume=True, log_every=log_every,
        checkpoint_every=checkpoint_every, sample_every=sample_every, keep=keep, game=game, **settings,
    )  # fmt: skip
