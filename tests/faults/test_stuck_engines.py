"""Engines that never come back, in a real server with one worker: it is replaced, and stops as others do."""

import contextlib
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from runners.artefacts.card import FileKind
from tests.end_to_end.test_routing import get
from tests.support import http
from tests.support.hostile import looping
from tests.support.raw_http import Connection, rows_request
from tests.support.server import ROW, Server, serving
from tests.support.shelf import own_shelf
from tests.support.waiting import wait_until

DRAIN_S = 2.0
LEEWAY_S = 5.0
SLOW_MACHINE_S = 8.0


def test_a_single_worker_that_has_lost_a_thread_is_replaced_and_a_stop_waits_for_no_engine(models: object) -> None:
    with own_shelf("stuck") as shelf:
        endless, sometimes = shelf.endless("endless"), shelf.with_file("sometimes", FileKind.ONNX, looping)
        environment = {
            "SHOKADO_WORKERS": "1",
            "SHOKADO_VERSIONS__V3__TAG": endless.tag,
            "SHOKADO_VERSIONS__V4__TAG": sometimes.tag,
            "SHOKADO_LOADING__TIMEOUT_S": "8",
            "SHOKADO_BATCHING__MAX_RUN_S": "60",
            "SHOKADO_SHUTDOWN__DRAIN_S": str(DRAIN_S),
        }
        with serving(environment=environment) as server:
            # v3 hangs in a thread of the worker, which has given it up.
            (worker,) = server.workers()
            assert get(server, "/readyz")["versions"] == {"v1": "ready", "v2": "ready", "v3": "failed", "v4": "ready"}
            wait_until(lambda: answers(server) and worker not in server.workers(), 90)
            assert "another worker is started beside this one" in server.log.read_text()
            wait_until(lambda: get(server, "/readyz")["versions"]["v3"] == "failed")
            assert len(server.workers()) == 1, "the one that came first has taken its place"

            # Now a row of v4 hangs in the next worker, and an endless version is being loaded.
            with Connection(server) as asking, ThreadPoolExecutor(1) as loading:
                asking.send(rows_request([*ROW[:5], 1e15, *ROW[6:]], version="v4"))
                wait_until(lambda: "v4: a batch takes longer than" in server.log.read_text(), 90)
                loaded = loading.submit(load, server, endless.tag)
                wait_until(lambda: trials(server) or loaded.done())
                assert not loaded.done(), loaded.result()
                started = psutil.Process(server.process.pid).children(recursive=True)
                told_at = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(60) == 0
                assert time.monotonic() - told_at < DRAIN_S + LEEWAY_S + SLOW_MACHINE_S
            assert not any(child.is_running() for child in started)
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("", server.port))


def answers(server: Server) -> bool:
    """Always: also while one worker goes and another one comes."""
    answer = http.post(f"{server.url}/v1/models/predict", json={"instances": [ROW]}, timeout=20)
    assert answer.status_code == 200, answer.text
    return True


def load(server: Server, tag: str) -> str:
    with contextlib.suppress(httpx.HTTPError):
        return http.post(f"{server.url}/v1/models/v5/load", json={"uri": tag}, timeout=60).text
    return "the connection was closed"


def trials(server: Server) -> list[int]:
    """The processes in which versions are tried."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child.pid for child in children if "runners.trial" in child.cmdline()]
