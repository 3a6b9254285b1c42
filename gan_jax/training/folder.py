"""Folders of runs, sweeps and studies.

A run folder has recipe.json, metrics.jsonl, timings.jsonl, samples/*.png, curves.png, checkpoints/,
status.json, report.html and report.json, and where there was cause damaged.jsonl and
openings.jsonl; see `schemas`. A resumed run repeats metrics.jsonl bit for bit; timings.jsonl
differs.
"""

import hashlib
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from gan_jax.arguments import not_both
from gan_jax.core.errors import UserError, say
from gan_jax.training import schemas
from gan_jax.training.checkpoint_files import saved_steps
from gan_jax.training.files import LOCK, TEMPORARY, WRITER, Writer, fsync, warn, write_atomic, writing
from gan_jax.training.serialization import FORMAT, check_format, completed, differences_of_runs

WARM = "warm_start"  # the entry of a record that names the run which training began from


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


def identity_digest(record: dict[str, Any]) -> str:
    """sha256 of the entries of a run's record that make it this run."""
    own = {name: record.get(name) for name in RunFolder.identity}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def paths_of(record: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """{key: [absolute, relative to the folder]}, for each file or folder of the user's that the
    record's source names, or its warm start, as seen from the present working directory."""
    found = {}
    for key, value in {**(record.get("source") or {}), WARM: record.get(WARM)}.items():
        _, path = _split_path(key, value)
        if path and os.path.exists(path := os.path.abspath(os.path.expanduser(path))):
            found[key] = [path, os.path.relpath(path, folder.absolute())]
    return found


def sources_of(record: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The sources under which the data of a record may be found: where they were, where they lie as
    seen from the run folder, and as they were named."""
    source, paths = record["source"], {key: at for key, at in (record.get("paths") or {}).items() if key != WARM}
    where = ({key: at[0] for key, at in paths.items()}, {key: str(folder.absolute() / at[1]) for key, at in paths.items()})
    there = [at for at in where if at and all(map(os.path.exists, at.values()))]
    named = [source | {key: _split_path(key, source[key])[0] + path for key, path in at.items()} for at in there]
    return named or [source]


def warm_start_of(record: dict[str, Any], folder: Path) -> str | None:
    """The run folder that a record says training began from: where it was, where it lies as seen
    from the folder of the record, or as it was named."""
    at = (record.get("paths") or {}).get(WARM)
    places = [] if at is None else [at[0], os.path.normpath(folder.absolute() / at[1])]
    return next(filter(os.path.exists, places), record.get(WARM))


def _split_path(key: str, value: Any) -> tuple[str, str]:
    """("folder:", path), ("npz:", path), or ("", "") for what is no path."""
    kind, colon, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    if key in ("data_dir", WARM):
        return "", str(value or "")
    return (kind + colon, path) if kind in ("folder", "npz") else ("", "")


class RunFolder:
    """The files of a run. Methods raise UserError where the folder cannot be used or written."""

    # what messages call it, the file of its record, the subfolder that it begins with, and the
    # schema of the record
    kind, record, inside, schema = "run", "recipe.json", "samples", schemas.RUN
    files = (
        *("recipe.json", "metrics.jsonl", "timings.jsonl", "status.json", "curves.png", "samples", "checkpoints"),
        *("report.html", "report.json", "damaged.jsonl"),
    )  # without openings.jsonl, so that each opening of the test images stays on record
    identity = ("recipe", "data", "seed", "intervals", "warm_start")  # entries of the record that make a run the same run

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._writer: Writer | None = None
        self._rows = hashlib.sha256()  # of metrics.jsonl, as far as it is written

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
            text = path.read_bytes()
            check_format(schemas.parsed(text, schemas.ANYTHING), path)
            return schemas.parsed(text, self.schema)
        except OSError as error:
            why = f"{self.record} cannot be read ({error.strerror})"
            raise UserError(f"{self.path} is not a {self.kind} folder: {why}") from None
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): use another folder or --overwrite") from None

    def check(self, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Raises UserError where `start` would refuse the folder. Nothing is written."""
        not_both(resume, overwrite)
        if folders := [name for name in self.files if "." in name and not overwrite and (self.path / name).is_dir()]:
            raise UserError(f"{self.path / folders[0]} is a folder, where a file is to be written: move it away")
        if self.exists and not overwrite:
            old = self.read()
            now = {k: record.get(k) for k in self.identity}
            if (given := now.get(WARM)) and (there := warm_start_of(old, self.path)):
                same = os.path.realpath(given) == os.path.realpath(there)
                now[WARM] = old[WARM] if same else os.path.abspath(given) if given == old[WARM] else given
            changed = differences_of_runs({k: completed(old.get(k)) for k in self.identity}, now)
            if changed:
                which, advice = (changed[:3], "resume it as it was") if resume else (changed[:1], "choose another folder")
                raise UserError(f"{self.path} holds another {self.kind} ({'; '.join(which)}): {advice}, or --overwrite")
            if not resume:
                raise UserError(f"{self.path} already holds this {self.kind}: --resume continues it, --overwrite starts again")
            if (done := max(saved_steps(self.checkpoints), default=0)) > record.get("steps", done):
                what = f"{self.path} is trained to step {done}, and steps={record['steps']} is less"
                raise UserError(f"{what}: give {done} or more, or open it at a step that it keeps")
        elif not overwrite and self.path.is_dir() and any(not self._leftover(path) for path in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and is not a {self.kind} folder: choose another, or --overwrite")

    def _leftover(self, path: Path) -> bool:
        """Whether a start that was killed, before its record was written, left this behind."""
        empty = path.name == self.inside and path.is_dir() and not any(path.iterdir())
        return empty or path.name in (LOCK, WRITER, self.record + TEMPORARY, WRITER + TEMPORARY)

    def acquire(self, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """`start` as the only writer, until `release`. Removes what killed writers did not
        finish."""
        self.check(record, resume, overwrite)
        if resume and not self.exists:
            say(f"{self.path} holds no {self.kind} to resume: a new one begins")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(self.path)
            for where in (self.path, self.path / self.inside):
                for name in (*self.files, *(path.name for path in where.glob(f"*.png{TEMPORARY}"))):
                    (where / (name.removesuffix(TEMPORARY) + TEMPORARY)).unlink(missing_ok=True)
        try:
            self.start(record, resume, overwrite)  # checks again: another writer may have come before
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._writer:
            self._writer.release()
        self._writer = None

    def start(self, record: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Begin a run in an empty folder, or with `overwrite` in any, whose run is removed; with
        `resume`, go on in the folder of the same run."""
        self.check(record, resume, overwrite)
        with writing(self.path):
            if overwrite:
                self.clear()
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.exists:
                paths = paths_of(record, self.path)
                write_atomic(self.path / self.record, json.dumps({"format": FORMAT} | record | {"paths": paths}, indent=1))
            elif (old := self.read()).get("steps") != record.get("steps"):  # extended
                write_atomic(self.path / self.record, json.dumps(old | {"steps": record["steps"]}, indent=1))
            (self.path / self.inside).mkdir(exist_ok=True)

    def clear(self) -> None:
        """Remove the files of a run, its record last, and no others."""
        reports = self.path.glob(f"report-*-{'[0-9a-f]' * 8}.*")  # in other features, see `report.free_name`
        files = [self.path / name for name in self.files]
        for path in sorted([*files, *reports], key=lambda path: path.name == self.record):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """One JSON line, on disk when this returns."""
        path, line = self.path / name, json.dumps(row) + "\n"
        with writing(self.path):
            new = not path.exists()
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                fsync(self.path)
        if name == "metrics.jsonl":
            self._rows.update(line.encode())

    def log(self, row: dict[str, Any], timing: dict[str, float]) -> None:
        """Append a row to metrics.jsonl, and how long its steps took to timings.jsonl."""
        self.append("metrics.jsonl", row)
        self.append("timings.jsonl", {"step": row["step"]} | timing)

    def about(self) -> dict[str, Any]:
        """What a checkpoint says of the present: the environment, and a digest of the rows."""
        return {"environment": environment(), "rows": self._rows.hexdigest()}

    def history(self, step: int, about: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows up to the step of a checkpoint, with a warning where they are not as they were
        written. about: what the checkpoint says."""
        rows, damaged = self.intact()
        if damaged:
            warn(f"{self.path / 'metrics.jsonl'} is damaged: {damaged}: left out of the history")
        kept = [row for row in rows if row["step"] <= step]
        if not damaged:
            self._check_rows(_lines(kept), step, about)
        return kept

    def _check_rows(self, text: str, step: int, about: dict[str, Any]) -> None:
        found = hashlib.sha256(text.encode()).hexdigest()
        if about.get("rows", found) != found:
            what = f"its rows up to step {step} are not those that were written"
            warn(f"{self.path / 'metrics.jsonl'} was changed: {what}, and are taken as they are")

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The rows of a .jsonl file, without damaged ones and a last one that a crash cut off."""
        return self.intact(name)[0]

    def intact(self, name: str = "metrics.jsonl") -> tuple[list[dict[str, Any]], str]:
        """The rows of a .jsonl file, and which lines of it are damaged, in words; '' where none is.

        A line is damaged where it is not of the file's schema, and where its step does not lie
        between those of its neighbours.
        """
        path, rows, damaged, schema = self.path / name, {}, {}, schemas.ROWS.get(name, schemas.ANYTHING)
        try:
            text = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): move it away, or put a backup back") from None
        for number, line in enumerate(text.split(b"\n")[:-1], 1):
            try:
                rows[number] = schemas.parsed(line, schema)
            except ValueError as error:
                damaged[number] = str(error)
        if name in ("metrics.jsonl", "timings.jsonl"):
            steps, before = [*(row["step"] for row in rows.values()), math.inf, math.inf], -1
            for number, at, after, later in zip(list(rows), steps, steps[1:], steps[2:], strict=False):
                if at <= before or (at >= after and at >= later):
                    damaged[number] = f"step {at} does not lie between steps {before} and {after}"
                else:
                    before = at
        lines = [f"line {number} ({damaged[number]})" for number in sorted(damaged)[:3]]
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        return [row for number, row in rows.items() if number not in damaged], ", ".join(lines) + more

    def write_status(self, step: int, stopped: str | None) -> None:
        """Write at which step the run ended, and why where it ended early."""
        with writing(self.path):
            write_atomic(self.path / "status.json", json.dumps({"step": step, "stopped": stopped}))

    def stopped(self, step: int) -> str | None:
        """Why the run ended early at `step`; None where it did not, or was killed."""
        try:
            status = schemas.parsed((self.path / "status.json").read_bytes(), schemas.STATUS)
        except OSError:
            return None
        except ValueError as error:
            warn(f"{self.path / 'status.json'} is damaged ({error}): whether the run was stopped early is not known")
            return None
        return status["stopped"] if status["step"] == step else None

    def truncate(self, step: int, about: dict[str, Any]) -> list[dict[str, Any]]:
        """Drop the rows after `step`. Returns the rows of metrics.jsonl that stay. A damaged file
        is kept beside the new one, with a warning. about: what the checkpoint of that step says."""
        kept = {}
        for name in ("metrics.jsonl", "timings.jsonl"):
            path, (rows, damaged) = self.path / name, self.intact(name)
            kept[name] = [row for row in rows if row["step"] <= step]
            text = _lines(kept[name])
            if name == "metrics.jsonl":
                self._rows = hashlib.sha256(text.encode())
                if step > 0 and (not kept[name] or kept[name][-1]["step"] < step):
                    damaged = damaged or f"it has no row of step {step}, which the checkpoint has reached"
                if not damaged:
                    self._check_rows(text, step, about)
            if damaged and not path.exists():
                warn(f"{path} is not there: the rows up to step {step} are lost")
            elif not damaged and path.exists() and path.read_bytes() == text.encode():
                continue
            with writing(self.path):
                if damaged and path.exists():
                    aside = next(p for n in itertools.count(1) if not (p := path.with_suffix(f".damaged-{n}.jsonl")).exists())
                    shutil.copyfile(path, aside)
                    warn(f"{path} is damaged: {damaged}: these rows are lost, and the file is kept as {aside.name}")
                write_atomic(path, text)
        return kept["metrics.jsonl"]


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
