"""Bad input ends in one clear line: what, where, the value, what to do."""

import contextlib
import sys


class UserError(ValueError):
    """Something the user gave cannot be used. The message is one line and says what to do; command
    lines exit with code 2."""


def say(line: str) -> None:
    """Print one line to stderr, or nothing where stderr is closed or full: no training ends over
    it."""
    if sys.stderr is not None:  # closed before Python started
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed by the program
            start = "\n" if line.startswith("\n") else ""  # below the ^C of a terminal
            print(start + "".join(c if c.isprintable() else " " for c in line.strip("\n")), file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether stderr is a terminal that can be written to."""
    with contextlib.suppress(AttributeError, ValueError):
        return sys.stderr.isatty()
    return False
