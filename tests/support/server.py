"""Real servers for tests: `bentoml serve` as a process of its own, on a free port, ready before it is handed out."""

import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support import http
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
BENTOML = Path(sys.executable).with_name("bentoml")
START_TIMEOUT_S = 120
ROW = [39.0, 52_000.0, 690.0, 12.0, 800.0, 85.5, 1.0, 0.0, 2.0, 4.0]
"""A customer: a row that every version of the default model scores."""


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A raw connection, for tests that speak HTTP by hand."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples called `name` that carry these labels."""
        text = http.get(f"{self.url}/metrics", timeout=20).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def workers(self) -> list[int]:
        """Process ids of all workers, those of the versions' own services included."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def wait_for_generation(self, generation: int, workers: int = 2) -> float:
        """Seconds until that many workers report this generation or a later one.

        Answers do not tell it: any number of connections may be taken by the same worker.
        """
        started = time.monotonic()

        def agreed() -> bool:
            reported = http.get(f"{self.url}/v1/models", timeout=20).json()["workers"]
            return len(reported) == workers and all(worker["generation"] >= generation for worker in reported)

        wait_until(agreed, 10)
        return time.monotonic() - started

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    """Below the ports that the kernel gives to clients: a server takes seconds to bind, and a client might be first.

    While a server is down, a client that tries to reach it at such a port could even get itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port


@contextlib.contextmanager
def serving(
    target: str = "service:Shokado",
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    program: Path = BENTOML,
    port: int | None = None,
    readiness: int = 200,
    away: Collection[str] = (),
) -> Iterator[Server]:
    """Serve `target`, and what options stand behind it, as the environment configures it, until the context is left.

    Unless the environment names one, it has a store of its own, which is empty. `readiness` is the status that
    `/readyz` is waited for; all versions are waited for then but those that are `away`.
    """
    port = port or free_port()
    log = ROOT / "var" / "test" / f"server-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    store = log.with_name(f"server-{port}.db")
    for left_over in store.parent.glob(f"{store.name}*"):
        left_over.unlink()
    command = [str(program), "serve", *shlex.split(target), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "SHOKADO_STORE": f"sqlite:///{store}", **(environment or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        _wait_until_it_says(server, readiness)
        if readiness == 200:
            _wait_for_versions(server, away)
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serving_side_by_side(*environments: Mapping[str, str]) -> Iterator[list[Server]]:
    """A server for each environment, in their order; they start at the same time."""
    with contextlib.ExitStack() as running:

        def start(environment: Mapping[str, str]) -> Server:
            return running.enter_context(serving(environment=environment))

        with ThreadPoolExecutor() as threads:
            servers = list(threads.map(start, environments))
        yield servers


def _wait_for_versions(server: Server, away: Collection[str]) -> None:
    """A server is ready while a version that is elsewhere is not there yet, unless all traffic depends on it."""

    def there() -> bool:
        states = http.get(f"{server.url}/readyz", timeout=20).json()["versions"]
        return not {"starting", "away"} & {state for version, state in states.items() if version not in away}

    wait_until(there, START_TIMEOUT_S)


def _wait_until_it_says(server: Server, readiness: int) -> None:
    def ready() -> bool:
        assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()}"
        with contextlib.suppress(httpx.TransportError):
            return http.get(f"{server.url}/readyz", timeout=5).status_code == readiness
        return False

    try:
        wait_until(ready, START_TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{server.log.read_text()}") from None
