"""Folders of runs, sweeps and studies: what makes a folder the same run, and files that a crash
leaves whole.

A run folder has recipe.json, metrics.jsonl, timings.jsonl, samples/*.png, checkpoints/, status.json
and report.html. metrics.jsonl holds what a resumed run repeats exactly, timings.jsonl the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.training.serialization import FORMAT, check_format, completed, differences


def environment() -> dict[str, Any]:
    """What bit-for-bit repetition depends on: versions, device kind and number, threads."""
    from importlib.metadata import version

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


def write_atomic(path: Path, text: str) -> None:
    """Write the whole text or nothing: beside the target, flushed to disk, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], save: Callable = np.savez) -> None:
    """The whole .npz file or nothing, as `write_atomic`."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        save(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class RunFolder:
    """The files of a run. Methods raise UserError where the folder cannot be used or written."""

    kind, record, inside = "run", "recipe.json", "samples"
    files = (
        *("recipe.json", "metrics.jsonl", "timings.jsonl", "status.json", "curves.png", "samples", "checkpoints"),
        *("report.html", "report.json", "damaged.jsonl"),
    )  # openings.jsonl stays: whoever opened the test images is on record
    identity = ("recipe", "data", "seed", "intervals", "warm_start")  # what makes a run the same run

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def exists(self) -> bool:
        return (self.path / self.record).exists()

    def read(self) -> dict[str, Any]:
        """The record (recipe.json) as a dict. Raises UserError where there is none of this
        format."""
        path = self.path / self.record
        try:
            record = json.loads(path.read_text())
        except OSError as error:
            raise UserError(
                f"{self.path} is not a {self.kind} folder: {self.record} cannot be read ({error.strerror})"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): use another folder or --overwrite") from None
        check_format(record, path)
        return record

    def start(self, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Make the folder this run's: a new one, an emptied one (`overwrite`), or one that holds
        the same run (`resume`)."""
        if self.exists and not overwrite:
            old = self.read()
            changed = differences({k: completed(old.get(k)) for k in self.identity}, {k: record.get(k) for k in self.identity})
            if changed and not resume:
                raise UserError(f"{self.path} holds another {self.kind} ({changed[0]}): choose another folder, or --overwrite")
            if changed:
                raise UserError(
                    f"{self.path} holds another {self.kind} ({'; '.join(changed[:3])}): resume it as it was, or --overwrite"
                )
            if not resume:
                raise UserError(f"{self.path} already holds this {self.kind}: --resume continues it, --overwrite starts again")
        elif not self.exists and not overwrite and self.path.is_dir() and any(self.path.iterdir()):
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
        """A row of metrics.jsonl, and how long it took as one of timings.jsonl."""
        self.append("metrics.jsonl", row)
        self.append("timings.jsonl", {"step": row["step"]} | timing)

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The whole lines of a .jsonl file. A line that a crash cut off is left out."""
        path, rows = self.path / name, []
        for line in path.read_text().split("\n")[:-1] if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def write_status(self, step: int, stopped: str | None) -> None:
        """How the run ended: at which step, and why if early."""
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
        """Drop what was logged after `step`. Returns the metrics that stay."""
        for name in ("metrics.jsonl", "timings.jsonl"):
            kept = [row for row in self.rows(name) if row["step"] <= step]
            with writing(self.path):
                write_atomic(self.path / name, "".join(json.dumps(row) + "\n" for row in kept))
        return self.rows()


class writing:
    """A context in which an OSError becomes a UserError of one line."""

    def __init__(self, path: Path | str):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise UserError(f"cannot write to {self.path}: {reason}: free space or choose another folder") from None


class StudyFolder(RunFolder):
    """The files of a study that compares methods: study.json, parts/*.npz (what each method found),
    table, pictures."""

    kind, record, inside = "study", "study.json", "parts"
    files = ("study.json", "parts", "table.csv", "pictures")
    identity = ("options",)

    def part(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What `make` returns, which is called once in this folder's life."""
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
    """The files of a sweep: sweep.json, plan.json, table.csv, ranking.csv, pictures, and for each
    part the files of a run in groups/<group>-<part>/.

    Groups that tasks trained have their plans in plans/, and their logs and nodes in tasks/.
    """

    kind, record, inside = "sweep", "sweep.json", "groups"
    files = (
        *("sweep.json", "plan.json", "table.csv", "ranking.csv", "ranking.txt", "groups", "pictures", "plans", "tasks"),
        *("report.html", "report.json", "report.csv", "rare_classes.csv", "by_class.csv"),
    )
    identity = ("settings", "names", "seeds", "sizes", "order", "data", "intervals", "warm_start")
