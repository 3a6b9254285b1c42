"""An executor whose tasks form a SLURM array, submitted by submitit
(https://github.com/facebookincubator/submitit)."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_jax.arguments import count, mapping, real
from gan_jax.core.errors import UserError
from gan_jax.sweeps.executors.task import Handle, Outcome, Spec, Submit, brief, engine_module, handled, outcome, train_group


@dataclass(frozen=True)
class Slurm:
    """Trains each group as a task of one SLURM array. Tasks that were preempted or timed out
    requeue themselves and go on from their checkpoint.

    address: None for this machine's `sbatch`, 'local' for plain processes of this machine.
    partition: SLURM's. minutes, cpus, gpus, memory_gb: of each task. at_once: limit of tasks that
        run at a time.
    settings: further ones of submitit, such as {"slurm_account": "me", "slurm_qos": "low"}.
    retries: how often a lost task is submitted again.
    submitit keeps its pickled calls and its logs in the sweep folder, under tasks/submitit.
    """

    address: str | None = None
    partition: str | None = None
    minutes: int = 24 * 60
    cpus: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    at_once: int = 256
    settings: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 3

    @property
    def accelerated(self) -> bool:
        """See `Ray.accelerated`. Settings can ask for GPUs as {"slurm_gres": "gpu:1"},
        {"slurm_gpus_per_task": 1} and more."""
        requested = {**self.settings, **(self.settings.get("slurm_additional_parameters") or {})}
        words = [f"{k}={v}" for k, v in requested.items() if v and any(word in k for word in ("gpu", "gres", "tres"))]
        return self.gpus > 0 or any(kind in word for word in words for kind in ("gpu", "tpu"))

    def check(self) -> None:
        """Raises UserError for numbers that no task can have, and where submitit is not installed
        or SLURM is not here."""
        least = {"minutes": 1, "cpus": 1, "gpus": 0, "at_once": 1, "retries": 0}
        for name, smallest in least.items():
            count(getattr(self, name), f"Slurm: {name}", smallest)
        if self.memory_gb is not None:
            real(self.memory_gb, "Slurm: memory_gb", least=0)
        mapping(self.settings, "Slurm: settings")
        _submitit()
        if self.address not in (None, "local"):
            raise UserError(f"address={self.address!r}: SLURM has none, leave it out; 'local' runs the tasks on this machine")
        if self.address is None and shutil.which("sbatch") is None:
            raise UserError(
                "SLURM cannot take the sweep: there is no sbatch here; start it on the cluster, or give address 'local'"
            )

    @contextmanager
    def tasks(self, folder: Path, environment: dict[str, str | None]) -> Iterator[Submit]:
        """See `Ray.tasks`. Raises UserError where submitit refuses the settings."""
        submitit = _submitit()
        known = {"slurm_partition": self.partition, "mem_gb": self.memory_gb, "gpus_per_node": self.gpus or None}
        known |= self.settings
        try:
            executor = submitit.AutoExecutor(folder / "tasks" / "submitit", cluster=self.address or "slurm")
            executor.update_parameters(
                name="gan_jax", timeout_min=self.minutes, cpus_per_task=self.cpus,
                slurm_array_parallelism=self.at_once, **{k: v for k, v in known.items() if v is not None},
            )  # fmt: skip
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise UserError(f"SLURM cannot take the sweep: {brief(str(error))}") from None
        yield lambda specs: self._submit(submitit, executor, specs)

    def _submit(self, submitit: Any, executor: Any, specs: list[Spec]) -> list[Handle]:
        try:
            with handled(signal.SIGINT, signal.SIG_IGN):  # the driver passes a terminal's Ctrl-C on to the tasks itself
                jobs = executor.map_array(GroupTask(), specs)
        except submitit.core.utils.FailedSubmissionError as error:
            raise UserError(f"SLURM refuses the sweep: {brief(str(error))}") from None
        return [_Job(submitit, job, self.address == "local") for job in jobs]


def _submitit() -> Any:
    """The module, imported without its own logging, which would close this process's handlers."""
    name = "SUBMITIT_LOG_LEVEL"
    before, os.environ[name] = os.environ.get(name), "NOCONFIG"
    try:
        return engine_module("submitit", "slurm")
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


class GroupTask:
    """`train_group`, which submitit runs again when the task is preempted."""

    def __call__(self, spec: Spec) -> dict[str, str | None]:
        return train_group(spec)

    def checkpoint(self, spec: Spec) -> Any:
        """What submitit runs again; the group's checkpoints are in the sweep folder."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, spec)


class _Job(Handle):
    def __init__(self, submitit: Any, job: Any, local: bool):
        self.submitit, self.job, self.local = submitit, job, local

    def poll(self) -> Outcome | None:
        if not self.job.done():
            return None
        try:
            return outcome(self.job.result())
        except self.submitit.core.utils.UncompletedJobError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Outcome("lost", brief(lines[-1] if "Traceback" in str(error) else lines[0]))

    def cancel(self, force: bool) -> None:
        if self.local and not force:  # submitit would kill after a second
            with suppress(ProcessLookupError):
                os.kill(int(self.job.job_id), signal.SIGTERM)
        else:
            self.job.cancel(check=False)
