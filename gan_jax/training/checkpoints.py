"""Checkpoints that survive kills, full disks and flipped bits. Orbax writes and reads the files,
and a sha256 of each file shows damage before Orbax reads it.

A checkpoint is a folder `<folder>/<step>/` with two Orbax items and `files.json`, the digest of
every file. The item `state` is a flat dict from leaf path to array, so that a checkpoint depends
neither on Python classes nor on the number of devices. The item `meta` is JSON: the dtype and shape
of every leaf, and the caller's own meta.

Orbax's `CheckpointManager` is not used. It takes twice as long before the caller can go on, it
silently skips a step that is not newer, and it renames a checkpoint before its digests are on disk.
"""

import concurrent.futures
import hashlib
import json
import operator
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.training.distributed import fetch, is_key

FILES = "files.json"  # sha256 of every file of a checkpoint


class Checkpoints:
    """The `keep` newest checkpoints of one run, in a folder that is made if it is missing. All JAX
    processes of the run call the methods, and process 0 alone writes.

    warn: is called with one line where a checkpoint is passed over or, from a thread, was not
        saved. The default prints to stderr.
    Raises UserError where the folder cannot be made or written to, and for keep < 1.
    """

    def __init__(self, folder: Path | str, keep: int = 2, warn: Callable[[str], None] | None = None):
        if keep < 1:
            raise UserError(f"checkpoints in {folder}: keep={keep} would keep none; give at least 1")
        self.folder, self.keep = Path(folder).absolute(), keep
        self._warn = warn or (lambda line: print(line, file=sys.stderr, flush=True))
        self._unusable: set[int] = set()  # passed over by restore_latest; the next save moves them aside
        self._pending: concurrent.futures.Future | None = None
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise UserError(f"checkpoint folder {self.folder}: {_one_line(error)}; choose one to write to") from error

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints that `restore_latest` did not pass over, ascending."""
        found = [step for step in self._found() if step not in self._unusable]
        return [s for s in found if all((self.folder / str(s) / part).exists() for part in ("state", "meta", FILES))]

    def save(self, step: int, state: Any, meta: dict | None = None) -> None:
        """Copy `state` to the host, so that the caller may donate its buffers, and write the copy
        in the background once the last save is done. A checkpoint of the same step is replaced.

        state: a pytree of numeric arrays, typed PRNG keys, Python numbers and None. meta: JSON.
        Raises UserError where the last save failed, where a leaf or meta cannot be saved, and where
        the folder holds a usable checkpoint of a later step.
        """
        self.wait()
        newest = max(set(self._found()) - self._unusable, default=0)
        if (step := operator.index(step)) < newest or step < 0:
            raise UserError(f"{self.folder} has step {newest}: {step} is too old; restore first, or empty the folder")
        leaves = _leaves(state)
        signatures = {path: _signature(leaf) for path, leaf in leaves.items()}
        keys = {path: str(jax.random.key_impl(leaf)) for path, leaf in leaves.items() if is_key(leaf)}
        try:
            record = json.loads(json.dumps({"leaves": signatures, "keys": keys, "meta": meta or {}}))
        except (TypeError, ValueError) as error:
            raise UserError(f"checkpoint meta must be JSON (numbers, text, lists, dicts): {_one_line(error)}") from error
        arrays = {path: _host_copy(path, leaf) for path, leaf in leaves.items()}
        record["digest"] = _digest(arrays, record)
        if jax.process_index() == 0:
            self._pending = self._worker.submit(self._write, step, arrays, record)

    def restore_latest(self, target: Any, at: int | None = None) -> tuple[Any, dict, int] | None:
        """(state, meta, step) of the newest intact checkpoint that fits `target`, or of step `at`;
        None where the folder has no checkpoint.

        Newer checkpoints that are damaged, or of another structure, are passed over with a one-line
        warning. They stay on disk, and the next save renames them to `<step>.unusable`.

        target: a pytree of arrays or `jax.ShapeDtypeStruct`s. NumPy arrays and Python numbers come
            back as such, other leaves as `jax.Array`s on the target's sharding, where it has one.
            The bits are those that were saved; a weak type comes back strong.
        Raises UserError where no checkpoint is usable or is of step `at`, and where a save failed.
        """
        self.wait()
        self._unusable, reasons = set(), []
        if at is not None and at not in self._found():
            there = ", ".join(map(str, self._found())) or "none"
            raise UserError(f"{self.folder} has no checkpoint of step {at}: there are {there}")
        for step in reversed(self._found() if at is None else [at]):
            try:  # in the worker: Orbax needs a thread without an event loop, and notebooks have one
                arrays, record = self._worker.submit(_read, self.folder / str(step), target).result()
            except Exception as error:  # damage shows as anything, from JSONDecodeError to a bare Exception
                self._unusable.add(step)
                reasons.append(f"step {step} ({_one_line(error)})")
                continue
            if reasons:
                self._warn(f"WARNING: {self.folder}: cannot use {'; '.join(reasons)}; using step {step} instead")
            values = [_place(arrays[path], like, record["keys"].get(path)) for path, like in _leaves(target).items()]
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

    def _found(self) -> list[int]:
        """Steps that have a folder with anything in it, ascending."""
        names = [path.name for path in self.folder.glob("[0-9]*")]
        steps = sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)
        return [step for step in steps if any((self.folder / str(step)).glob("*"))]

    def _write(self, step: int, arrays: dict[str, np.ndarray], record: dict) -> None:
        """In the worker: write under another name, rename, then delete the oldest checkpoints."""
        fresh = self.folder / f"{step}.new"
        try:
            self._delete("*.new", "*.deleted", "*.orbax-checkpoint-tmp")  # left by killed saves
            for unusable in sorted(self._unusable):  # perhaps only the settings are wrong
                self._rename(unusable, "unusable")
            self._unusable = set()
            filled = {path: array for path, array in arrays.items() if array.size}  # Orbax refuses arrays of size zero
            ocp, checkpointer = _checkpointer()
            with checkpointer:
                items = ocp.args.Composite(state=ocp.args.PyTreeSave(filled), meta=ocp.args.JsonSave(record))
                checkpointer.save(fresh, args=items)
            (fresh / FILES).write_text(json.dumps(_file_digests(fresh)))
            self._rename(step, "deleted")
            fresh.rename(self.folder / str(step))
            for old in self._found()[: -self.keep]:
                self._rename(old, "deleted")
            self._delete("*.deleted")
        except Exception as error:
            self._delete(f"{step}.new*")  # a full disk needs the room
            advice = "make room or rights there, and close() before the program ends"
            failed = UserError(f"{self.folder}: step {step} was not saved ({_one_line(error)}); {advice}")
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


def _checkpointer():
    """Orbax, and a checkpointer that waits for no other process."""
    import orbax.checkpoint as ocp  # here, because the import takes a second

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me))
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        state=ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
        meta=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    )
    return ocp, ocp.Checkpointer(handler, multiprocessing_options=alone)


def _read(folder: Path, target: Any) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the record of a checkpoint. Damage raises any Exception."""
    found = _file_digests(folder)
    if damaged := [name for name, sha in json.loads((folder / FILES).read_text()).items() if sha != found.get(name)]:
        raise UserError(f"{len(damaged)} files damaged or missing: {', '.join(damaged[:2])}")
    ocp, checkpointer = _checkpointer()
    with checkpointer:
        record = checkpointer.restore(folder, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        expected = {path: _signature(leaf) for path, leaf in _leaves(target).items()}
        if differences := _differences(record["leaves"], expected):
            raise UserError(f"it is of another structure: {differences}")
        leaves = record["leaves"].items()
        arrays = {path: np.empty(shape, np.uint32 if path in record["keys"] else d) for path, (d, shape) in leaves}
        how = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path, array in arrays.items() if array.size}
        items = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=how))
        read = checkpointer.restore(folder, args=items).state
    if _digest(arrays := arrays | read, record) != record["digest"]:
        raise UserError("its leaves do not match their digest")
    return arrays, record


