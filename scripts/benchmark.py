"""How fast is it? The article's DCGAN (batch 64, 32x32x3) by itself, and games, populations and
layers against PyTorch.

    # step, loop, memory, compile: over ten minutes on two CPU cores
    python scripts/benchmark.py
    python scripts/benchmark.py --rows step,loop --json benchmark.json
    # more devices, measured and predicted: see benchmark_scaling.py
    python scripts/benchmark.py --scaling
    uv run --extra bench scripts/benchmark.py --rows a,b # against PyTorch, by letter or by name

Rows: step (one compiled step, and steps inside one scan), loop (a real run with folder, logs and
checkpoints against the bare compiled scan, side by side), memory (peak of a process that trains),
compile (cold, and with the persistent cache). Against PyTorch: a dcgan (the article's, one run), b
population (16 small DCGANs), c toy (64 settings of an MLP pair with R1), d layers (each
convolution), e members (cost per member of 1 to 64). Equal work from equal weights, checked before
it is timed. Each figure is the median of several, with the smallest and largest; rows that compare
alternate the two in one process.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import tyro

from gan_jax.cli.run import cores, prepare_devices, run
from gan_jax.core.errors import UserError

SHAPE, IMAGES, CHUNK = (32, 32, 3), 1024, 10


def game():
    """The article's recipe, its state and random images of CIFAR-10's shape."""
    import jax
    import numpy as np

    import gan_jax as gan

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE), np.uint8)
    data = gan.from_arrays(images)
    recipe = gan.recipes.dcgan(SHAPE)
    feed = gan.Feed(jax.numpy.asarray(data.train.images), None, jax.numpy.int32(len(data.train)), jax.random.key(1))
    return recipe, jax.jit(gan.init)(recipe, jax.random.key(0)), data, feed


def seconds(function) -> float:
    """Wall time of one call, until its result is there."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def summary(values: list[float]) -> dict[str, float]:
    import numpy as np

    return {"median": float(np.median(values)), "min": min(values), "max": max(values), "n": len(values)}


def step_row(repeats: int) -> list[dict]:
    """One compiled step called from Python, and the same step inside a scan of ten, in turn."""
    import jax

    import gan_jax as gan
    from gan_jax.training.chunk import compiled_chunk, gather_batch
    from gan_jax.training.placement import place

    recipe, state, _, feed = game()
    batch = gather_batch(feed, state.step, 64, "float32", place(1))
    step = jax.jit(gan.train_step).lower(recipe, state, batch).compile()
    scan = compiled_chunk(gan.GAN, CHUNK, place(1))
    copy = lambda: jax.tree.map(jax.numpy.copy, state)  # a chunk uses up its state
    jax.block_until_ready((step(recipe, state, batch), scan(recipe, copy(), feed)))
    single, scanned = [], []
    for _ in range(repeats):
        single.append(seconds(lambda: step(recipe, state, batch)))
        fresh = jax.block_until_ready(copy())
        scanned.append(seconds(lambda fresh=fresh: scan(recipe, fresh, feed)) / CHUNK)
    rows = [("step", single), ("step in scan", scanned)]
    return [
        {"row": name, "ours_s": (s := summary(times))["median"], "spread_s": s, "images_per_s": 64 / s["median"]}
        for name, times in rows
    ]


def loop_row(repeats: int) -> list[dict]:
    """A run as users have it (folder, a log every 50 steps, a checkpoint every 100) against the
    bare compiled scan."""
    import jax

    import gan_jax as gan
    from gan_jax.training.chunk import compiled_chunk
    from gan_jax.training.folder import RunFolder
    from gan_jax.training.placement import place

    recipe, state, data, feed = game()
    scan = compiled_chunk(gan.GAN, 50, place(1))
    state, _ = jax.block_until_ready(scan(recipe, state, feed))
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1, repeats + 1):
            gan.fit(recipe, data, steps=100 * i + 50, out=folder, resume=i > 1, overwrite=i == 1, log_every=50, progress=False)
            times = RunFolder(folder).rows("timings.jsonl")
            ours.append(sum(t["seconds"] for t in times[-2:]) / 100)  # the chunk up to a checkpoint and the one after it
            start = time.perf_counter()
            for _ in range(2):
                state, _ = scan(recipe, state, feed)
            jax.block_until_ready(state)
            bare.append((time.perf_counter() - start) / 100)
    a, b = summary(ours), summary(bare)
    ratios = [x / y for x, y in zip(ours, bare, strict=True)]
    ratio = summary(ratios)
    return [{"row": "loop", "ours_s": a["median"], "peer_s": b["median"], "ratio": ratio["median"], "spread": ratio}]


CHILD = """
import time, resource, jax
import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2])
import benchmark, gan_jax as gan
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.placement import place
start = time.perf_counter()
recipe, state, data, feed = benchmark.game()
jax.block_until_ready(state)
init = time.perf_counter() - start
scan = compiled_chunk(gan.GAN, 10, place(1))
start = time.perf_counter()
lowered = scan.lower(recipe, state, feed)
trace = time.perf_counter() - start
start = time.perf_counter()
sizes = lowered.compile().memory_analysis()
compiled = time.perf_counter() - start
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if len(sys.argv) > 3:
    for _ in range(2):
        state, _ = jax.block_until_ready(scan(recipe, state, feed))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import json
print(json.dumps({"init_s": init, "trace_s": trace, "compile_s": compiled, "peak_mib": peak / 1024,
                  "compiler_mib": before / 1024, "temporaries_mib": sizes.temp_size_in_bytes / 2**20,
                  "arguments_mib": sizes.argument_size_in_bytes / 2**20}))
"""


