"""The run folder: recipe.json, metrics.jsonl, timings.jsonl, samples/*.png, checkpoints/,
status.json, report.html.

metrics.jsonl holds what a resumed run repeats exactly; wall-clock times go to timings.jsonl.
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
    """The commit of the code that runs, with '+' where it was changed since; None outside a
    checkout."""
    here = Path(__file__).parent
    git = lambda *a: subprocess.run(["git", "-C", here, *a], capture_output=True, text=True)
    try:
        head, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "") if head.returncode == 0 else None


def write_atomic(path: Path, text: str) -> None:
    """The whole text or nothing: written beside the target, flushed to disk, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class RunFolder:
    """A run's files. Raises UserError where the folder cannot be used or written."""

    kind, record, inside = "run", "recipe.json", "samples"
    files = (
        *("recipe.json", "metrics.jsonl", "timings.jsonl", "status.json", "curves.png", "samples", "checkpoints"),
        *("report.html", "report.json", "damaged.jsonl"),
    )  # not openings.jsonl: that S was opened is not forgotten
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
        """The record (recipe.json) as a dict. Raises UserError where there is none of this format."""
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
        """Make the folder this run's: new, emptied (`overwrite`), or, if the same run is in it,
        continued (`resume`)."""
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
        """Remove what was written here, and nothing else."""
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

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The whole lines of a .jsonl file; a line cut off by a crash is left out."""
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
        """Why the run ended early at `step`, or None: it did not, or it never said (killed)."""
        try:
            status = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return None
        return status.get("stopped") if status.get("step") == step else None

    def truncate(self, step: int) -> list[dict[str, Any]]:
        """Forget what was logged after `step`; returns the metrics kept."""
        for name in ("metrics.jsonl", "timings.jsonl"):
            kept = [row for row in self.rows(name) if row["step"] <= step]
            with writing(self.path):
                write_atomic(self.path / name, "".join(json.dumps(row) + "\n" for row in kept))
        return self.rows()


class writing:
    """A context in which a failing disk becomes one clear line."""

    def __init__(self, path: Path | str):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise UserError(f"cannot write to {self.path}: {reason}: free space or choose another folder") from None


class StudyFolder(RunFolder):
    """A comparison's files: study.json, parts/*.npz (what each method found, kept as soon as it is
    there), table, pictures."""

    kind, record, inside = "study", "study.json", "parts"
    files = ("study.json", "parts", "table.csv", "pictures")
    identity = ("options",)

    def part(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What `make` returns, or returned when it was first asked for in this folder."""
        path = self.path / self.inside / f"{name}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as found:
                    return dict(found)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is damaged ({error}): delete it and --resume") from None
        made, temporary = make(), path.with_suffix(".tmp")
        with writing(self.path):
            with open(temporary, "wb") as file:
                np.savez_compressed(file, **made)  # pyright: ignore[reportArgumentType]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        return made


class SweepFolder(RunFolder):
    """A sweep's files: sweep.json, plan.json, table.csv, ranking.csv, pictures, and groups/<n>/
    with a run's files each.

    Groups that were trained as tasks of their own have their plans in plans/, and where they ran in
    tasks/.
    """

    kind, record, inside = "sweep", "sweep.json", "groups"
    files = (
        *("sweep.json", "plan.json", "table.csv", "ranking.csv", "ranking.txt", "groups", "pictures", "plans", "tasks"),
        *("report.html", "report.json", "report.csv", "rare_classes.csv", "by_class.csv"),
    )
    identity = ("settings", "names", "seeds", "sizes", "order", "data", "intervals", "warm_start")
