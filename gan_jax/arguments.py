"""Checks of arguments where they come in: each returns the value, or raises a UserError of one line
that has the argument's name, the value and what it must be."""

import math
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from gan_jax.core.errors import UserError
from gan_jax.text import shorten

LARGEST = 2**63 - 1  # that NumPy holds
SEEDS = 2**32  # JAX reads the lower 32 bits of a seed, so that 0 and 2**32 would be one seed


def refuse(value: Any, name: str, must: str) -> NoReturn:
    """Raises UserError: `steps='5': must be an integer of at least 1`."""
    raise UserError(f"{name}={shorten(repr(value), 80)}: must be {must}")


def count(value: Any, name: str, least: int = 1, most: int = LARGEST) -> int:
    """`value` as an int from `least` to `most`. Booleans, text and floats are no integers."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is not None and found > most == LARGEST:
        refuse(value, name, f"an integer of at most {most}")
    if found is None or found < least or found > most:
        refuse(value, name, f"an integer from {least} to {most}" if most < LARGEST else f"an integer of at least {least}")
    return found


def seed(value: Any, name: str = "seed") -> int:
    """A seed of random draws in JAX, from 0 to 2**32 - 1."""
    return count(value, name, least=0, most=SEEDS - 1)


def real(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a finite float from `least` to `most`. Booleans and text are no numbers."""
    try:
        found = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and least <= found <= most):
        bounds = {(False, False): "", (True, False): f" of at least {least:g}", (False, True): f" of at most {most:g}"}
        between = bounds.get((least > -math.inf, most < math.inf), f" from {least:g} to {most:g}")
        refuse(value, name, f"a number{between}")
    return found


def path(value: Any, name: str) -> Path:
    """A path given as text or as a `Path`."""
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        refuse(value, name, "the path of a file or folder")
    try:
        Path(value).exists()
    except OSError as error:
        refuse(value, name, f"a path that can be read ({error.strerror})")
    return Path(value)


def flag(value: Any, name: str) -> bool:
    """True or False, and nothing that only behaves so."""
    if not isinstance(value, bool):
        refuse(value, name, "True or False")
    return value


def not_both(resume: bool, overwrite: bool) -> None:
    """Raises UserError where a folder is to be continued and deleted at once."""
    if resume and overwrite:
        raise UserError("resume goes on with what is in the folder, and overwrite deletes it: give one of the two")


def names(value: Any, name: str) -> tuple[str, ...]:
    """A list of texts, or one text."""
    value = (value,) if isinstance(value, str) else value
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        refuse(value, name, "a list of names")
    return tuple(value)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """{text: anything}."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(value, name, "a dict whose keys are text")
    return value


def among(value: Any, name: str, known: Any) -> Any:
    """`value`, which is one of the `known` ones."""
    if not any(type(value) is type(one) and value == one for one in known):
        refuse(value, name, f"one of {', '.join(map(repr, known))}")
    return value
