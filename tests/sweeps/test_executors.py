"""Sweeps whose groups are tasks elsewhere: the table of a local sweep, whatever is killed,
cancelled or resumed."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from gan_jax.cli.options import SweepOptions
from gan_jax.data.toys import ring
from gan_jax.sweeps import api
from gan_jax.sweeps.executors import dashboard, driver, inputs, task
from tests.sweeps.test_api import damage, equal, refused
from tests.tiny_games import QUICK

TRUSTED = ("tests.tiny_games",)


@pytest.fixture(scope="module")
def data():
    return gan.from_arrays(ring().sample(300, 0))


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(api.Sweep, "draw", lambda *_: [])


def walks(count=4):
    """Settings of as many structures, two in the first: a walk's rate, beside numbers that it does
    not use."""
    spare = lambda k: np.zeros(k, np.float32)
    settings = {f"walk {k}": {"rate": np.float32(0.05 * k), "spare": spare(k)} for k in range(1, count + 1)}
    return settings | {"walk 0": {"rate": np.float32(0.2), "spare": spare(1)}}


def quick(data, out=None, settings=None, steps=30, **arguments):
    """A checkpoint at every log, so that a group takes a while."""
    arguments = {"seeds": 2, "log_every": 5, "checkpoint_every": 5, "rank_by": "error", "game": QUICK} | arguments
    return gan.sweep(settings or walks(), data, steps=steps, out=out, trusted=TRUSTED, **arguments)


def logs(out):
    return {path.parent.name: path.read_bytes() for path in out.glob("groups/*/metrics.jsonl")}


def same_folders(a, b):
    """Bit for bit: what each group logged, and the table made of it."""
    assert logs(a) == logs(b) and len(logs(a)) > 0
    assert (a / "table.csv").read_bytes() == (b / "table.csv").read_bytes()


class Meanwhile(threading.Thread):
    """Calls `act(process id)` once group `number` of the sweep in `out` has a checkpoint, while
    another thread trains it."""

    def __init__(self, out, number, act):
        super().__init__(daemon=True)
        self.group, self.about, self.act = out / f"groups/{number:02d}-00", out / f"tasks/{number:02d}.json", act
        self.timings = None

    def run(self):
        deadline = time.monotonic() + 300
        while not self.saved() and time.monotonic() < deadline:
            time.sleep(0.002)
        self.act(json.loads(self.about.read_text())["pid"])
        self.timings = (self.group / "timings.jsonl").read_bytes().split(b"\n")[0]

    def saved(self):
        """Whole checkpoints; one that is being written has another name."""
        return [path for path in self.group.glob("checkpoints/*/files.json") if path.parent.name.isdecimal()]

    def kept(self):
        """Whether what the group logged first was not logged again: it went on from its
        checkpoint."""
        return self.timings and (self.group / "timings.jsonl").read_bytes().startswith(self.timings + b"\n")


def kill(pid):
    os.kill(pid, signal.SIGKILL)


# ---- Ray ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(data):
    """Two nodes of one core each, on this machine; and its processes gone afterwards. For the slow
    suite: 40 s with a test."""
    import psutil
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # it would kill tasks of a machine that others fill
    store = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    started = Cluster(initialize_head=True, head_node_args=store | {"include_dashboard": False})
    started.add_node(**store)
    ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield started
    finally:
        children = psutil.Process().children(recursive=True)
        ray.shutdown()
        started.shutdown()
        left = [p.name() for p in psutil.wait_procs(children, timeout=20)[1] if "ray" in p.name()]
        assert not left, "Ray left processes behind"


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The local sweep."""
    draw, api.Sweep.draw = api.Sweep.draw, lambda *_: []
    try:
        out = tmp_path_factory.mktemp("local") / "sweep"
        return out, quick(data, out, progress=False)
    finally:
        api.Sweep.draw = draw


