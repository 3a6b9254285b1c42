"""Sweeps: settings x seeds x numbers of training images, trained as populations, one program for
each structure.

    sweep(settings, data, steps=..., seeds=5) -> Sweep: one table, one ranking, and any member as a
    run of its own

Members are grouped by structure, each group is cut into parts that fit the memory (as the compiler
measured the program), and each part is trained, evaluated, checkpointed and logged as a whole. All
ranking is on V; S stays closed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.sweeps import executors
from gan_jax.sweeps.checks import GAP, check_metric, check_shares, check_sweep, members_of, named_settings, origin_for
from gan_jax.sweeps.executors.driver import run_groups
from gan_jax.sweeps.executors.inputs import check_tasks
from gan_jax.sweeps.part import Schedule
from gan_jax.sweeps.result import Sweep, recorded
from gan_jax.sweeps.trainer import SweepTrainer
from gan_jax.training import distributed
from gan_jax.training.fit import check_intervals, describe_warm_start
from gan_jax.training.folder import SweepFolder, environment, git_commit
from gan_jax.training.placement import place
from gan_jax.training.run import Run
from gan_jax.training.serialization import to_json


def sweep(
    settings: Mapping[str, Any] | Sequence[Any],
    data: Any,
    *,
    steps: int,
    seeds: int | Sequence[int] = 5,
    sizes: Sequence[int] | None = None,
    order: str = "shared",
    baseline: str | None = None,
    rank_by: str = GAP,
    higher_is_better: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_every: int = 100,
    checkpoint_every: int | None = None,
    members_per_program: int | None = None,
    devices: int | None = None,
    devices_per_member: int | None = None,
    warm_start: Run | str | Path | None = None,
    game: Game | None = None,
    executor: str | executors.Executor = "local",
    address: str | None = None,
    trusted: Sequence[str] = (),
    progress: bool = True,
    command: str | None = None,
) -> Sweep:
    """Train every setting at every seed and number of training images; in memory, or in the sweep
    folder `out`.

    settings: {name: recipe} (see `grid`, `draw`) or a list of recipes; the first is the baseline
        unless `baseline` names one.
    seeds: how many, from 0, or which. sizes: numbers of training images, nested subsets; all images
        when None.
    order: 'shared', one order of the data for every member, or 'own', each seed its own.
        Comparisons pair equal seeds.
    rank_by: the metric of the final ranking, on V; smaller is better unless told otherwise.
    log_every: steps between evaluations; checkpoint_every: a multiple of it, five times it when
        None.
    members_per_program: at most so many; None for as many as fit the free memory.
    devices: the members are spread over so many, over all there are when None. devices_per_member:
    so many share each member's batch; None for one, or more where a member does not fit on one or
    devices would idle (see `layout`).
    warm_start: begin every member with the networks of another GAN's run (for tasks: of its
        folder); optimizers start anew.
    game: that of each recipe unless another is given for all: a GAN and a VAE may stand in one
        sweep.
    executor: 'local', one group after the other in this process; 'ray' or 'slurm', each group as a
        task with devices of its own (or `executors.Ray(...)`, `executors.Slurm(...)` with their
        settings), in the same folder `out`, to the same table.
    address: of the Ray cluster; or 'local' for SLURM's tasks as processes of this machine. trusted:
        modules of yours that the recipes or the game name, for tasks to look up.
    resume: finish what is missing, bit for bit as if never stopped. Ctrl-C and SIGTERM save and
        return, `stopped` being set.
    Raises UserError for anything that cannot be meant, before a step is run.
    """
    distributed.alone("a sweep", jax.process_count())
    checkpoint_every = 5 * log_every if checkpoint_every is None else checkpoint_every
    check_intervals(steps, log_every, checkpoint_every, checkpoint_every, keep=1)
    settings = named_settings(settings)
    members = members_of(settings, data, seeds, sizes)
    result = Sweep(members, data, game, baseline or next(iter(settings)), rank_by, higher_is_better)
    structures = result.structures
    check_sweep(game, structures, data, steps, order, baseline, members_per_program)
    check_metric(game, structures, data, rank_by)
    engine = executors.choose(executor, address, out)
    if engine:
        check_tasks(settings, game, data, trusted, warm_start)
    placement = place(1 if engine else devices or len(jax.local_devices()))
    if devices or not engine:
        check_shares(game, structures, data, devices or len(placement.devices), devices_per_member)
    origin, folder = origin_for(structures, data, game, warm_start, trusted), None
    if out is not None:
        folder = SweepFolder(out)
        record = {
            "settings": {name: to_json(recipe) for name, recipe in settings.items()}, "names": list(settings),
            "seeds": list(dict.fromkeys(m.seed for m in members)), "sizes": list(dict.fromkeys(m.n for m in members)),
            "order": order, "data": data.describe(), "intervals": [log_every], "source": getattr(data, "source", None),
            "baseline": result.baseline, "rank_by": rank_by, "higher_is_better": higher_is_better,
            "steps": steps, "environment": environment(), "git_commit": git_commit(),
            "warm_start": describe_warm_start(warm_start), "command": command or " ".join(sys.argv),
        }  # fmt: skip
        folder.start(record, resume, overwrite)
        result.folder = folder.path
    elif resume or overwrite:
        raise UserError("resume and overwrite speak of a sweep folder: name it with out")
    schedule = Schedule(steps, log_every, checkpoint_every)
    per_member = None if engine else devices_per_member  # the tasks have the devices
    trainer = SweepTrainer(result, placement, folder, order, schedule, members_per_program, per_member, origin)
    if engine:
        shares = {"devices": devices, "devices_per_member": devices_per_member}
        run_groups(trainer, engine, **shares, trusted=trusted, progress=progress)
    else:
        trainer.run(progress)
    return result


def open_sweep(
    folder: str | Path,
    *,
    data: Any = None,
    settings: Mapping[str, Any] | None = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
) -> Sweep:
    """The sweep in a folder, as far as it is trained, to look at.

    data, settings: where the sweep was given its own in memory. trusted: modules of yours that its
        recipes name.
    Raises UserError where there is no sweep or it cannot be read.
    """
    files = SweepFolder(folder)
    record = files.read()
    result = recorded(files, record, data, settings, game, trusted)
    schedule = Schedule(record["steps"], record["intervals"][0], record["steps"])
    SweepTrainer(result, place(1), files, record["order"], schedule).read()
    return result
