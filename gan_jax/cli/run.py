"""How a script reads its command line and runs: typed arguments in, one line on a mistake."""

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


def _parse(main: Callable[..., Any]) -> Callable[[], Any]:
    """`main` with the command line's arguments, not yet called: only what tyro prints is captured.

    Raises UserError with tyro's message on one line, without the box that tyro draws around it.
    """
    import tyro

    hints = [hint for name, hint in get_type_hints(main).items() if name != "return"]
    one_class = len(hints) == 1 and isinstance(hints[0], type) and is_dataclass(hints[0])
    keep = functools.wraps(main)(lambda *args, **kwargs: functools.partial(main, *args, **kwargs))
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return functools.partial(main, tyro.cli(hints[0])) if one_class else tyro.cli(keep)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│ ") for line in output.getvalue().splitlines() if line.startswith("│")]
        message = itertools.takewhile(lambda line: not line.startswith("─"), lines)
        raise UserError(" ".join(message).rstrip(".") + "; see --help") from None


def run(main: Callable[..., Any]) -> None:
    """Call `main` with the command line's arguments and exit with the code it returns (0 for None).

    main: a function of typed arguments, or of one dataclass of options. A UserError becomes one
        line on stderr and exit code 2.
    """
    try:
        code = _parse(main)()
    except UserError as error:
        distributed.refuse(error)
        print(f"error: {error}", file=sys.stderr)
        code = 2
    raise SystemExit(code)
