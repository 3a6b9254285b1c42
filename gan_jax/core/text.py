"""Names that the user gave, made fit for one line of output."""

from typing import Any


def one_line(name: Any) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(name)).split()) or "(no name)"


def shorten(name: Any, width: int) -> str:
    """A long name's beginning and end in `width` characters: settings often differ at the end."""
    name, half = one_line(name), (width - 3) // 2
    return name if len(name) <= width else f"{name[: width - 3 - half]}...{name[-half:]}"
