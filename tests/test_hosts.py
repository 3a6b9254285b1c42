"""Several processes over localhost: together they train what one does, stop together, end together when one is lost, and any
number of them resumes. The processes are real (`host_driver.py`), and so is kill -9."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import host_driver
import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import hosts
from gan_jax.folder import RunFolder
from gan_jax.wire import meet

ROOT = Path(__file__).parent.parent
INTERVALS = {"log_every": 10, "checkpoint_every": 10, "sample_every": 20, "progress": False}
LOST = "was lost: the job ends; --resume continues from its last checkpoint, on any number of hosts"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(**more):
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    return os.environ | own | {"XLA_FLAGS": "--xla_backend_optimization_level=0"} | more


def launch(processes, *jobs, **settings):
    """[(exit code, stdout, stderr)] of each process of a job."""
    told = {"coordinator": f"127.0.0.1:{free_port()}", "processes": processes, "jobs": [INTERVALS | job for job in jobs]}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, ROOT / "tests" / "host_driver.py"]
    each = [json.dumps(told | settings | {"process": process}, default=str) for process in range(processes)]
    running = [subprocess.Popen([*command, one], env=environment(), cwd=ROOT, **pipes) for one in each]
    try:
        said = [running[0].communicate(timeout=400)]
        if jobs[-1].get("die", {}).get("how") == "freeze":
            running[1].kill()  # it cannot end by itself
        said += [process.communicate(timeout=400) for process in running[1:]]
        return [(p.returncode, *text) for p, text in zip(running, said, strict=True)]
    finally:
        for process in running:
            process.kill()


def lines(stderr):
    """Without what jaxlib says of itself."""
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


# ---- two processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, what each said) of two processes: a whole run, one that is told to stop, one in which one is killed."""
    folder = tmp_path_factory.mktemp("two")
    said = launch(
        2,
        {"steps": 20, "devices": 2, "save": folder / "whole.npz"},
        {"steps": 60, "devices": 2, "out": folder / "stopped", "die": {"process": 1, "at": 10, "how": "terminate"}},
        {"steps": 60, "devices": 2, "out": folder / "killed", "die": {"process": 1, "at": 20, "how": "kill"}},
    )
    return folder, said


def test_two_processes_are_one(two, x64):
    assert_state(two[0] / "whole.npz", alone(20))


def test_a_signal_to_one_process_stops_all_at_one_step_with_a_checkpoint(two, x64):
    folder, said = two
    steps = {line.split(": ")[1] for _, out, _ in said for line in out.splitlines() if "stopped SIGTERM" in line}
    assert len(steps) == 1 and sum("stopped SIGTERM" in out for _, out, _ in said) == 2
    step = gan.open_run(folder / "stopped", data=host_driver.data()).step
    assert 10 < step < 60 and steps.pop().startswith(f"step {step}, ")


def test_a_killed_process_ends_the_other_with_one_line(two):
    (code, _, stderr), (killed, _, _) = two[1]
    assert killed == -signal.SIGKILL and code == 75
    assert lines(stderr)[-1] == f"error: process 1 of 2 {LOST}"
    assert len(lines(stderr)) == 1, stderr


def test_one_process_resumes_what_two_began(two, x64):
    assert_resumed(two[0] / "killed", devices=1)


