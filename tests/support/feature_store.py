"""Real Feast repositories, and transformers over them, in the environment that `make clients` makes for it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import yaml

from tests.end_to_end.test_open_inference_clients import environment_of
from tests.support.server import ROOT, free_port
from tests.support.waiting import wait_until

START_S = 120


def run(
    *command: str, cwd: Path = ROOT, status: int = 0, program: str = "python"
) -> "subprocess.CompletedProcess[str]":
    """A command of that environment, with this checkout's sources."""
    done = subprocess.run(
        [environment_of("features").with_name(program), *command],
        cwd=cwd, env=_environment(), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def shokado(*command: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """`shokado features` as it is typed there."""
    return run("-m", "shokado", "features", *command, status=status)


def feast(folder: Path, *command: str) -> None:
    run("--chdir", str(folder), *command, program="feast")


def example_repository(folder: Path, online_store: dict[str, str] | None = None) -> pd.DataFrame:
    """The example, with this online store in place of SQLite, applied and materialized; returns its customers by id."""
    shokado("example", str(folder))
    if online_store is not None:
        path = folder / "feature_store.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "online_store": online_store}))
    feast(folder, "apply")
    shokado("materialize", "--repo", str(folder))
    return pd.read_parquet(folder / "data" / "customers.parquet").set_index("customer_id")


@dataclass
class RunningTransformer:
    """A transformer that can be ended, paused and started again at its address."""

    folder: Path
    service: str
    url: str
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Returns when it is ready."""
        where = ["--socket", self.url.removeprefix("unix:")]
        if not self.url.startswith("unix:"):
            where = ["--port", self.url.rpartition(":")[2]]
        command = ["-m", "shokado", "features", "serve", "--repo", str(self.folder), "--service", self.service, *where]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [environment_of("features"), *command], cwd=ROOT, env=_environment(), stdout=log, stderr=log
            )
        wait_until(self._is_ready, START_S)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def client(self) -> httpx.Client:
        if self.url.startswith("unix:"):
            transport = httpx.HTTPTransport(uds=self.url.removeprefix("unix:"))
            return httpx.Client(base_url="http://transformer", transport=transport, timeout=20)
        return httpx.Client(base_url=self.url, timeout=20)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError), self.client() as client:
            return client.get("/readyz").status_code == 200
        return False


@contextlib.contextmanager
def transforming(folder: Path, service: str, url: str | None = None) -> Iterator[RunningTransformer]:
    """A transformer over the repository, until the context is left."""
    url = url or f"http://127.0.0.1:{free_port()}"
    found = RunningTransformer(folder, service, url, folder / f"transformer-{service}.log")
    try:
        found.start()
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
