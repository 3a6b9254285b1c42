"""Kills of the fault campaign: a process ends at a random moment, once or twice, and the work goes
on in another one. In the end the folder must hold the same bits as an undisturbed one."""

from __future__ import annotations

import functools
import random
import shutil
import signal
import time
from pathlib import Path

from fault_children import HANG, HELD, LIMIT, SILENT, Child, Outcome, do, ending, stuck
from fault_training import work

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# What is disturbed, when, how, and how often.
CASES: tuple[tuple[str, str, signal.Signals, int], ...] = (
    ("run", "at any moment", KILL, 1),
    ("sweep", "at any moment", KILL, 1),
    ("run", "while a checkpoint is written", KILL, 1),
    ("processes", "at any moment", KILL, 1),
    ("sweep", "while a checkpoint is written", KILL, 1),
    ("run", "at any moment", KILL, 2),
    ("report", "while the report is written", KILL, 1),
    ("run", "at any moment", TERM, 1),
    ("sweep", "at any moment", KILL, 2),
    ("run", "while it compiles", KILL, 1),
    ("tasks", "at any moment", KILL, 1),
    ("run", "at any moment", INT, 1),
    ("report", "at any moment", KILL, 1),
    ("sweep", "at any moment", TERM, 1),
    ("study", "while a part is written", KILL, 1),
    ("sweep", "while it compiles", KILL, 1),
    ("report", "while a picture is written", KILL, 1),
    ("sweep", "at any moment", INT, 1),
    ("run", "while its record is written", KILL, 1),
    ("tasks", "while the data are written", KILL, 1),
)
FILES = {  # what appears while it is written
    "while a checkpoint is written": ("checkpoints/*.new*", "groups/*/checkpoints/*.new*"),
    "while the report is written": ("report.*.tmp",),
    "while a part is written": ("parts/*.tmp",),
    "while a picture is written": ("*.png.tmp", "samples/*.tmp"),
    "while its record is written": ("recipe.json.tmp",),
    "while the data are written": ("tasks/data.npz.tmp",),
}


@functools.cache
def undisturbed(root: Path, kind: str) -> tuple[float, str]:
    """(seconds that it takes once its programs are compiled, what its folder holds)."""
    note, places = root / "note", [root / kind / name for name in ("compiling", "undisturbed")]
    for folder in places:
        folder.parent.mkdir(exist_ok=True)
        child = begin(root, kind, folder, root / "cache", note)
        if child.wait(600) != 0:
            raise RuntimeError(f"{kind} fails without any fault: {child.lines[-5:]}")
    return child.seconds, note.read_text()


def begin(root: Path, kind: str, folder: Path, cache: Path, note: Path | None) -> Child:
    """Make it in a process of its own."""
    return Child(root / "out.txt", work, kind, folder, cache, 0, note)


def attempt(root: Path, number: int, draw: random.Random) -> Outcome:
    """Case `number`: the kinds take turns."""
    kind, when, how, times = CASES[number % len(CASES)]
    seconds, expected = undisturbed(root, kind)
    folder, note, killed, cache = root / kind / f"killed {number}", root / "note", [], root / "cache"
    if when == "while it compiles":
        cache = root / "own cache"
        shutil.rmtree(cache, ignore_errors=True)
    for _ in range(times):
        child = begin(root, kind, folder, cache, None)
        wait(child, folder, when, draw, seconds)
        after = f"{child.seconds:.2f} s" if child.is_alive() else "its end"
        if not child.end(how, draw):
            return Outcome(kind, f"{how.name} {when}", HANG, f"does not end after {how.name}")
        killed.append(after)
    case = f"{how.name} {when}, after {' and '.join(killed)}"
    note.unlink(missing_ok=True)
    if kind == "processes":  # which are forked, as no process can be that has used JAX
        child = begin(root, kind, folder, cache, note)
        bad = ending(child.wait(), child.lines)
    else:
        bad, _ = do(root / "out.txt", work, kind, folder, cache, 0, note)
    if bad:
        return stuck(kind, case, *bad)
    same = note.read_text() == expected
    shutil.rmtree(folder)
    return Outcome(kind, case, HELD if same else SILENT, "" if same else note.read_text()[:300])


def wait(child: Child, folder: Path, when: str, draw: random.Random, seconds: float) -> None:
    """Until the moment of the kill."""
    if when not in FILES:
        time.sleep(draw.uniform(0, 2 * seconds if when == "while it compiles" else seconds))
        return
    wanted = draw.randint(1, 4) if "checkpoint" in when or "picture" in when else 1
    seen: set[Path] = set()
    while child.is_alive() and child.seconds < LIMIT:
        seen.update(path for pattern in FILES[when] for path in folder.glob(pattern))
        if len(seen) >= wanted:
            break
        time.sleep(0.0005)
    time.sleep(draw.choice([0, draw.uniform(0, 0.02)]))
