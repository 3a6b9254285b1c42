"""Names that the user gave, made fit for one line of output."""

from typing import Any


def one_line(name: Any) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(name)).split()) or "(no name)"


def shorten(name: Any, width: int) -> str:
    """A long name's beginning and end in `width` characters: settings often differ at the end."""
    name, half = one_line(name), (width - 3) // 2
    return name if len(name) <= width else f"{name[: width - 3 - half]}...{name[-half:]}"


def described(value: Any) -> str:
    """What a value is, in words: 'float32 of shape [8, 1]', or its type."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{dtype} of shape {list(shape)}"
    return repr(value) if value is None or isinstance(value, (type, str, int, float)) else f"a {type(value).__name__}"
