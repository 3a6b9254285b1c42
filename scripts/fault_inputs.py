"""Mistakes of the fault campaign: calls and command lines with one argument that cannot be meant.
Each must end in one line and exit code 2, before anything is written."""

from __future__ import annotations

import functools
import itertools
import math
import random
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_training as training
import numpy as np
from fault_children import REFUSED, SILENT, Child, Outcome, do, ending

import gan_jax as gan

ROOT = Path(__file__).parent.parent
NO_COUNTS = (0, -1, 2.5, math.nan, math.inf, "5", None, [3], 2**70)
NO_SEEDS = (-1, 2**70, "a", 1.5, math.nan, None, [1])
NO_NUMBERS = (-1.0, math.nan, math.inf, "a", None)
NO_DATA = (None, "digits", np.zeros((90, 8, 8, 1), np.uint8), [])
IMAGES = np.zeros((120, 8, 8, 1), np.uint8)

CALLS: dict[str, dict[str, tuple]] = {  # function: {argument: values that cannot be meant}
    "fit": {
        "steps": NO_COUNTS, "seed": NO_SEEDS, "log_every": NO_COUNTS, "checkpoint_every": (0, -1, 3, 2.5, "a"),
        "sample_every": (0, -1, 3, 2.5), "keep": (0, -1, 1.5, "a", None), "devices": (0, -1, "2", 1000, 1.5, None),
        "parallel": ("both", None, 3), "shard": ("everything", 1), "out": (5, "a\0b"), "data": NO_DATA,
        "recipe": (None, "dcgan", {}, 5), "warm_start": ("no such folder", 5), "resume": (True,), "overwrite": (True,),
        "game": ("gan", 5),
    },
    "sweep": {
        "steps": NO_COUNTS, "seeds": (0, -1, 2.5, "a", [0, 0], [], [1.5], None), "sizes": (5, [0], [-1], [10**9], ["a"], []),
        "settings": ({}, [], [1], None, 5), "order": ("random", None), "devices": (0, -1, "2", 1.5, 1000), "data": NO_DATA,
        "rank_by": ("nonsense", None, 5), "baseline": ("nonsense", 5), "members_per_program": (0, -1, 1.5, "a"),
        "executor": ("kubernetes", 5), "log_every": (0, -1, "a"), "devices_per_member": (0, -1, "a"),
        "warm_start": ("no such folder", 5),
    },
    "load": {
        "name": ("nonsense", "", "folder:", "npz:no such file", "folder:no such folder", 5, None), "seed": NO_SEEDS,
        "subset": (0, -1, 10**9, 2.5, "a"), "size": (0, -1, 2.5, "a", 100_000), "channels": (2, "a", 0),
        "imbalance": ({"ratio": -1}, {"nonsense": 1}, 5),
    },
    "recipe": {
        "batch_size": NO_COUNTS, "d_steps": NO_COUNTS, "accumulate": (0, -1, 3, 2.5, "a"), "classes": (-1, 2.5, "a"),
        "ema_decay": (-1.0, 2.0, math.nan, "a"), "latent_dim": NO_COUNTS, "width": NO_COUNTS,
    },
    "regularized": {
        "r1": NO_NUMBERS, "lazy": (0, -1, 2.5, "a", math.nan), "dropout": (-0.1, 1.5, math.nan, "a"),
        "clip_gradient": (0.0, *NO_NUMBERS), "learning_rate": NO_NUMBERS, "unbound": (1,),
    },
    "samples": {
        "n": NO_COUNTS, "seed": NO_SEEDS, "labels": ([1, 2], "a", 5), "truncation": ("a", -1.0, math.nan),
    },
    "overfitting_report": {
        "fakes": (None, IMAGES[:, :4], IMAGES[:5], IMAGES.astype(float), IMAGES * np.nan, "a", 5),
        "data": (None, "digits", (IMAGES,), 5),
        "n": (*NO_COUNTS[:6], True), "permutations": (-1, 2.5, "a"), "features": ("nonsense", 5), "seed": NO_SEEDS,
        "labels": ([1, 2], "a"), "logits": ({"train": [1.0]}, 5),
    },
    "open_run": {"folder": ("no such folder", 5, None), "step": (7, -1, "a", 2.5), "data": (5,)},
}  # fmt: skip

