"""Folders of runs, sweeps and studies, and files that a crash leaves whole.

A run folder has recipe.json, metrics.jsonl, timings.jsonl, samples/*.png, checkpoints/, status.json
and report.html. A resumed run repeats metrics.jsonl exactly, and timings.jsonl not.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.training.serialization import FORMAT, check_format, completed, differences


def environment() -> dict[str, Any]:
    """All that bit-for-bit repetition depends on: versions, device kind and number, threads."""
    names = ("gan_jax", "jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    device = jax.devices()[0]
    return {
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in names},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def git_commit() -> str | None:
    """The commit of this code, with '+' where files have changed since; None outside a checkout."""
    here = Path(__file__).parent
    git = lambda *a: subprocess.run(["git", "-C", here, *a], capture_output=True, text=True)
    try:
        head, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "") if head.returncode == 0 else None


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path`, which is renamed to `path` once all of it is on disk."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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


class RunFolder:
    """The files of a run. Methods raise UserError where the folder cannot be used or written."""

    kind, record, inside = "run", "recipe.json", "samples"
    files = (
        *("recipe.json", "metrics.jsonl", "timings.jsonl", "status.json", "curves.png", "samples", "checkpoints"),
        *("report.html", "report.json", "damaged.jsonl"),
    )  # without openings.jsonl, so that each opening of the test images stays on record
    identity = ("recipe", "data", "seed", "intervals", "warm_start")  # entries of the record that make a run the same run

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def exists(self) -> bool:
        return (self.path / self.record).exists()

    def read(self) -> dict[str, Any]:
        """The record (recipe.json). Raises UserError where there is none of this format."""
        path = self.path / self.record
        try:
            record = json.loads(path.read_text())
        except OSError as error:
            why = f"{self.record} cannot be read ({error.strerror})"
            raise UserError(f"{self.path} is not a {self.kind} folder: {why}") from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): use another folder or --overwrite") from None
        check_format(record, path)
        return record

    def start(self, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Begin a run in a free folder, or with its own run (`resume`), or in any (`overwrite`)."""
        if self.exists and not overwrite:
            old = self.read()
            changed = differences({k: completed(old.get(k)) for k in self.identity}, {k: record.get(k) for k in self.identity})
            if changed:
                which, advice = (changed[:3], "resume it as it was") if resume else (changed[:1], "choose another folder")
                raise UserError(f"{self.path} holds another {self.kind} ({'; '.join(which)}): {advice}, or --overwrite")
            if not resume:
                raise UserError(f"{self.path} already holds this {self.kind}: --resume continues it, --overwrite starts again")
        elif not overwrite and self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and is not a {self.kind} folder: choose another, or --overwrite")
        with writing(self.path):
            if overwrite:
                self.clear()
            (self.path / self.inside).mkdir(parents=True, exist_ok=True)
            if not self.exists:
                write_atomic(self.path / self.record, json.dumps({"format": FORMAT} | record, indent=1))
            elif (old := self.read()).get("steps") != record.get("steps"):  # extended
                write_atomic(self.path / self.record, json.dumps(old | {"steps": record["steps"]}, indent=1))

    def clear(self) -> None:
        """Remove the files of a run, and no others."""
        for name in self.files:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """One JSON line, on disk when this returns."""
        with writing(self.path), open(self.path / name, "a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def log(self, row: dict[str, Any], timing: dict[str, float]) -> None:
        """Append a row to metrics.jsonl, and how long its steps took to timings.jsonl."""
        self.append("metrics.jsonl", row)
        self.append("timings.jsonl", {"step": row["step"]} | timing)

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The rows of a .jsonl file, without a line that a crash cut off."""
        path, rows = self.path / name, []
        for line in path.read_text().split("\n")[:-1] if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def write_status(self, step: int, stopped: str | None) -> None:
        """Write at which step the run ended, and why where it ended early."""
        with writing(self.path):
            write_atomic(self.path / "status.json", json.dumps({"step": step, "stopped": stopped}))

    def stopped(self, step: int) -> str | None:
        """Why the run ended early at `step`; None where it did not, or was killed."""
        try:
            status = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return None
        return status.get("stopped") if status.get("step") == step else None

    def truncate(self, step: int) -> list[dict[str, Any]]:
        """Drop the rows after `step`. Returns the rows of metrics.jsonl that stay."""
        for name in ("metrics.jsonl", "timings.jsonl"):
            kept = [row for row in self.rows(name) if row["step"] <= step]
            with writing(self.path):
                write_atomic(self.path / name, "".join(json.dumps(row) + "\n" for row in kept))
        return self.rows()


class StudyFolder(RunFolder):
    """A study that compares methods: study.json, parts/*.npz (of each method), table, pictures."""

    kind, record, inside = "study", "study.json", "parts"
    files = ("study.json", "parts", "table.csv", "pictures")
    identity = ("options",)

    def part(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of this part, read from the folder where `make` was called before."""
        path = self.path / self.inside / f"{name}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as found:
                    return dict(found)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is damaged ({error}): delete it and --resume") from None
        made = make()
        with writing(self.path):
            write_arrays(path, made, np.savez_compressed)
        return made


class SweepFolder(RunFolder):
    """A sweep: sweep.json, plan.json, table.csv, ranking.csv, pictures, and the files of a run in
    groups/<group>-<part>/. The plans of tasks are in plans/, their logs and nodes in tasks/."""

    kind, record, inside = "sweep", "sweep.json", "groups"
    files = (
        *("sweep.json", "plan.json", "table.csv", "ranking.csv", "ranking.txt", "groups", "pictures", "plans", "tasks"),
        *("report.html", "report.json", "report.csv", "rare_classes.csv", "by_class.csv"),
    )
    identity = ("settings", "names", "seeds", "sizes", "order", "data", "intervals", "warm_start")
