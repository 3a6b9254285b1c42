"""A recipe as JSON and back: every number, every static choice, functions and networks by name.
Nothing is pickled.

Reading trusts a name only if it is defined in gan_jax, flax.linen or optax, or in a module that the
caller names; anything else is refused, so that a run folder from elsewhere cannot make this program
run code of its choosing.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from gan_jax.core.bind import Bound, Schedule, defaults
from gan_jax.core.errors import UserError

TRUSTED = ("gan_jax", "flax.linen", "optax")  # not all of flax: it has functions that delete files


def to_json(value: Any) -> Any:
    """Any knobs (recipes, bound functions, networks, numbers, dicts) as JSON-able values."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return {"number": np.asarray(value).tolist(), "dtype": str(np.asarray(value).dtype)}
    if isinstance(value, Bound):
        kind = "schedule" if isinstance(value, Schedule) else "function"
        parts = {"parts": [to_json(part) for part in value.parts]} if value.parts else {}
        bound = {k: to_json(v) for k, v in sorted((value.options | value.numbers).items())}
        return {kind: _name(value.function), **parts, "with": bound}
    if isinstance(value, dict):
        return {"dict": {k: to_json(v) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in hidden}
        return {"class": _name(type(value)), "fields": fields}
    if callable(value):
        return {"name": _name(value)}
    raise UserError(f"a recipe cannot record a {type(value).__name__}: {value!r}")


def from_json(value: Any, trusted: Sequence[str] = ()) -> Any:
    """The inverse of `to_json`. trusted: further modules whose functions and classes may be looked
    up by name.

    A number that a function has by default and the record, written before it was one, lacks is at
    its default.
    Raises UserError for a name that is not trusted or not there, or for a record that is none.
    """
    if isinstance(value, list):
        return tuple(from_json(v, trusted) for v in value)
    if not isinstance(value, dict):
        return value
    each = lambda d: {k: from_json(v, trusted) for k, v in d.items()}
    match value:
        case {"number": data, "dtype": dtype}:
            return np.asarray(data, dtype)
        case {"dict": items}:
            return each(items)
        case {"class": name, "fields": fields}:
            return _class(name, trusted)(**each(fields))
        case {"function": name, "with": bound}:
            return _bound(Bound, name, value.get("parts", []), each(bound), trusted)
        case {"schedule": name, "with": bound}:
            return _bound(Schedule, name, value.get("parts", []), each(bound), trusted)
        case {"name": name}:
            return _find(name, trusted)
    raise UserError(f"this is not the record of a recipe: it has {', '.join(map(str, value)) or 'nothing'}")


def _bound(kind, name, parts, values, trusted):
    function = _find(name, trusted)
    values = {**defaults(function), **values}
    is_number = lambda v: isinstance(v, (np.ndarray, np.generic, Bound))
    numbers = {k: v for k, v in values.items() if is_number(v)}
    options = {k: v for k, v in values.items() if not is_number(v)}
    return kind(function, tuple(from_json(p, trusted) for p in parts), numbers, options)


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _class(name: str, trusted: Sequence[str]) -> Any:
    thing = _find(name, trusted)
    if not (isinstance(thing, type) and dataclasses.is_dataclass(thing)):
        raise UserError(f"the recipe names {name!r} as a class of its own, which it is not")
    return thing


def _find(name: str, trusted: Sequence[str]) -> Any:
    module, _, attribute = name.partition(":")
    if not any(f"{module}.".startswith(f"{known}.") for known in TRUSTED) and module not in trusted:
        raise UserError(f"the recipe names {name!r}, which is not part of gan_jax: give the recipe itself, or trust {module!r}")
    try:
        thing = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise UserError(f"the recipe names {name!r}, which is not there: was it written by another version?") from None
    if not f"{getattr(thing, '__module__', None)}.".startswith(f"{module}."):  # a package may define it in a file of its own
        raise UserError(f"the recipe names {name!r}, which {module} does not define")
    return thing


def completed(value: Any) -> Any:
    """A record with the numbers that its functions have by default and that it lacks: as it would
    be written now.

    Looks names up in modules that are loaded already, so it runs nothing; what is not found stays
    as it is.
    """
    if isinstance(value, list):
        return [completed(v) for v in value]
    if not isinstance(value, dict):
        return value
    value = {k: completed(v) for k, v in value.items()}
    name = value.get("function", value.get("schedule"))
    if isinstance(name, str) and isinstance(value.get("with"), dict):
        module, _, attribute = name.partition(":")
        function = getattr(sys.modules.get(module), attribute, None)
        known = defaults(function) if inspect.isfunction(function) else {}
        value["with"] = {k: to_json(v) for k, v in known.items()} | value["with"]
    return value


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, a line each: 'discriminator.penalties.r1.gamma: 10.0, not
    1.0'."""
    if isinstance(a, dict) and isinstance(b, dict):
        rows = []
        for key in sorted(set(a) | set(b)):
            plain = key in ("fields", "dict", "with", "number")
            rows += differences(a.get(key), b.get(key), path if plain else f"{path}.{key}".lstrip("."))
        return rows
    return [] if a == b else [f"{path}: {_brief(a)}, not {_brief(b)}"]


def _brief(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
