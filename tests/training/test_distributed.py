"""Several processes over localhost: together they train what one does, stop together, end together
when one is lost, and any number of them resumes. The processes are real (`host_driver.py`), and so
is kill -9."""

import contextlib
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.training import distributed, trainer, wire
from gan_jax.training.folder import RunFolder
from gan_jax.training.wire import meet
from tests import host_driver

ROOT = Path(__file__).parents[2]
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
        if "note" in (die := jobs[-1].get("die", {})):
            Path(f"{die['note']}.ended").touch()
        if die.get("how") == "freeze":
            running[1].kill()  # it cannot end by itself
        said += [process.communicate(timeout=400) for process in running[1:]]
        return [(p.returncode, *text) for p, text in zip(running, said, strict=True)]
    finally:
        for process in running:
            process.kill()


def seconds(note):
    """From the loss of a process, which noted it there, to the end of process 0."""
    return Path(f"{note}.ended").stat().st_mtime - Path(note).stat().st_mtime


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


# ---- two processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, what each said) of two processes: a whole run, one that is told to stop, one in
    which one is killed."""
    folder = tmp_path_factory.mktemp("two")
    said = launch(
        2,
        {"steps": 20, "devices": 2, "save": folder / "whole.npz"},
        {"steps": 60, "devices": 2, "out": folder / "stopped", "die": {"process": 1, "at": 10, "how": "terminate"}},
        {
            "steps": 60,
            "devices": 2,
            "out": folder / "killed",
            "die": {"process": 1, "at": 20, "how": "kill", "note": folder / "note"},
        },
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
    assert killed == -signal.SIGKILL and code == 75 and seconds(two[0] / "note") < distributed.LOST_AFTER
    assert lines(stderr)[-1] == f"error: process 1 of 2 {LOST}"
    assert len(lines(stderr)) == 1, stderr


def test_one_process_resumes_what_two_began(two, x64):
    assert_resumed(two[0] / "killed", devices=1)


def told_of(monkeypatch, **settings):
    """What `fit` compares between processes before anything is written."""

    class Told(Exception):
        pass

    def look(record):
        raise Told(json.dumps(record))

    monkeypatch.setattr(distributed, "check_same", look)
    with pytest.raises(Told) as said:
        gan.fit(gan.recipes.mlp((4,), width=4, batch_size=8), host_driver.data(), steps=20, **INTERVALS | settings)
    return str(said.value)


def test_processes_compare_whatever_makes_a_run_another(monkeypatch):
    others = (
        {"seed": 1},
        {"devices": 2},
        {"devices": 2, "parallel": "pmap"},
        {"devices": 2, "shard": "optimizer"},
        {"log_every": 5},
    )
    said = [told_of(monkeypatch, **other) for other in ({}, *others)]
    with jax.enable_x64(True):
        said.append(told_of(monkeypatch))
    assert len(set(said)) == len(said) and said[0] == told_of(monkeypatch)


# ---- joining -----------------------------------------------------------------------------------


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
        distributed.connect(**arguments)


def test_one_process_needs_no_other(monkeypatch):
    distributed.connect()
    distributed.connect(processes=1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    distributed.connect()
    assert (
        distributed.count() == 1
        and distributed.is_primary()
        and distributed.broadcast(lambda: 5) == 5
        and distributed.any_signal("SIGTERM") == "SIGTERM"
    )


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


# ---- what they say to each other ---------------------------------------------------------------


@pytest.fixture
def wires(monkeypatch):
    """Makes the wires of so many processes in this one: {process: wire}. Those who would end say so
    in `ended`."""
    made, ended = {}, []
    monkeypatch.setattr(wire, "_exit", ended.append)
    monkeypatch.setattr(wire, "GRACE", 0.2)

    def make(processes, lost_after=30.0, ports=None):
        port = free_port()
        come = lambda i: made.update(
            {i: meet(f"127.0.0.1:{(ports or {}).get(i, lambda _: port)(port)}", processes, i, 20, lost_after)}
        )
        threads = [threading.Thread(target=come, args=(i,), daemon=True) for i in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return dict(sorted(made.items()))

    make.ended = ended
    yield make
    for one in made.values():
        one._closing = True
        for connection in one.sockets.values():
            connection.close()


class Door(threading.Thread):
    """A port that leads to another, and through which nothing more passes from there while it is
    `shut`."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.open, self.target = threading.Event(), port
        self.open.set()
        self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        self.server.bind(("127.0.0.1", 0))
        self.server.listen()
        self.port = self.server.getsockname()[1]
        self.start()

    def run(self):
        near, _ = self.server.accept()
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        while far.connect_ex(("127.0.0.1", self.target)):
            time.sleep(0.05)
        threading.Thread(target=self.pump, args=(near, far), daemon=True).start()
        self.pump(far, near, self.open)

    def pump(self, source, target, allowed=None):
        while (allowed is None or allowed.wait()) and (data := source.recv(2**16)):
            target.sendall(data)


