"""An executor whose tasks run on a Ray cluster (https://docs.ray.io)."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_jax.arguments import count, mapping, real
from gan_jax.core.errors import UserError
from gan_jax.sweeps.executors.task import Handle, Outcome, Submit, brief, engine_module, outcome, train_group

ACCELERATORS = {"GPU", "TPU", "HPU", "NPU", "neuron_cores"}  # Ray's names of those that JAX can use
ANSWER = 10.0  # seconds for a cluster to take a connection; Ray would try for minutes


@dataclass(frozen=True)
class Ray:
    """Trains each group as a Ray task.

    address: of a cluster ("host:port", "auto", "ray://host:port"). None takes RAY_ADDRESS or,
        without it, starts a cluster of this machine alone for the time of the sweep. A program that
        has called `ray.init` keeps its own cluster.
    cpus, gpus, resources: of each group, as Ray's scheduler counts them. resources: {"TPU": 4}, or
        names of your own.
    retries: how often a lost task is submitted again.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 3

    @property
    def accelerated(self) -> bool:
        """Whether a task has a GPU, a TPU or the like; otherwise it trains on the CPU."""
        return self.gpus > 0 or any(self.resources.get(name) for name in ACCELERATORS)

    def check(self) -> None:
        """Raises UserError for numbers that no task can have, and where Ray is not installed or no
        cluster answers."""
        numbers = {"cpus": self.cpus, "gpus": self.gpus, **mapping(self.resources, "resources")}
        for name, value in numbers.items():
            real(value, f"Ray: {name}", least=0)
        count(self.retries, "Ray: retries", least=0)
        if engine_module("ray", "ray").is_initialized():  # by the program, which keeps its own cluster
            return
        host, _, port = self._where().removeprefix("ray://").rpartition(":")
        try:
            if port.isdecimal():
                socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
        except OSError as error:
            raise self._absent(error) from None

    def _where(self) -> str:
        return self.address or os.environ.get("RAY_ADDRESS") or "local"

    def _absent(self, error: Exception) -> UserError:
        reason = brief(str(error)) or type(error).__name__
        return UserError(f"no Ray cluster at {self._where()} ({reason}): start one, or give its address")

    @contextmanager
    def tasks(self, folder: Path, environment: dict[str, str | None]) -> Iterator[Submit]:
        """A context that gives a function to submit tasks of the sweep in `folder`.

        environment: variables of every task, None for one to be left unset. Raises UserError where
        the cluster cannot be reached, or none of its nodes has what a task asks for.
        """
        ray = engine_module("ray", "ray")
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray)
        try:
            self._check_room(ray)
            variables = {name: value for name, value in environment.items() if value is not None}
            requested: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}
            # The driver retries, and not Ray, because the driver shows its retries, also of tasks
            # that ran out of memory.
            remote: Any = ray.remote(**requested, max_retries=0, runtime_env={"env_vars": variables})(train_group)
            yield lambda specs: [_RayTask(ray, remote.remote(spec)) for spec in specs]
        finally:
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        settings: dict[str, Any] = {"address": self._where(), "log_to_driver": False, "logging_level": logging.ERROR}
        if settings["address"] == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            settings["include_dashboard"] = False
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # the fork is followed by an exec
                ray.init(**settings)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._absent(error) from None

    def _check_room(self, ray: Any) -> None:
        """Raises UserError for what no node of the cluster has, since tasks would wait for ever."""
        requested = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= count for name, count in requested.items()) for node in nodes):
            return
        wanted = ", ".join(f"{count:g} {name}" for name, count in requested.items() if count)
        has = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name in requested) for node in nodes[:4])
        raise UserError(f"a group asks for {wanted}, which no node of the Ray cluster has ({has}): ask for less")


class _RayTask(Handle):
    def __init__(self, ray: Any, reference: Any):
        self.ray, self.reference = ray, reference

    def poll(self) -> Outcome | None:
        errors = self.ray.exceptions
        try:
            if not self.ray.wait([self.reference], timeout=0)[0]:
                return None
            return outcome(self.ray.get(self.reference))
        except errors.TaskCancelledError:
            return Outcome("stopped", "cancelled")
        except errors.RayTaskError as error:
            return Outcome("lost", brief(str(error).strip().splitlines()[-1]))
        except errors.RayError as error:
            return Outcome("lost", brief(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"))

    def cancel(self, force: bool) -> None:
        self.ray.cancel(self.reference, force=force)