def child(cache: str | None, *arguments: str) -> dict:
    """The figures of a fresh process; `cache` is its persistent compilation cache."""
    here = Path(__file__).resolve().parent
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    if cache:
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", CHILD, str(here), str(here.parent), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the measured process failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory_row(repeats: int) -> list[dict]:
    """Peak resident memory of a fresh process that trains twenty steps (and its peak by the end of
    compilation), and what the program itself asks for: arguments (state and data) and
    temporaries."""
    found = [child(None, "train") for _ in range(min(repeats, 3))]
    names = ("peak_mib", "compiler_mib", "arguments_mib", "temporaries_mib")
    figures = {name: summary([f[name] for f in found]) for name in names}
    return [{"row": "memory", **{k: v["median"] for k, v in figures.items()}, "spread_mib": figures["peak_mib"]}]


def compile_row(repeats: int) -> list[dict]:
    """Initialisation, tracing and compilation of a chunk in fresh processes: cold, then with the
    persistent cache."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        cold = [child(None) for _ in range(min(repeats, 3))]
        child(cache)
        warm = [child(cache) for _ in range(min(repeats, 3))]
    for name, found in (("compile cold", cold), ("compile cached", warm)):
        figures = {k: summary([f[k] for f in found])["median"] for k in ("init_s", "trace_s", "compile_s")}
        rows.append({"row": name, "ours_s": sum(figures.values()), **figures})
    return rows


def versus(name: str):
    """The row of this name in `side_by_side.py` or `side_by_side_layers.py`."""

    def row(repeats: int) -> list[dict]:
        import side_by_side
        import side_by_side_layers

        return (side_by_side.ROWS | {"layers": side_by_side_layers.layers_row})[name](repeats)

    return row


OWN = {"step": step_row, "loop": loop_row, "memory": memory_row, "compile": compile_row}
LETTERS = {"a": "dcgan", "b": "population", "c": "toy", "d": "layers", "e": "members"}
ROWS = OWN | {name: versus(name) for name in LETTERS.values()}


def machine() -> dict:
    """What the figures were measured on."""
    from gan_jax.training.folder import environment

    torch = sys.modules.get("torch")
    peer = {"torch": torch.__version__, "torch_threads": torch.get_num_threads()} if torch else {}
    return {"processor": platform.processor() or platform.machine(), **environment(), **peer}


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)  # rich takes a file for 80 columns
    own, versus = [r for r in rows if "peer_way" not in r], [r for r in rows if "peer_way" in r]
    if own:
        table = Table("row", "figures", title="The article's DCGAN, batch 64, 32x32x3, float32")
        for row in own:
            plain = {k: v for k, v in row.items() if isinstance(v, float)}
            spread = next((v for v in row.values() if isinstance(v, dict)), None)
            text = "  ".join(f"{k} {v:.4g}" for k, v in plain.items())
            table.add_row(
                row["row"], text + (f"  ({spread['min']:.4g} to {spread['max']:.4g}, n={spread['n']})" if spread else "")
            )
        console.print(table)
    if versus:
        columns = ("row", "ms per", "ours", "PyTorch", "PyTorch / ours", "PyTorch's fastest way")
        table = Table(*columns, title="Against PyTorch, float32: medians (smallest to largest)")
        for row in versus:
            cells = [ranged(row["ours_spread"], 1e3), ranged(row["peer_spread"], 1e3), ranged(row["ratio_spread"])]
            table.add_row(f"{row['row']}: {row['name']}", row["unit"], *cells, row["peer_way"])
        console.print(table)
        for line in dict.fromkeys(line for row in versus for line in row.get("failed", [])):
            print(line)


def ranged(spread: dict, scale: float = 1.0) -> str:
    return f"{scale * spread['median']:.3g} ({scale * spread['min']:.3g} to {scale * spread['max']:.3g})"


def rows_named(rows: str) -> list[str]:
    return [LETTERS.get(name.strip(), name.strip()) for name in rows.split(",")]


def chosen(rows: str) -> list[str]:
    """The names of the rows asked for by name or letter; PyTorch must be there for those that need
    it.

    Raises UserError for an unknown row, or where PyTorch is missing: before anything is measured.
    """
    names = rows_named(rows)
    if unknown := [name for name in names if name not in ROWS]:
        known = ", ".join([*OWN, *(f"{name} ({letter})" for letter, name in LETTERS.items())])
        raise UserError(f"unknown row {unknown[0]!r}: use some of {known}, separated by commas")
    if any(name not in OWN for name in names):
        import peer  # noqa: F401  it says what to install
    return names


def main(
    rows: str = ",".join(OWN),
    repeats: int = 5,
    scaling: bool = False,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        rows: which rows, separated by commas: step, loop, memory, compile; against PyTorch dcgan
            (or a), population (b), toy (c), layers (d), members (e).
        repeats: measurements of each (memory and compile: at most 3 processes).
        scaling: in place of rows: 1, 2, 4 and 8 devices, and larger machines predicted
            (`benchmark_scaling.py` has more options).
        json_file: also write the figures there: a list of {"row", "ours_s", "peer_s", "ratio",
            ...}, the machine in each.
    """
    if scaling:
        import benchmark_scaling

        return benchmark_scaling.main(benchmark_scaling.Options(json_file=json_file))
    if any(name not in OWN for name in rows_named(rows)):
        prepare_devices(cores(), collectives=False)  # a population is spread over them
    names = chosen(rows)
    if repeats < 1:
        raise UserError(f"repeats is {repeats}: it must be at least 1")
    found = [row for name in names for row in ROWS[name](repeats)]
    show(found)
    print(json.dumps(machine()))
    if json_file:
        json_file.write_text(json.dumps([row | {"machine": machine()} for row in found], indent=1))


if __name__ == "__main__":
    run(main)
