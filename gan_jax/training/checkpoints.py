"""Checkpoints that survive kills, full disks and flipped bits. Orbax writes and reads the files,
and a sha256 of each file shows damage before Orbax reads it.

A checkpoint is a folder `<folder>/<step>/` with two Orbax items and `files.json`, the digest of
every file. The item `state` is a flat dict from leaf path to array, so that a checkpoint depends
neither on Python classes nor on the number of devices. The item `meta` is JSON: the dtype and shape
of every leaf, of which step of which run it is, and the caller's own meta.

Orbax's `CheckpointManager` is not used. It takes twice as long before the caller can go on, it
silently skips a step that is not newer, and it renames a checkpoint before its digests are on disk.
"""

import concurrent.futures
import json
import math
import operator
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from gan_jax.core.errors import UserError, say
from gan_jax.training.checkpoint_files import (
    digest_of,
    found_steps,
    host_copy,
    in_one_line,
    leaves_of,
    read_files,
    saved_steps,
    signature,
    write_files,
)  # fmt: skip
from gan_jax.training.distributed import is_key
from gan_jax.training.files import fsync


class Checkpoints:
    """The `keep` newest checkpoints of one run, in a folder that is made if it is missing. All JAX
    processes of the run call the methods, and process 0 alone writes.

    warn: is called with one line where a checkpoint is passed over or, from a thread, was not
        saved. The default prints to stderr.
    run: the sha256 of what makes the run this run. It is saved, and a checkpoint of another run
        cannot be used.
    writes: False only reads, and needs no rights to write.
    Raises UserError where the folder cannot be made or written to, and for keep < 1.
    """

    def __init__(
        self, folder: Path | str, keep: int = 2, warn: Callable[[str], None] | None = None, *, run: str | None = None,
        writes: bool = True,
    ):  # fmt: skip
        if keep < 1:
            raise UserError(f"checkpoints in {folder}: keep={keep} would keep none; give at least 1")
        self.folder, self.keep, self.run = Path(folder).absolute(), keep, run
        self._warn = warn or say
        self._unusable: set[int] = set()  # passed over by restore_latest; the next save moves them aside
        self._pending: concurrent.futures.Future | None = None
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        if not writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise UserError(f"checkpoint folder {self.folder}: {in_one_line(error)}; choose one to write to") from error

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints that `restore_latest` did not pass over, ascending."""
        return [step for step in saved_steps(self.folder) if step not in self._unusable]

    def save(self, step: int, state: Any, meta: dict | None = None) -> None:
        """Copy `state` to the host, so that the caller may donate its buffers, and write the copy
        in the background once the last save is done. A checkpoint of the same step is replaced.

        state: a pytree of numeric arrays, typed PRNG keys, Python numbers and None. meta: JSON.
        Raises UserError where the last save failed, where a leaf or meta cannot be saved, and where
        the folder holds a usable checkpoint of a later step.
        """
        self.wait()
        newest = max(set(found_steps(self.folder)) - self._unusable, default=0)
        if (step := operator.index(step)) < newest or step < 0:
            raise UserError(f"{self.folder} has step {newest}: {step} is too old; restore first, or empty the folder")
        arrays, record = self._recorded(step, state, meta)
        if jax.process_index() == 0:
            self._pending = self._worker.submit(self._write, step, arrays, record)

    def rehearse(self, state: Any) -> None:
        """Write `state` under another name, read it back, and remove it: what would go wrong in a
        save or in reading it goes wrong before any step is spent. Raises UserError."""
        arrays, record = self._recorded(0, state, None)
        trial = self.folder / "rehearsal.new"

        def written_and_read() -> dict[str, np.ndarray]:
            self._delete("rehearsal.new*")  # left by a killed one
            try:
                write_files(trial, arrays, record)
                return read_files(trial, state, 0, self.run)[0]
            finally:
                self._delete("rehearsal.new*")

        try:
            found = self._worker.submit(written_and_read).result()
            same = all(found[path].tobytes() == array.tobytes() for path, array in arrays.items())
        except Exception as error:
            raise UserError(
                f"{self.folder}: nothing can be saved here ({in_one_line(error)}); make room or rights there"
            ) from error
        if not same:
            raise UserError(f"{self.folder}: what is saved here is read back as something else; choose another file system")

    def _recorded(self, step: int, state: Any, meta: dict | None) -> tuple[dict[str, np.ndarray], dict]:
        """The arrays and the item `meta` of a checkpoint."""
        leaves = leaves_of(state)
        signatures = {path: signature(leaf) for path, leaf in leaves.items()}
        keys = {path: str(jax.random.key_impl(leaf)) for path, leaf in leaves.items() if is_key(leaf)}
        about = {"leaves": signatures, "keys": keys, "meta": meta or {}, "step": step, "run": self.run}
        try:
            record = json.loads(json.dumps(about))
        except (TypeError, ValueError) as error:
            raise UserError(f"checkpoint meta must be JSON (numbers, text, lists, dicts): {in_one_line(error)}") from error
        arrays = {path: host_copy(path, leaf) for path, leaf in leaves.items()}
        record["digest"] = digest_of(arrays, record)
        return arrays, record

    def restore_latest(self, target: Any, at: int | None = None, most: float = math.inf) -> tuple[Any, dict, int] | None:
        """(state, meta, step) of the newest intact checkpoint that fits `target`, or of step `at`;
        None where the folder has no checkpoint.

        most: newer checkpoints than that of this step are passed over.

        Newer checkpoints that are damaged, or of another structure, are passed over with a one-line
        warning. They stay on disk, and the next save renames them to `<step>.unusable`.

        target: a pytree of arrays or `jax.ShapeDtypeStruct`s. NumPy arrays and Python numbers come
            back as such, other leaves as `jax.Array`s on the target's sharding, where it has one.
            The bits are those that were saved; a weak type comes back strong.
        Raises UserError where no checkpoint is usable or is of step `at`, and where a save failed.
        """
        self.wait()
        found, reasons = found_steps(self.folder), []
        self._unusable = {step for step in found if step > most}
        steps = [step for step in found if step <= most]
        if at is not None and at not in steps:
            there = ", ".join(map(str, steps)) or "none"
            raise UserError(f"{self.folder} has no checkpoint of step {at}: there are {there}")
        for step in reversed(steps if at is None else [at]):
            try:  # in the worker: Orbax needs a thread without an event loop, and notebooks have one
                arrays, record = self._worker.submit(read_files, self.folder / str(step), target, step, self.run).result()
            except Exception as error:  # damage shows as anything, from JSONDecodeError to a bare Exception
                self._unusable.add(step)
                reasons.append(f"step {step} ({in_one_line(error)})")
                continue
            if reasons:
                self._warn(f"WARNING: {self.folder}: cannot use {'; '.join(reasons)}; using step {step} instead")
            values = [_place(arrays[path], like, record["keys"].get(path)) for path, like in leaves_of(target).items()]
            return jax.tree.unflatten(jax.tree.structure(target), values), record["meta"], step
        if not reasons:
            return None
        advice = "put a backup back, use the settings that they were made with, or choose an empty folder"
        raise UserError(f"no usable checkpoint in {self.folder}: {'; '.join(reasons)}; {advice}")

    def wait(self) -> None:
        """Return when the last save is on disk. Raises UserError where it failed."""
        if self._pending is not None:
            concurrent.futures.wait([self._pending])  # Ctrl-C here must not lose the outcome
            done, self._pending = self._pending, None
            done.result()

    close = wait  # nothing else is held open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.close()
        except UserError:
            if error is None:  # the first error is the one to see
                raise

    def _write(self, step: int, arrays: dict[str, np.ndarray], record: dict) -> None:
        """In the worker: write under another name, rename, then delete the oldest checkpoints."""
        fresh = self.folder / f"{step}.new"
        try:
            self._delete("*.new", "*.deleted", "*.orbax-checkpoint-tmp")  # left by killed saves
            for unusable in sorted(self._unusable):  # perhaps only the settings are wrong
                self._rename(unusable, "unusable")
            self._unusable = set()
            write_files(fresh, arrays, record)
            self._rename(step, "deleted")
            fresh.rename(self.folder / str(step))
            fsync(self.folder)
            for old in found_steps(self.folder)[: -self.keep]:
                self._rename(old, "deleted")
            self._delete("*.deleted")
        except Exception as error:
            self._delete(f"{step}.new*")  # a full disk needs the room
            advice = "make room or rights there, and close() before the program ends"
            failed = UserError(f"{self.folder}: step {step} was not saved ({in_one_line(error)}); {advice}")
            self._warn(f"WARNING: {failed}")  # at once: the program may end without wait()
            raise failed from error

    def _rename(self, step: int, ending: str) -> None:
        """Rename a checkpoint, so that no process reads half of it while it is deleted."""
        self._delete(f"{step}.{ending}")
        if (path := self.folder / str(step)).exists():
            path.rename(self.folder / f"{step}.{ending}")

    def _delete(self, *patterns: str) -> None:
        for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
            shutil.rmtree(path, ignore_errors=True)


def _place(value: np.ndarray, like: Any, key_impl: str | None) -> Any:
    """The value as the type of the target's leaf, on its devices."""
    if not hasattr(like, "sharding"):
        return value if isinstance(like, np.ndarray) else type(like)(value.item())
    wrap: Callable = (lambda data: jax.random.wrap_key_data(data, impl=key_impl)) if key_impl else lambda data: data
    sharding = like.sharding if getattr(like, "committed", True) else None
    if sharding is not None and not sharding.is_fully_addressable:
        return jax.jit(wrap, out_shardings=sharding)(value)
    placed = jax.device_put(wrap(value), sharding)
    if placed.dtype != like.dtype:
        raise UserError(f"checkpoint of {like.dtype}, which JAX would cut to {placed.dtype}: set JAX_ENABLE_X64=1")
    return placed
