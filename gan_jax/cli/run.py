"""How a script reads its command line and runs: typed arguments in, one line on a mistake."""

import contextlib
import errno
import functools
import io
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from gan_jax.arguments import not_both
from gan_jax.core.errors import UserError, say
from gan_jax.text import shorten
from gan_jax.training import distributed

MOST = 1024  # virtual devices


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_devices(count: int, collectives: bool = True) -> None:
    """Split the CPU into `count` virtual devices, if that is what there is. Call before JAX is
    first used.

    On few cores jax 0.10 can deadlock when `collectives` queue up, unless its thread pool is larger
    than the machine.
    """
    if 1 < count <= MOST:
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
            return functools.partial(main, _checked(tyro.cli(hints[0]))) if one_class else tyro.cli(keep)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│ ") for line in output.getvalue().splitlines() if line.startswith("│")]
        message = itertools.takewhile(lambda line: not line.startswith("─"), lines)
        raise UserError(" ".join(message).rstrip(".") + "; see --help") from None


def _checked(options: Any) -> Any:
    """The options, each in the range that its type states (see `gan_jax.cli.types`). Raises
    UserError for the first that is not, and for --resume with --overwrite."""
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        try:
            TypeAdapter(hints[field.name]).validate_python(getattr(options, field.name))
        except ValidationError as error:
            first = error.errors()[0]
            must = first["msg"].replace("Input should be", "it must be").replace("greater than or equal to", "at least")
            raise UserError(f"--{field.name.replace('_', '-')} {shorten(first['input'], 80)}: {must}") from None
    not_both(getattr(options, "resume", False), getattr(options, "overwrite", False))
    return options


def _open_streams() -> None:
    """Where stdout or stderr was closed (`2>&-`), what is written to them is lost. Without this the
    next file that is opened would get their number, and C++ would log into it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)


def _refused_by_jax() -> str | None:
    """What the environment asks JAX for, where it has no such device or setting; else None."""
    try:
        import jax

        jax.devices()
    except (RuntimeError, AssertionError) as error:
        why = str(error).split(". ")[0].split(" (set JAX_PLATFORMS")[0] or "JAX finds no such device here"
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return f"JAX_PLATFORMS={platforms}: {why}: unset it, or name a platform that is here, such as cpu"
    except ValueError as error:  # JAX_ENABLE_X64=maybe
        return f"JAX refuses the environment: {error}"
    return None


def run(main: Callable[..., Any]) -> None:
    """Call `main` with the command line's arguments and exit with the code it returns (0 for None).

    main: a function of typed arguments, or of one dataclass of options. A UserError becomes one
        line on stderr and exit code 2.
    """
    _open_streams()
    try:
        code = _parse(main)()
        sys.stdout.flush()
    except UserError as error:
        distributed.refuse(error)
        say(f"error: {error}")
        code = 2
    except (RuntimeError, AssertionError, ValueError):
        if (why := _refused_by_jax()) is None:
            raise
        say(f"error: {why}")
        code = 2
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno != errno.EPIPE:  # as with `| head`, which is nobody's mistake
            say(f"error: cannot write ({error.strerror}): free space, or choose another place; what was saved is kept")
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        code = 1
    raise SystemExit(code)
