"""Two real servers, staging and production, with a store each, over one real registry."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from typer.testing import CliRunner

from shokado.cli.app import app
from tests.support import http
from tests.support.server import Server, serving_side_by_side

QUICK = {"min_seconds": 0, "min_requests": 50, "p99_allowance_ms": 10_000, "experiment": None}
"""A canary that moves as soon as there are some requests."""


@dataclass
class Delivery:
    """The two servers, and the registry from which both load."""

    staging: Server
    production: Server
    registry: str
    policy: Path

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(tracking_uri=self.registry, registry_uri=self.registry)

    def register(self, of: str = "2", alias: str | None = None) -> int:
        """A further version of the model, which is what that one is; its number."""
        there = self.client.get_model_version("customers", of)
        made = self.client.create_model_version("customers", str(there.source), there.run_id)
        if alias is not None:
            self.client.set_registered_model_alias("customers", alias, made.version)
        return int(made.version)

    def name(self, alias: str, number: int) -> None:
        """Have the alias name that version."""
        self.client.set_registered_model_alias("customers", alias, str(number))

    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model("customers").aliases
        return {alias: int(version) for alias, version in found.items()}

    def split(self, server: Server, environment: str = "production") -> Any:
        where = {"X-Environment": environment}
        return http.get(f"{server.url}/v1/traffic-split", headers=where, timeout=20).json()

    def version(self, server: Server, name: str) -> Any:
        return http.get(f"{server.url}/v1/models/{name}", timeout=20).json()

    def reset(self) -> None:
        """Production as it began: v1 has all of the traffic."""
        body = {"weights": {"v1": 100}, "active": "v1", "strategy": "random", "shadow": None, "enabled": True}
        for server, environment in ((self.production, "production"), (self.staging, "staging")):
            answer = http.put(f"{server.url}/v1/traffic-split", json={**body, "environment": environment}, timeout=20)
            assert answer.status_code == 200, answer.text


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, " ".join(done.output.split())


@contextlib.contextmanager
def delivery(models: Path, folder: Path) -> Iterator[Delivery]:
    """Both servers are ready, and the commands find them, and the registry."""
    registry = folder / "mlflow.db"
    shutil.copy(models.parent / "mlflow.db", registry)
    environments = []
    for name in ("staging", "production"):
        home = folder / name
        for version in ("v1", "v2"):
            shutil.copytree(models / "models" / "customers" / version, home / "models" / "customers" / version)
        environments.append(
            {
                "BENTOML_HOME": str(home),
                "MLFLOW_TRACKING_URI": f"sqlite:///{registry}",
                "SHOKADO_WORKERS": "1",
                "SHOKADO_LOADING__TIMEOUT_S": "280",
                f"SHOKADO_ENVIRONMENTS__{name.upper()}__WEIGHTS": '{"v1": 100}',
                f"SHOKADO_ENVIRONMENTS__{name.upper()}__ACTIVE": "v1",
            }
        )
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(QUICK))
    with serving_side_by_side(*environments) as (staging, production), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry}")
        patch.setenv("BENTOML_HOME", str(folder / "own"))
        patch.setenv("SHOKADO_SITES__STAGING__URL", staging.url)
        patch.setenv("SHOKADO_SITES__PRODUCTION__URL", production.url)
        yield Delivery(staging, production, os.environ["MLFLOW_TRACKING_URI"], policy)
