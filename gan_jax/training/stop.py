from __future__ import annotations

import signal
import sys
import threading

from gan_jax.training import distributed


class Stop:
    """Ctrl-C and SIGTERM ask for a stop at the end of the chunk; a second one stops at once."""

    def __init__(self):
        self.signal: str | None = None
        self.old: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.old = {s: signal.signal(s, self.ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def ask(self, number, frame):
        if self.signal:
            self.__exit__()
            signal.raise_signal(number)
        self.signal = signal.Signals(number).name
        if distributed.is_primary():
            print(f"\n{self.signal}: stopping at the end of this chunk (once more stops at once)", file=sys.stderr)

    def __exit__(self, *_):
        for number, handler in self.old.items():
            signal.signal(number, handler)
