"""Child processes of the fault campaign: forked from a server that has imported everything and has
not started JAX, so that a training run of a second takes no longer than that."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

HELD, REFUSED, WARNED, SILENT = "held", "refused", "warned", "silent"
STUCK, TRACEBACK, HANG = "stuck", "traceback", "hang"
FAULTS = (SILENT, STUCK, TRACEBACK, HANG)
LIMIT = 240.0  # seconds, after which a child hangs
USER_ERROR, CRASH = 2, 70  # exit codes of a child


class Outcome(NamedTuple):
    """How a case ended, and what was printed last."""

    group: str
    case: str
    how: str
    detail: str = ""


@functools.cache
def server() -> Any:
    """The context whose children are forked from a process that has imported the library."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fault_training"])
    return context


def stuck(group: str, case: str, how: str, detail: str) -> Outcome:
    """The outcome where work could not go on after a fault: not even a refusal will do."""
    return Outcome(group, case, STUCK if how == REFUSED else how, detail)


class Child:
    """`function(*arguments)` in a process of its own, whose output goes to a file."""

    def __init__(self, output: Path, function: Callable, *arguments: object):
        self.output, self.begun = output, time.monotonic()
        self.process = server().Process(target=_call, args=(output, function, *arguments))
        self.process.start()

    def wait(self, seconds: float = LIMIT) -> int | None:
        """The exit code, or None where the child was still running and was killed."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return None
        return self.process.exitcode

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def end(self, number: signal.Signals, draw: random.Random) -> bool:
        """Send a signal to the child, or to one that it has forked. Returns whether all of them
        ended within the time limit."""
        family = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [me := psutil.Process(self.process.pid), *me.children()]
            draw.choice(family).send_signal(number)
        ended = self.wait() is not None
        _, left = psutil.wait_procs(family, LIMIT)
        for process in left:
            process.kill()
        return ended and not left

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def lines(self) -> list[str]:
        """What the child printed."""
        return self.output.read_text(errors="replace").splitlines() if self.output.exists() else []


def _call(output: Path, function: Callable, *arguments: object) -> None:
    sys.exit(_code(output, function, *arguments))


def _code(output: Path, function: Callable, *arguments: object) -> int:
    from gan_jax.core.errors import UserError

    with open(output, "w", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            function(*arguments)
            return 0
        except UserError as error:
            print(f"error: {error}")
            return USER_ERROR
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else CRASH
        except BaseException:
            traceback.print_exc()
            return CRASH


class _Worker:
    """A process that does one thing after the other, so that each program is compiled once."""

    def __init__(self):
        self.pipe, theirs = server().Pipe()
        self.process = server().Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()


@functools.cache
def _worker() -> _Worker:
    return _Worker()


def _serve(pipe: Any) -> None:
    while True:
        pipe.send(_code(*pipe.recv()))


def do(output: Path, function: Callable, *arguments: object) -> tuple[tuple[str, str] | None, list[str]]:
    """(how `function(*arguments)` ended in the worker if not well, what it printed)."""
    code: int | None = None
    with contextlib.suppress(EOFError):  # a crash
        _worker().pipe.send((output, function, *arguments))
        code = _worker().pipe.recv() if _worker().pipe.poll(LIMIT) else None
    if code is None:
        _worker().process.kill()
        _worker.cache_clear()
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    return ending(code, lines), lines


def ending(code: int | None, lines: list[str]) -> tuple[str, str] | None:
    """(how, detail) of a child that did not end well; None where it ended with 0."""
    last = lines[-1] if lines else ""
    if code is None:
        return HANG, last
    if code == USER_ERROR:
        several = len([line for line in lines if line.startswith("error: ")]) != 1 or not lines[-1].startswith("error: ")
        return (TRACEBACK if several else REFUSED), " / ".join(lines[-3:]) if several else last
    return None if code == 0 else (TRACEBACK, f"exit code {code}: {last}")
