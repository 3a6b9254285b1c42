r"""Start a command as several processes of one run on this machine, and watch over them: what
`launch_slurm.sh` does on a cluster.

    python scripts/launch.py --processes 2 -- \
        python experiments/quickstart.py --devices 2 --out runs/digits

Each process gets the command with `--coordinator`, `--processes` and `--process` after it, and what
the processes print goes through. When one is lost or fails, one line says so, and the others are
ended. The exit code is 0, or that of the process that ended the run. Ctrl-C and SIGTERM reach all
processes; on Linux they get SIGTERM too when this program is killed.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time

from gan_jax.cli.run import run
from gan_jax.core.errors import UserError
from gan_jax.training.distributed import AGAIN, LOST

PATIENCE = 1.0  # seconds in which the others may end by themselves
STOPPED = (0, 130, 128 + signal.SIGTERM)  # with a checkpoint, after Ctrl-C or SIGTERM: the others do the same
PR_SET_PDEATHSIG = 1  # of Linux's prctl
_command: list[str] = []


def main(processes: int = 2) -> int:
    """Start the command after `--` as several processes of one run on this machine.

    Args:
        processes: How many.
    """
    if processes < 1 or not _command:
        raise UserError("name at least one process, and the command after --: launch.py --processes 2 -- python ...")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = [*_command, "--coordinator", address, "--processes", str(processes)]
    follow = _end_with_parent if sys.platform == "linux" else None
    try:
        started = [subprocess.Popen([*shared, "--process", str(i)], preexec_fn=follow) for i in range(processes)]
    except OSError as error:
        raise UserError(f"cannot start {_command[0]}: {error.strerror}") from None
    asked = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all of them
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append([process.terminate() for process in started]))
    code = watch(started)
    if code < 0 and not asked:
        lost = [process.returncode for process in started].index(code)
        print(f"error: process {lost} of {processes} was lost ({signal.Signals(-code).name}): {AGAIN}", file=sys.stderr)
    kill(started)
    return 128 - code if code < 0 else code


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def watch(started: list[subprocess.Popen]) -> int:
    """Waits until all processes have ended, or one badly; returns the exit code of the one that was
    the cause, below 0 for a signal. JAX aborts processes, and they end with LOST, as a
    consequence."""
    while (codes := [process.poll() for process in started]) and None in codes and all(c in (None, *STOPPED) for c in codes):
        time.sleep(0.05)
    deadline = time.monotonic() + PATIENCE
    while None in codes and time.monotonic() < deadline:
        time.sleep(0.05)
        codes = [process.poll() for process in started]
    bad = [code for code in codes if code]
    return next((code for code in bad if code not in (LOST, -signal.SIGABRT)), bad[0] if bad else 0)


def kill(started: list[subprocess.Popen]) -> None:
    for process in started:
        process.kill()
    for process in started:
        process.wait()


if __name__ == "__main__":
    if "--" in sys.argv:
        at = sys.argv.index("--")
        sys.argv, _command = sys.argv[:at], sys.argv[at + 1 :]
    run(main)