LINES: dict[str, list[str]] = {  # script: flags that cannot be meant
    "experiments/quickstart.py": [
        "--steps 0", "--steps -1", "--steps 2.5", "--width 0", "--width -1", "--seed -1", f"--seed {2**70}", "--batch-size 0",
        "--batch-size -1", "--d-steps 0", "--learning-rate -1", "--learning-rate nan", "--r1 -1", "--r1 1 --lazy -1",
        "--r1 1 --lazy 0", "--clip-gradient 0", "--clip-gradient -1", "--clip-weights -1", "--size 100000", "--size 0",
        "--channels 2", "--data nonsense", "--data folder:nowhere", "--resume --overwrite", "--devices 0", "--devices -1",
        "--log-every 0", "--checkpoint-every 3", "--accumulate -1", "--accumulate 3", "--loss nonsense", "--ema-decay 2",
        "--dropout 1.5", "--smoothing 2", "--instance-noise -1", "--subset 0", "--subset 1000000", "--play nonsense",
        "--play unrolled --unrolled-steps 0", "--warm-start nowhere", "--freeze Nothing_9", "--damaged skip", "--workers -1",
        "--process 1", "--nonsense", "--steps", "--weight-decay nan", "--consensus-weight -1 --play consensus",
        "--d-learning-rate -1",
    ],
    "experiments/regularization_sweep.py": [
        "--seeds 0", "--seeds -1", "--sizes 0", "--sizes 1000000", "--only nonsense", "--width 0", "--rank-by nonsense",
        "--members-per-program 0", "--devices 0", "--batch-size 0", "--steps 0", "--log-every 0", "--seed -1", "--subset 0",
        "--executor nonsense", "--warm-start nowhere", "--resume --overwrite", "--size 100000",
    ],
    "scripts/report.py": [
        "--recovery -1", "--n 0", "--n -1", "--step 7", "--step -1", "--features nonsense", "--permutations -1", "--seed -1",
        "--inception-weights nowhere", "--resize nonsense --inception-weights nowhere",
    ],
    "scripts/samples.py": [
        "--number 0", "--number -1", "--steps 0", "--steps 1", "--labels 99", "--labels -1", "--truncation -1", "--seed -1",
        "--paths -1", "--step 7",
    ],
}  # fmt: skip
SMALL = {
    "experiments/quickstart.py": {"--steps": "4", "--width": "4", "--batch-size": "8", "--log-every": "2", "--no-report": None},
    "experiments/regularization_sweep.py": {
        "--steps": "4", "--width": "4", "--batch-size": "8", "--log-every": "2", "--seeds": "2", "--only": "none dropout",
    },
    "scripts/report.py": {}, "scripts/samples.py": {},
}  # fmt: skip


def cases() -> Iterator[tuple[str, str, Any]]:
    """(group, what is wrong, the flags or the value) of every mistake."""
    for function, arguments in CALLS.items():
        for argument, values in arguments.items():
            for i, value in enumerate(values):
                text = f"array {value.shape} {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
                yield function, f"{argument}={text}", (function, argument, i)
    yield "sweep", "settings={1: a, '1': b}", ("sweep", "settings", "twice")
    for script, lines in LINES.items():
        for line in lines:
            yield script, line, line


@functools.cache
def shuffled(seed: int = 0) -> list[tuple[str, str, Any]]:
    """All mistakes in a random order, so that the first ones are of every kind."""
    found = list(cases())
    random.Random(seed).shuffle(found)
    return found


def attempt(root: Path, number: int, draw: random.Random) -> Outcome | None:
    """Case `number` of the list, which is the same for all seeds; None after its end."""
    if number >= len(shuffled()):
        return None
    from fault_damages import made

    group, what, how = shuffled()[number]
    run, out = made(root, "report"), root / f"mistake {number}"
    if isinstance(how, str):
        child = Child(root / "out.txt", command, root / "cache", run, out, group, how)
        bad = ending(child.wait(), child.lines)
    else:
        bad, _ = do(root / "out.txt", call, root / "cache", run, out, *how)
    written = [] if not out.exists() else [p.name for p in out.rglob("*")]
    if bad and bad[0] == REFUSED and written:
        return Outcome(group, what, SILENT, f"refused, and wrote {written[:3]}: {bad[1]}")
    return Outcome(group, what, *bad) if bad else Outcome(group, what, SILENT, "accepted")


