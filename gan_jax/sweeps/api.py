"""`sweep` trains settings x seeds x numbers of training images, and `open_sweep` reads a sweep from
its folder.

A member is one setting at one seed and one number of training images. Members of one structure,
whose recipes compile to one program, are a group. Each group is cut into parts that fit the memory,
as the compiler measured it, and each part is one program. Ranking uses validation images (V) alone,
and test images (S) stay closed.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from gan_jax.arguments import among, count, flag, names, path, refuse
from gan_jax.core.errors import UserError, say
from gan_jax.core.game import Game
from gan_jax.core.ranges import check_numbers
from gan_jax.data.order import MAX_POSITION
from gan_jax.data.splits import Splits
from gan_jax.sweeps import executors
from gan_jax.sweeps.executors.driver import run_groups
from gan_jax.sweeps.executors.inputs import check_tasks
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.sweeps.grid import named_settings
from gan_jax.sweeps.layout import abstract_batch, possible_shares
from gan_jax.sweeps.part import Schedule
from gan_jax.sweeps.population import Member, listed, members_of
from gan_jax.sweeps.result import GAP, Sweep, recorded
from gan_jax.sweeps.trainer import SweepTrainer
from gan_jax.training import distributed
from gan_jax.training.feed import evaluation_sets
from gan_jax.training.fit import check_intervals, check_origin, describe_warm_start, origin_of
from gan_jax.training.folder import environment, git_commit
from gan_jax.training.placement import place
from gan_jax.training.run import Run
from gan_jax.training.serialization import to_json


def sweep(
    settings: Mapping[str, Any] | Sequence[Any],
    data: Splits,
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
    """Train every setting at every seed and number of training images (T), in memory or in the
    sweep folder `out`. Ctrl-C and SIGTERM save the sweep and return it with `stopped` set.

    Args:
        settings: {name: recipe} (see `grid` and `draw`) or a list of recipes. The first one is the
            baseline unless `baseline` names another.
        seeds: how many, from 0 on, or which.
        sizes: numbers of training images, as nested subsets; all images when None.
        order: 'shared', one order of the data for all members, or 'own', one for each seed.
        rank_by, higher_is_better: the metric of the ranking, and which end of it is better.
        resume: finish what is missing in `out`, bit for bit as if never stopped.
        overwrite: start again in `out`, whatever sweep is there.
        log_every: steps between evaluations. checkpoint_every: a multiple of it, 5 times it when
            None.
        members_per_program: a limit; None for as many as fit the free memory.
        devices: devices that share the members out; all of this machine when None.
        devices_per_member: devices that share each member's batch; None for one, or more where a
            member does not fit on one or devices would idle (see `layout`).
        warm_start: begin every member with the networks of another GAN's run; with an executor of
            tasks, give its folder. Optimizers start anew.
        game: for all recipes; by default that of each, so that a GAN and a VAE may share a sweep.
        executor: 'local' trains one group after the other in this process. 'ray' and 'slurm' (or
            `executors.Ray(...)`, `executors.Slurm(...)`) train each group as a task with devices of
            its own, in the same folder, to the same table.
        address: of the Ray cluster, or 'local' for SLURM's tasks as processes of this machine.
        trusted: modules of yours that the recipes or the game name.

    Raises:
        UserError: an argument does not fit; it is raised before the first step.
    """
    distributed.alone("a sweep", jax.process_count())
    steps, log_every = count(steps, "steps"), count(log_every, "log_every")
    checkpoint_every = 5 * log_every if checkpoint_every is None else count(checkpoint_every, "checkpoint_every")
    check_intervals(steps, log_every, checkpoint_every, checkpoint_every, keep=1)
    settings = named_settings(settings)
    reference: str = next(iter(settings)) if baseline is None else among(baseline, "baseline", settings)
    members_per_program, devices, devices_per_member = _limits(
        members_per_program=members_per_program, devices=devices, devices_per_member=devices_per_member
    )
    out, trusted = None if out is None else path(out, "out"), names(trusted, "trusted")
    flags = {"resume": resume, "overwrite": overwrite, "higher_is_better": higher_is_better}
    _check_kinds(data, order, rank_by, warm_start, out, flags)
    result = Sweep(members_of(settings, data, seeds, sizes), data, game, reference, rank_by, higher_is_better)
    _check(result, steps)
    _check_metric(result)
    chosen = executors.choose(executor, address, out)
    if chosen:
        check_tasks(settings, game, data, trusted, warm_start)
    placement = place(1 if chosen else devices or len(jax.local_devices()))
    if devices_per_member is not None and (devices or not chosen):
        available = devices or len(placement.devices)
        for member, *_ in result.structures:  # refuses devices that cannot share its batch
            possible_shares(result.game_of(member), member.recipe, data, available, devices_per_member)
    origin, folder = _origin(result, warm_start, trusted), None
    if out is not None:
        folder = SweepFolder(out)
        record = {
            "settings": {name: to_json(recipe) for name, recipe in settings.items()}, "names": list(settings),
            "seeds": list(dict.fromkeys(m.seed for m in result.members)),
            "sizes": list(dict.fromkeys(m.n for m in result.members)),
            "order": order, "data": data.describe(), "intervals": [log_every], "source": getattr(data, "source", None),
            "class_names": list(getattr(data, "class_names", ())),
            "baseline": reference, "rank_by": rank_by, "higher_is_better": higher_is_better,
            "steps": steps, "environment": environment(), "git_commit": git_commit(),
            "warm_start": describe_warm_start(warm_start), "command": command or " ".join(sys.argv),
        }  # fmt: skip
        folder.acquire(record, resume, overwrite)
        result.folder = folder.path
    per_member = None if chosen else devices_per_member  # the tasks have the devices
    schedule = Schedule(steps, log_every, checkpoint_every)
    trainer = SweepTrainer(result, placement, folder, order, schedule, members_per_program, per_member, origin)
    try:
        if chosen:
            run_groups(trainer, chosen, (devices, devices_per_member), trusted, progress)
        else:
            trainer.run(progress)
    finally:
        if folder:
            folder.release()
    return result


def open_sweep(
    folder: str | Path,
    *,
    data: Splits | None = None,
    settings: Mapping[str, Any] | None = None,
    game: Game | None = None,
    trusted: Sequence[str] = (),
) -> Sweep:
    """The sweep in a folder, as far as it is trained.

    data, settings: to be given where the sweep was given its own in memory. trusted: modules of
    yours that its recipes name.
    Raises UserError where there is no sweep, or it cannot be read.
    """
    files = SweepFolder(folder)
    record = files.read()
    result = recorded(files, data, settings, game, trusted)
    schedule = Schedule(record["steps"], record["intervals"][0], record["steps"])
    SweepTrainer(result, place(1), files, record["order"], schedule).read()
    if (done := len(result.states)) < len(result.members):
        of = f"{done} of {len(result.members)} members are trained to step {schedule.steps}"
        say(f"{files.path}: {of}; resume trains more")
    return result


# ---- what does not fit is refused before a step is run ------------------------------------------


def _limits(**limits: int | None) -> list[int | None]:
    return [None if value is None else count(value, name) for name, value in limits.items()]


def _check_kinds(data: Any, order: Any, rank_by: Any, warm_start: Any, out: Path | None, flags: dict) -> None:
    """Refuse arguments of another type, and flags of a folder where there is none."""
    for name, value in flags.items():
        flag(value, name)
    if out is None and (flags["resume"] or flags["overwrite"]):
        raise UserError("resume and overwrite speak of a sweep folder: name it with out")
    if not all(hasattr(data, part) for part in ("train", "validation", "subset")):
        refuse(data, "data", "Splits, as gan.load and gan.from_arrays return")
    among(order, "order", ("shared", "own"))
    if not isinstance(rank_by, str):
        refuse(rank_by, "rank_by", "the name of a metric")
    if not isinstance(warm_start, (Run, type(None))):
        path(warm_start, "warm_start")


def _check(result: Sweep, steps: int) -> None:
    """Refuse too many steps, and recipes that their game or the ranges of their numbers refuse."""
    for members in result.structures:
        recipe, game = members[0].recipe, result.game_of(members[0])
        if steps * game.examples(recipe) > MAX_POSITION:
            raise UserError(f"{steps} steps of {game.examples(recipe)} examples are over {MAX_POSITION}: take fewer")
        if game.check:
            game.check(recipe, result.data.subset(min(member.n for member in members)))
    for setting, recipe in {member.setting: member.recipe for member in result.members}.items():
        with _of_setting(setting):
            check_numbers(recipe)


@contextmanager
def _of_setting(setting: str) -> Iterator[None]:
    """Names the setting in a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"setting {setting!r}: {error}") from None


