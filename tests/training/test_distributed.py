"""Several processes over localhost: together they train what one does, stop together, end together
when one is lost, and any number of them resumes. The processes are real (`host_driver.py`), and so
is kill -9."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.training import distributed, trainer
from gan_jax.training.folder import RunFolder
from scripts import launch as launcher
from tests import host_driver

ROOT = Path(__file__).parents[2]
DRIVER = [sys.executable, str(ROOT / "tests" / "host_driver.py")]
LAUNCHER = [sys.executable, str(ROOT / "scripts" / "launch.py")]
PIPES = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
INTERVALS = {"log_every": 10, "checkpoint_every": 10, "sample_every": 20, "progress": False}
PLAIN = {"plain": True, "devices": 2}
AGAIN = "the job ends; --resume continues from its last checkpoint, on any number of processes"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(**more):
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    return os.environ | own | {"XLA_FLAGS": "--xla_backend_optimization_level=0"} | more


def job_of(jobs, settings):
    return json.dumps({"jobs": [INTERVALS | job for job in jobs]} | settings, default=str)


def launch(processes, *jobs, **settings):
    """[(exit code, stdout, stderr)] of each process of a job that nobody watches over."""
    shared = [*DRIVER, job_of(jobs, settings), "--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(processes)]
    running = [subprocess.Popen([*shared, "--process", str(i)], env=environment(), **PIPES) for i in range(processes)]
    try:
        return communicate(running, jobs[-1].get("die", {}))
    finally:
        for process in running:
            process.kill()


def communicate(running, die):
    """The outputs, and when all have ended that can end by themselves."""
    frozen = running[die["process"]] if die.get("how") == "freeze" else None
    output = {process: process.communicate(timeout=400) for process in running if process is not frozen}
    if "note" in die:
        Path(f"{die['note']}.ended").touch()
    if frozen:
        frozen.kill()
        output[frozen] = frozen.communicate()
    return [(process.returncode, *output[process]) for process in running]


def supervise(processes, *jobs, **settings):
    """The launcher of a job's processes, begun."""
    command = [*LAUNCHER, "--processes", str(processes), "--", *DRIVER, job_of(jobs, settings)]
    return subprocess.Popen(command, env=environment(), start_new_session=True, **PIPES)


def supervised(processes, *jobs, **settings):
    """(exit code, stdout, stderr) of the launcher of a job's processes."""
    return communicate([supervise(processes, *jobs, **settings)], jobs[-1].get("die", {}) | {"how": None})[0]


def seconds(note):
    """From the loss of a process, which noted it there, to the end of the others."""
    return Path(f"{note}.ended").stat().st_mtime - Path(note).stat().st_mtime


def lines(stderr):
    """Without the messages of jaxlib."""
    return [line for line in stderr.splitlines() if line and not line.startswith("[Gloo]")]


def alone(steps, **settings):
    """The same run in one process."""
    return gan.fit(host_driver.recipe(), host_driver.data(), steps=steps, **INTERVALS | settings)


def assert_state(path, run, tolerance=1e-9):
    with np.load(path) as saved:
        for i, mine in enumerate(host_driver.state_arrays(run.state)):
            np.testing.assert_allclose(saved[f"arr_{i}"], mine, rtol=0, atol=tolerance)


