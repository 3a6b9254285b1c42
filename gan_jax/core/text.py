from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def one_line(name: Any) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(name)).split()) or "(no name)"


def shorten(name: Any, width: int) -> str:
    """The beginning and the end of a name too long for one line of `width`: settings often differ
    at the end."""
    name, half = one_line(name), (width - 3) // 2
    return name if len(name) <= width else f"{name[: width - 3 - half]}...{name[-half:]}"