@pytest.mark.slow
def test_a_sweep_of_four_groups_with_a_worker_killed_has_the_table_of_the_local_one(
    data, tmp_path, cluster, undisturbed, no_pictures, capsys
):
    out, (folder, local) = tmp_path / "sweep", undisturbed
    killer = Meanwhile(out, 2, kill)
    killer.start()
    swept = quick(data, out, executor="ray")
    killer.join()
    equal(swept, local)
    same_folders(out, folder)
    assert (out / "ranking.txt").read_bytes() == (folder / "ranking.txt").read_bytes()
    assert killer.kept() and swept.exit_code == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("group 3 of 4 (walk 3; 2 members): ") and "retry 1 of 3" in line for line in lines)
    for number, names in enumerate(("walk 1, walk 0; 4", "walk 2; 2", "walk 3; 2", "walk 4; 2")):
        line = [line for line in lines if line.startswith(f"group {number + 1} of 4 ({names} members): ")][-1]
        assert ": done, " in line and "step 30/30, best error " in line
    attempts = [json.loads((out / f"tasks/{k:02d}.json").read_text())["attempt"] for k in range(4)]
    assert attempts[2] == 1, "the killed one was tried again"


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("local", "ray"), ("ray", "local")])
def test_one_executor_finishes_what_another_began(data, tmp_path, cluster, undisturbed, no_pictures, first, then):
    out, (folder, local) = tmp_path / "sweep", undisturbed
    quick(data, out, steps=15, checkpoint_every=15, executor=first, progress=False)
    further = quick(data, out, checkpoint_every=15, resume=True, executor=then, progress=False)
    equal(further, local)
    same_folders(out, folder)
    equal(gan.open_sweep(out, data=data, game=QUICK, trusted=TRUSTED), local)


@pytest.mark.slow
def test_a_mistake_in_a_task_is_one_line_is_not_tried_again_and_leaves_the_others_alone(
    data, tmp_path, cluster, undisturbed, no_pictures, capsys
):
    out = tmp_path / "sweep"
    quick(data, out, steps=15, checkpoint_every=15, progress=False)
    damage(out / "groups/01-00/checkpoints/15")
    message = refused(quick, data, out, checkpoint_every=15, resume=True, executor="ray")
    assert message.startswith("group 2 failed: no usable checkpoint in ") and "tasks/01.log" in message
    assert "retry" not in capsys.readouterr().err
    others = {name: log for name, log in logs(undisturbed[0]).items() if name != "01-00"}
    assert others.items() <= logs(out).items()
    table, whole = pd.read_csv(out / "table.csv"), undisturbed[1].table
    assert (
        len(table.query("step == 30")) == len(whole.query("step == 30")) - 2 and not (out / "ranking.csv").read_bytes() == b""
    )


@pytest.mark.slow
def test_more_than_any_node_has_is_refused_before_it_waits_for_ever(data, tmp_path, cluster):
    message = refused(quick, data, tmp_path / "sweep", executor=gan.executors.Ray(cpus=64), progress=False)
    assert "a group asks for 64 CPU" in message and "no node of the Ray cluster has (1 CPU, 0 GPU; 1 CPU, 0 GPU)" in message


def mlps():
    """Four structures of real GANs."""
    return {f"width {w}": gan.recipes.mlp((2,), width=w, depth=1, batch_size=8) for w in (4, 5, 6, 7)}


@pytest.mark.slow
def test_gans_of_four_structures_with_a_worker_killed_have_the_table_of_the_local_sweep(data, tmp_path, cluster):
    """Also the pictures are drawn of what the tasks trained."""
    arguments = {"steps": 60, "seeds": 2, "log_every": 5, "checkpoint_every": 5, "sizes": [40, 80], "order": "own"}
    local = gan.sweep(mlps(), data, out=tmp_path / "local", progress=False, **arguments)
    killer = Meanwhile(tmp_path / "ray", 1, kill)
    killer.start()
    swept = gan.sweep(mlps(), data, out=tmp_path / "ray", executor="ray", progress=False, **arguments)
    killer.join()
    assert killer.kept()
    equal(swept, local)
    same_folders(tmp_path / "ray", tmp_path / "local")
    names = lambda name: {path.name for path in (tmp_path / name / "pictures").iterdir()}
    assert names("ray") == names("local")
    np.testing.assert_array_equal(swept.run("width 6", 1).samples(5), local.run("width 6", 1).samples(5))


@pytest.mark.slow
def test_ctrl_c_lets_ray_s_tasks_save_and_the_rest_can_be_trained_here(data, tmp_path, cluster, undisturbed, no_pictures):
    out = tmp_path / "sweep"
    press = Meanwhile(out, 0, lambda _: os.kill(os.getpid(), signal.SIGINT))
    press.start()
    swept = quick(data, out, executor="ray", progress=False)
    press.join()
    assert swept.stopped == "SIGINT" and swept.exit_code == 130
    assert 0 < len(pd.read_csv(out / "table.csv")) < len(undisturbed[1].table)
    equal(quick(data, out, resume=True, progress=False), undisturbed[1])
    same_folders(out, undisturbed[0])


# ---- submitit ----------------------------------------------------------------------------------


def here(**settings):
    return gan.executors.Slurm("local", **settings)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2], ids=["killed", "preempted"])
