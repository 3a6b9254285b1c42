"""Functions with their numbers attached: a number that may be swept is a pytree leaf.

`bind(f, gamma=10.0)` makes `gamma` a leaf. `f` is structure: it is in the treedef (JAX's word), so
another `f` compiles another program. All parts of a recipe (losses, penalties, ...) are bound.
There is no base class and no configuration language.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Self

import jax
import numpy as np
from flax import struct
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from gan_jax.core.errors import UserError

STRUCTURAL = {"int": (int, np.integer), "bool": (bool, np.bool_), "str": (str,)}
STRUCTURAL |= {f"{name} | None": (*types, type(None)) for name, types in STRUCTURAL.items()}
"""The annotations of structure, and the types of values that they take."""
VECTORS = ("counts", "label_counts")  # numbers [K], one for each class


def static(**kwargs) -> Any:
    """A dataclass field that is structure: changing its value compiles a new program."""
    return struct.field(pytree_node=False, **kwargs)


def number(value: Any) -> Any:
    """A Python or NumPy number as a float32 array of NumPy, as a JAX array would start a backend;
    anything else (a tracer, a schedule) unchanged. 10, 10.0 and np.float32(10) share a program."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return np.asarray(value, np.float32)
    if isinstance(value, np.ndarray):
        return value.astype(np.float32)
    return value


@cache
def _parameters(function: Callable) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function without a signature
        return ()


def annotation(parameter: inspect.Parameter) -> str:
    """A parameter's annotation as text; "" without one."""
    found = "" if parameter.annotation is parameter.empty else parameter.annotation
    return found if isinstance(found, str) else inspect.formatannotation(found)


@cache
def _structural_names(function: Callable) -> frozenset[str]:
    """The parameters that a function annotates as int, bool or str: they shape the program."""
    return frozenset(p.name for p in _parameters(function) if annotation(p) in STRUCTURAL)


@cache
def defaults(function: Callable) -> Mapping[str, np.ndarray]:
    """The default numbers of a function: its keyword-only parameters whose default is a float.
    Those of optax are left out, as its factories may branch on them in Python."""
    if (getattr(function, "__module__", None) or "").partition(".")[0] == "optax":
        return {}
    floats = [p for p in _parameters(function) if p.kind is p.KEYWORD_ONLY and isinstance(p.default, float)]
    return {p.name: number(p.default) for p in floats if p.name not in _structural_names(function)}


@jax.tree_util.register_pytree_with_keys_class
class Bound:
    """A module-level function with arguments attached. `numbers` are leaves; the function and
    `options` are structure; `parts` are positional arguments, bound functions themselves."""

    def __init__(self, function: Callable, parts: tuple = (), numbers: Mapping | None = None, options: Mapping | None = None):
        self.function, self.parts = function, tuple(parts)
        self.numbers, self.options = dict(numbers or {}), dict(options or {})

    def __call__(self, *args, **kwargs):
        return self.function(*self.parts, *args, **{**self.options, **self.numbers, **kwargs})

    def replace(self, **values) -> Self:
        """The same function with some arguments changed; a name that is not bound yet is added."""
        return _bound(type(self), self.function, self.parts, {**self.options, **self.numbers, **values})

    @property
    def name(self) -> str:
        return self.function.__name__

    def tree_flatten_with_keys(self):
        names = tuple(sorted(self.numbers))
        children = [(SequenceKey(i), part) for i, part in enumerate(self.parts)]
        children += [(GetAttrKey(name), self.numbers[name]) for name in names]
        return children, (type(self), self.function, len(self.parts), names, tuple(sorted(self.options.items())))

    @classmethod
    def tree_unflatten(cls, aux, children):
        kind, function, parts, names, options = aux
        new = object.__new__(kind)
        new.function, new.parts, new.options = function, tuple(children[:parts]), dict(options)
        new.numbers = dict(zip(names, children[parts:], strict=True))
        return new

    def __repr__(self) -> str:
        is_number = lambda v: isinstance(v, (np.ndarray, jax.Array)) and np.ndim(v) == 0
        shown = [repr(part) for part in self.parts]
        for name, value in {**self.options, **self.numbers}.items():
            shown.append(f"{name}={float(value):g}" if is_number(value) else f"{name}={value!r}")
        return f"{self.name}({', '.join(shown)})"


@jax.tree_util.register_pytree_with_keys_class
class Schedule(Bound):
    """A number that is a function of the step, in the place of a leaf (`schedules.py`)."""


