"""What a task needs, sent without pickles: settings as JSON, data in memory as plain arrays, and
the environment that results depend on."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.data.splits import Split, Splits
from gan_jax.training.files import write_arrays, writing
from gan_jax.training.run import Run
from gan_jax.training.serialization import from_json, to_json

FORWARDED = ("JAX_", "XLA_", "GAN_JAX_")
THREADS = ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SETTINGS = ("enable_x64", "default_prng_impl", "default_matmul_precision", "threefry_partitionable", "numpy_dtype_promotion")


def environment(accelerated: bool) -> dict[str, str | None]:
    """This process's variables on which a result depends; None for one that must not be set.

    accelerated: whether the task has more than a CPU. JAX itself finds the device there.
    """
    settings = {name: getattr(jax.config, f"jax_{name}") for name in SETTINGS}
    if (count := getattr(jax.config, "jax_num_cpu_devices", -1)) >= 0:
        settings["num_cpu_devices"] = count
    found: dict[str, str | None] = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
    found |= {f"JAX_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    found |= {name: os.environ.get(name) for name in THREADS}
    return found | {"JAX_PLATFORMS": None if accelerated else "cpu", "PYTHONPATH": os.pathsep.join(own_path())}


def own_path() -> list[str]:
    """Paths where this process finds modules outside its Python installation."""
    inside = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})
    return [str(Path(path).absolute()) for path in sys.path if not path.startswith(inside)]


def check_tasks(
    settings: Mapping[str, Any], game: Game | None, data: Splits, trusted: Sequence[str], warm_start: Run | str | Path | None
) -> None:
    """Raises UserError for what cannot be sent to a task, or what a task could not make again from
    JSON."""
    if not isinstance(warm_start, (str, Path, type(None))):
        raise UserError("tasks can begin from a run on disk alone: give warm_start its folder")
    for name, value in {**{f"setting {k!r}": v for k, v in settings.items()}, "the game": game}.items():
        text = json.dumps(to_json(value))
        if '"__main__:' in text:
            raise UserError(f"{name} names a function of the script itself: put it in a module that tasks can import")
        try:
            again = from_json(json.loads(text), trusted)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if not _same(again, value):
            raise UserError(f"{name} is another when written as JSON and read again: tasks could not train it")
    if not getattr(data, "source", None) and not isinstance(data, Splits):
        raise UserError(f"data of type {type(data).__name__} cannot be sent to tasks: give Splits")


def _same(a: Any, b: Any) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(jax.tree.map(np.array_equal, a, b))


def save_arrays(path: Path, data: Splits) -> None:
    """Write training images (T) and validation images (V). No task needs the other splits."""
    parts = {"train": data.train, "validation": data.validation}
    arrays = {f"{name}_images": part.images for name, part in parts.items()}
    arrays |= {f"{name}_labels": part.labels for name, part in parts.items() if part.labels is not None}
    with writing(path):
        write_arrays(path, arrays)


def read_arrays(path: Path, described: dict[str, Any], class_names: Sequence[str]) -> Splits:
    """What `save_arrays` wrote, with empty test and extractor splits. Raises UserError where it
    cannot be read, or is not what the record describes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        train, held_out = (Split(arrays[f"{k}_images"], arrays.get(f"{k}_labels")) for k in ("train", "validation"))
    except KeyError as error:
        raise UserError(f"{path}: it has no array {error}: resume the sweep, which writes it again") from None
    except Exception as error:  # NumPy raises ValueError, OSError, BadZipFile, zlib.error ... for damaged files
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); does this machine see the sweep's folder?") from None
    for name, part in {"train": train, "validation": held_out}.items():
        if part.hash != described["hashes"][name]:
            raise UserError(f"{path}: the {name} split is not that of the sweep: their hashes differ")
    closed = train.first(0)
    return Splits(described["name"], described["seed"], train, held_out, closed, closed, tuple(class_names), {})
