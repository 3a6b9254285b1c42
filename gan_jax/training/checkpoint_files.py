"""The files of one checkpoint: written, listed, read and compared with what they should be."""

import hashlib
import json
import logging
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.training import schemas
from gan_jax.training.distributed import fetch, is_key
from gan_jax.training.files import fsync

FILES = "files.json"  # sha256 of every file of a checkpoint
_alone = threading.Lock()


def saved_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, ascending."""
    return [s for s in found_steps(folder) if all((folder / str(s) / part).exists() for part in ("state", "meta", FILES))]


def found_steps(folder: Path) -> list[int]:
    """Steps that have a folder with anything in it, ascending."""
    names = [path.name for path in folder.glob("[0-9]*")]
    steps = sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)
    return [step for step in steps if any((folder / str(step)).glob("*"))]


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


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without the pages that Orbax logs and tensorstore prints of an error, which is
    raised anyhow."""
    _alone.acquire()  # so that each context leaves the settings as it found them
    log, hook = logging.getLogger("absl"), sys.unraisablehook
    before, log.disabled = log.disabled, True
    sys.unraisablehook = lambda found: None if "loop is closed" in str(found.exc_value) else hook(found)
    try:
        yield
    except BaseException:
        time.sleep(0.2)  # the other writes that were begun end after the first that failed
        raise
    finally:
        log.disabled, sys.unraisablehook = before, hook
        _alone.release()


@contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """A path to a checkpoint's folder without characters that mean something to Orbax, which takes
    the path for a pattern or an address."""
    if re.fullmatch(r"[\w/.,=+@ -]*", str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gan_jax-") as where:
        link = Path(where) / "checkpoints"
        link.symlink_to(folder.parent, target_is_directory=True)
        yield link / folder.name


def write_files(folder: Path, arrays: dict[str, np.ndarray], record: dict) -> None:
    """Write all files of a checkpoint, onto the disk."""
    filled = {path: array for path, array in arrays.items() if array.size}  # Orbax refuses arrays of size zero
    ocp, checkpointer = _checkpointer()
    with _quiet(), checkpointer, _plain(folder) as plain:
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(filled), meta=ocp.args.JsonSave(record))
        checkpointer.save(plain, args=items)
    (folder / FILES).write_text(json.dumps(_file_digests(folder)))
    for path in [*folder.rglob("*"), folder]:
        fsync(path)


def read_files(folder: Path, target: Any, step: int, run: str | None) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the record of a checkpoint of this step and run. Damage raises anything."""
    found = _file_digests(folder)
    digests = schemas.parsed((folder / FILES).read_bytes(), schemas.FILES)
    if damaged := [name for name, sha in digests.items() if sha != found.get(name)]:
        raise UserError(f"{len(damaged)} files damaged or missing: {', '.join(damaged[:2])}")
    ocp, checkpointer = _checkpointer()
    with _quiet(), checkpointer, _plain(folder) as plain:
        record = checkpointer.restore(plain, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        schemas.parsed(json.dumps(record).encode(), schemas.LEAVES)
        _check_origin(record, step, run)
        expected = {path: signature(leaf) for path, leaf in leaves_of(target).items()}
        if differences := _differences(record["leaves"], expected):
            raise UserError(f"it is of another structure: {differences}")
        leaves = record["leaves"].items()
        arrays = {path: np.empty(shape, np.uint32 if path in record["keys"] else d) for path, (d, shape) in leaves}
        how = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path, array in arrays.items() if array.size}
        items = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=how))
        read = checkpointer.restore(plain, args=items).state
    if digest_of(arrays := arrays | read, record) != record["digest"]:
        raise UserError("its leaves do not match their digest")
    return arrays, record


def _check_origin(record: dict, step: int, run: str | None) -> None:
    """Raises UserError for a checkpoint of another step or run. Those of earlier versions say
    neither."""
    if record.get("step") not in (None, step):
        raise UserError(f"it is that of step {record['step']}, under another name")
    if run and record.get("run") not in (None, run):
        raise UserError("it is of another run, or the run's record was changed since")


def digest_of(arrays: dict[str, np.ndarray], record: dict) -> str:
    """sha256 of the record and of all arrays, which shows that Orbax read intact files wrongly."""
    sha = hashlib.sha256(
        json.dumps([record[name] for name in ("leaves", "keys", "meta", "step", "run") if name in record]).encode()
    )
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


def leaves_of(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def signature(leaf: Any) -> list:
    """[dtype, shape] of a leaf, where the shape of PRNG keys is that of their data."""
    shaped = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    shape = jax.eval_shape(jax.random.key_data, shaped).shape if is_key(leaf) else shaped.shape
    return [str(shaped.dtype), list(shape)]


def host_copy(path: str, leaf: Any) -> np.ndarray:
    """A copy of the whole leaf: on a CPU a view would change with the caller's buffer."""
    try:
        array = np.array(fetch(jax.random.key_data(leaf) if is_key(leaf) else leaf), order="C")
    except Exception as error:
        raise UserError(f"cannot save state leaf {path}: {in_one_line(error)}") from error
    if array.dtype.kind in "OSUMm" or not array.dtype.isnative:
        raise UserError(f"cannot save state leaf {path}: dtype {array.dtype} of {leaf!r:.40}; keep it in meta")
    return array


def in_one_line(error: BaseException) -> str:
    """The error in one line of at most 320 characters or so."""
    text = " ".join(str(error).split())
    text = text if len(text) < 320 else f"{text[:150]} ... {text[-150:]}"  # tensorstore puts the cause last
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
