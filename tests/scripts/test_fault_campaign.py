"""A small campaign of faults: nothing is lost in silence, no traceback, no hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_small_campaign_finds_no_fault(tmp_path):
    command = [sys.executable, ROOT / "scripts/fault_campaign.py", "--kills", "1", "--limits", "1"]
    command += ["--damages", "2", "--inputs", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    held, refused, warned, *faults = map(int, done.stdout.splitlines()[-1].split()[1:])
    assert held + refused + warned == 8 and held and refused >= 4 and not any(faults), done.stdout
