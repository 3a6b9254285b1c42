"""The protocol of executors, which run tasks elsewhere and report how each one ended. Nothing here
imports JAX."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Spec = dict[str, Any]  # what one task is to do, as JSON


@dataclass(frozen=True)
class Outcome:
    """How a task ended: 'done', 'stopped' by a signal (and saved), 'refused' (a UserError) or
    'lost' (anything else)."""

    kind: str
    why: str = ""


class Handle(Protocol):
    """A submitted task."""

    def poll(self) -> Outcome | None:
        """How the task ended; None while it waits or runs."""
        ...

    def cancel(self, force: bool) -> None:
        """Ask the task to save and stop or, with `force`, end it."""
        ...


Submit = Callable[[list[Spec]], list[Handle]]


class Executor(Protocol):
    """Runs tasks elsewhere.

    retries: how often a lost task is submitted again. gpus: of each task. accelerated: whether a
    task has a GPU, a TPU or the like; otherwise it trains on the CPU.
    """

    @property
    def retries(self) -> int: ...

    @property
    def gpus(self) -> float: ...

    @property
    def accelerated(self) -> bool: ...

    def check(self) -> None:
        """Raises UserError where the engine is not installed or does not answer."""
        ...

    def tasks(self, folder: Path, environment: dict[str, str | None]) -> AbstractContextManager[Submit]:
        """A context that gives a function to submit tasks (`task.train_group` of a spec).

        folder: the sweep's. environment: variables of every task, None for one to be left unset.
        Raises UserError where the engine cannot be reached, or refuses.
        """
        ...


def outcome(returned: dict[str, str | None]) -> Outcome:
    """The outcome of a task from what `task.train_group` returned."""
    for kind in ("refused", "stopped", "lost"):
        if returned.get(kind):
            return Outcome(kind, str(returned[kind]))
    return Outcome("done")


def brief(text: str) -> str:
    """The text as one line of at most 200 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
