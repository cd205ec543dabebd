"""The pods of production as processes on this machine, each with the variables, configuration and files that its pod
has: gateway, runners and Redis find each other, and only who has a key is answered."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from configuration.settings import FILE_VARIABLE
from shokado.access.keys import Role, add_key
from tests.k8s.cluster import Cluster, Pod
from tests.k8s.running_redis import PASSWORD, running_redis
from tests.support import http
from tests.support.redis_server import needs_redis
from tests.support.server import ROW, Server, serving, serving_side_by_side
from tests.support.waiting import wait_until

pytestmark = needs_redis


@dataclass(frozen=True)
class Site:
    """What runs, and the keys for it."""

    gateway: Server
    runners: Mapping[str, Server]
    admin: str
    predictor: str

    def predict(self, server: Server, key: str | None, **more: str) -> httpx.Response:
        headers = {"X-API-Key": key} if key else {}
        body = {"instances": [ROW], **more}
        return http.post(f"{server.url}/v1/models/predict", json=body, headers=headers, timeout=20)

    def split(self, key: str, **weights: float) -> int:
        """The status of an attempt to change it."""
        url, headers = f"{self.gateway.url}/v1/traffic-split", {"X-API-Key": key}
        return http.post(url, json=weights, headers=headers, timeout=20).status_code

    def answering(self) -> str:
        answer = self.predict(self.gateway, self.predictor)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["version"])


@pytest.fixture(scope="module")
def site(models: Path, production: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    keys = folder / "keys.yaml"
    predictor, admin = add_key(keys, "runner", Role.PREDICT), add_key(keys, "me", Role.ADMIN)
    secrets = {("shokado-keys", "keys.yaml"): keys.read_text(), ("shokado-keys", "runner-key"): predictor}
    with contextlib.ExitStack() as running:
        redis = running.enter_context(running_redis(production, folder))
        where = {"shokado-redis:6379": f"127.0.0.1:{redis.port}", "shokado-redis.password": PASSWORD}
        pods = production.component("runner")
        environments = [make(production, pod, folder / pod.name, secrets, where) for pod in pods]
        servers = running.enter_context(serving_side_by_side(*environments))
        runners = {pod.name: server for pod, server in zip(pods, servers, strict=True)}
        where |= {f"{name}:3000": f"127.0.0.1:{server.port}" for name, server in runners.items()}
        (pod,) = production.component("gateway")
        environment = make(production, pod, folder / pod.name, secrets, where)
        yield Site(running.enter_context(serving(environment=environment)), runners, admin, predictor)


def make(
    cluster: Cluster,
    pod: Pod,
    folder: Path,
    secrets: Mapping[tuple[str, str], str],
    where: Mapping[str, str],
) -> dict[str, str]:
    """Write the files of a pod into a folder of this machine, and give its variables; `where` replaces addresses."""
    moved = dict(where) | {path: str(folder / path.strip("/")) for path, _ in pod.mounted() if path != "/tmp"}

    def here(text: str) -> str:
        for there, replacement in moved.items():
            text = text.replace(there, replacement)
        return text

    for path in moved.keys() - where.keys():
        Path(here(path)).mkdir(parents=True)
    for path, text in cluster.configuration(pod).items():
        Path(here(path)).write_text(here(text))
    for path, secret in pod.files().items():
        Path(here(path)).write_text(secrets[secret])
    variables = {name: here(value) for name, value in pod.variables.items()}
    assert Path(variables[FILE_VARIABLE]).is_file()
    return variables | {"SHOKADO_WORKERS": "1"}


def test_gateway_runners_and_redis_serve_together(site: Site) -> None:
    assert site.answering() == "v1"
    for version in ("v1", "v2"):
        pinned = site.predict(site.gateway, site.predictor, version=version).json()
        direct = site.predict(site.runners[f"shokado-{version}"], site.predictor).json()
        assert (pinned["version"], pinned["reason"]) == (version, "PINNED")
        assert pinned["predictions"] == pytest.approx(direct["predictions"], abs=1e-6)

    assert site.predict(site.gateway, None).status_code == 401
    assert site.predict(site.runners["shokado-v1"], None).status_code == 401

    assert site.split(site.predictor, v1=0, v2=100) == 403
    assert site.split(site.admin, v1=0, v2=100) == 200
    wait_until(lambda: site.answering() == "v2")
    assert site.split(site.admin, v1=100, v2=0) == 200
    wait_until(lambda: site.answering() == "v1")

    store = http.get(f"{site.gateway.url}/readyz", timeout=20).json()["store"]
    assert store["status"] == "ok"
    assert store["name"].startswith("redis://127.0.0.1:")
    assert "durability" not in store


@pytest.mark.slow
def test_a_version_without_traffic_may_be_away(site: Site) -> None:
    # The last test: the runner stays away.
    site.runners["shokado-v2"].stop()
    assert site.answering() == "v1"
    assert http.get(f"{site.gateway.url}/readyz", timeout=20).status_code == 200