def assert_resumed(folder, steps=40, **settings):
    """The run in the folder, continued in this process, is the one that never stopped."""
    begun = max(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal())
    assert 0 < begun <= steps - 20
    resumed, whole = alone(steps, out=folder, resume=True, **settings), alone(steps)
    for mine, theirs in zip(*(host_driver.state_arrays(run.state) for run in (resumed, whole)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)
    assert [row["step"] for row in resumed.history] == [row["step"] for row in whole.history]
    for mine, theirs in zip(resumed.history, whole.history, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-7)


# ---- two processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, the launcher's output) of two processes: a whole run, one with a signal to stop, one
    in which a process is killed."""
    folder = tmp_path_factory.mktemp("two")
    stop, kill = {"process": 1, "at": 10, "how": "terminate"}, {"process": 1, "at": 20, "how": "kill", "note": folder / "note"}
    output = supervised(
        2,
        {"steps": 20, "devices": 2, "save": folder / "whole.npz"},
        {"steps": 60, "devices": 2, "out": folder / "stopped", "die": stop},
        {"steps": 60, "devices": 2, "out": folder / "killed", "die": kill},
    )
    return folder, output


def test_two_processes_are_one(two, x64):
    assert_state(two[0] / "whole.npz", alone(20))


def test_a_signal_to_one_process_stops_all_at_one_step_with_a_checkpoint(two, x64):
    folder, (_, out, _) = two
    stopped = [line.split(": ")[1] for line in out.splitlines() if "stopped SIGTERM" in line]
    assert len(stopped) == 2 and len(set(stopped)) == 1, out
    step = gan.open_run(folder / "stopped", data=host_driver.data()).step
    assert 10 < step < 60 and stopped[0].startswith(f"step {step}, ")


def test_the_launcher_names_a_killed_process_in_one_line_and_ends_the_other(two):
    folder, (code, _, stderr) = two
    assert code == 128 + signal.SIGKILL and seconds(folder / "note") < 30
    assert lines(stderr) == [f"error: process 1 of 2 was lost (SIGKILL): {AGAIN}"]


def test_one_process_resumes_what_two_began(two, x64):
    assert_resumed(two[0] / "killed", devices=1)


def compared(monkeypatch, **settings):
    """What `fit` compares between processes before anything is written."""

    class Compared(Exception):
        pass

    def stop(record):
        raise Compared(json.dumps(record))

    monkeypatch.setattr(distributed, "check_same", stop)
    with pytest.raises(Compared) as output:
        gan.fit(gan.recipes.mlp((4,), width=4, batch_size=8), host_driver.data(), steps=20, **INTERVALS | settings)
    return str(output.value)


def test_processes_compare_whatever_makes_a_run_another(monkeypatch):
    others = (
        {"seed": 1},
        {"devices": 2},
        {"devices": 2, "parallel": "pmap"},
        {"devices": 2, "shard": "optimizer"},
        {"log_every": 5},
    )
    output = [compared(monkeypatch, **other) for other in ({}, *others)]
    with jax.enable_x64(True):
        output.append(compared(monkeypatch))
    assert len(set(output)) == len(output) and output[0] == compared(monkeypatch)


# ---- joining -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, output",
    [
        ({"processes": 2, "process": 0}, "coordinator not given"),
        ({"coordinator": "127.0.0.1:1234"}, "processes, process not given"),
        ({"coordinator": "127.0.0.1:1234", "processes": 2, "process": 2}, "process 2 of 2 processes"),
        ({"coordinator": "here", "processes": 2, "process": 1}, "the coordinator is 'here'"),
        ({"coordinator": "127.0.0.1:1234", "processes": 2, "process": 0}, "before JAX is used"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(arguments, output):
    jax.devices()
    with pytest.raises(gan.UserError, match=output):
        distributed.connect(**arguments)


def test_one_process_needs_no_other(monkeypatch):
    distributed.connect()
    distributed.connect(processes=1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    distributed.connect()
    assert distributed.is_primary() and distributed.any_signal("SIGTERM") == "SIGTERM"
    assert distributed.broadcast(lambda: 5) == 5 and distributed.gather(5) == [5]


@pytest.mark.slow
def test_processes_that_do_not_come_end_the_others_with_one_line():
    script = (
        "import sys; from gan_jax.training import distributed; distributed.connect(sys.argv[1], 3, int(sys.argv[2]), timeout=3)"
    )
    command = [sys.executable, "-c", script, f"127.0.0.1:{free_port()}"]
    running = [subprocess.Popen([*command, process], env=environment(), **PIPES) for process in "01"]
    for code, _, stderr in communicate(running, {}):
        assert code == 2 and lines(stderr) == [
            "error: not all processes came within 3 s: start each with the same coordinator and number of processes"
        ]


# ---- ending ------------------------------------------------------------------------------------


def test_one_process_alone_prints_that_it_stops(monkeypatch, capsys):
    for primary, words in {True: "SIGTERM: stopping at the end of this chunk", False: ""}.items():
        monkeypatch.setattr(distributed, "is_primary", lambda primary=primary: primary)
        trainer.StopSignal().receive(signal.SIGTERM, None)
        assert words in (err := capsys.readouterr().err) and bool(words) == bool(err)


@pytest.mark.parametrize(
    "error, code, output",
    [
        (jax.errors.JaxRuntimeError("INTERNAL: Connection closed by peer"), 75, "cannot reach the others (INTERNAL: Conn"),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed"), 75, "cannot reach the others (UNKNOWN: Gloo"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), 1, "failed (JaxRuntimeError: RESOURCE_EXHAUSTED"),
        (ArithmeticError("of its own"), 1, "failed (ArithmeticError: of its own)"),
        (KeyboardInterrupt(), 130, "failed (KeyboardInterrupt"),
        (gan.UserError("no data"), 2, "error: no data"),
        (distributed.AgreedError("no data"), 2, "error: no data"),
    ],
)
def test_a_collective_that_fails_is_a_lost_process_and_a_full_memory_is_not(monkeypatch, error, code, output):
    class Ended(BaseException):
        pass

    def end(line, code):
        raise Ended(line, code)

    monkeypatch.setattr(distributed, "_end", end)
    monkeypatch.setattr(distributed, "_connected", True)
    monkeypatch.setattr(distributed.time, "sleep", lambda _: None)
    monkeypatch.setattr(sys, "__excepthook__", lambda *_: None)
    with pytest.raises(Ended) as ended:
        distributed._failed(type(error), error, None)
    line, found = ended.value.args
    assert found == code and output in line and (code == 2 or line.endswith(AGAIN))


@pytest.mark.parametrize(
    "codes, cause",
    [
        ([0, 0], 0),
        ([143, 143], 143),
        ([0, 1], 1),
        ([75, -9, 75], -9),
        ([-6, 2], 2),
        ([75, None], 75),
        ([None, -9], -9),
        ([-6, None], -6),
    ],
)
def test_the_launcher_tells_the_cause_from_its_consequences(monkeypatch, codes, cause):
    """Those that JAX aborts, or that end as a collective failed, follow from another."""

    started = [Mock(poll=Mock(return_value=code)) for code in codes]
    monkeypatch.setattr(launcher, "PATIENCE", 0.0)
    assert launcher.watch(started) == cause


# ---- more of them, and other ends --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_two_processes_resume_what_four_began_and_read_their_shares(tmp_path, x64, style):
    job = {"out": tmp_path / "run", "streamed": True, "parallel": style}
    die = {"process": 0, "at": 20, "how": "kill", "note": tmp_path / "note"}
    output = launch(4, job | {"steps": 60, "devices": 4, "die": die})
    assert [code for code, _, _ in output] == [-signal.SIGKILL, *[-signal.SIGABRT] * 3]  # JAX aborts without process 0
    assert seconds(tmp_path / "note") < 60
    assert (tmp_path / "run/checkpoints/10").exists() or (tmp_path / "run/checkpoints/20").exists()
    output = launch(2, job | {"steps": 40, "devices": 4, "resume": True, "save": tmp_path / "resumed.npz"}, each=2)
    assert [code for code, _, _ in output] == [0, 0], output
    assert_state(tmp_path / "resumed.npz", alone(40))
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()] == [10, 20, 30, 40]


@pytest.mark.slow
def test_a_state_that_is_split_over_two_processes_is_saved_and_resumed_on_two_and_on_four(tmp_path, x64):
    """It is whole in the memory of the hosts alone."""
    job = {"out": tmp_path / "run", "shard": "parameters", "small": 8, "save": tmp_path / "state.npz", "sample_every": 60}
    for processes, settings in ((2, {"steps": 20}), (2, {"steps": 40, "resume": True}), (4, {"steps": 60, "resume": True})):
        output = launch(processes, job | {"devices": processes} | settings)
        assert [code for code, _, _ in output] == [0] * processes, output
        assert all(int(out.splitlines()[-1].split()[0]) > 10 for _, out, _ in output), output
    assert_state(tmp_path / "state.npz", alone(60))


@pytest.mark.slow
def test_two_processes_that_split_a_state_begin_from_another_run_as_one_does(tmp_path, x64):
    alone(20, out=tmp_path / "first")
    job = {"steps": 20, "devices": 2, "shard": "parameters", "small": 8, "warm_start": tmp_path / "first"}
    output = launch(2, job | {"out": tmp_path / "run", "save": tmp_path / "state.npz"})
    assert [code for code, _, _ in output] == [0, 0], output
    assert_state(tmp_path / "state.npz", alone(20, warm_start=tmp_path / "first"))


@pytest.mark.slow
def test_processes_with_other_arguments_do_not_begin(tmp_path):
    job = PLAIN | {"steps": 20, "out": tmp_path / "run", "own": {"1": {"shard": "optimizer"}}}
    ended = launch(2, job)
    assert [code for code, _, _ in ended] == [2, 2], ended
    output = ["error: process 1 of 2 has another shard than process 0: give all the same arguments and data"]
    assert lines(ended[0][2]) == output and not lines(ended[1][2])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_that_process_0_refuses_ends_all_with_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    ended = launch(2, PLAIN | {"steps": 20, "out": tmp_path / "run"})
    assert [code for code, _, _ in ended] == [2, 2]
    assert len(lines(ended[0][2])) == 1 and "is not empty and is not a run folder" in ended[0][2] and not lines(ended[1][2])
    assert os.listdir(tmp_path / "run") == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("how, code", [("kill", 75), ("freeze", -signal.SIGABRT)])
def test_a_process_that_is_lost_ends_the_other_within_a_minute_also_without_a_launcher(tmp_path, how, code):
    """A frozen process is known by its silence."""
    note = tmp_path / "note"
    job = PLAIN | {"steps": 60, "out": tmp_path / "run", "die": {"process": 1, "at": 20, "how": how, "note": note}}
    (found, _, stderr), _ = launch(2, job)
    assert found == code and seconds(note) < 60, (found, seconds(note), stderr)
    if how == "kill":
        assert len(lines(stderr)) == 1 and lines(stderr)[0].startswith("error: process 0 of 2 cannot reach the others")


@pytest.mark.slow
@pytest.mark.parametrize(
    "process, how, code, output",
    [
        (1, "raise", 1, f"error: process 1 of 2 failed (ArithmeticError: of its own): {AGAIN}"),
        (1, "refuse", 2, "error: this host has no data"),
        (1, "leave", 1, f"error: process 1 of 2 left before the run was over: {AGAIN}"),
        ("all", "diverge", 1, None),
    ],
)
def test_a_process_that_fails_ends_the_other_with_one_line(tmp_path, process, how, code, output):
    die = {"process": process, "at": 20, "how": how, "note": tmp_path / "note"}
    found, out, stderr = supervised(2, PLAIN | {"steps": 60, "out": tmp_path / "run", "die": die})
    assert found == code and seconds(tmp_path / "note") < 30
    assert [line for line in lines(stderr) if line.startswith("error")] == [output] * (output is not None), stderr
    assert ("Traceback" in stderr) == (how == "raise") and out.count("stopped not finite") == 2 * (how == "diverge")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["launcher", "terminal", "killed launcher"])
def test_a_signal_to_the_launcher_ends_all_processes_with_a_checkpoint(tmp_path, to, x64):
    """Ctrl-C in a terminal reaches the launcher and its processes; no process outlives a launcher
    that is killed, on Linux."""
    die = {"process": "all", "at": 20, "how": "note", "note": tmp_path / "note"}
    running = supervise(2, PLAIN | {"steps": 10**6, "out": tmp_path / "run", "die": die})
    deadline = time.monotonic() + 300
    while not (tmp_path / "note").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    match to:
        case "launcher":
            running.terminate()
        case "terminal":
            os.killpg(running.pid, signal.SIGINT)
        case "killed launcher":
            running.kill()
    out, stderr = running.communicate(timeout=60)  # returns when no process holds the pipes any longer
    name, code = {"launcher": ("SIGTERM", 143), "terminal": ("SIGINT", 130), "killed launcher": ("SIGTERM", -9)}[to]
    assert running.returncode == code and out.count(f"stopped {name}") == 2 and "error" not in stderr, (out, stderr)
    assert gan.open_run(tmp_path / "run", data=host_driver.data()).step >= 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:  # what has ended without its parent is there until init has seen it
            os.killpg(running.pid, 0)
            time.sleep(0.1)


@pytest.mark.slow
def test_the_launcher_starts_a_command_line_on_this_machine_and_slurm_is_recognised(tmp_path):
    command = [sys.executable, "experiments/quickstart.py", "--subset", "100", "--steps", "20", "--width", "4", "--no-report"]
    command += ["--batch-size", "8", "--log-every", "10", "--checkpoint-every", "10", "--sample-every", "20", "--devices", "2"]
    local = [sys.executable, "scripts/launch.py", "--processes", "2", "--", *command, "--out", str(tmp_path / "local")]
    settings = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 400}
    first = subprocess.run(local, env=environment(), **settings)
    assert first.returncode == 0 and first.stdout.count("samples: ") == 1, first
    again = subprocess.run(local, env=environment(), **settings)
    assert again.returncode == 2 and len(lines(again.stderr)) == 1 and "already holds this run" in again.stderr, again

    def task(number):
        step = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
        return environment(**job | step | {"SLURM_PROCID": number, "SLURM_LOCALID": number, "SLURM_STEP_NUM_TASKS": "2"})

    job = {"JAX_COORDINATOR_PORT": str(free_port())}
    pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    tasks = [subprocess.Popen([*command, "--out", tmp_path / "slurm"], env=task(n), **pipes) for n in "01"]
    output = [process.communicate(timeout=400) for process in tasks]
    assert [process.returncode for process in tasks] == [0, 0], output
    same = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("local", "slurm")]
    assert same[0] == same[1] and same[0].count("\n") == 2


SRUN = """#!/bin/bash
# As SLURM's: runs each task to its exit code in CODES, and exits with the highest.
[ "$1" = --kill-on-bad-exit=1 ] && shift
echo "$@"
worst=0
for CODE in $CODES; do export CODE; "$@"; code=$?; [ $code -gt $worst ] && worst=$code; done
exit $worst
"""


def test_a_slurm_job_goes_back_into_the_queue_when_trying_again_may_help(tmp_path):
    """143: stopped in time, 75, 137, 134: lost; at most so many times, and not where one process
    made a mistake and SLURM ended the others. What srun ran resumes."""
    for name, text in {"srun": SRUN, "scontrol": '#!/bin/bash\necho "scontrol $@"', "train": "#!/bin/bash\nexit $CODE"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def job(*codes, code=None, command=("train", "--steps", "9"), **more):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "5", "CODES": " ".join(map(str, codes))} | more
        ended = subprocess.run(["bash", ROOT / "scripts/launch_slurm.sh", *command], env=own, capture_output=True, text=True)
        assert ended.returncode == (codes[0] if code is None else code), ended
        assert not command or "train --steps 9 --resume" in ended.stdout
        return "scontrol requeue 5" in ended.stdout

    assert [code for code in (0, 1, 2, 75, 130, 134, 137, 143) if job(code)] == [75, 134, 137, 143]
    assert not job(2, 143, code=2) and not job(1, 137, code=1) and job(75, 143, code=143)
    assert job(75, SLURM_RESTART_COUNT="1", RESTARTS="2")
    assert not job(75, SLURM_RESTART_COUNT="2", RESTARTS="2")
    assert not job(code=2, command=())


@pytest.mark.slow
def test_what_a_host_cannot_read_is_skipped_by_all_and_noted_once(tmp_path, x64):
    job = {"steps": 40, "devices": 2, "streamed": True, "damaged": [3, 11, 30], "out": tmp_path / "run"}
    output = launch(2, job | {"save": tmp_path / "state.npz"})
    assert [code for code, _, _ in output] == [0, 0], output
    rows = [json.loads(line) for line in (tmp_path / "run/damaged.jsonl").read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == ["example 11", "example 3", "example 30"]
    alone = gan.fit(host_driver.recipe(), host_driver.data(True, job["damaged"]), steps=40, **INTERVALS)
    assert_state(tmp_path / "state.npz", alone)
