"""What the tests in a browser share: a paper server that can be killed and started again, and somebody who asks it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT
from tests.support import http
from tests.support.server import START_TIMEOUT_S, free_port
from tests.support.waiting import wait_until

FEATURES = [
    {"name": "age", "type": "integer", "description": "years"},
    {"name": "plan", "type": "category", "levels": ["free", "team", 'it\'s "large"'], "nullable": True},
    {"name": "premium", "type": "boolean"},
    {"name": "spent", "type": "float", "nullable": True},
]
"""One of each type that a form asks for otherwise."""
CARD: dict[str, Any] = {
    "model": "paper",
    "format": 3,
    "features": FEATURES,
    "examples": {"rows": [[41.0, 1.0, 1.0, 12.5], [0.5, 0.0, 0.0, None]], "scores": [0.25, 0.1]},
}
ROW = {"age": 41, "plan": "team", "premium": True, "spent": 12.5}


@dataclass
class PaperServer:
    """A paper server at a port of its own, over a store that stays when it is killed."""

    folder: Path
    versions: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=lambda: CARD)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of every question of the test's own."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def names(self) -> list[str]:
        return [f"v{number}" for number in range(1, self.versions + 1)]

    def start(self) -> None:
        """Start it, and return when it is ready."""
        settings: dict[str, Any] = {
            "model": "paper",
            "versions": {name: {} for name in self.names},
            "environments": {
                "production": {"active": "v1", "weights": {"v1": 80, "v2": 20}, "strategy": "hash"},
                "staging": {"active": "v2", "weights": {"v2": 1}},
            },
            "store": f"sqlite:///{self.folder / 'routing.db'}",
            "log": {"share": 1, "show_values": True, "folder": str(self.folder / "log")},
            **self.settings,
        }
        wanted = {"folder": str(self.folder), "port": self.port, "settings": settings, "card": self.card}
        command = [sys.executable, "-m", "tests.browser.paper_server", json.dumps(wanted)]
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | self._own())
        log.close()
        wait_until(self._is_ready, START_TIMEOUT_S, look_every_s=0.25)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        headers = {**self.headers, **how.pop("headers", {})}
        return http.request(method, self.url + path, timeout=20, headers=headers, **how)

    def predict(self, count: int = 1, **how: Any) -> list[Any]:
        """What that many requests of different units are answered."""
        bodies = ({"instances": [ROW], "unit": f"user-{number}", **how} for number in range(count))
        return [self.ask("POST", "/v1/models/predict", json=body).json() for body in bodies]

    def _own(self) -> dict[str, str]:
        """Variables that keep all that it makes in its folder."""
        return {"TMPDIR": str(self.folder), "BENTOML_HOME": str(self.folder / "bentoml")}

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return self.ask("GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False