def _origin(result: Sweep, warm_start: Run | str | Path | None, trusted: Sequence[str]) -> Run | None:
    """The run that every member begins from, which must have the networks of every setting."""
    if warm_start is None:
        return None
    run = origin_of(warm_start, result.data, trusted)
    for member, *_ in result.structures:
        with _of_setting(member.setting):
            check_origin(run, member.recipe, result.game_of(member))
    return run


def _check_metric(result: Sweep) -> None:
    """Refuse to rank by a metric that no setting measures. Where nothing measures the default,
    nothing is ranked."""
    known: dict[str, None] = {}
    for members in result.structures if result.rank_by != GAP else ():
        known |= dict.fromkeys(_metrics(result, members[0], min(member.n for member in members)))
        if result.rank_by in known:
            return
    if known:
        raise UserError(f"rank_by: no setting measures {result.rank_by!r}; there are {listed(sorted(known))}")


def _metrics(result: Sweep, member: Member, n: int) -> list[str]:
    """Names of what a step and an evaluation of it measure, found without running them."""
    recipe, data, game = member.recipe, result.data, result.game_of(member)
    state = jax.eval_shape(game.init, recipe, jax.random.key(0))
    found = jax.eval_shape(lambda *x: game.step(recipe, *x)[1], state, abstract_batch(game, recipe, data))
    sets = evaluation_sets(data.subset(n), n) if game.evaluate else None
    if sets is not None:
        found |= jax.eval_shape(lambda s: game.evaluate(recipe, s, *sets), state)  # pyright: ignore[reportOptionalCall]
    return list(found)
