"""Ctrl-C and SIGTERM in training: the first stops at the end of the chunk, a second at once."""

import signal
import threading
from typing import Self

from gan_jax.core.errors import say
from gan_jax.training import distributed


class StopSignal:
    """A context of the main thread. `received` is the name of the signal that asks for a stop."""

    def __init__(self):
        self.received: str | None = None
        self.handlers: dict = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.handlers = {s: signal.signal(s, self.receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def receive(self, number, frame) -> None:
        if self.received:
            self.__exit__()
            signal.raise_signal(number)
        self.received = signal.Signals(number).name
        if distributed.is_primary():
            say(f"\n{self.received}: stopping at the end of this chunk (once more stops at once)")

    def __exit__(self, *_) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
