"""A command line that does not fit is one line and exit code 2; nothing is read or written."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN, SWEEP = (str(ROOT / "tests/frozen/folders" / name) for name in ("run", "sweep"))
BIG = 2**70
TRAINING = [
    "--resume --overwrite",
    "--seed -1",
    f"--seed {BIG}",
    f"--seed {2**32}",
    "--seed 1e3",
    "--steps 0",
    "--steps -5",
    "--steps nan",
    f"--steps {BIG}",
    "--steps 2.5",
    "--log-every 0",
    "--log-every -1",
]
OF_IMAGES = [
    "--width 0",
    "--width -4",
    f"--width {10**9}",
    "--batch-size 0",
    "--size 100000",
    "--size 0",
    "--subset 0",
    "--subset -5",
]
OF_SWEEPS = [
    "--seeds 0",
    "--seeds -1",
    f"--seeds {2**40}",
    "--members-per-program 0",
    "--devices 0",
    "--devices-per-member -1",
    "--task-cpus 0",
    "--task-gpus -1",
    "--task-minutes 0",
    "--retries -1",
    "--order mixed",
]
LINES = {
    "quickstart": [
        *TRAINING,
        *OF_IMAGES,
        "--lazy 0",
        "--lazy -1",
        "--clip-gradient 0",
        "--clip-gradient -1",
        "--clip-gradient nan",
        "--clip-weights 0",
        "--d-steps 0",
        "--accumulate -1",
        "--accumulate 0",
        "--ema-decay 2",
        "--ema-decay nan",
        "--dropout 1.5",
        "--smoothing 2",
        "--instance-noise -1",
        "--weight-decay -1",
        "--learning-rate inf",
        "--d-learning-rate -1",
        "--r1 nan",
        "--wgan-gp -1",
        "--dragan inf",
        "--checkpoint-every 0",
        "--sample-every -1",
        "--devices 0",
        "--workers -1",
        "--processes 0",
        "--process -1",
        "--timeout nan",
        "--timeout -1",
        "--unrolled-steps 0",
        "--consensus-weight nan",
        "--channels 2",
    ],
    "regularization_sweep": [*TRAINING, *OF_IMAGES, *OF_SWEEPS, "--sizes 0", "--sizes -5", "--draws 0", "--draws -3"],
    **{name: ["--resume --overwrite", "--width 0"] for name in ("architectures", "augmentation", "losses", "optimizers")},
    "dataset_size": ["--steps 0", "--width 0"],
    "overfitting_dynamics": ["--seeds 0", "--sizes 0"],
    "limited_data": ["--sizes nan", "--lecam -1", "--dropout 2"],
    "stacked_mnist": ["--seed -1", "--samples 0", "--gamma -1", "--gamma nan"],
    "vae_vs_gan": ["--seed -1", "--beta -1", "--latent-dim 0", "--sizes -1", "--sizes nan"],
    "adaptive": ["--seed -1", "--gain -1", "--crossing 2", "--target nan"],
    "class_imbalance": ["--seed -1", "--ratio 0", "--class-seed -1", "--beta nan", "--pool 0", "--sigma -1"],
    "leaking": ["--seeds 0", "--steps 0", "--p 1.5", "--p nan", "--samples 0", "--width 0"],
    "mode_coverage": [
        "--resume --overwrite",
        "--steps 0",
        "--seeds -1",
        "--gamma nan",
        "--d-rate 0",
        f"--seeds {2**50}",
        "--log-every 0",
    ],
    "dirac_gan": [
        "--steps 0",
        "--steps 100000000000000",
        "--learning-rate 0",
        "--learning-rate nan",
        "--gammas -1",
        "--gammas nan",
    ],
    "planted_truths": ["--data", "--parts", "--seeds 0", "--independent 0", "--first-seed -1", f"--first-seed {BIG}"],
    "missing_values": [
        "--rates -1",
        "--rates nan",
        "--rates 2",
        "--repetitions 0",
        "--folds 0",
        "--steps 0",
        "--code-steps -1",
        "--vae-steps 0",
        "--seed -1",
        f"--seed {BIG}",
        "--resume --overwrite",
        "--devices 0",
    ],
    "missing_images": [
        "--resume --overwrite",
        "--seed -1",
        "--width 0",
        "--devices 0",
        "--seeds 0",
        "--steps 0",
        "--rate nan",
        "--block 0",
    ],
    "report": [
        f"{RUN} --recovery -1",
        f"{RUN} --n -1",
        f"{RUN} --n 0",
        f"{RUN} --permutations -1",
        f"{RUN} --seed -1",
        f"{RUN} --seed {BIG}",
        f"{RUN} --step -1",
        f"{SWEEP} --recovery 5",
        "/nowhere",
        "",
        f"{RUN} --permutations 100000000000",
    ],
    "samples": [
        f"{RUN} --number 0",
        f"{RUN} --number -1",
        f"{RUN} --number {10**15}",
        f"{RUN} --paths -1",
        f"{RUN} --steps 0",
        "/nowhere",
        f"{RUN} --truncation nan",
        f"{RUN} --truncation -1",
        f"{RUN} --labels -1",
        f"{RUN} --seed -1",
        f"{RUN} --seed {BIG}",
        SWEEP,
    ],
    "compare": ["", "/nowhere", "/nowhere /nowhere", f"{RUN} {RUN}", f"{SWEEP} {SWEEP}"],
}
CASES = [(name, line) for name, lines in LINES.items() for line in lines]


@pytest.mark.parametrize(("name", "line"), CASES, ids=lambda text: text.replace(str(ROOT), "").replace("/", "_"))
def test_a_command_line_that_cannot_be_meant_is_one_line(mistake, tmp_path, name, line):
    module = importlib.import_module(name)
    before = sorted(ROOT.glob("tests/frozen/folders/*/*"))
    out = [] if name in ("report", "compare") else ["--out", tmp_path / "out"]
    mistake(module, *line.split(), *out)
    assert not list(tmp_path.iterdir()) and sorted(ROOT.glob("tests/frozen/folders/*/*")) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--width 0", "--width 0: it must be at least 1"),
        ("--clip-gradient 0", "--clip-gradient 0.0: it must be greater than 0"),
        (f"--seed {2**32}", "--seed 4294967296: it must be less than 4294967296"),
        ("--r1 nan", "--r1 nan: it must be a finite number"),
        ("--resume --overwrite", "resume goes on with what is in the folder, and overwrite deletes it: give one of the two"),
    ],
)
def test_the_line_has_the_option_the_value_and_what_it_must_be(mistake, line, said):
    assert mistake(importlib.import_module("quickstart"), *line.split()) == f"error: {said}\n"
