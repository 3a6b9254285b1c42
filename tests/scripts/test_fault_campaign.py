"""A small campaign of faults: nothing is lost in silence, no traceback, no hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


SMALL, WHOLE = (1, 1, 2, 4), (200, 60, 200, 380)  # kills, limits, damages, inputs


@pytest.mark.slow
@pytest.mark.parametrize("size", [SMALL, pytest.param(WHOLE, marks=pytest.mark.nightly)], ids=["small", "whole"])
def test_a_campaign_finds_no_fault(tmp_path, size):
    command: list[str | Path] = [sys.executable, ROOT / "scripts/fault_campaign.py"]
    for option, number in zip(("--kills", "--limits", "--damages", "--inputs"), size, strict=True):
        command += [option, str(number)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900 if size == SMALL else 4 * 3600)
    assert done.returncode == 0, done.stdout + done.stderr
    held, refused, warned, *faults = map(int, done.stdout.splitlines()[-1].split()[1:])
    assert held + refused + warned >= 0.9 * sum(size) and held and refused >= 4 and not any(faults), done.stdout