def test_a_submitted_task_that_is_ended_goes_on_from_its_checkpoint(data, tmp_path, undisturbed, no_pictures, capsys, number):
    """SIGUSR2 is what SLURM sends before it preempts: the task requeues itself, which is no retry
    of the driver's."""
    out = tmp_path / "sweep"
    ending = Meanwhile(out, 0, lambda pid: os.kill(pid, number))
    ending.start()
    equal(quick(data, out, executor=here()), undisturbed[1])
    ending.join()
    same_folders(out, undisturbed[0])
    assert ending.kept()
    assert ("retry 1 of 3" in capsys.readouterr().err) == (number == signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_lets_submitted_tasks_save(data, tmp_path, undisturbed, no_pictures):
    out, settings = tmp_path / "sweep", walks(2)
    press = Meanwhile(out, 0, lambda _: os.kill(os.getpid(), signal.SIGINT))
    press.start()
    swept = quick(data, out, settings, executor="slurm", address="local", steps=600, progress=False)
    press.join()
    assert swept.stopped == "SIGINT" and 0 < len(swept.table) < 6 * 120
    equal(
        quick(data, out, settings, steps=600, resume=True, progress=False),
        quick(data, None, settings, steps=600, progress=False),
    )


@pytest.mark.slow
def test_a_task_that_is_lost_too_often_fails_with_one_line(data, tmp_path, no_pictures):
    out = tmp_path / "sweep"
    killer = Meanwhile(out, 0, kill)
    killer.start()
    message = refused(quick, data, out, walks(2), executor=here(retries=0), progress=False)
    assert message.startswith("group 1 failed: ") and "tasks/00.log" in message
    assert set(pd.read_csv(out / "table.csv").query("step == 30")["setting"]) == {"walk 2"}


# ---- who drives --------------------------------------------------------------------------------


def test_a_sweep_that_several_processes_begin_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    """As in `srun -n 4`: four drivers would write one folder."""
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "4")
            assert refused(SweepOptions().prepare).startswith("a sweep is begun by one process, and here are 4: start one")
    monkeypatch.setattr("jax.process_count", lambda: 2)
    assert "and here are 2" in refused(quick, data, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_ends_no_task(tmp_path):
    (tmp_path / "00.log").symlink_to("/dev/full")
    with task._logged(tmp_path / "00.log"):
        sys.stderr.write("lost")


# ---- what is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
def test_data_in_memory_travel_as_plain_arrays_without_the_closed_splits(tmp_path, labelled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 4, 4, 1), np.uint8)
    data = gan.from_arrays(images, rng.integers(0, 3, 80) if labelled else None)
    path = tmp_path / "data.npz"
    inputs.save_arrays(path, data)
    with np.load(path, allow_pickle=False) as file:
        assert {name.split("_")[0] for name in file} == {"train", "validation"}
    found = inputs.read_arrays(path, data.describe(), data.class_names)
    assert found.train.hash == data.train.hash and found.validation.hash == data.validation.hash
    assert len(found.test) == len(found.extractor) == 0 and found.classes == data.classes
    other = gan.from_arrays(images[::-1].copy())
    assert "the train split is not that of the sweep" in refused(inputs.read_arrays, path, other.describe(), ())
    np.savez(path, validation_images=data.validation.images)
    assert "it has no array 'train_images'" in refused(inputs.read_arrays, path, data.describe(), ())
    path.write_bytes(path.read_bytes()[:100])
    assert "cannot be read" in refused(inputs.read_arrays, path, data.describe(), ())