def test_a_slow_process_keeps_none_of_the_others_waiting(wires, monkeypatch):
    """Neither for what is sent to all nor for the signs of life."""
    doors, heard = [], threading.Event()
    through = lambda port: doors.append(Door(port)) or doors[0].port
    made = wires(3, lost_after=2.0, ports={1: through})
    heard_by, said = wire.Wire._heard, os.urandom(2**24)
    monkeypatch.setattr(
        wire.Wire,
        "_heard",
        lambda self, peer, kind, *rest: (
            heard.set() if (self.me, kind, doors[0].open.is_set()) == (2, "beat", False) else None,
            heard_by(self, peer, kind, *rest),
        ),
    )
    doors[0].open.clear()
    sending = threading.Thread(target=made[0].send, args=("state", "half", said[: 2**23], said[2**23 :]), daemon=True)
    sending.start()
    assert made[2]._inbox["state"].get(timeout=5) == (0, "half", said)
    assert heard.wait(5) and sending.is_alive()
    doors[0].open.set()
    assert made[1]._inbox["state"].get(timeout=20) == (0, "half", said)
    sending.join(5)
    assert not sending.is_alive() and not wires.ended


def test_silence_ends_a_job_in_the_time_stated(wires, capsys):
    doors, through = [], lambda port: doors.append(Door(port)) or doors[0].port
    made = wires(2, lost_after=1.0, ports={1: through})
    doors[0].open.clear()
    begun = time.monotonic()
    made[1]._readers[0].join(20)
    assert 0.7 < time.monotonic() - begun < 1 + 10
    assert 75 in wires.ended and "process 0 of 2 was lost" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said", [b"[]\n", b"{}\n", b'{"kind": "go", "value": 1, "size": -1}\n', b'{"kind": "odd", "value": 1, "size": 0}\n']
)
def test_a_process_that_talks_nonsense_is_lost(wires, capsys, said):
    made = wires(2)
    made[1].sockets[0].sendall(said)
    made[0]._readers[0].join(5)
    assert set(wires.ended) == {75} and "process 1 of 2 was lost" in capsys.readouterr().err


def test_only_who_knows_the_secret_is_heard(monkeypatch):
    """Whoever does not is a stranger: it ends no meeting."""
    monkeypatch.setenv("GAN_JAX_TOKEN", "ours")
    monkeypatch.setattr(wire, "GRACE", 1.0)
    port, found = free_port(), []
    host = threading.Thread(target=lambda: found.append(wire._gather("", port, 2, 0, 20)), daemon=True)
    host.start()

    def call(process, processes, secret):
        connection = socket.create_connection(("127.0.0.1", port))
        once = wire._line(connection)
        proof = hmac.new(secret, f"{once} {process} {processes}".encode(), hashlib.sha256).hexdigest()
        connection.sendall(f"gan_jax {process} {processes} {proof}\n".encode())
        return wire._line(connection)

    time.sleep(0.2)
    assert call(1, 3, b"theirs") == call(1, 2, b"") == ""
    assert call(1, 2, b"ours") == "welcome"
    host.join(5)
    assert list(found[0]) == [1]


def test_a_stop_that_comes_when_the_run_is_over_is_not_the_next_one_s(wires, monkeypatch):
    made = wires(2)
    made[1].send("stop", "SIGTERM")
    made[1].send("here")
    monkeypatch.setattr(distributed, "_wire", made[0])
    distributed.barrier()
    assert distributed.any_signal(None) is None


def test_one_process_alone_says_that_it_stops(wires, monkeypatch, capsys):
    made = wires(2)
    for me, words in {0: "SIGTERM: stopping at the end of this chunk", 1: ""}.items():
        monkeypatch.setattr(distributed, "_wire", made[me])
        trainer.Stop().ask(signal.SIGTERM, None)
        assert words in (err := capsys.readouterr().err) and bool(words) == bool(err)


def failing(error):
    with distributed.together():
        raise error


