"""Start a command as several processes of one run on this machine: what `launch_slurm.sh` does on a
cluster.

    python scripts/launch.py --processes 2 -- python experiments/quickstart.py --devices 2 --out runs/digits

Each process gets the command with `--coordinator`, `--processes` and `--process` after it, and what
they print goes through. The exit code is that of process 0, or where it has none of its own the
first that is not 0. Ctrl-C and SIGTERM reach all.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

from gan_jax.cli.run import run
from gan_jax.core.errors import UserError

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
    try:
        started = [subprocess.Popen([*shared, "--process", str(process)]) for process in range(processes)]
    except OSError as error:
        raise UserError(f"cannot start {_command[0]}: {error.strerror}") from None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all of them
    signal.signal(signal.SIGTERM, lambda number, frame: [process.terminate() for process in started])
    codes = [process.wait() for process in started]
    return next((128 - code if code < 0 else code for code in codes if code), 0)


if __name__ == "__main__":
    if "--" in sys.argv:
        at = sys.argv.index("--")
        sys.argv, _command = sys.argv[:at], sys.argv[at + 1 :]
    run(main)
