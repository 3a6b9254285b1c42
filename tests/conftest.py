"""Four virtual CPU devices, and a persistent compilation cache, set before JAX starts."""

import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Optimisation level 0 compiles in half the time, and every law here holds at any level. So do jax
# 0.10's older emitters, which take a third less again: for the fast suite; the slow one, and jax
# 0.12, which has no others, compile with those of users.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
OLDER = " --xla_cpu_use_fusion_emitters=false" * (version("jax").startswith("0.10.") and "slow" not in sys.argv)
os.environ.setdefault("XLA_FLAGS", FLAGS + OLDER)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "16")  # jax 0.10 on few cores deadlocks in queued collectives otherwise
CACHE = ROOT / ".cache" / "jax" / f"{version('jax')}-py{sys.version_info.minor}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("GAN_JAX_CACHE", str(ROOT / ".cache" / "features"))  # not the user's own
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax  # noqa: E402
import pytest  # noqa: E402

sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "experiments")]
MAPPINGS = Path("/proc/self/maps")  # Linux


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Each compiled program takes some of the 65,530 mappings that Linux gives a process; without
    any left, XLA dies."""
    yield
    if MAPPINGS.exists() and len(MAPPINGS.read_bytes().splitlines()) > 40_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Float64 throughout the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def figures(monkeypatch):
    """The figures as they are about to be written."""
    from gan_jax import plots

    seen = []
    save = plots.figures.save
    monkeypatch.setattr(plots.figures, "save", lambda path, figure: (seen.append(figure), save(path, figure))[1])
    return seen


@pytest.fixture
def mistake(capsys, monkeypatch):
    """Runs an experiment's module in this process with a mistake in its arguments; returns the line
    that it printed."""

    def run(module, *arguments):
        monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
        monkeypatch.setattr("gan_jax.cli.options.prepare_devices", lambda *a, **k: None)  # devices: once in a process
        with pytest.raises(SystemExit) as stopped:
            module.run(module.main)
        text = capsys.readouterr().err
        *before, line = text.splitlines(keepends=True)
        assert stopped.value.code == 2 and line.startswith("error: ") and line.endswith("\n"), text
        assert all(one.startswith("the overfitting report") for one in before), text  # what it can tell, said before training
        return line

    return run