def _digest(arrays: dict[str, np.ndarray], record: dict) -> str:
    """sha256 of the record and of all arrays, which shows that Orbax read intact files wrongly."""
    sha = hashlib.sha256(json.dumps([record[name] for name in ("leaves", "keys", "meta")]).encode())
    for path in sorted(arrays):
        sha.update(f"{path} {arrays[path].dtype} {arrays[path].shape}".encode())
        sha.update(arrays[path].reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != FILES]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _differences(saved: dict[str, list], expected: dict[str, list]) -> str:
    """Which leaves are missing, extra or different (the first three of each); empty if none."""
    found = {
        "missing": [path for path in expected if path not in saved],
        "extra": [path for path in saved if path not in expected],
        "different": [f"{p} {saved[p]} not {expected[p]}" for p in saved if saved[p] != expected.get(p, saved[p])],
    }
    return "; ".join(f"{len(which)} {kind} ({', '.join(which[:3])})" for kind, which in found.items() if which)


def _leaves(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _signature(leaf: Any) -> list:
    """[dtype, shape] of a leaf, where the shape of PRNG keys is that of their data."""
    shaped = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    shape = jax.eval_shape(jax.random.key_data, shaped).shape if is_key(leaf) else shaped.shape
    return [str(shaped.dtype), list(shape)]


def _host_copy(path: str, leaf: Any) -> np.ndarray:
    """A copy of the whole leaf: on a CPU a view would change with the caller's buffer."""
    try:
        array = np.array(fetch(jax.random.key_data(leaf) if is_key(leaf) else leaf), order="C")
    except Exception as error:
        raise UserError(f"cannot save state leaf {path}: {_one_line(error)}") from error
    if array.dtype.kind in "OSUMm" or not array.dtype.isnative:
        raise UserError(f"cannot save state leaf {path}: dtype {array.dtype} of {leaf!r:.40}; keep it in meta")
    return array


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


def _one_line(error: BaseException) -> str:
    """The error in one line of at most 320 characters or so."""
    text = " ".join(str(error).split())
    text = text if len(text) < 320 else f"{text[:150]} ... {text[-150:]}"  # tensorstore puts the cause last
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
