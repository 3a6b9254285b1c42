"""Command lines: typed arguments in, one line on a user's mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gan_jax.errors import UserError


def run(main: Callable[..., Any]) -> None:
    """Call `main` with the command line's arguments; a `UserError` becomes one line on stderr and exit code 2."""
    import tyro

    try:
        tyro.cli(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
