"""Damages of the fault campaign: one file of a finished folder is cut, changed, emptied, replaced
or exchanged; then the folder is opened, or its training goes on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_children import HELD, REFUSED, SILENT, WARNED, Outcome, do
from fault_training import KINDS, work

DRAWN = ("run", "run", "run", "sweep", "sweep", "sweep", "tasks", "study", "data", "report")
MORE = 20  # steps that a damaged folder is trained further
TEXTS = (b"", b"[]", b"null", b"{}", b'"text"', b"7", b"{" * 2000, b"\x00" * 100, b"\xff\xfe{\x00}\x00")


def made(root: Path, kind: str) -> Path:
    """The folder of this kind, finished, at the same place for all cases."""
    folder, copy = root / "finished" / kind, kept(root, kind)
    shutil.rmtree(folder)
    return Path(shutil.copytree(copy, folder))


@functools.cache
def kept(root: Path, kind: str) -> Path:
    """A copy of the finished folder."""
    folder, copy = root / "finished" / kind, root / "kept" / kind
    folder.parent.mkdir(exist_ok=True)
    used(root, kind, 0)
    shutil.copytree(folder, copy)
    return copy


def used(root: Path, kind: str, more: int | None) -> tuple[tuple[str, str] | None, list[str], str]:
    """(how it ended if not well, what was printed, what the folder holds): open it, or train it
    `more` steps further."""
    note = root / "note"
    note.unlink(missing_ok=True)
    bad, lines = do(root / "out.txt", work, kind, root / "finished" / kind, root / "cache", more, note)
    return bad, lines, "" if bad else note.read_text()


@functools.cache
def expected(root: Path, kind: str, more: int | None) -> str:
    """What an undamaged folder holds."""
    made(root, kind)
    bad, printed, found = used(root, kind, more)
    if bad:
        raise RuntimeError(f"{kind} fails without any fault: {bad} {printed[-5:]}")
    return found


def attempt(root: Path, number: int, draw: random.Random) -> Outcome:
    """Case `number`: a copy of a finished folder, one damage, one use."""
    kind, more = draw.choice(DRAWN), draw.choice([None, MORE])
    right, folder = expected(root, kind, more), made(root, kind)
    path = draw.choice(_files(folder, kind))
    name = path.relative_to(folder).as_posix()
    damage = draw.choice([d for d in DAMAGES if d is not edit or path.suffix in (".json", ".jsonl")])
    case = f"{name} {damage(path, draw)}, {'trained further' if more else 'opened'}"
    before = _digests(folder, kind)
    bad, printed, found = used(root, kind, more)
    if bad:
        after = _digests(folder, kind)
        changed = [n for n, sha in before.items() if after.get(n) != sha]
        if bad[0] == REFUSED and changed:
            return Outcome(kind, case, SILENT, f"refused, and changed {changed[:3]}: {bad[1]}")
        return Outcome(kind, case, *bad)
    if found == right:
        return Outcome(kind, case, HELD)
    return Outcome(kind, case, WARNED if printed else SILENT, " / ".join(printed)[:300] or found[:200])


def _files(folder: Path, kind: str) -> list[Path]:
    """The files to damage: of pictures and of checkpoints' data files, which are many, a few."""
    files = sorted({path for own in KINDS[kind].own for path in folder.rglob(own) if path.is_file()})
    records = [path for path in files if path.suffix in (".json", ".jsonl", ".csv", ".npz")]
    return [*records, *[path for path in files if path not in records][::7]]


def _digests(folder: Path, kind: str) -> dict[str, str]:
    files = (path for own in KINDS[kind].own for path in folder.rglob(own) if path.is_file() and path.suffix != ".log")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(_content(path)).hexdigest() for path in files}


def _content(path: Path) -> bytes:
    """What a refusal must not change. A record may say to which step was asked for."""
    content = path.read_bytes()
    with contextlib.suppress(ValueError, RecursionError):
        if path.name in ("recipe.json", "sweep.json") and isinstance(record := json.loads(content), dict):
            return json.dumps(record | {"steps": None}).encode()
    return content


# ---- damages: each returns what it did ---------------------------------------------------------


def flip(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes() or b"0")
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