# ---- joining ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"processes": 2, "process": 0}, "coordinator not given"),
        ({"coordinator": "127.0.0.1:1234"}, "processes, process not given"),
        ({"coordinator": "127.0.0.1:1234", "processes": 2, "process": 2}, "process 2 of 2 processes"),
        ({"coordinator": "here", "processes": 2, "process": 1}, "the coordinator is 'here'"),
        ({"coordinator": "127.0.0.1:1234", "processes": 2, "process": 0}, "JAX has been used already"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(arguments, said):
    jax.devices()
    with pytest.raises(gan.UserError, match=said):
        hosts.connect(**arguments)


def test_one_process_needs_no_other(monkeypatch):
    hosts.connect()
    hosts.connect(processes=1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    hosts.connect()
    assert hosts.count() == 1 and hosts.first() and hosts.told(lambda: 5) == 5 and hosts.agree("SIGTERM") == "SIGTERM"


def test_a_coordinator_that_is_not_there_is_named():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(gan.UserError, match=f"{address} did not take process 1 within 0.3 s"):
        meet(address, 2, 1, 0.3, 30)


def test_processes_that_do_not_come_are_named():
    with pytest.raises(gan.UserError, match=r"only 1 of 3 processes came within 0.3 s \(missing: 1, 2\)"):
        meet(f"127.0.0.1:{free_port()}", 3, 0, 0.3, 30)


def test_processes_that_do_not_agree_how_many_they_are_do_not_begin():
    address, refused = f"127.0.0.1:{free_port()}", []

    def other():
        with pytest.raises(gan.UserError) as said:
            meet(address, 3, 1, 20, 30)
        refused.append(str(said.value))

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(gan.UserError, match="process 1 of 3 came to a job of 2 processes"):
        meet(address, 2, 0, 20, 30)
    thread.join()
    assert "did not take process 1" in refused[0]


# ---- more of them, and other ends ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_two_processes_resume_what_four_began_and_read_their_shares(tmp_path, x64, style):
    job = {"out": tmp_path / "run", "streamed": True, "parallel": style}
    said = launch(4, job | {"steps": 60, "devices": 4, "die": {"process": 0, "at": 20, "how": "kill"}})
    assert [code for code, _, _ in said] == [-signal.SIGKILL, 75, 75, 75]
    assert all(lines(stderr) == [f"error: process 0 of 4 {LOST}"] for _, _, stderr in said[1:]), said
    assert (tmp_path / "run/checkpoints/10").exists() or (tmp_path / "run/checkpoints/20").exists()
    said = launch(2, job | {"steps": 40, "devices": 4, "resume": True, "save": tmp_path / "resumed.npz"}, each=2)
    assert [code for code, _, _ in said] == [0, 0], said
    assert_state(tmp_path / "resumed.npz", alone(40))
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows()] == [10, 20, 30, 40]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, codes, said",
    [
        ("raise", [1, 1], "error: process 1 of 2 failed (ArithmeticError: of its own)"),
        ("refuse", [2, 2], "error: this host has no data"),
        ("leave", [1, 1], "error: process 1 of 2 left before the run was over"),
        ("freeze", [75, -signal.SIGKILL], f"error: process 1 of 2 {LOST}"),
    ],
)
def test_a_process_that_fails_ends_the_other_with_one_line(tmp_path, how, codes, said):
    """A frozen one is known by its silence."""
    job = {"steps": 60, "devices": 2, "out": tmp_path / "run", "die": {"process": 1, "at": 20, "how": how}}
    ended = launch(2, job, lost_after=10.0)
    assert [code for code, _, _ in ended] == codes, ended
    assert len(lines(ended[0][2])) == 1 and lines(ended[0][2])[0].startswith(said), ended[0][2]
    assert ("Traceback" in ended[1][2]) == (how == "raise")


@pytest.mark.slow
def test_a_folder_that_process_0_refuses_ends_all_with_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    ended = launch(2, {"steps": 20, "devices": 2, "out": tmp_path / "run"})
    assert [code for code, _, _ in ended] == [2, 2]
    assert len(lines(ended[0][2])) == 1 and "is not empty and is not a run folder" in ended[0][2] and not lines(ended[1][2])
    assert os.listdir(tmp_path / "run") == ["notes.txt"]


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
    said = [process.communicate(timeout=400) for process in tasks]
    assert [process.returncode for process in tasks] == [0, 0], said
    same = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("local", "slurm")]
    assert same[0] == same[1] and same[0].count("\n") == 2


def test_the_slurm_script_is_a_shell_script():
    subprocess.run(["bash", "-n", ROOT / "scripts" / "launch_slurm.sh"], check=True)
