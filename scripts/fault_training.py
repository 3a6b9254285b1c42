"""What the fault campaign disturbs: small runs, sweeps, studies and so on. Each kind can be made in
a folder, where it goes on when it is made again, and read from it."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import compare
import jax
import jax.numpy as jnp
import launch
import matplotlib
import numpy as np
import orbax.checkpoint  # noqa: F401  # all imports here are made once, in the server of all children
from flax import struct

import gan_jax as gan
from gan_jax.cli.run import run
from gan_jax.core.errors import UserError
from gan_jax.games import imputation  # noqa: F401  # once, for all children
from gan_jax.plots import figures
from gan_jax.recipes import dcgan
from gan_jax.report import report, sweep_report  # noqa: F401  # once, for all children
from gan_jax.sweeps import api  # noqa: F401  # once, for all children
from gan_jax.sweeps.executors.task import outcome, train_group
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.training import distributed, trainer
from gan_jax.training.folder import RunFolder
from gan_jax.training.study import StudyFolder

matplotlib.use("agg")
figures.new(1, (1, 1))
STEPS, LOG, CHECKPOINT = 40, 5, 10
SIDE, PARTS = 30, 3  # of a study's arrays, and its parts


@functools.cache
def data() -> gan.Splits:
    """Points, which train and compile in little time."""
    return gan.load("ring", subset=120)


@functools.cache
def digits() -> gan.Splits:
    """The embedded digits, few of them."""
    return gan.load("digits", subset=120)


@struct.dataclass
class Walk:
    """The state of the smallest game: a mean that walks to that of the data."""

    step: jax.Array
    key: jax.Array
    mean: jax.Array


def start(knobs: Any, key: jax.Array) -> Walk:
    return Walk(jnp.int32(0), key, jax.random.normal(key, (2,)))


def walk(knobs: Any, state: Walk, batch: Any, axis_name: str | None = None) -> tuple[Walk, dict[str, jax.Array]]:
    error = state.mean - batch.images.mean(0)
    error = jax.lax.pmean(error, axis_name) if axis_name else error
    moved = {"step": state.step + 1, "mean": state.mean - knobs["rate"] * error}  # pyright: ignore[reportOperatorIssue]
    return state.replace(**moved), {"loss": jnp.square(error).sum()}  # pyright: ignore[reportAttributeAccessIssue]


def distance(knobs: Any, state: Walk, train: Any, validation: Any) -> dict[str, jax.Array]:
    return {"error": jnp.square(state.mean - validation[0].mean(0)).sum()}


def batch_size(knobs: Any) -> int:
    return 8


GAME = gan.Game(start, walk, batch_size, evaluate=distance)


@functools.cache
def image_recipe(rate: float = 2e-4) -> gan.Recipe:
    """The smallest GAN of digits."""
    return _at(dcgan((8, 8, 1), width=4, latent_dim=4, batch_size=8), rate)


def _at(made: gan.Recipe, rate: float) -> gan.Recipe:
    return made.replace(discriminator=made.discriminator.replace(optimizer=gan.optimizers.adam(rate)))


def use_cache(folder: Path) -> None:
    """Keep compiled programs beside the folders, so that each is compiled once a campaign."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


# ---- kinds: each is made by (folder, steps beyond its usual ones) ------------------------------


def make_run(folder: Path, more: int, images: gan.Splits | None = None, devices: int = 1) -> None:
    """A run of the smallest game or, of images, of the smallest GAN."""
    recipe, game = ({"rate": np.float32(0.1)}, GAME) if images is None else (image_recipe(), None)
    gan.fit(
        recipe, images or data(), game=game, steps=STEPS + more, out=folder, resume=RunFolder(folder).exists, progress=False,
        log_every=LOG, checkpoint_every=CHECKPOINT, sample_every=STEPS // 2, devices=devices,
    )  # fmt: skip


def make_sweep(folder: Path, more: int, points: gan.Splits | None = None, **settings: Any) -> None:
    rates = {name: {"rate": np.float32(rate)} for name, rate in {"slow": 0.1, "middle": 0.2, "fast": 0.3}.items()}
    settings = {"devices": 1, "members_per_program": 4} | settings
    gan.sweep(
        rates, points or data(), game=GAME, rank_by="error", steps=STEPS + more, seeds=2, out=folder, log_every=LOG,
        resume=SweepFolder(folder).exists, checkpoint_every=CHECKPOINT, progress=False, trusted=["fault_training"], **settings,
    )  # fmt: skip


def make_processes(folder: Path, more: int) -> None:
    """A run of two processes, begun and watched by scripts/launch.py, which forks them here."""
    launch.subprocess = SimpleNamespace(Popen=_Forked)  # pyright: ignore[reportAttributeAccessIssue]
    launch._command = [str(folder)]
    if code := launch.main(2):
        raise SystemExit(code)


class _Forked:
    """What launch.py asks of a process that subprocess has begun."""

    def __init__(self, command: list[str], preexec_fn: Callable[[], None]):
        self.process = multiprocessing.get_context("fork").Process(target=_one_of_several, args=(command, preexec_fn))
        self.process.start()
        self.kill, self.terminate, self.wait = self.process.kill, self.process.terminate, self.process.join

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode


def _one_of_several(command: list[str], preexec_fn: Callable[[], None]) -> None:
    preexec_fn()
    folder, _, coordinator, _, processes, _, process = command

    def train() -> None:
        jax.config.update("jax_num_cpu_devices", 2 // int(processes))
        distributed.connect(coordinator, int(processes), int(process))
        make_run(Path(folder), 0, devices=2)

    try:
        sys.argv = ["train"]
        run(train)
    except Exception:  # a child of the fork server has no interpreter that would print it
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]


