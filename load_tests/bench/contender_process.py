"""A contender as a running process: started, awaited, asked, measured, and always stopped again."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from load_tests.bench import process_tree

HOST = "127.0.0.1"


class ServerError(Exception):
    """A contender did not start, did not answer, or did not stop; the message says what its log said last."""


@dataclass(frozen=True)
class Launch:
    """What starts a contender: its command line, what it adds to the environment, and when it counts as ready."""

    command: tuple[str, ...]
    folder: Path
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/"
    ready_seconds: float = 120
    extra_ports: tuple[int, ...] = ()
    behind: tuple["Launch", ...] = ()
    """What it stands before: started first, stopped last, and counted with it."""
    pid_file: Path | None = None
    """Where the id of a process is written that belongs to it, though it is not its descendant: a container's."""


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct TCP ports that nothing listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()


class Server:
    """Context manager around one contender's process group. Leaving it, by any way, leaves nothing running."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self.launch = launch
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._behind = [Server(part, log.with_suffix(f".{number}.log")) for number, part in enumerate(launch.behind)]
        self._started = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            for part in self._behind:
                started.enter_context(part)
            self._start()
            self._started = started.pop_all()
        return self

    def _start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHOKADO_")}
        environment = inherited | dict(self.launch.environment)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self.launch.command,
                cwd=self.launch.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._started:
            self._stop()
        if kind is None:
            self._wait_until_ports_are_free()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.launch.port}"

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own; redirects are not followed."""
        return self._ask("POST", path, body, headers)

    def pss_megabytes(self) -> float:
        """Memory of the whole process tree, in units of 2**20 bytes."""
        return process_tree.pss_bytes(self.processes()) / 2**20

    def processes(self) -> set[int]:
        """Ids of the whole process tree, and of what it stands before."""
        assert self._process is not None
        found = process_tree.family(self._process.pid).union(*(part.processes() for part in self._behind))
        pid_file = self.launch.pid_file
        return found | process_tree.family(int(pid_file.read_text())) if pid_file else found

    def last_words(self) -> str:
        """The last line of the log that says something, for error messages."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "nothing was logged"

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.launch.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.launch.ready_seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"ended with {self._process.returncode} before it was ready: {self.last_words()}")
            try:
                if self._ask("GET", self.launch.ready_path, None, {})[0] == http.client.OK:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise ServerError(f"was not ready within {self.launch.ready_seconds:.0f} s: {self.last_words()}")

    def _stop(self) -> None:
        """Send SIGTERM to the group, wait 15 s, then send SIGKILL; also to descendants that left the group."""
        if self._process is None:
            return
        family = process_tree.family(self._process.pid)
        try:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        finally:
            self._signal_group(signal.SIGKILL)
            self._process.wait()
            process_tree.end(family, grace_seconds=2)

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _wait_until_ports_are_free(self) -> None:
        deadline = time.monotonic() + 20
        for port in (self.launch.port, *self.launch.extra_ports):
            while listens(port):
                if time.monotonic() > deadline:
                    raise ServerError(f"still listens on port {port} after it was stopped")
                time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
