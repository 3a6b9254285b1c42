"""A recipe as JSON and back: its numbers as they are, its functions and networks by their public
names (`penalties.r1`, see `core/parts.py`). Nothing is pickled.

A record can name only recipe parts, and functions and dataclasses of modules that the caller
trusts. A run folder from elsewhere can therefore not choose the code that runs when it is read.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from gan_jax.core.bind import Bound, Schedule, defaults
from gan_jax.core.errors import UserError
from gan_jax.core.parts import find, name_of
from gan_jax.text import one_line, shorten

FORMAT = 1  # the version of the records that this code writes and reads, in each record as "format"


def check_format(record: Any, where: Any) -> None:
    """Raises UserError where a record has another format than this version reads."""
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        has = "no format version" if found is None else f"format {found!r}"
        raise UserError(f"{where} has {has}, and this gan_jax reads format {FORMAT}: train again, or use the one that wrote it")


def to_json(value: Any) -> Any:
    """Knobs (recipes, bound functions, networks, numbers, dicts) as JSON values, or a UserError."""
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
    if name := name_of(value):
        return {"name": name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in hidden}
        return {"class": _name(type(value)), "fields": fields}
    if callable(value):
        return {"name": _name(value)}
    raise UserError(f"a recipe cannot record a {type(value).__name__}: {value!r}")


def from_json(value: Any, trusted: Sequence[str] = ()) -> Any:
    """The inverse of `to_json`. A number that the record lacks takes the default of its function.

    trusted: modules of the user's that the record may name, for example ["my_losses"].
    Raises UserError for a name that is no recipe part, and for a value that is no record.
    """
    try:
        return _from_json(value, trusted)
    except UserError:
        raise
    except Exception as error:  # whatever the parts say of values that were never theirs
        why = one_line(f"{type(error).__name__}: {error}")[:200]
        raise UserError(f"the recipe's record cannot be read ({why}): put a backup back, or give recipe=") from None


def _from_json(value: Any, trusted: Sequence[str]) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(v, trusted) for v in value)
    if not isinstance(value, dict):
        return value
    each = lambda d: {k: _from_json(v, trusted) for k, v in d.items()}
    match value:
        case {"number": data, "dtype": dtype}:
            return np.asarray(data, dtype)
        case {"dict": items}:
            return each(items)
        case {"class": name, "fields": fields}:
            return _made(name, each(fields), trusted)
        case {"function": name, "with": bound} | {"schedule": name, "with": bound}:
            parts = tuple(_from_json(part, trusted) for part in value.get("parts", []))
            return _bound(Bound if "function" in value else Schedule, _find(name, trusted), parts, each(bound))
        case {"name": name}:
            return _find(name, trusted)
    raise UserError(f"this is not the record of a recipe: it has {', '.join(map(str, value)) or 'nothing'}")


def _bound(kind: type[Bound], function: Callable, parts: tuple, bound: dict[str, Any]) -> Bound:
    bound = {**defaults(function), **bound}
    numbers = {k: v for k, v in bound.items() if isinstance(v, (np.ndarray, np.generic, Bound))}
    return kind(function, parts, numbers, {k: v for k, v in bound.items() if k not in numbers})


def _name(thing: Any) -> str:
    """The public name of a part; `module:name` of a function or class of the user's."""
    return name_of(thing) or f"{thing.__module__}:{thing.__qualname__}"


def _made(name: str, fields: dict[str, Any], trusted: Sequence[str]) -> Any:
    kind = _find(name, trusted)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(f"the recipe names {name!r} as a class of its own, which it is not")
    if unknown := set(fields) - {field.name for field in dataclasses.fields(kind)}:
        raise UserError(f"the recipe gives {name!r} a field {min(unknown)!r}, which it has not")
    return kind(**fields)


def _find(name: str, trusted: Sequence[str]) -> Any:
    module, colon, attribute = str(name).partition(":")
    if not colon:
        return find(module)
    if module not in ([trusted] if isinstance(trusted, str) else trusted):
        what = f"the recipe names {name!r}, which is no recipe part of gan_jax"
        if module == "__main__":  # no other program can import it
            raise UserError(f"{what} but of a script: give the recipe itself (recipe=), in that script")
        raise UserError(f"{what}: in Python, give the recipe itself (recipe=), or trust {module!r} (trusted=)")
    try:
        thing = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise UserError(f"the recipe names {name!r}, which is not there: has it moved since?") from None
    kind = dataclasses.is_dataclass if isinstance(thing, type) else inspect.isfunction
    if not kind(inspect.unwrap(thing)) or thing.__module__ != module:
        raise UserError(f"the recipe names {name!r}, which is no function or dataclass that {module} defines")
    return thing


def completed(value: Any) -> Any:
    """A record with the default numbers that it lacks: as this version would write it."""
    if isinstance(value, list):
        return [completed(v) for v in value]
    if not isinstance(value, dict):
        return value
    value = {k: completed(v) for k, v in value.items()}
    name = value.get("function", value.get("schedule"))
    if isinstance(name, str) and ":" not in name and isinstance(value.get("with"), dict):
        value["with"] = {k: to_json(v) for k, v in defaults(find(name)).items()} | value["with"]
    return value


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """A line for each difference of JSON values, such as 'ema_decay: 0.99, not 0.5'."""
    if isinstance(a, dict) and isinstance(b, dict):
        rows = []
        for key in sorted(set(a) | set(b)):
            plain = key in ("fields", "dict", "with", "number")
            rows += differences(a.get(key), b.get(key), path if plain else f"{path}.{key}".lstrip("."))
        return rows
    return [] if a == b else [f"{path}: {_brief(a)}, not {_brief(b)}"]


def differences_of_data(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """A line for the first difference of two `Splits.describe` that explains the others. The same
    images under another name are the same data."""
    if a.get("hashes") == b.get("hashes"):
        a = a | {"name": b.get("name"), "duplicates": b.get("duplicates")}
    for name in ("name", "seed", "sizes", "image_shape", "classes"):
        if found := differences(a.get(name), b.get(name), f"data.{name}"):
            return found
    changed = [name for name, sha in b.get("hashes", {}).items() if a.get("hashes", {}).get(name) != sha]
    return [f"data: {b.get('name')} has other contents than then, in its {' and '.join(changed)} part"] if changed else []


def differences_of_runs(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """`differences` of the identities of two runs or sweeps."""
    data = differences_of_data(a.get("data") or {}, b.get("data") or {})
    before, now = ({("log_every" if k == "intervals" else k): v for k, v in one.items() if k != "data"} for one in (a, b))
    return data + differences(before, now)


def _brief(value: Any) -> str:
    return "absent" if value is None else shorten(value, 60)