def test_a_collective_that_fails_is_a_lost_process_and_a_full_memory_is_not(wires, monkeypatch, capsys):
    """As far as nobody is silent: whoever is, is named first."""
    made = wires(2, lost_after=0.2)
    monkeypatch.setattr(distributed, "GRACE", 0.1)
    monkeypatch.setattr(distributed, "_wire", made[0])
    monkeypatch.setattr(time, "sleep", (slept := []).append)
    for error in (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), ArithmeticError("of its own")):
        with pytest.raises(type(error)):
            failing(error)
    assert not wires.ended
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        failing(jax.errors.JaxRuntimeError("INTERNAL: Connection closed by peer"))
    assert wires.ended[0] == 75 and max(slept) >= 0.3
    assert (
        "process 0 of 2 cannot reach the others' devices (INTERNAL: Connection closed by peer): the job"
        in capsys.readouterr().err
    )


# ---- more of them, and other ends --------------------------------------------------------------


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
def test_a_state_that_is_split_over_two_processes_is_saved_and_resumed_on_two_and_on_four(tmp_path, x64):
    """It is whole in the memory of the hosts alone."""
    job = {"out": tmp_path / "run", "shard": "parameters", "small": 8, "save": tmp_path / "state.npz", "sample_every": 60}
    for processes, settings in ((2, {"steps": 20}), (2, {"steps": 40, "resume": True}), (4, {"steps": 60, "resume": True})):
        said = launch(processes, job | {"devices": processes} | settings)
        assert [code for code, _, _ in said] == [0] * processes, said
        assert all(int(out.splitlines()[-1].split()[0]) > 10 for _, out, _ in said), said
    assert_state(tmp_path / "state.npz", alone(60))


@pytest.mark.slow
def test_two_processes_that_split_a_state_begin_from_another_run_as_one_does(tmp_path, x64):
    alone(20, out=tmp_path / "first")
    job = {"steps": 20, "devices": 2, "shard": "parameters", "small": 8, "warm_start": tmp_path / "first"}
    said = launch(2, job | {"out": tmp_path / "run", "save": tmp_path / "state.npz"})
    assert [code for code, _, _ in said] == [0, 0], said
    assert_state(tmp_path / "state.npz", alone(20, warm_start=tmp_path / "first"))


@pytest.mark.slow
def test_processes_with_other_arguments_do_not_begin(tmp_path):
    job = {"steps": 20, "devices": 2, "out": tmp_path / "run", "own": {"1": {"shard": "optimizer"}}}
    ended = launch(2, job)
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert lines(ended[0][2]) == [
        "error: process 1 of 2 has another shard than process 0: give all the same arguments and data"
    ]
    assert not (tmp_path / "run").exists()


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
    note = tmp_path / "note"
    job = {"steps": 60, "devices": 2, "out": tmp_path / "run", "die": {"process": 1, "at": 20, "how": how, "note": note}}
    ended = launch(2, job, lost_after=10.0)
    assert [code for code, _, _ in ended] == codes, ended
    assert seconds(note) < 10 + 10
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


def test_a_slurm_job_goes_back_into_the_queue_when_trying_again_may_help(tmp_path):
    """143: stopped in time, 75, 137, 134: lost; at most so many times. What srun ran resumes."""
    for name, line in {"srun": 'echo "$@"; exit $CODE', "scontrol": 'echo "scontrol $@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)

    def job(code, *command, **more):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "5", "CODE": str(code)} | more
        ended = subprocess.run(["bash", ROOT / "scripts/launch_slurm.sh", *command], env=own, capture_output=True, text=True)
        assert ended.returncode == code, ended
        assert not command or "python train.py --steps 9 --resume" in ended.stdout
        return "scontrol requeue 5" in ended.stdout

    command = "python", "train.py", "--steps", "9"
    assert [code for code in (0, 1, 2, 75, 130, 134, 137, 143) if job(code, *command)] == [75, 134, 137, 143]
    assert job(75, *command, SLURM_RESTART_COUNT="1", RESTARTS="2")
    assert not job(75, *command, SLURM_RESTART_COUNT="2", RESTARTS="2")
    assert not job(2)


@pytest.mark.slow
def test_what_a_host_cannot_read_is_skipped_by_all_and_noted_once(tmp_path, x64):
    job = {"steps": 40, "devices": 2, "streamed": True, "damaged": [3, 11, 30], "out": tmp_path / "run"}
    said = launch(2, job | {"save": tmp_path / "state.npz"})
    assert [code for code, _, _ in said] == [0, 0], said
    rows = [json.loads(line) for line in (tmp_path / "run/damaged.jsonl").read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == ["example 11", "example 3", "example 30"]
    alone = gan.fit(host_driver.recipe(), host_driver.data(True, job["damaged"]), steps=40, **INTERVALS)
    assert_state(tmp_path / "state.npz", alone)
