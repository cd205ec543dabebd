"""A real Prometheus for tests: the configuration of compose.yaml, over servers on this machine."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support import http
from tests.support.server import ROOT, Server, free_port
from tests.support.waiting import wait_until
from tests.tools import needs

CONFIGURATION = ROOT / "compose" / "prometheus.yaml"

needs_prometheus = needs("prometheus")


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of an instant query. Raises `AssertionError` when Prometheus does not understand it."""
        answer = http.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=20).json()
        assert answer["status"] == "success", answer
        samples: list[dict[str, Any]] = answer["data"]["result"]
        return samples


@contextlib.contextmanager
def prometheus(folder: Path, servers: Sequence[Server]) -> Iterator[Prometheus]:
    """Prometheus over these servers, which it asks every second."""
    content = yaml.safe_load(CONFIGURATION.read_text())
    content["global"] = dict.fromkeys(content["global"], "1s")
    content["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}" for server in servers]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return http.get(f"{url}/-/ready", timeout=5).status_code == 200
        return False

    try:
        wait_until(ready)
        yield Prometheus(url)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
