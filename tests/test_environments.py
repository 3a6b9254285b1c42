"""Surroundings that a program meets: each works, or is one line; none costs what was trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICKSTART = [
    "experiments/quickstart.py",
    "--data",
    "ring",
    "--steps",
    "4",
    "--batch-size",
    "16",
    "--width",
    "8",
    "--no-report",
]
QUICKSTART += ["--log-every", "2", "--checkpoint-every", "2", "--sample-every", "2", "--out"]
NO_PASSWD = """
import pwd, runpy, sys
def absent(*_): raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = absent
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def quickstart(out, redirect="", before=(), **changed):
    """Runs it; returns (exit code, stdout, stderr)."""
    environment = {k: v for k, v in os.environ.items() if k not in changed} | {
        k: v for k, v in changed.items() if v is not None
    }
    command = [sys.executable, *before, *QUICKSTART, str(out)]
    if redirect:
        command = ["bash", "-c", f'"$@" {redirect}', "bash", *command]
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def is_saved(out):
    return sorted(path.name for path in (out / "checkpoints").iterdir() if path.name.isdecimal()) == ["2", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("redirect", ["2> >(head -1 >&2)", "2>/dev/full", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_or_full_stderr_costs_nothing(tmp_path, redirect):
    code, _, _ = quickstart(tmp_path / "run", redirect)
    assert code == 0 and is_saved(tmp_path / "run") and (tmp_path / "run/curves.png").exists()


@pytest.mark.slow
def test_a_full_stdout_is_one_line_after_the_run_is_saved(tmp_path):
    code, _, said = quickstart(tmp_path / "run", ">/dev/full")
    assert code == 1 and is_saved(tmp_path / "run")
    assert said.splitlines()[-1].startswith("error: cannot write (No space left on device)") and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [{"HOME": None}, {"HOME": "/proc"}, {"JAX_ENABLE_X64": "1"}, {"JAX_DISABLE_JIT": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=str,
)
def test_it_trains_in_an_unusual_environment(tmp_path, changed):
    code, shown, said = quickstart(tmp_path / "run", **changed)
    assert code == 0 and is_saved(tmp_path / "run") and shown.startswith("samples: "), said


@pytest.mark.slow
def test_it_trains_for_a_user_without_an_entry(tmp_path):
    code, _, said = quickstart(tmp_path / "run", before=["-c", NO_PASSWD], HOME=None)
    assert code == 0 and is_saved(tmp_path / "run"), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda: "),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS=nonsense: Unable to initialize backend"),
        ({"JAX_ENABLE_X64": "maybe"}, "invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'"),
    ],
    ids=str,
)
def test_what_jax_has_not_here_is_one_line(tmp_path, changed, said):
    code, _, text = quickstart(tmp_path / "run", **changed)
    if code == 0 and changed.get("JAX_PLATFORMS") == "cuda":
        pytest.skip("there is a GPU here")
    assert code == 2 and text.startswith("error: ") and said in text and text.count("\n") == 1, text
    assert not (tmp_path / "run").exists()
