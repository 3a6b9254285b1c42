"""What the README shows runs as it is written there (with fewer steps)."""

import re
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


def test_the_files_it_names_are_there():
    root = Path(__file__).parent.parent
    for name in re.findall(r"(?:experiments|scripts|gan_jax)/[\w/]+\.(?:py|ipynb)", README):
        assert (root / name).exists(), name