# ---- calls -------------------------------------------------------------------------------------


def call(cache: Path, run: Path, out: Path, function: str, argument: str, which: int | str) -> None:
    """Call the function with one wrong value."""
    training.use_cache(cache)
    a, b = training.image_recipe(1e-4), training.image_recipe(4e-4)
    value = {1: a, "1": b} if which == "twice" else CALLS[function][argument][int(which)]
    FUNCTIONS[function](run, out, {argument: value})


def _fit(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "recipe": training.image_recipe(),
        "data": training.digits(),
        "steps": 4,
        "log_every": 2,
        "progress": False,
    }
    if not {"resume", "overwrite"} & wrong.keys():
        arguments["out"] = out
    gan.fit(**arguments | wrong)


def _sweep(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "settings": {"a": training.image_recipe()},
        "data": training.digits(),
        "steps": 4,
        "log_every": 2,
        "seeds": 2,
    }
    arguments |= {"out": out, "devices": 1, "progress": False}
    gan.sweep(**arguments | wrong)


def _load(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"name": "digits"}
    gan.load(**arguments | wrong)


def _recipe(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    small: dict[str, Any] = {"width": 4, "latent_dim": 4, "batch_size": 8}
    gan.fit(gan.recipes.dcgan((8, 8, 1), **small | wrong), training.digits(), steps=2, log_every=2, out=out, progress=False)


def _regularized(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    (name, value), = wrong.items()  # fmt: skip
    recipe = training.image_recipe()
    r1 = gan.penalties.r1
    penalties: dict[str, Any] = {
        "r1": lambda: {"r1": gan.bind(r1, gamma=value)},
        "lazy": lambda: {"r1": gan.lazy(gan.bind(r1, gamma=1.0), value)},
        "unbound": lambda: {"r1": r1},
    }
    optimizers: dict[str, Any] = {
        "clip_gradient": lambda: gan.optimizers.chain(gan.optimizers.clip_gradient(value), gan.optimizers.adam(1e-3)),
        "learning_rate": lambda: gan.optimizers.adam(value),
    }
    changed: dict[str, Any] = {}
    if name in penalties:
        changed = {"penalties": penalties[name]()}
    elif name in optimizers:
        changed = {"optimizer": optimizers[name]()}
    else:
        changed = {"numbers": {"dropout": value}}
    recipe = recipe.replace(discriminator=recipe.discriminator.replace(**changed))
    gan.fit(recipe, training.digits(), steps=2, log_every=2, out=out, progress=False)


def _samples(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"n": 4}
    gan.open_run(run).samples(**arguments | wrong)


def _overfitting_report(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    samples = gan.open_run(run).samples(120)
    arguments: dict[str, Any] = {"fakes": samples, "data": training.digits(), "features": "pixels"}
    gan.overfitting_report(**arguments | wrong)


def _open_run(run: Path, out: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"folder": run}
    gan.open_run(**arguments | wrong)


FUNCTIONS: dict[str, Callable] = {
    "fit": _fit, "sweep": _sweep, "load": _load, "recipe": _recipe, "regularized": _regularized, "samples": _samples,
    "overfitting_report": _overfitting_report, "open_run": _open_run,
}  # fmt: skip


# ---- command lines -----------------------------------------------------------------------------


def command(cache: Path, run: Path, out: Path, script: str, line: str) -> None:
    """The script with these flags, as if started from a shell."""
    training.use_cache(cache)
    words = line.split()
    flags: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            flags[word] = []
        else:
            flags[[*flags][-1]].append(word)
    flags = {flag: [] if value is None else value.split() for flag, value in SMALL[script].items()} | flags
    target = [str(run)] if script.startswith("scripts/") else []
    place = ["--out", str(out)] if "report.py" not in script else []
    sys.argv = [script, *target, *itertools.chain(*([flag, *values] for flag, values in flags.items())), *place]
    sys.path.insert(0, str((ROOT / script).parent))
    runpy.run_path(str(ROOT / script), run_name="__main__")
