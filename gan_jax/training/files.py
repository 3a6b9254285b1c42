"""Files that a crash or a power failure leaves whole, and one writer at a time in a folder."""

import datetime
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import filelock
import numpy as np

from gan_jax.core.errors import UserError, say
from gan_jax.text import one_line

TEMPORARY = ".tmp"  # the ending of a file that is not whole yet
LOCK, WRITER = ".lock", ".writer.json"  # the lock of a folder's writer, and who has it


def warn(line: str) -> None:
    """Say on stderr, in one line, what was found damaged, skipped or left out."""
    say(f"WARNING: {one_line(line)}")


def fsync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk. Not all file systems can for folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path`, which is renamed to `path` once all of it is on disk."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()  # a full disk needs the room
        raise
    fsync(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write the whole text, as UTF-8, or nothing."""
    with _replacing(path) as file:
        file.write(text.encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray], save: Callable = np.savez) -> None:
    """Write the whole .npz file or nothing."""
    with _replacing(path) as file:
        save(file, **arrays)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """A context in which an OSError becomes a UserError of one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write to {path}: {reason}: free space or choose another folder") from None


class Writer:
    """The only writer of a folder, until `release`, as far as the file system's locks go: those of
    NFS hold between hosts. Raises UserError where there is another one, with host, process and
    time."""

    def __init__(self, folder: Path):
        self.folder, self._lock = folder, filelock.FileLock(folder / LOCK, thread_local=False)
        with writing(folder):
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                raise UserError(f"{folder} is being written by {_holder(folder)}: wait for its end, or stop it") from None
            except NotImplementedError:
                warn(f"{folder}: this file system has no locks, so another process could write there at the same time")
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            me = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
            write_atomic(folder / WRITER, json.dumps(me))

    def release(self) -> None:
        with suppress(OSError):
            (self.folder / WRITER).unlink()
        self._lock.release()


def _holder(folder: Path) -> str:
    try:
        about = json.loads((folder / WRITER).read_bytes())
        return one_line(f"process {about['pid']} of host {about['host']} since {about['since']}")
    except (OSError, ValueError, TypeError, KeyError):  # it is about to write who it is
        return "another process"
