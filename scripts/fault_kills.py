"""Kills of the fault campaign: a process dies with -9 at a random moment, once or twice, and the
work goes on in another one. In the end the folder must hold the same bits as an undisturbed one."""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import fault_training as training
from fault_children import HELD, SILENT, Child, Outcome, ending

CASES: tuple[tuple[str, str, Callable], ...] = (
    ("run", "at any moment", training.train_run),
    ("run", "twice", training.train_run),
    ("run", "while a checkpoint is written", training.train_run),
    ("sweep", "at any moment", training.train_sweep),
    ("sweep", "twice", training.train_sweep),
    ("report", "at any moment", training.report_run),
    ("report", "while the report is written", training.report_run),
)


@functools.cache
def undisturbed(root: Path, work: Callable) -> tuple[float, str]:
    """(seconds that the work takes once its programs are compiled, what its folder holds)."""
    for name in ("compiling", "undisturbed"):
        folder = root / f"{name} {work.__name__}"
        child = Child(root / "out.txt", work, folder, root / "cache")
        if child.wait(600) != 0:
            raise RuntimeError(f"{work.__name__} fails without any fault: {child.lines[-5:]}")
    return child.seconds, held(root, folder)


def held(root: Path, folder: Path) -> str:
    """What a folder holds when another process opens it; the error where it cannot be opened."""
    note = root / "note"
    note.unlink(missing_ok=True)
    child = Child(root / "out.txt", training.open_again, folder, root / "cache", note)
    code = child.wait()
    bad = ending(code, child.lines)
    report = folder / "report.json"
    return " ".join(bad) if bad else note.read_text() + (report.read_text() if report.exists() else "")


def attempt(root: Path, number: int, draw: random.Random) -> Outcome:
    """Case `number`: the kinds take turns."""
    group, how, work = CASES[number % len(CASES)]
    seconds, expected = undisturbed(root, work)
    folder, killed = root / f"killed {number}", []
    for _ in range(2 if how == "twice" else 1):
        child = Child(root / "out.txt", work, folder, root / "cache")
        wait(child, folder, how, draw, seconds)
        killed.append(f"{child.seconds:.2f} s" if child.kill() else "had ended")
    case = f"killed {how} ({', '.join(killed)})"
    child = Child(root / "out.txt", work, folder, root / "cache")
    code = child.wait()
    if bad := ending(code, child.lines):
        return Outcome(group, case, *bad)
    found = held(root, folder)
    same = _comparable(found) == _comparable(expected)
    return Outcome(group, case, HELD if same else SILENT, "" if same else found[:300])


def _comparable(text: str) -> str:
    """Without the name of the folder, which a report holds."""
    return re.sub(r"(killed \d+|undisturbed \w+)", "FOLDER", text)


def wait(child: Child, folder: Path, how: str, draw: random.Random, seconds: float) -> None:
    """Until the moment of the kill."""
    if how in ("at any moment", "twice"):
        time.sleep(draw.uniform(0, seconds))
        return
    wanted = draw.randint(1, 4)
    pattern = "checkpoints/*tmp*" if "checkpoint" in how else "report*"
    seen: set[Path] = set()
    while child.process.is_alive() and child.seconds < 60:
        seen.update(folder.glob(pattern))
        if len(seen) >= (wanted if "checkpoint" in how else 1):
            break
        time.sleep(0.0005)
    time.sleep(draw.uniform(0, 0.01))
