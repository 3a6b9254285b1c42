"""What the processes of one job say to each other beside JAX: each holds a TCP connection to
process 0.

JAX's own service ends a job minutes after a process was lost, with pages of its own, or at once
where process 0 was. Here the operating system says within milliseconds that a process was killed,
and beats say within `lost_after` seconds that a machine is gone or stopped; the others then end
with one line. No JAX here.

A message is one line of JSON, {"kind": ..., "value": ..., "size": ...}, and so many bytes after it.

Whoever reaches the ports of process 0 (the coordinator's, and a free one for JAX's service) can
join or end a job: the network is to be one that is trusted. With GAN_JAX_TOKEN set to one secret in
all processes, callers prove that they know it before they are heard (HMAC-SHA256 of a number used
once); what is said after that, and JAX's service, is neither encrypted nor signed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
from typing import Any

from gan_jax.core.errors import UserError

KINDS = ("service", "told", "state", "stop", "go", "here", "damaged", "leaving", "close")  # of what is waited for
BEAT = b'{"kind": "beat", "value": null, "size": 0}\n'
PIECE = 2**20  # bytes that are sent in one go
LONGEST, LARGEST = 2**30, 2**40  # bytes of a line, and of what follows it
GRACE = 5.0  # seconds that a process which ends the job gives the others to hear of it
LOST = 75  # exit code where a process was lost: sysexits.h's for what may be tried again
AGAIN = "the job ends; --resume continues from its last checkpoint, on any number of hosts"


class Wire:
    """An open connection between process 0 and each other process.

    Args:
        me, processes: this process, and how many there are.
        sockets: {process: its socket}; of process 0 all others, of the others process 0.
        lost_after: seconds of silence after which a process counts as lost.
    """

    def __init__(self, me: int, processes: int, sockets: dict[int, socket.socket], lost_after: float):
        self.me, self.processes, self.sockets, self.lost_after = me, processes, sockets, lost_after
        self.busy = False  # in a run, which nobody may leave early
        self._closing = self._ending = False
        self._left: dict[int, float] = {}  # who has come to the end of the program, and when
        self._inbox: dict[str, queue.Queue] = {kind: queue.Queue() for kind in KINDS}
        self._outbox: dict[int, queue.Queue] = {peer: queue.Queue() for peer in sockets}
        self._once = threading.Lock()
        started = lambda what: [threading.Thread(target=what, args=(peer,), daemon=True) for peer in sockets]
        self._readers, self._writers = started(self._read), started(self._write)
        for connection in sockets.values():
            connection.settimeout(lost_after)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for thread in (*self._readers, *self._writers, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    # ---- saying and hearing ---------------------------------------------------------------------

    def send(self, kind: str, value: Any = None, *payload: bytes | memoryview) -> None:
        """A message to process 0, or from it to all, with these bytes one after the other. Returns
        when they have been sent; a slow peer keeps none of the others waiting."""
        head = json.dumps({"kind": kind, "value": value, "size": sum(map(len, payload))}).encode() + b"\n"
        for peer in self.sockets:
            self._outbox[peer].put((kind, [head, *payload]))
        if payload:  # which the caller may change then
            for peer in self.sockets:
                self._outbox[peer].join()

    def _write(self, peer: int) -> None:
        """Sends what there is to send, and a beat where there has been nothing for a while."""
        box, kind = self._outbox[peer], ""
        try:
            while kind not in ("close", "end"):
                try:
                    kind, parts = box.get(timeout=self._often)
                except queue.Empty:
                    self.sockets[peer].sendall(BEAT)
                    continue
                for part in map(memoryview, parts):
                    for first in range(0, len(part), PIECE):
                        self.sockets[peer].sendall(part[first : first + PIECE])
                box.task_done()
        except OSError:
            self._gone(peer)

    @property
    def _often(self) -> float:
        """Seconds between beats."""
        return min(self.lost_after / 5, GRACE)

    def receive(self, kind: str) -> tuple[int, Any, bytes]:
        """The next message of a kind: (from whom, value, payload). Waits: where its sender is lost,
        this process ends."""
        return self._inbox[kind].get()

    def received(self, kind: str) -> list[Any]:
        """The values of the messages of a kind that are there."""
        found = self._inbox[kind]
        return [found.get()[1] for _ in range(found.qsize())]

    def _read(self, peer: int) -> None:
        try:
            with self.sockets[peer].makefile("rb") as file:
                while line := file.readline(LONGEST):
                    message = json.loads(line)
                    size = message["size"]
                    if not 0 <= size <= LARGEST:
                        break
                    self._heard(peer, message["kind"], message["value"], file.read(size))
        except (OSError, ValueError, TypeError, KeyError, MemoryError):  # or not what a process of ours says
            pass
        self._gone(peer)

    def _heard(self, peer: int, kind: str, value: Any, payload: bytes) -> None:
        if kind == "failed":
            self.end(*value)
        elif kind == "end":
            _exit(value)
        elif kind != "beat":
            self._closing |= kind == "close"
            self._inbox[kind].put((peer, value, payload))
        if kind == "leaving":
            self._left[peer] = time.monotonic()

    def _watch(self) -> None:
        while not self._closing:
            time.sleep(self._often)
            for peer, since in list(self._left.items()):
                if self.busy and time.monotonic() - since > GRACE:  # else this process may be at the end of the run too
                    self.end(f"error: {self.name(peer)} left before the run was over: {AGAIN}", 1)

    # ---- ending ---------------------------------------------------------------------------------

    def name(self, process: int) -> str:
        return f"process {process} of {self.processes}"

    def _gone(self, peer: int) -> None:
        if not self._closing:
            self._closing = self.me != 0  # there is nobody to ask how to end
            self.end(f"error: {self.name(peer)} was lost: {AGAIN}", LOST)

    def end(self, line: str, code: int) -> None:
        """End every process of the job with this exit code, and this one line on the stderr of
        process 0 (of each where it is lost). Of several that want to end it the first has its way.
        Does not return."""
        if self.me and not self._closing:
            self.send("failed", [line, code])
            time.sleep(GRACE)  # process 0 answers, which ends this process
        if not self._once.acquire(blocking=False):
            time.sleep(2 * GRACE)
        if line:
            print(line, file=sys.stderr, flush=True)
        if not self.me:
            self._closing = True
            self.send("end", code)
            deadline = time.monotonic() + GRACE
            for thread in (*self._writers, *self._readers):  # until they have hung up: what lies unread when this ends is lost
                if thread is not threading.current_thread():
                    thread.join(max(0.0, deadline - time.monotonic()))
        _exit(code)

    def leave(self) -> None:
        """At the end of the program: returns when all have come to it."""
        self.send("leaving")
        for _ in self.sockets:
            self.receive("leaving")
        if self.me:
            self.receive("close")
            return
        self._closing = True
        self.send("close")
        for thread in self._writers:
            thread.join(self.lost_after)


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


# ---- meeting -----------------------------------------------------------------------------------


def split(address: str) -> tuple[str, int]:
    """(host, port) of 'host:port'. Raises UserError where it is none."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"the coordinator is {address!r}: give the host and port of process 0, as in 10.0.0.1:1234")
    return host.strip("[]"), int(port)


