"""Does streaming keep the step fed? The article's DCGAN (batch 64, 32x32x3) on streamed against
resident data, in turn.

    # CIFAR-10 as array_record: about 5 minutes on two CPU cores
    python scripts/benchmark_streaming.py --data-dir DIR
    # a folder of PNG files, made here; threads, and one process
    python scripts/benchmark_streaming.py --workers 0 1
    python scripts/benchmark_streaming.py --data-dir DIR --json streaming.json

A round times `chunks` chunks of `chunk` steps as a run has them: on a stream (a first chunk, which
fills what is read ahead, is not counted; in the time counted as much is read as is used), and, when
its reading has ended, on the same data resident. Both have the same batches in each step, checked
before they are timed. Figures: medians over the rounds, with the smallest and largest; the ratio is
that of each round. `read` is the stream alone: examples decoded in a second while nothing is
trained.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from gan_jax.cli.run import run
from gan_jax.core.errors import UserError

SIDE, FILES = 32, 2048


def files(folder: Path) -> None:
    """PNG files of smooth noise, 32x32x3."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(FILES):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")


class Bench:
    """The two ways to feed one run."""

    def __init__(self, data: Any, chunk: int, chunks: int):
        import jax
        import jax.numpy as jnp

        import gan_jax as gan
        from gan_jax.training.placement import place

        self.stream, self.chunk, self.chunks, self.place = data.train, chunk, chunks, place(1)
        self.recipe, self.key = gan.recipes.dcgan((SIDE, SIDE, 3)), jax.random.key(1)
        images = self.stream.images[:]
        self.feed = gan.Feed(jnp.asarray(images), None, jnp.int32(len(images)), self.key)
        self.state = jax.jit(gan.init)(self.recipe, jax.random.key(0))

    def windows(self, chunks: int) -> Any:
        from gan_jax.training.feed import Windows

        return Windows(self.stream, self.key, self.recipe.batch_size, self.place, chunks * self.chunk)

    def check(self) -> None:
        """Refuse to time what is not the same work."""
        from gan_jax.core.batch import to_unit
        from gan_jax.training.chunk import gather_batch

        with self.windows(1) as windows:
            window = next(windows.upto(0, self.chunk))
        batch = gather_batch(self.feed, window.first, self.recipe.batch_size, "float32", self.place)
        if not np.array_equal(batch.images, to_unit(window.images[0])):
            raise UserError("the stream's first batch is not the resident one: nothing was timed")

    def run(self, fed: Any, streamed: bool, warm: int) -> float:
        """Steps in a second of the chunks that `fed` gives, the first `warm` of which are not
        counted."""
        import jax

        import gan_jax as gan
        from gan_jax.training.chunk import compiled_chunk

        state, before, start = jax.tree.map(jax.numpy.copy, self.state), None, 0.0
        for i, feed in enumerate(fed):
            state, metrics = compiled_chunk(gan.GAN, self.chunk, self.place, streamed)(self.recipe, state, feed)
            jax.device_get(before)  # as the loop logs the chunk before
            before = metrics
            if i + 1 == warm:  # the next window is not asked for yet
                jax.block_until_ready(state)
                start = time.perf_counter()
        jax.block_until_ready(state)
        return self.chunks * self.chunk / (time.perf_counter() - start)

    def resident(self) -> float:
        return self.run([self.feed] * (1 + self.chunks), False, 1)

    def streamed(self) -> float:
        with self.windows(2 + self.chunks) as windows:  # one more than is used: reading ahead goes on to the end
            steps = range(0, (1 + self.chunks) * self.chunk, self.chunk)
            return self.run((window for step in steps for window in windows.upto(step, step + self.chunk)), True, 1)

    def read(self) -> float:
        """Examples in a second of the stream alone."""
        with self.windows(1 + self.chunks) as windows:
            start = 0.0
            for step in range(0, (1 + self.chunks) * self.chunk, self.chunk):
                list(windows.upto(step, step + self.chunk))
                start = start or time.perf_counter()
        return self.chunks * self.chunk * self.recipe.batch_size / (time.perf_counter() - start)


def summary(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values), "n": len(values)}


def measure(data: Any, chunk: int, chunks: int, rounds: int) -> dict[str, Any]:
    bench = Bench(data, chunk, chunks)
    bench.check()
    pairs = [(bench.streamed(), bench.resident()) for _ in range(rounds + 1)][1:]  # the first one compiles
    streamed, resident = ([pair[i] for pair in pairs] for i in (0, 1))
    ratio = [a / b for a, b in pairs]
    found = {"resident": resident, "streamed": streamed, "ratio": ratio, "read": [bench.read() for _ in range(3)]}
    return {name: summary(values) for name, values in found.items()}


def main(
    data_dir: Path | None = None,
    workers: tuple[int, ...] = (0,),
    threads: int = 2,
    chunk: Annotated[int, tyro.conf.arg(help="steps between two logs")] = 50,
    chunks: Annotated[int, tyro.conf.arg(help="chunks counted in each round")] = 2,
    rounds: int = 5,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Steps in a second of the article's DCGAN: data on the device, and streamed by threads
    (workers 0) or processes."""
    import gan_jax as gan

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if data_dir is None:
            files(Path(folder))
        for count in workers:
            settings = {"workers": count, "threads": threads, "held_out": 512}
            name = f"folder:{folder}" if data_dir is None else "cifar10"
            data = gan.load(name, data_dir=data_dir, stream=settings)
            row = {"data": "PNG files" if data_dir is None else name, "workers": count, "threads": threads}
            rows.append(row | {"cores": len(os.sched_getaffinity(0))} | measure(data, chunk, chunks, rounds))
            print(line(rows[-1]), flush=True)
    if json_path:
        json_path.write_text(json.dumps(rows, indent=1))


def line(row: dict[str, Any]) -> str:
    by = f"{row['workers']} processes" if row["workers"] else f"{row['threads']} threads"
    steps = ", ".join(
        f"{k} {row[k]['median']:.2f} ({row[k]['min']:.2f} to {row[k]['max']:.2f})" for k in ("resident", "streamed")
    )
    ratio = row["ratio"]
    return (
        f"{row['data']}, {by}, {row['cores']} cores: steps/s {steps}; streamed/resident {ratio['median']:.3f} "
        f"({ratio['min']:.3f} to {ratio['max']:.3f}); read {row['read']['median']:,.0f} examples/s"
    )


if __name__ == "__main__":
    run(main)
