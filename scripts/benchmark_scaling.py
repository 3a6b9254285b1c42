"""What do more devices cost and give? The article's DCGAN on 1, 2, 4 and 8, and larger machines
predicted on paper.

    # about three minutes of two CPU cores
    python scripts/benchmark.py --scaling
    python scripts/benchmark_scaling.py --counts 1 8 --parallel pmap --machine tpu-v5e \\
        --json scaling.json

Each row is a process of its own. Strong: one batch shared by more devices; weak: as much for each
device as the largest count has of it. FLOPs, collective operations and their bytes are those of the
compiled step. Where there is no accelerator the CPU is split into virtual devices: these show that
the step is shared and what the sharing costs, NOT SPEED, as all of them compute on the same cores.

Predicted: seconds = FLOPs of a device / (peak x utilisation) + what each operation takes, none of
it hidden behind the other. An operation of b bytes on N devices takes 2 ceil(log2 N) latencies and
its ring's bytes over the link; where N devices are several nodes, the ring of a node's devices
first, and then those of the nodes with a device's share of the bytes. FLOPs are taken as a + c x
(examples of a device), from the first and the last row; the operations are the last row's.
Utilisation and latency are assumptions, not measurements.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from gan_jax.cli.run import prepare_devices, run
from gan_jax.core.errors import UserError

PATIENCE = 3600  # seconds for a row
SIZES, SCATTER = (8, 64, 512), "reduce-scatter"


class Machine(NamedTuple):
    """peak: FLOP/s of a device; link, network: bytes/s that it sends to others of its node, and
    beyond; node: its devices."""

    peak: float
    link: float
    node: int
    network: float
    source: str


H100 = (
    "NVIDIA's H100 SXM data sheet: 67 TFLOP/s float32, NVLink 900 GB/s both ways; 400 Gbit/s of InfiniBand for each (DGX H100)"
)
V5E = (
    "Google Cloud's TPU v5e page: 197 TFLOP/s bfloat16, 1,600 Gbit/s for each chip, pods of 256 with 6.4 Tbit/s to the network"
)
MACHINES = {"h100": Machine(67e12, 450e9, 8, 50e9, H100), "tpu-v5e": Machine(197e12, 200e9, 256, 3.125e9, V5E)}


@dataclass
class Options:
    """What scaling is measured and predicted with."""

    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Devices."""
    batch_size: int = 64
    """Examples that the devices share; each has as many of them in the weak rows as on the largest
    count."""
    width: int = 64
    """Channels of the narrowest layers."""
    side: int = 32
    """Of the images, in pixels."""
    parallel: Literal["sharding", "pmap"] = "sharding"
    """How they share a batch."""
    shard: Literal["optimizer", "parameters"] | None = None
    """Split the state over them too."""
    steps: int = 5
    """Measured steps of each row, after one that is not; 0 to compile and count only."""
    weak: bool = True
    """Measure weak scaling too."""
    machine: Literal["h100", "tpu-v5e"] = "h100"
    """The machine to predict."""
    peak: float | None = None
    """FLOP/s of its devices, in place of the machine's."""
    link: float | None = None
    """Bytes/s that a device sends within its node, in place of the machine's."""
    network: float | None = None
    """Bytes/s that a device sends to other nodes, in place of the machine's."""
    node: int | None = None
    """Devices of a node, in place of the machine's."""
    utilisation: float = 0.3
    """Share of the peak that the step reaches (an assumption)."""
    latency: float = 5e-6
    """Seconds of one hop of an operation (an assumption)."""
    predicted_batch: int = 4096
    """The batch that the devices share where strong scaling is predicted; in the weak one each has
    batch_size examples."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None
    """Also write the rows there."""

    def check(self) -> None:
        """Raises UserError for what does not fit."""
        positive = ("batch_size", "width", "side", "utilisation", "peak", "link", "network", "node", "predicted_batch")
        for name in positive:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UserError(f"{name} is {value}: it must be above 0")
        if self.steps < 0 or self.latency < 0:
            raise UserError(f"steps is {self.steps} and latency {self.latency}: neither may be negative")
        if len(self.counts) < 2 or sorted(set(self.counts)) != list(self.counts) or self.counts[0] != 1:
            raise UserError(f"counts is {' '.join(map(str, self.counts))}: give 1 and then larger ones, ascending")
        if self.batch_size % math.lcm(*self.counts):
            raise UserError(f"a batch of {self.batch_size} does not divide among {self.counts} devices: give a multiple")

    def target(self) -> Machine:
        given = {name: getattr(self, name) for name in ("peak", "link", "network", "node")}
        return MACHINES[self.machine]._replace(**{name: value for name, value in given.items() if value is not None})


# ---- measured ----------------------------------------------------------------------------------


def measured(options: dict[str, Any], devices: int, batch_size: int) -> dict[str, Any]:
    """One row, in this process: steps/s, FLOPs, bytes and the collectives of a step."""
    import jax
    import numpy as np
    from collectives import collectives, compiled_steps, totals

    import gan_jax as gan
    from gan_jax.training.chunk import compiled_chunk
    from gan_jax.training.placement import place

    shape = (options["side"], options["side"], 3)
    recipe = gan.recipes.dcgan(shape, width=options["width"], batch_size=batch_size)
    images = np.random.default_rng(0).integers(0, 256, (1024, *shape), np.uint8)
    feed = gan.Feed(jax.numpy.asarray(images), None, jax.numpy.int32(len(images)), jax.random.key(1))
    placement = place(devices, options["parallel"], batch_size, shard=options["shard"] if devices > 1 else None)
    program = compiled_steps(recipe, feed, placement)
    found, sizes = collectives(program), program.memory_analysis()
    assert sizes is not None
    row: dict[str, Any] = {
        "devices": devices, "batch_size": batch_size, "flops": program.cost_analysis()["flops"],  # pyright: ignore
        "operations": sum(c.times for c in found), "bytes": sum(c.times * c.bytes for c in found),
        "sent": sum(c.times * c.sent(devices) for c in found), "kinds": {k: t._asdict() for k, t in totals(found).items()},
        "collectives": [[c.kind, c.times * c.bytes * (devices if c.kind == SCATTER else 1), c.times] for c in found],
        "arguments_mib": sizes.argument_size_in_bytes / 2**20, "temporaries_mib": sizes.temp_size_in_bytes / 2**20,
        "platform": jax.devices()[0].platform,
    }  # fmt: skip
    if options["steps"]:
        chunk, everywhere = compiled_chunk(gan.GAN, 1, placement), placement.replicate(feed)
        state = placement.shard_state(jax.jit(gan.init)(recipe, jax.random.key(0)))
        row["steps_per_s"] = _rate(lambda state: chunk(recipe, state, everywhere)[0], state, options["steps"])
    return row


def _rate(step, state, steps: int) -> float:
    import time

    import jax

    state = jax.block_until_ready(step(state))
    start = time.perf_counter()
    for _ in range(steps):  # one at a time: on few cores queued collectives can lock each other out
        state = jax.block_until_ready(step(state))
    return steps / (time.perf_counter() - start)


def operations_by_depth(options: dict[str, Any], devices: int, depths: tuple[int, ...] = (1, 4)) -> dict[int, int]:
    """Collective operations of a step of perceptrons so deep: without batch statistics, which each
    layer must wait for."""
    import jax
    from collectives import collectives, compiled_steps

    import gan_jax as gan
    from gan_jax.training.placement import place

    feed = gan.Feed(jax.numpy.zeros((64, 4)), None, jax.numpy.int32(64), jax.random.key(1))
    recipes = {depth: gan.recipes.mlp((4,), width=8, depth=depth, batch_size=2 * devices) for depth in depths}
    placement = place(devices, options["parallel"])
    return {depth: len(collectives(compiled_steps(recipe, feed, placement))) for depth, recipe in recipes.items()}


def child(options: Options, devices: int, batch_size: int | None) -> Any:
    """`measured` in a fresh process with so many devices, or without a batch
    `operations_by_depth`."""
    here = Path(__file__).resolve().parent
    code = (
        f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; import benchmark_scaling; benchmark_scaling.one()"
    )
    asked = {"options": vars(replace(options, json_file=None)), "devices": devices, "batch_size": batch_size}
    try:
        done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"{devices} devices took longer than {PATIENCE} s: give fewer steps, or a smaller network") from None
    if done.returncode == 2:
        raise UserError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    if done.returncode:
        raise UserError(f"the measured process failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def one() -> None:
    """In the child: measure what the argument asks for and print it."""
    asked = json.loads(sys.argv[1])
    prepare_devices(asked["devices"])
    try:
        if asked["batch_size"]:
            found: Any = measured(**asked)
        else:
            found = operations_by_depth(asked["options"], asked["devices"])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(found))


# ---- predicted ---------------------------------------------------------------------------------


def flops_of_device(first: dict, last: dict, examples: float) -> float:
    """a + c x examples, through two rows: a is what every device does (the parameters' updates), c
    each example's."""
    (x, y), (u, v) = ((row["batch_size"] / row["devices"], row["flops"]) for row in (first, last))
    each = (y - v) / (x - u)
    return y + each * (examples - x)


def exchange_seconds(collective: list, devices: int, machine: Machine, latency: float) -> float:
    """Of one operation ([kind, bytes of the whole array, times]) among so many devices; see the top
    of this file."""
    from collectives import Collective

    kind, size, times = collective
    kind = "all-gather" if kind == SCATTER else kind  # the same, backwards; a scatter's own bytes are a share's
    inside = min(devices, machine.node)
    nodes = math.ceil(devices / inside)
    ring = lambda n, size: Collective(kind, (("u8", (size,)),)).sent(n) if n > 1 else 0.0
    hops = 2 * math.ceil(math.log2(devices)) * times
    return hops * latency + ring(inside, size) / machine.link + ring(nodes, size / inside) / machine.network


def predicted(rows: list[dict], options: Options) -> list[dict]:
    """Seconds of a step of 8, 64 and 512 devices, from the first and the last of the strong
    rows."""
    first, last = rows[0], rows[-1]
    machine, found = options.target(), []
    for kind in ("weak", "strong"):
        for devices in SIZES:
            examples = options.batch_size if kind == "weak" else options.predicted_batch / devices
            compute = flops_of_device(first, last, examples) / (machine.peak * options.utilisation)
            exchange = sum(exchange_seconds(c, devices, machine, options.latency) for c in last["collectives"])
            batch = round(examples * devices)
            found.append({
                "row": "predicted", "scaling": kind, "devices": devices, "batch_size": batch, "compute_s": compute,
                "exchange_s": exchange, "step_s": compute + exchange, "images_per_s": batch / (compute + exchange),
            })  # fmt: skip
    return found


# ---- shown -------------------------------------------------------------------------------------


def show(rows: list[dict], options: Options, depths: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    title = f"The DCGAN of width {options.width} at {options.side}x{options.side}x3, float32, {options.parallel}"
    columns = (
        "scaling",
        "devices",
        "batch",
        "steps/s",
        "FLOPs of a device",
        "x N / one's",
        "operations",
        "MB made",
        "MB sent each",
    )
    table, one = Table(*columns, title=title), rows[0]["flops"] / rows[0]["batch_size"]
    for row in (row for row in rows if row["row"] == "scaling"):
        kinds = ", ".join(f"{total['operations']} {kind}" for kind, total in row["kinds"].items()) or "none"
        share = row["flops"] * row["devices"] / row["batch_size"] / one
        rate = f"{row['steps_per_s']:.3g}" if "steps_per_s" in row else "-"
        cells = (rate, f"{row['flops']:.4g}", f"{share:.3f}", kinds, f"{row['bytes'] / 1e6:.4g}", f"{row['sent'] / 1e6:.4g}")
        table.add_row(row["scaling"], str(row["devices"]), str(row["batch_size"]), *cells)
    console.print(table)
    if rows[0]["platform"] == "cpu":
        print("Virtual CPU devices show overhead and correctness, not speed: all of them compute on the same cores.")
    said = " and ".join(f"{operations} operations at depth {depth}" for depth, operations in depths.items())
    print(f"Perceptrons on {options.counts[-1]} devices: {said}.")
    columns = ("scaling", "devices", "batch", "compute, ms", "exchange, ms", "step, ms", "images/s")
    table = Table(*columns, title=f"Predicted on paper: {options.machine}")
    for row in (row for row in rows if row["row"] == "predicted"):
        cells = [f"{1e3 * row[name]:.3g}" for name in ("compute_s", "exchange_s", "step_s")]
        table.add_row(row["scaling"], str(row["devices"]), str(row["batch_size"]), *cells, f"{row['images_per_s']:.3g}")
    console.print(table)
    machine = options.target()
    print(
        f"From {machine.peak:.3g} FLOP/s x {options.utilisation} (assumed), {machine.link:.3g} bytes/s among {machine.node} "
        f"devices, {machine.network:.3g} beyond, {options.latency:.1g} s a hop (assumed), nothing overlapped. {machine.source}."
    )


def main(options: Options) -> None:
    """Measure each count of devices in a process of its own, predict, and print two tables."""
    options.check()
    rows = []
    for kind in ("strong", "weak") if options.weak else ("strong",):
        for devices in options.counts if kind == "strong" else options.counts[:-1]:
            batch = options.batch_size if kind == "strong" else options.batch_size // options.counts[-1] * devices
            rows.append({"row": "scaling", "scaling": kind} | child(options, devices, batch))
    depths = child(options, options.counts[-1], None)
    rows += predicted([row for row in rows if row["scaling"] == "strong"], options)
    show(rows, options, depths)
    if options.json_file:
        from benchmark import machine

        extra = {"machine": machine(), "operations_by_depth": depths}
        options.json_file.write_text(json.dumps([row | extra for row in rows], indent=1))


if __name__ == "__main__":
    run(main)