def _is_structure(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or (callable(value) and not isinstance(value, Bound))


def _bound(kind: type, function: Callable, parts: tuple, values: Mapping) -> Any:
    if not callable(function):
        raise UserError(f"{function!r} is no function: give one, such as losses.hinge, or bind(penalties.r1, gamma=1.0)")
    _check_names(function, values)
    _check_kinds(function, values)
    structural = _structural_names(function)
    values = {**defaults(function), **values}
    options = {k: v for k, v in values.items() if k in structural or _is_structure(v)}
    return kind(function, parts, {k: number(v) for k, v in values.items() if k not in options}, options)


def _check_names(function: Callable, values: Mapping) -> None:
    """Raises UserError for a keyword that the function does not take, or needs and has not got."""
    parameters = _parameters(function)
    name, takes = getattr(function, "__name__", repr(function)), {p.name for p in parameters}
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if missing := [p.name for p in keywords if p.default is p.empty and p.name not in values]:
        raise UserError(f"{name} needs {' and '.join(missing)}: bind({name}, {', '.join(f'{k}=...' for k in missing)})")
    anything = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
    if not anything and (unknown := [k for k in values if k not in takes]):
        known = ", ".join(p.name for p in keywords or parameters)
        raise UserError(f"{name} takes no {unknown[0]!r}: it has {known}")


def _check_kinds(function: Callable, values: Mapping) -> None:
    """Raises UserError for text in the place of a number (where the function is no user's, also for
    None, a bool and a list), and for a value of another structural type than its parameter's."""
    ours = (getattr(function, "__module__", None) or "").partition(".")[0] in ("gan_jax", "optax")
    for p in _parameters(function):
        if p.name not in values:
            continue
        value, kind = values[p.name], annotation(p)
        if types := STRUCTURAL.get(kind):
            bad = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        else:
            needed = ours and p.default is p.empty and "Any" not in kind
            is_number = needed or isinstance(p.default, float)
            bad = isinstance(value, str) and (is_number or _reads_as_number(value))
            bad |= (
                ours
                and is_number
                and (value is None or isinstance(value, bool) or p.name not in VECTORS and np.ndim(value) > 0)
            )
        if bad:
            wanted, name = f"of type {kind}" if types else "a number", getattr(function, "__name__", repr(function))
            raise UserError(f"{name.lstrip('_')}: {p.name} is {value!r}: it must be {wanted}")


def _reads_as_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


def bind(function: Callable, *parts: Any, **values: Any) -> Bound:
    """`function` with `values` attached. Numbers become float32 leaves; all else is structure.

    bools, None, strings and functions are structure, and so is an argument that the function
    annotates as `int`, `bool` or `str`. A keyword-only parameter that is left out is a leaf at its
    default if that is a float, so that it can be swept and is recorded. Leaves are traced: the
    function may not branch on them in Python or make shapes of them.

    Define the function once, at module level: a closure made anew compiles anew. Raises UserError
    for an unknown keyword, and for one without a default that is left out.

    >>> bind(penalties.r1, gamma=10.0)
    r1(gamma=10)
    """
    if isinstance(function, Bound):
        return function.replace(**values)
    return _bound(Bound, function, parts, values)


def check_bound(value: Any, where: str, inputs: tuple[str, ...]) -> None:
    """Raises UserError for what is no bound function, and for one that does not take these inputs
    after its parts. A part around another function, such as `penalties.Lazy`, counts as bound."""
    if callable(value) and not isinstance(value, Bound) and hasattr(value, "function"):
        return
    if not isinstance(value, Bound):
        name, given = getattr(value, "__name__", "function"), getattr(value, "__name__", None) or repr(value)
        raise UserError(f"{where} is {given}: it must be a function with its numbers, such as gan.bind({name})")
    try:
        takes = inspect.signature(value.function)
        takes.bind(*value.parts, *inputs, **value.options, **value.numbers)
    except ValueError:  # a function without a signature
        return
    except TypeError as error:
        raise UserError(f"{where}: {value.name}{takes} is called with ({', '.join(inputs)}): {error}") from None


def schedule(function: Callable, **values: Any) -> Schedule:
    """A number that changes with the step: `function(step, **values)`, bound as by `bind`."""
    return _bound(Schedule, function, (), values)


def dotted(path) -> str:
    """A pytree path as the user writes it: discriminator.penalties.r1.gamma"""
    parts = {GetAttrKey: lambda k: k.name, DictKey: lambda k: str(k.key), SequenceKey: lambda k: str(k.idx)}
    return ".".join(parts.get(type(k), str)(k) for k in path)


def leaves(knobs: Any) -> dict[str, Any]:
    """Every number of a recipe (or of any pytree of knobs) by its dotted path."""
    return {dotted(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(knobs)[0]}


def with_leaves(knobs: Any, values: Mapping[str, Any]) -> Any:
    """The same knobs with the named leaves replaced. A path that ends at a schedule replaces the
    whole schedule. Raises UserError for a path that names no leaf."""
    whole = lambda x: isinstance(x, Schedule) and x is not knobs
    flat, tree = jax.tree_util.tree_flatten_with_path(knobs, is_leaf=whole)
    flat = [(dotted(path), leaf) for path, leaf in flat]
    names = dict.fromkeys([name for name, _ in flat] + list(leaves(knobs)))
    if unknown := [name for name in values if name not in names]:
        raise UserError(f"no such number in the recipe: {unknown[0]!r}; it has {', '.join(names)}")

    def replaced(name: str, leaf: Any) -> Any:
        if name in values:
            return number(values[name])
        inside = {k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(f"{name}.")}
        return with_leaves(leaf, inside) if inside else leaf

    return jax.tree_util.tree_unflatten(tree, [replaced(name, leaf) for name, leaf in flat])


def resolve(knobs: Any, step: jax.Array, live: Mapping[str, Any] | None = None) -> Any:
    """The knobs at this step: schedules evaluated, and controlled leaves at their live values.
    live: {path: value}. Knobs without schedules and live values are returned unchanged."""
    if live:
        knobs = with_leaves(knobs, live)
    is_schedule = lambda x: isinstance(x, Schedule)
    return jax.tree.map(lambda x: x(step) if is_schedule(x) else x, knobs, is_leaf=is_schedule)
