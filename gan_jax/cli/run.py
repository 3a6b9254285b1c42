"""How a script reads its command line and runs: typed arguments in, one line on a mistake."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from gan_jax.core.errors import UserError
from gan_jax.training import distributed


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_devices(count: int, collectives: bool = True) -> None:
    """Split the CPU into `count` virtual devices, if that is what there is. Call before JAX is
    first used.

    On few cores jax 0.10 can deadlock when `collectives` queue up, unless its thread pool is larger
    than the machine.
    """
    if count > 1:
        if collectives:
            os.environ.setdefault("NPROC", "16")
        import jax

        jax.config.update("jax_num_cpu_devices", count)


def _options_class(main: Callable[..., Any]) -> type | None:
    """The dataclass that is the only argument of `main`, if it has one."""
    hints = [hint for name, hint in get_type_hints(main).items() if name != "return"]
    return hints[0] if len(hints) == 1 and isinstance(hints[0], type) and is_dataclass(hints[0]) else None


def _parse(target: Any) -> Any:
    """What the command line says: an instance of a dataclass, or a function with its arguments
    bound.

    Raises UserError with tyro's message on one line, out of the box that it draws.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(target) if isinstance(target, type) else _bound(target)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│ ") for line in said.getvalue().splitlines() if line.startswith("│")]
        message = itertools.takewhile(lambda line: not line.startswith("─"), lines)
        raise UserError(" ".join(message).rstrip(".") + "; see --help") from None


def _bound(function: Callable[..., Any]) -> Callable[[], Any]:
    """`function` with the command line's arguments, not yet called: its own messages go where they
    belong."""
    import tyro

    given: dict[str, Any] = {}
    catch = functools.wraps(function)(lambda *args, **kwargs: given.update(args=args, kwargs=kwargs))
    tyro.cli(catch)
    return lambda: function(*given["args"], **given["kwargs"])


def run(main: Callable[..., Any]) -> None:
    """Call `main` with the command line's arguments and exit with the code it returns (0 for None).

    main: a function of typed arguments, or of one dataclass of options. A UserError becomes one
        line on stderr and exit code 2.
    """
    try:
        code = main(_parse(options)) if (options := _options_class(main)) else _parse(main)()
    except UserError as error:
        distributed.refuse(error)
        print(f"error: {error}", file=sys.stderr)
        code = 2
    raise SystemExit(code)