def test_a_task_sees_the_driver_s_settings_and_not_the_engine_s(monkeypatch, x64):
    monkeypatch.setenv("NPROC", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    variables = inputs.environment(accelerated=False)
    assert variables["NPROC"] == "3" and variables["JAX_ENABLE_X64"] == "True" and variables["JAX_PLATFORMS"] == "cpu"
    assert variables["OMP_NUM_THREADS"] is None and variables["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    assert inputs.environment(accelerated=True)["JAX_PLATFORMS"] is None, "the GPU is for JAX to find"


def test_whoever_asks_for_an_accelerator_trains_on_it():
    ray, slurm = gan.executors.Ray, gan.executors.Slurm
    accelerated = [ray(gpus=0.5), ray(resources={"TPU": 4}), slurm(gpus=1), slurm(settings={"slurm_gres": "gpu:a100:2"})]
    accelerated += [slurm(settings=s) for s in ({"slurm_gpus_per_task": 1}, {"slurm_additional_parameters": {"gres": "gpu:1"}})]
    assert all(engine.accelerated for engine in accelerated)
    others = [ray(), ray(resources={"TPU": 0, "big_memory": 1}), slurm(), slurm(partition="gpu")]
    others += [slurm(settings={"slurm_gres": "lscratch:10", "slurm_partition": "gpu", "slurm_gpus_per_node": 0})]
    assert not any(engine.accelerated for engine in others)


def local_rate(knobs):
    return 10


def test_what_a_task_could_not_make_again_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    ask = lambda settings=None, **arguments: refused(
        gan.sweep, settings or walks(), data, steps=5, seeds=1, out=out, executor="ray", **arguments
    )
    game = {"game": QUICK, "rank_by": "error"}
    named = ask(**game)
    assert "the game: the recipe names 'tests.tiny_games:" in named and "trust 'tests.tiny_games'" in named
    own = replace(QUICK, examples=local_rate)
    assert "trust 'tests.sweeps.test_executors'" in ask(game=own, rank_by="error", trusted=TRUSTED)
    monkeypatch.setattr(local_rate, "__module__", "__main__")
    assert "the game names a function of the script itself" in ask(game=own, rank_by="error", trusted=TRUSTED)
    lists = {"a": walks()["walk 1"] | {"more": [np.float32(1)]}}
    assert "setting 'a' is another when written as JSON" in ask(lists, **game, trusted=TRUSTED)
    assert not out.exists()


def test_executors_that_cannot_be_meant_are_one_line(data, tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    assert "name one that all machines see, with out" in refused(quick, data, executor="ray")
    assert "executor='dask': must be one of 'local', 'ray', 'slurm'" in refused(quick, data, out, executor="dask")
    assert "leave the address out" in refused(quick, data, out, address="10.0.0.1:6379")
    assert "leave the address out" in refused(quick, data, out, address="local", executor=here())
    assert "retries=-1: must be an integer of at least 0" in refused(quick, data, out, executor=here(retries=-1))
    assert "SLURM has none" in refused(quick, data, out, executor="slurm", address="10.0.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "SLURM cannot take the sweep" in refused(quick, data, out, executor="slurm")
    for name, extra in {"submitit": "slurm", "ray": "ray"}.items():
        monkeypatch.setitem(sys.modules, name, None)
        assert f'pip install "gan-jax[{extra}]"' in refused(quick, data, out, executor=extra)
    assert not out.exists()


def test_no_cluster_at_an_address_is_one_line(data, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        import ray

        patch.setattr(ray, "is_initialized", lambda: False)
        message = refused(quick, data, tmp_path / "sweep", executor="ray", address="127.0.0.1:1", progress=False)
    assert message.startswith("no Ray cluster at 127.0.0.1:1 (") and "start one, or give its address" in message
    assert not (tmp_path / "sweep").exists()


def test_the_command_line_s_options_are_the_executor_s(tmp_path):
    options = {"task_cpus": 4, "task_gpus": 2, "retries": 1}
    ray = SweepOptions(executor="ray", address="10.0.0.1:6379", **options).engine()
    assert ray == gan.executors.Ray("10.0.0.1:6379", cpus=4, gpus=2, retries=1)
    slurm = SweepOptions(executor="slurm", partition="gpu", task_minutes=30, **options).engine()
    assert slurm == gan.executors.Slurm(partition="gpu", minutes=30, cpus=4, gpus=2, retries=1)
    assert SweepOptions().engine() == "local"
    with pytest.raises(gan.UserError, match="leave the address out"):
        SweepOptions(address="10.0.0.1:6379").engine()


# ---- one group, one process --------------------------------------------------------------------


def test_one_process_at_a_time_trains_a_group(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "PATIENCE", 0.0)
    with task.alone(tmp_path / "00.lock"):
        with pytest.raises(BlockingIOError, match="another process trains this group"):
            task.alone(tmp_path / "00.lock").__enter__()
    with task.alone(tmp_path / "00.lock"):
        pass


def test_a_group_that_a_lost_node_still_holds_is_tried_again(tmp_path, monkeypatch):
    """Its locks on a network file system last for a lease."""
    monkeypatch.setattr(task, "PATIENCE", 0.0)
    (tmp_path / "tasks").mkdir()
    spec = {"environment": {}, "path": [], "folder": str(tmp_path), "group": 3, "directory": str(tmp_path), "attempt": 0}
    monkeypatch.chdir(tmp_path)
    with task.alone(tmp_path / "tasks" / "03.lock"):
        ended = task.outcome(task.train_group(spec))
    assert ended.kind == "lost" and "03.lock is locked" in ended.why
    assert driver._settle(spec, ended, 3, dashboard.Line("group 4"), False) and spec["attempt"] == 1