def meet(coordinator: str, processes: int, process: int, timeout: float, lost_after: float) -> Wire:
    """The wire between all processes, once they have come. Raises UserError where one does not come
    within `timeout` s."""
    host, port = split(coordinator)
    meeting = _gather if process == 0 else _come
    return Wire(process, processes, meeting(host, port, processes, process, timeout), lost_after)


def _gather(host: str, port: int, processes: int, me: int, timeout: float) -> dict[int, socket.socket]:
    """Process 0: waits for the others."""
    deadline, found, strangers = time.monotonic() + timeout, {}, 0
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        server = socket.create_server(("", port), family=family, backlog=processes, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(f"process 0 cannot listen on port {port} ({error.strerror}): choose another coordinator port") from None
    with server:
        while len(found) < processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = [str(p) for p in range(1, processes) if p not in found]
                same = (
                    "coordinator, number of processes and GAN_JAX_TOKEN" if strangers else "coordinator and number of processes"
                )
                raise UserError(
                    f"only {len(found) + 1} of {processes} processes came within {timeout:g} s (missing: "
                    f"{', '.join(missing)}): start each with the same {same}"
                ) from None
            said = _hello(connection)
            strangers += said is None
            if said:
                if said[1] != processes or not 0 < said[0] < processes or said[0] in found:
                    why = f"process {said[0]} of {said[1]} came to a job of {processes} processes"
                    why += ", which has one of this number" * (said[0] in found)
                    raise UserError(f"{why}: give each its own number, and all the same number of processes")
                found[said[0]] = connection
        for connection in found.values():
            connection.sendall(b"welcome\n")
    return found


def _hello(connection: socket.socket) -> tuple[int, int] | None:
    """(process, processes) of who calls; None for a stranger."""
    try:
        connection.settimeout(GRACE)
        once = secrets.token_hex(16)
        connection.sendall(f"{once}\n".encode())
        *said, proof = _line(connection).split()
        word, process, processes = said
        if word == "gan_jax" and hmac.compare_digest(proof, _proof(once, process, processes)):
            return int(process), int(processes)
    except (OSError, ValueError):
        pass
    connection.close()
    return None


def _proof(once: str, process: Any, processes: Any) -> str:
    """That whoever calls knows the job's secret, if it has one."""
    secret = os.environ.get("GAN_JAX_TOKEN", "").encode()
    return hmac.new(secret, f"{once} {process} {processes}".encode(), hashlib.sha256).hexdigest()


def _line(connection: socket.socket) -> str:
    """The next short line, and not a byte more."""
    said = b""
    while not said.endswith(b"\n") and len(said) < 200 and (byte := connection.recv(1)):
        said += byte
    return said.decode("ascii").strip()


def _come(host: str, port: int, processes: int, me: int, timeout: float) -> dict[int, socket.socket]:
    """Any other process: calls process 0 until it answers."""
    deadline, why = time.monotonic() + timeout, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((host, port), timeout=left)
            once = _line(connection)
            connection.sendall(f"gan_jax {me} {processes} {_proof(once, me, processes)}\n".encode())
            if _line(connection) == "welcome":
                return {0: connection}
            why = "it hung up: its own message says why, or it has another GAN_JAX_TOKEN"
            break
        except OSError as error:
            why = error.strerror or str(error) or "no answer"
            time.sleep(0.2)
    raise UserError(f"the coordinator {host}:{port} did not take process {me} within {timeout:g} s ({why}): is 0 there?")


# ---- JAX's own service, through a door that does not slam --------------------------------------


def relay(host: str, port: int) -> int:
    """A port of this machine that leads to another's. Where that hangs up, this one stays open and
    silent: JAX would abort the process in the middle of the line that says why."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection((host, port), timeout=GRACE)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for pair in ((near, far, True), (far, near, False)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def _pump(source: socket.socket, target: socket.socket, hang_up: bool) -> None:
    try:
        while data := source.recv(2**16):
            target.sendall(data)
    except OSError:
        pass
    if hang_up:
        target.close()
