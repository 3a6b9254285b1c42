"""Damages of the fault campaign: one file of a finished folder is cut, changed, emptied, replaced
or exchanged; then the folder is opened, or its training goes on."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_training as training
from fault_children import HELD, REFUSED, SILENT, WARNED, Child, Outcome, ending
from fault_kills import held

WORK = {"run": (training.train_run, training.STEPS), "sweep": (training.train_sweep, training.SWEEP_STEPS)}
MORE = 20  # steps that a damaged folder is trained further
TEXTS = (b"", b"[]", b"null", b"{}", b'"text"', b"7", b"{" * 2000, b"\x00" * 100, b"\xff\xfe{\x00}\x00")


@functools.cache
def finished(root: Path, kind: str) -> Path:
    """A finished folder of this kind."""
    work, _ = WORK[kind]
    folder = root / f"finished {kind}"
    child = Child(root / "out.txt", work, folder, root / "cache")
    if child.wait(600) != 0:
        raise RuntimeError(f"{kind} fails without any fault: {child.lines[-5:]}")
    return folder


@functools.cache
def expected(root: Path, kind: str, further: bool) -> str:
    """What an undamaged folder holds, as it is or trained further."""
    if not further:
        return held(root, finished(root, kind))
    work, steps = WORK[kind]
    folder = root / f"further {kind}"
    shutil.copytree(finished(root, kind), folder)
    child = Child(root / "out.txt", work, folder, root / "cache", steps + MORE)
    if child.wait() != 0:
        raise RuntimeError(f"{kind} cannot go on without any fault: {child.lines[-5:]}")
    return held(root, folder)


def attempt(root: Path, number: int, draw: random.Random) -> Outcome:
    """Case `number`: a copy of a finished folder, one damage, one use."""
    kind, further = draw.choice(["run", "run", "sweep"]), draw.random() < 0.5
    right, folder = expected(root, kind, further), root / f"damaged {number}"
    shutil.copytree(finished(root, kind), folder)
    path = draw.choice(_files(folder))
    name = path.relative_to(folder).as_posix()
    damage = draw.choice([d for d in DAMAGES if d is not edit or path.suffix in (".json", ".jsonl")])
    what = damage(path, draw)
    before = _digests(folder)
    case = f"{name} {what}, {'trained further' if further else 'opened'}"
    if further:
        work, steps = WORK[kind]
        child = Child(root / "out.txt", work, folder, root / "cache", steps + MORE)
        code = child.wait()
        bad, printed = ending(code, child.lines), child.lines
        found = "" if bad else held(root, folder)
    else:
        note = root / "note"
        note.unlink(missing_ok=True)
        child = Child(root / "out.txt", training.open_again, folder, root / "cache", note)
        code = child.wait()
        bad, printed = ending(code, child.lines), child.lines
        found = "" if bad else note.read_text()
    if bad:
        changed = [n for n, sha in before.items() if _digests(folder).get(n) != sha]
        if bad[0] == REFUSED and changed:
            return Outcome(kind, case, SILENT, f"refused, and changed {changed[:3]}: {bad[1]}")
        return Outcome(kind, case, *bad)
    if found == right:
        return Outcome(kind, case, HELD)
    return Outcome(kind, case, WARNED if printed else SILENT, " / ".join(printed)[:300] or found[:200])


def _files(folder: Path) -> list[Path]:
    """One file of each kind: of the checkpoints' data files, which are many, two."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    records = [path for path in files if path.suffix in (".json", ".jsonl", ".csv")]
    return [*records, *[path for path in files if path not in records][::7]]


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- damages: each returns what it did ---------------------------------------------------------


def flip(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if not content:
        return cut(path, draw)
    at = draw.randrange(len(content))
    content[at] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"with bit flipped at byte {at}"


def cut(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    path.write_bytes(content[:at])
    return f"cut at byte {at} of {len(content)}"


def replace(path: Path, draw: random.Random) -> str:
    text = draw.choice(TEXTS)
    path.write_bytes(text)
    return f"replaced by {text[:12]!r}"


def encode(path: Path, draw: random.Random) -> str:
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))
    return "in another encoding"


def remove(path: Path, draw: random.Random) -> str:
    path.unlink()
    return "removed"


def directory(path: Path, draw: random.Random) -> str:
    path.unlink()
    path.mkdir()
    return "replaced by a folder"


def edit(path: Path, draw: random.Random) -> str:
    """Another value of one key of a JSON file, or one key less."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    if not lines:
        return replace(path, draw)
    at = draw.randrange(len(lines))
    record = json.loads(lines[at])
    where = draw.choice(list(_places(record)))
    inside: Any = record
    for key in where[:-1]:
        inside = inside[key]
    if draw.random() < 0.5:
        del inside[where[-1]]
        what = "without"
    else:
        inside[where[-1]] = draw.choice([None, [], {}, "text", -1, 2.5, 10**30, True])
        what = f"with {inside[where[-1]]!r} as"
    lines[at] = json.dumps(record)
    path.write_text("\n".join(lines) + ("\n" if path.suffix == ".jsonl" else ""))
    return f"{what} {'/'.join(map(str, where))}"


def _places(record: Any, where: tuple = ()):
    """The place of every value of a JSON record."""
    items = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in items:
        yield (*where, key)
        yield from _places(value, (*where, key))


def exchange(path: Path, draw: random.Random) -> str:
    """The path's folder and a neighbour of the same kind exchanged; of checkpoints, two steps."""
    others = [p for p in path.parent.parent.iterdir() if p.is_dir() and p != path.parent and p.name.isdigit()]
    if not (path.parent.name.isdigit() and others):
        return cut(path, draw)
    other, aside = draw.choice(others), path.parent.with_name("aside")
    path.parent.rename(aside)
    other.rename(path.parent)
    aside.rename(other)
    return f"exchanged with that of {other.name}"


DAMAGES: tuple[Callable[[Path, random.Random], str], ...] = (
    flip, flip, cut, cut, replace, encode, remove, directory, edit, edit, edit, exchange,
)  # fmt: skip
