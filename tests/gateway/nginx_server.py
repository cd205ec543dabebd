"""A real nginx for tests: the gateway's template, filled as its image fills it, on free ports."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from load_tests.bench.nginx_config import filled, globals_for_this_user
from tests.support import http
from tests.support.server import Server, free_port
from tests.support.waiting import wait_until
from tests.tools import needs

needs_nginx = needs("nginx")


@dataclass
class Gateway:
    """A running nginx."""

    process: subprocess.Popen[bytes]
    port: int
    operators_port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def operators_url(self) -> str:
        return f"http://127.0.0.1:{self.operators_port}"

    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]

    def line_of(self, answer: httpx.Response) -> dict[str, Any]:
        """What the log says of an answer, which its client may have before the log has the line."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [line for line in self.access_log() if line["request_id"] == answer.headers["x-request-id"]]
            return bool(found)

        wait_until(is_there)
        return found[-1]


def lines_of(servers: Sequence[Server]) -> str:
    """The servers as the template wants them."""
    return " ".join(f"server 127.0.0.1:{server.port} max_fails=3 fail_timeout=5s;" for server in servers)


@contextlib.contextmanager
def gateway(
    folder: Path, production: Sequence[Server], staging: Sequence[Server] = (), **settings: str
) -> Iterator[Gateway]:
    """nginx over these servers; `settings` replace those of `gateway.env`."""
    port, operators_port = free_port(), free_port()
    places = {
        "PUBLIC_LISTEN": f"127.0.0.1:{port}",
        "OPERATORS_LISTEN": f"127.0.0.1:{operators_port}",
        "PRODUCTION_SERVERS": lines_of(production),
        "STAGING_SERVERS": lines_of(staging or production),
        "ACCESS_LOG": "access.log",
    }
    with _running(folder, filled(places | settings), port, operators_port) as running:
        yield running


@contextlib.contextmanager
def proxy(folder: Path, server: str, listen: str = "") -> Iterator[Gateway]:
    """nginx as somebody may have it already: one server, which `server` says more of, and `listen` of its socket."""
    port, operators_port = free_port(), free_port()
    config = f"""
        pid nginx.pid;
        error_log stderr;
        events {{}}
        http {{
            access_log off;
            server {{ listen 127.0.0.1:{operators_port}; location /nginx_status {{ return 200; }} }}
            server {{ listen 127.0.0.1:{port} {listen}; {server} }}
        }}"""
    with _running(folder, config, port, operators_port) as running:
        yield running


@contextlib.contextmanager
def _running(folder: Path, config: str, port: int, operators_port: int) -> Iterator[Gateway]:
    (folder / "nginx.conf").write_text(config)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", globals_for_this_user()]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with (folder / "error.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    running = Gateway(process, port, operators_port, folder)
    try:
        wait_until(lambda: answers(running))
        yield running
    finally:
        process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answers(running: Gateway) -> bool:
    assert running.process.poll() is None, (running.folder / "error.log").read_text()
    with contextlib.suppress(httpx.TransportError):
        return http.get(f"{running.operators_url}/nginx_status", timeout=5).status_code == 200
    return False