def make_tasks(folder: Path, more: int) -> None:
    """A sweep of data in memory, whose groups are tasks, all in this process. To go on is to be the
    first task alone, because the driver would write what the tasks need anew."""
    spec = folder.with_suffix(".spec")
    if not more:
        return make_sweep(folder, 0, in_memory(), executor=_Here(), devices=None)
    written = json.loads(spec.read_text())
    steps, *others = written["intervals"]
    if (ended := outcome(train_group(written | {"intervals": [steps + more, *others]}))).kind != "done":
        raise UserError(ended.why)


@functools.cache
def in_memory() -> gan.Splits:
    return gan.from_arrays(data().train.images, name="in memory")


class _Here(gan.executors.Slurm):
    """An executor that trains each task in this process."""

    def check(self) -> None:
        pass

    @contextmanager
    def tasks(self, folder: Path, environment: dict[str, str | None]):
        def submit(specs: list[dict[str, Any]]) -> list[Any]:
            with suppress(OSError):  # the full disk is the task's, not this note's
                folder.with_suffix(".spec").write_text(json.dumps(specs[0]))
            return [_Ended(train_group(spec)) for spec in specs]

        yield submit


class _Ended:
    def __init__(self, returned: dict[str, str | None]):
        self.returned = returned

    def poll(self) -> Any:
        return outcome(self.returned)

    def cancel(self, force: bool) -> None:
        pass


def make_study(folder: Path, more: int) -> None:
    """Arrays of a few methods. What a method gives is drawn from its number."""
    study = StudyFolder(folder)
    study.start({"options": {"side": SIDE, "seed": 0}}, study.exists, False)
    for i in range(PARTS):
        study.part(f"method {i}", functools.partial(_drawn, i))


def _drawn(number: int) -> dict[str, np.ndarray]:
    return {"tables": np.random.default_rng(number).normal(size=(SIDE * 10, SIDE, SIDE)), "n": np.array(number)}


def make_data(folder: Path, more: int) -> None:
    """Images as files and as an .npz, and a run of each."""
    from PIL import Image

    train = digits().train
    assert train.labels is not None
    if not (folder / "digits.npz").exists():
        for i, (image, label) in enumerate(zip(train.images, train.labels, strict=True)):
            path = folder / "images" / f"class {label}" / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
        np.savez(folder / "digits.npz", images=train.images, labels=train.labels)
    for source, name in SOURCES.items():
        if more:
            gan.resume(folder / name, steps=STEPS + more, progress=False)
        else:
            make_run(folder / name, 0, gan.load(source.format(folder)))


SOURCES = {"folder:{}/images": "run of images", "npz:{}/digits.npz": "run of npz"}


def make_report(folder: Path, more: int) -> None:
    """A run, trained if it is not, and its report."""
    make_run(folder, 0, digits())
    gan.overfitting_report(gan.open_run(folder), features="pixels").save(folder)


# ---- what a folder means -----------------------------------------------------------------------


def read_run(folder: Path, game: gan.Game | None = GAME) -> str:
    opened = gan.open_run(folder, game=game)
    return digest(opened.state, repr(opened.history) + repr(opened.seed))


def read_sweep(folder: Path, points: gan.Splits | None = None) -> str:
    swept = gan.open_sweep(folder, data=points, game=GAME)
    return digest([swept.states[i]() for i in sorted(swept.states)], swept.table.to_csv(index=False))


def read_tasks(folder: Path) -> str:
    return read_sweep(folder, in_memory())


def read_study(folder: Path) -> str:
    StudyFolder(folder).read()
    return digest([StudyFolder(folder).part(f"method {i}", dict) for i in range(PARTS)], "")


def read_data(folder: Path) -> str:
    return " ".join([read_run(folder / name, None) for name in SOURCES.values()])


def read_report(folder: Path) -> str:
    return read_run(folder, None) + report.compare({"it": compare.read(folder)}).to_csv()


def digest(state: Any, text: str) -> str:
    """sha256 of every leaf of a state, and of a text."""
    sha = hashlib.sha256(text.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


class Kind(NamedTuple):
    """make: in a folder, so many steps beyond the usual ones. read: what a folder means. own: names
    of what is damaged, all others being those of another kind."""

    make: Callable[[Path, int], Any]
    read: Callable[[Path], str]
    own: tuple[str, ...] = ("*",)


KINDS = {
    "run": Kind(make_run, read_run),
    "processes": Kind(make_processes, read_run),
    "sweep": Kind(make_sweep, read_sweep),
    "tasks": Kind(make_tasks, read_tasks),
    "study": Kind(make_study, read_study),
    "data": Kind(make_data, read_data, ("images/*/*", "digits.npz")),
    "report": Kind(make_report, read_report, ("report.*",)),
}


def work(kind: str, folder: Path, cache: Path, more: int | None, note: Path | None) -> None:
    """Make a kind's folder, unless `more` is None, and note what it means. Pictures are drawn of
    images alone, since they take longer than all else."""
    use_cache(cache)
    with ExitStack() as stack:
        if kind not in ("data", "report"):
            stack.enter_context(patch.object(trainer, "plots", SimpleNamespace(training_curves=lambda *_: None)))
            stack.enter_context(patch.object(gan.Sweep, "draw", lambda *_: []))
        if more is not None:
            KINDS[kind].make(folder, more)
        if note:
            note.write_text(KINDS[kind].read(folder))
