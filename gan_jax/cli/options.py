"""Options that the scripts share. The comment beside an option, or the text below it, is its help.
JAX is not imported until the arguments are read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gan_jax.cli.run import cores, prepare_devices
from gan_jax.cli.types import Count, Few, Natural, Positive, Seed, Side
from gan_jax.core.errors import UserError, say
from gan_jax.training import distributed

if TYPE_CHECKING:
    from gan_jax.data.splits import Splits
    from gan_jax.sweeps.executors import Executor
    from gan_jax.sweeps.result import Sweep


@dataclass
class DataOptions:
    """What every experiment takes."""

    data: str = "digits"  # Data set: digits, ring, grid, mnist, fashion_mnist, cifar10, tfds:NAME, npz:PATH or folder:PATH.
    subset: Count | None = None  # Train on the first N images of a seeded, stratified order; all when left out.
    held_out: str | None = None  # Another data set, of held-out images: V is half of it, S and E a quarter each.
    split: str | None = None  # Numbers of images of T, V, S and E, as in 400/100/100/0; shares by rule when left out.
    size: Side | None = None  # Resize and crop images to this side.
    channels: Literal[1, 3] | None = None  # Grey (1) or RGB (3).
    data_dir: Path | None = None  # Where TensorFlow Datasets keeps its prepared sets; its own default when left out.
    seed: Seed = 0  # Of the splits, the first weights and every draw.
    out: Path = Path("runs/quickstart")  # The run folder.
    resume: bool = False  # Continue the run in the folder, as it was begun; from step 0 if it has no checkpoint yet.
    overwrite: bool = False  # Delete the run in the folder and start again.

    def load(self, **settings: Any) -> "Splits":
        """The Splits asked for; settings: further ones of `gan.load`."""
        from gan_jax.data import load

        given = {"subset": self.subset, "size": self.size, "channels": self.channels, "data_dir": self.data_dir}
        given |= {"held_out": self.held_out, "split": self.split}
        return load(self.data, seed=self.seed, **given, **settings)


@dataclass
class RunOptions(DataOptions):
    """What an experiment that trains one run takes."""

    devices: Count = 1  # Train on this many devices; on a machine without accelerators the CPU is split into as many.
    parallel: Literal["sharding", "pmap"] = "sharding"  # How devices share a batch: by placement, or by pmap with a named axis.
    shard: Literal["optimizer", "parameters"] | None = None
    """Split the state over the devices too, where it does not fit on each: that of the optimizer,
    or the parameters as well."""
    stream: bool = False  # Leave the training images on disk and read them while training; for what does not fit on a device.
    workers: Natural = 0  # Processes that read and decode a streamed training set; 0 for threads of this one.
    damaged: Literal["refuse", "skip"] = "refuse"  # At unreadable images of a stream, end the run or take others instead.
    coordinator: str | None = None  # Of several hosts: host:port of process 0; found out under SLURM, GKE and TPU pods.
    processes: Count | None = None  # Of several hosts: how many processes train this run; --devices counts those of all.
    process: Natural | None = None  # Of several hosts: which process this is, from 0.
    timeout: Positive = distributed.TIMEOUT  # Of several hosts: seconds in which all must have come.

    def prepare(self) -> None:
        """Call before JAX is first used: joins the other hosts, and splits a CPU into as many
        devices as this one needs."""
        distributed.connect(self.coordinator, self.processes, self.process, timeout=self.timeout)
        prepare_devices(self.devices // (self.processes or distributed.step_tasks()))

    def load(self, **settings: Any) -> "Splits":
        """The Splits asked for. Raises UserError for settings of a stream where there is none."""
        if self.stream:
            settings |= {"stream": {"workers": self.workers, "damaged": self.damaged}}
        elif self.workers or self.damaged != "refuse":
            raise UserError("--workers and --damaged are of a streamed training set: add --stream")
        return super().load(**settings)


@dataclass
class SweepOptions(DataOptions):
    """What an experiment that trains a population takes."""

    seeds: Few = 5  # Runs of each setting; with fewer than 5 nothing is tested.
    sizes: tuple[Count, ...] = ()  # Numbers of training images, as nested subsets in a seeded order; all images when left out.
    order: Literal["shared", "own"] = "shared"  # One order of the data for all members, or one per seed; paired either way.
    members_per_program: Count | None = None  # Most members in one program; as many as fit the memory when left out.
    devices: Count | None = None  # Devices that share the members out; all when left out, and then each CPU core is one.
    devices_per_member: Count | None = None  # Devices that share a member's batch; chosen by number and memory when left out.
    warm_start: Path | None = None  # Begin every member with the networks of the run in this folder.
    executor: Literal["local", "ray", "slurm"] = "local"
    """Train here, or each group of one structure as a task of a Ray cluster or of a SLURM array;
    all machines see --out."""
    address: str | None = None
    """Of the Ray cluster, host:port; a cluster of this machine when left out. 'local' runs SLURM's
    tasks on this machine."""
    task_cpus: Count = 1  # CPU cores of each task.
    task_gpus: Natural = 0  # GPUs of each task; without, tasks run on the CPU.
    task_minutes: Count = 24 * 60  # Time limit of each SLURM task.
    partition: str | None = None  # SLURM partition; the cluster's default when left out.
    retries: Natural = 3  # How often a task that was killed, or whose machine was lost, is submitted again.

    def prepare(self) -> None:
        """Call before JAX is first used. Raises UserError in one of several processes, which would
        write to one folder."""
        distributed.alone("a sweep", distributed.step_tasks())
        if self.executor != "local":  # this process only watches
            os.environ["JAX_PLATFORMS"] = "cpu"
        count = cores() if self.executor == "local" else self.task_cpus
        prepare_devices(self.devices or count, collectives=(self.devices_per_member or 1) > 1)

    def engine(self) -> "Executor | str":
        """The executor asked for, with its settings."""
        from gan_jax.sweeps import executors

        common: dict[str, Any] = {"cpus": self.task_cpus, "gpus": self.task_gpus, "retries": self.retries}
        if self.executor == "ray":
            return executors.Ray(self.address, **common)
        if self.executor == "slurm":
            return executors.Slurm(self.address, self.partition, self.task_minutes, **common)
        return executors.choose("local", self.address, self.out) or "local"

    def run(self, settings: dict[str, Any], data: "Splits", **arguments: Any) -> "Sweep":
        """`gan.sweep` of these settings with what the command line says."""
        import gan_jax as gan

        return gan.sweep(
            settings, data, seeds=range(self.seed, self.seed + self.seeds), sizes=self.sizes or None, order=self.order,
            members_per_program=self.members_per_program, out=self.out, resume=self.resume, overwrite=self.overwrite,
            devices=self.devices, devices_per_member=self.devices_per_member, warm_start=self.warm_start,
            executor=self.engine(), **arguments,
        )  # fmt: skip


@dataclass
class ComparisonOptions(SweepOptions):
    """Options of an experiment that compares named settings and ends in the overfitting report."""

    subset: Count | None = 200  # Train on the first N images of a seeded, stratified order.
    steps: Count = 2500  # Training steps: updates of the generator.
    width: Few = 16  # Channels of the widest image layers; deeper layers have multiples.
    batch_size: Count = 64  # Images per discriminator turn.
    only: tuple[str, ...] = ()  # These settings, the first being the baseline; all when left out.
    rank_by: str = "D/train_validation_auc"
    """Metric of the pictures of training, smaller is better; others are G/fd_gap and
    G/validation_fd. It chooses nothing: the report does."""
    final: bool = False  # Open the test split S, once, for the setting that the report chooses on V and for the baseline.
    log_every: Count = 250  # Steps between evaluations.

    def choose(self, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that --only names, or all. Raises UserError for an unknown name."""
        if unknown := [name for name in self.only if name not in known]:
            raise UserError(f"--only: no setting {unknown[0]!r}; there are {', '.join(known)}")
        return {name: known[name] for name in self.only or known}

    def compare(self, settings_of: Callable[[Any, tuple[int, ...]], dict[str, Any]]) -> int:
        """The whole of an experiment: train its settings, report on every run by its validation
        images (V), print the report and its folder. Returns the exit code.

        settings_of: (these options, the shape of an image) -> {name: recipe}, the baseline first.
        """
        self.prepare()
        from gan_jax.report import sweep_report
        from gan_jax.report.expectation import expectation, too_few

        data, own = self.load(), type(self)
        if self.subset == own.subset and self.data != own.data:  # nobody chose it for these data
            say(f"training on {len(data.train)} images: --subset is {self.subset} unless you give another")
        settings, smallest = settings_of(self, data.image_shape), min(self.sizes or (len(data.train),))
        say(expectation(data, smallest))
        swept = self.run(settings, data, steps=self.steps, rank_by=self.rank_by, log_every=self.log_every)
        if swept.stopped:
            print(f"stopped by {swept.stopped}; --resume finishes what is missing")
            return swept.exit_code
        if why := too_few(data, smallest):
            print(f"{swept.report()}\n{why}\n\npictures: {self.out}/pictures")
            return swept.exit_code
        report = sweep_report(swept, final=self.final)
        page = report.save(self.out)
        print(f"\npictures: {self.out}/pictures    table: {self.out}/table.csv    report: {page}\n\n{report.text()}")
        return swept.exit_code


@dataclass
class RemedyOptions(ComparisonOptions):
    """Options of a comparison of remedies, at a size for two cores or at the published one."""

    published: bool = False
    """Train at the published size, on CIFAR-10 (a GPU): options left at their defaults, --data
    among them, become its own."""

    PUBLISHED: ClassVar[dict[str, Any]] = {  # the article's DCGAN; SNGAN's number of steps; DiffAugment's tenth of CIFAR-10
        "data": "cifar10", "size": 32, "subset": 5000, "width": 64, "steps": 100_000, "log_every": 5000,
    }  # fmt: skip

    def __post_init__(self) -> None:
        for name, value in self.PUBLISHED.items() if self.published else ():
            if getattr(self, name) == getattr(type(self), name):  # left at its default
                setattr(self, name, value)
