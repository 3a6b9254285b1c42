"""Limits of the fault campaign: a full disk, files that may not grow, few open files, a closed or
full stderr. Then the work goes on without the limit, and must give the same bits."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

from fault_children import HELD, REFUSED, SILENT, Child, Outcome, do, ending, stuck
from fault_kills import undisturbed
from fault_training import work

KINDS = ("run", "sweep", "report", "study", "tasks")
LIMITS = ("disk", "disk", "disk", "file size", "open files", "stderr closed", "stderr full")


def attempt(root: Path, number: int, draw: random.Random) -> Outcome | None:
    """Case `number`; None where this machine cannot limit the disk."""
    kind, limit = KINDS[number % len(KINDS)], draw.choice(LIMITS)
    _, expected = undisturbed(root, kind)
    place, note = root / kind / f"limited {number}", root / "note"
    sizes = [path.stat().st_size for path in (root / kind / "undisturbed").rglob("*") if path.is_file()]
    needed = {"disk": sum(sizes), "file size": max(sizes), "open files": 80}.get(limit, 0)
    amount = int(draw.uniform(0.05, 1) * needed)
    place.mkdir(exist_ok=True)
    if limit == "disk" and _mounted(place, amount) != 0:
        return None
    try:
        child = Child(root / "out.txt", limited, limit, amount, kind, place / "it", root / "cache")
        first, case = ending(child.wait(), child.lines), f"{limit} {amount or ''}"
        if first and first[0] != REFUSED:
            return Outcome(kind, case, *first)
        if limit == "disk":
            _mounted(place, 2**28, "remount,")
        note.unlink(missing_ok=True)
        bad, _ = do(root / "out.txt", work, kind, place / "it", root / "cache", 0, note)
        if bad:
            return stuck(kind, f"{case}, then without limit", *bad)
        same = note.read_text() == expected
    finally:
        if limit == "disk":
            subprocess.run(["umount", place])
    how = (REFUSED if first else HELD) if same else SILENT
    return Outcome(kind, case, how, first[1] if first else "")


def _mounted(place: Path, size: int, again: str = "") -> int:
    """Mount a file system in memory of this many bytes. Returns 0 where that worked."""
    command = ["mount", "-t", "tmpfs", "-o", f"{again}size={size}", "tmpfs", place]
    return subprocess.run(command, capture_output=True).returncode if sys.platform == "linux" else 1


def limited(limit: str, amount: int, kind: str, folder: Path, cache: Path) -> None:
    """Make a kind's folder under a limit."""
    if limit == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (amount, amount))
    elif limit == "open files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(amount, 12), max(amount, 12)))
    elif limit == "stderr closed":
        sys.stderr = None
        os.close(2)
    elif limit == "stderr full":
        sys.stderr = open("/dev/full", "w")
        os.dup2(sys.stderr.fileno(), 2)
    work(kind, folder, cache, 0, None)
