"""What the README shows runs as it is written there (with fewer steps)."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["five_lines", "a_report", "a_sweep", "a_loss_and_a_penalty", "a_controller"])
def test_the_examples_run(block):
    namespace = {"__name__": "readme"}
    if "gan.sweep" in block:
        exec(re.sub(r"steps=\d+, seeds=5, sizes=.*]", "steps=4, seeds=1, sizes=[64, 80], log_every=4", block), namespace)
        assert set(namespace["swept"].table["n"]) == {64, 80} and len(namespace["swept"].members) == 8
        return
    if "overfitting_report" in block:
        exec(block, namespace)
        assert f"print(report.verdict)  # {namespace['report'].verdict}\n" in block
        return
    exec(re.sub(r"steps=\d+", "steps=20, log_every=10, checkpoint_every=10, sample_every=10", block), namespace)
    run = namespace["run"]
    assert run.step == 20 and run.stopped is None
    if "controllers" in block:
        assert "live/discriminator.numbers.dropout" in run.history[-1]
    drift = [row["discriminator/drift"] for row in run.history if "discriminator/drift" in row]
    assert bool(drift) == ("drift" in block)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_as_it_says(tmp_path):
    """The three commands, of a smaller network and fewer steps."""
    root = Path(__file__).parent.parent
    commands = re.search(r"```\n(python scripts/launch.py.*?)```", README, re.DOTALL)[1].splitlines()
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    small = "--width 4 --batch-size 8 --subset 100 --no-report"
    for command, step in zip(commands, (10, 20, 30), strict=True):
        line = re.sub(r"--steps \d+", f"--steps {step}", command.split("#")[0]).replace("runs/", f"{tmp_path}/")
        settings = {
            "env": os.environ | own | {"XLA_FLAGS": ""},
            "cwd": root,
            "capture_output": True,
            "text": True,
            "timeout": 600,
        }
        ended = subprocess.run(["bash", "-c", f"{line} {small}"], **settings)
        assert ended.returncode == 0, ended
        assert json.loads((tmp_path / "two_hosts/status.json").read_text())["step"] == step


def test_the_files_it_names_are_there():
    root = Path(__file__).parent.parent
    for name in re.findall(r"(?:experiments|scripts|gan_jax)/[\w/]+\.(?:py|ipynb)", README):
        assert (root / name).exists(), name
