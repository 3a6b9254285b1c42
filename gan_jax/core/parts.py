"""The registry of recipe parts, each under a public name such as `penalties.r1`.

`@part("penalties")` above `def r1` makes `penalties.r1`; no list elsewhere names it. Run and sweep
folders store public names alone. So a part may move to another file, and a folder can name nothing
that was not marked, unless the caller trusts its module.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from gan_jax.core.errors import UserError

T = TypeVar("T")

PACKAGES = {
    "augment": "augment", "controllers": "controllers", "dynamics": "gan", "gan": "gan", "imputation": "games.imputation",
    "latents": "latents", "likelihoods": "likelihoods", "losses": "losses", "networks": "networks", "optax": "optimizers",
    "optimizers": "optimizers", "penalties": "penalties", "sampling": "sampling", "schedules": "schedules",
    "vae": "games.vae", "vae_gan": "games.vae_gan",
}  # fmt: skip
"""The first word of a public name, and the module or package of gan_jax that marks such parts."""

PARTS: dict[str, Any] = {}
"""Public name -> part, of the files that were imported so far."""


def part(kind: str, name: str | None = None) -> Callable[[T], T]:
    """Marks the part `kind.name`. Raises ValueError where another module has a part of this name.
    kind: begins with a key of PACKAGES. name: by default the thing's own, without leading `_`."""

    def mark(thing: T) -> T:
        public = f"{kind}.{name or getattr(thing, '__name__', '').lstrip('_')}"
        if PARTS.get(public, thing).__module__ != thing.__module__:  # equal where a notebook reloads the module
            raise ValueError(f"two recipe parts are called {public}")
        PARTS[public] = thing
        return thing

    return mark


def parts_of(kind: str) -> dict[str, Any]:
    """{name within the kind: part}, with every file of the kind's package imported."""
    package = importlib.import_module(f"gan_jax.{PACKAGES[kind]}")
    for file in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        importlib.import_module(file.name)
    return {name.removeprefix(f"{kind}."): thing for name, thing in PARTS.items() if name.startswith(f"{kind}.")}


def name_of(thing: Any) -> str | None:
    """The public name of a part; None for whatever is not one."""
    return next((name for name, known in PARTS.items() if known is thing), None)


def find(name: str) -> Any:
    """The part of this public name. Raises UserError where there is none."""
    if name not in PARTS and (kind := name.partition(".")[0]) in PACKAGES:
        parts_of(kind)
    if name not in PARTS:
        raise UserError(f"there is no recipe part {name!r}")
    return PARTS[name]
