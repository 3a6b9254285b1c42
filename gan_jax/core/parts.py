"""The closed list of recipe parts, each under a public name such as `penalties.r1`.

A part is marked where it is defined, so that a new file in a package needs no list elsewhere:
`@part("penalties")` above `def r1` makes `penalties.r1`. Files on disk (run folders, sweep folders)
name parts by these names alone. A part may therefore move to another file, and a file on disk can
name nothing that was not marked: no function that runs commands or deletes files is a part.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from gan_jax.core.errors import UserError

T = TypeVar("T")

PACKAGES = {
    **{kind: f"gan_jax.{kind}" for kind in ("augment", "controllers", "latents", "likelihoods", "losses", "networks")},
    **{kind: f"gan_jax.{kind}" for kind in ("gan", "optimizers", "penalties", "sampling", "schedules")},
    "dynamics": "gan_jax.gan", "optax": "gan_jax.optimizers",
    "vae": "gan_jax.games.vae", "vae_gan": "gan_jax.games.vae_gan", "imputation": "gan_jax.games.imputation",
}  # fmt: skip
"""The first word of a public name, and the module or package whose files mark such parts."""

PARTS: dict[str, Any] = {}
"""Public name -> part, of the files that were imported so far."""


def part(kind: str, name: str | None = None) -> Callable[[T], T]:
    """Marks a recipe part, whose public name is `kind.name`.

    kind: begins with a key of PACKAGES. name: the function's or class's own without a leading
    underscore, unless given. Raises ValueError where another part has this name.
    """

    def mark(thing: T) -> T:
        public = f"{kind}.{name or getattr(thing, '__name__').lstrip('_')}"  # noqa: B009
        if PARTS.setdefault(public, thing) is not thing:
            raise ValueError(f"two recipe parts are called {public}")
        return thing

    return mark


def parts_of(kind: str) -> dict[str, Any]:
    """{name within the kind: part}, with every file of the kind's package imported."""
    package = importlib.import_module(PACKAGES[kind])
    for file in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        importlib.import_module(file.name)
    return {name.removeprefix(f"{kind}."): thing for name, thing in PARTS.items() if name.startswith(f"{kind}.")}


def name_of(thing: Any) -> str | None:
    """The public name of a part; None for whatever is not one."""
    return next((name for name, known in PARTS.items() if known is thing), None)


def find(name: str) -> Any:
    """The part of this public name. Raises UserError where there is none."""
    kind = name.partition(".")[0]
    if name not in PARTS and kind in PACKAGES:
        parts_of(kind)
    if name not in PARTS:
        raise UserError(f"there is no recipe part {name!r}")
    return PARTS[name]
