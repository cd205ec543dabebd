"""The supervisor of a real server: workers that die, fail at once, or lose it, and terminals that are closed."""

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.test_refusal_to_start import assert_one_line, serve
from tests.support import http
from tests.support.server import BENTOML, ROOT, Server, serving
from tests.support.waiting import wait_until


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A file of its own, which a test may spoil."""
    return Path(shutil.copy(ROOT / "configuration" / "serving.yaml", tmp_path / "serving.yaml"))


@pytest.fixture
def one_worker(models: Path, configuration: Path, tmp_path: Path) -> Iterator[Server]:
    """One that heeds SIGHUP, also where the tests were begun with `nohup`."""
    program = tmp_path / "serve"
    program.write_text(f'#!/bin/sh\nexec env --default-signal=HUP {BENTOML} "$@"\n')
    program.chmod(0o755)
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_CONFIG": str(configuration)}
    with serving(environment=environment, program=program) as running:
        yield running


def only_worker(server: Server) -> int | None:
    workers = server.workers()
    return workers[0] if len(workers) == 1 else None


def kill_only_worker(server: Server) -> int:
    worker = only_worker(server)
    assert worker is not None
    os.kill(worker, signal.SIGSEGV)
    return worker


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get(f"{server.url}/readyz", timeout=5).status_code == 200
    return False


def test_a_supervisor_replaces_what_dies_pauses_where_it_dies_again_and_ends_at_sighup(
    one_worker: Server, configuration: Path
) -> None:
    # One that crashed: another is begun at once, not when somebody looks the next time.
    worker = kill_only_worker(one_worker)
    begun_at = time.monotonic()
    wait_until(lambda: only_worker(one_worker) not in (None, worker))
    took_s = time.monotonic() - begun_at
    wait_until(lambda: answers(one_worker))
    log = one_worker.log.read_text()
    assert f"worker {worker} (service) was killed by SIGSEGV; another is started now" in log
    assert took_s < 5, "circus alone looks every ten seconds"

    # Those that cannot start: each after a longer pause, until they can.
    right = configuration.read_text()
    configuration.write_text("model: [")
    kill_only_worker(one_worker)
    wait_until(lambda: "another is started in 2 s" in one_worker.log.read_text())
    configuration.write_text(right)
    wait_until(lambda: answers(one_worker))
    pauses = re.findall(r"ended with exit code 1; another is started in (\d+) s", one_worker.log.read_text())
    assert pauses == sorted(pauses, key=int)

    # A second server beside it.
    beside = serve({}, port=one_worker.port)
    assert_one_line(beside, f"--port {one_worker.port}", f"process {one_worker.process.pid}", "make serve PORT=")
    assert answers(one_worker)

    # Its terminal is closed.
    workers = one_worker.workers()
    one_worker.process.send_signal(signal.SIGHUP)
    assert one_worker.process.wait(timeout=60) == 0
    assert not any(psutil.pid_exists(worker) for worker in workers)


def test_workers_end_with_a_supervisor_that_is_killed_and_free_its_port(models: Path, tmp_path: Path) -> None:
    without_terminal = tmp_path / "serve"
    without_terminal.write_text(f"#!/bin/sh\ntrap '' HUP\nexec {BENTOML} \"$@\"\n")
    without_terminal.chmod(0o755)
    placed = {"SHOKADO_WORKERS": "1", "SHOKADO_VERSIONS__V2__PLACEMENT": "service"}
    with serving(environment=placed, program=without_terminal) as server:
        workers = server.workers()
        assert len(workers) == 2
        # As `nohup` asks for.
        server.process.send_signal(signal.SIGHUP)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(psutil.pid_exists(worker) for worker in workers), 60)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("", server.port))
