"""`shokado status`, against real servers and a stand-in for a cluster that a real kubectl asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shokado.access.keys import Role, add_key
from shokado.cli.app import app
from tests.lifecycle.kubernetes_api import running
from tests.support import http
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(environment={"SHOKADO_WORKERS": "1", "BENTOML_HOME": str(models)}) as running:
        yield running


def run(*words: str, **variables: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["status", *words], env={"GATEWAY_KEY": "", "COLUMNS": "200", **variables})
    return done.exit_code, " ".join(done.output.split())


def both(server: Server) -> dict[str, str]:
    return {f"SHOKADO_SITES__{name}__URL": server.url for name in ("STAGING", "PRODUCTION")}


def test_all_environments_are_on_one_screen(server: Server) -> None:
    for _ in range(20):
        http.post(f"{server.url}/v1/models/predict", json={"instances": [ROW], "version": "v2"}, timeout=20)

    def is_told() -> bool:
        code, said = run(**both(server))
        assert code == 0, said
        assert f"staging {server.url} v2 is active, generation 1, random, 1 workers on 1 machine" in said
        assert f"production {server.url} v1 is active, generation 1, random" in said
        assert "v1 active 80 % ready 0.0" in said
        assert "v2 active 100 % ready" in said
        assert "too few rows models:/customers/2" in said
        # Workers tell each other their counts every five seconds.
        return "v2 20 % ready 0.0" not in said

    wait_until(is_told, 60, look_every_s=1)


def test_one_site_alone_and_an_experiment_with_its_verdict(server: Server) -> None:
    plan = {"metric": "error_rate", "smallest_effect": 0.1}
    begun = http.post(f"{server.url}/v1/experiments", json=plan, timeout=20)
    assert begun.status_code == 201, begun.text
    code, said = run("production", **both(server))
    assert (code, "staging" in said) == (0, False), said
    assert f"experiment {begun.json()['id']} of v2 against v1: RUNNING" in said
    http.post(f"{server.url}/v1/experiments/{begun.json()['id']}/stop", json={}, timeout=20)
    code, said = run("--url", server.url)
    assert (code, f"experiment {begun.json()['id']} of v2 against v1: STOPPED, ended 20" in said) == (0, True), said


def test_a_site_that_is_away_hides_no_other(server: Server) -> None:
    where = {**both(server), "SHOKADO_SITES__STAGING__URL": "http://127.0.0.1:9"}
    code, said = run(**where)
    assert code == 1
    assert "staging http://127.0.0.1:9 not seen: No gateway answers" in said
    assert "v1 active 80 % ready" in said


def test_pods_and_autoscaling_are_the_clusters(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "shokado-staging"
    with running(tmp_path / "kubeconfig") as cluster:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        cluster.add("deployments", where, "shokado-v1", spec={"replicas": 3}, status={"readyReplicas": 2})
        cluster.add("statefulsets", where, "shokado-redis", spec={"replicas": 1}, status={"readyReplicas": 1})
        cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
        now = {"name": "cpu", "current": {"averageUtilization": 31, "averageValue": "310m"}}
        cluster.add(
            "horizontalpodautoscalers", where, "shokado-v1",
            spec={
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shokado-v1"},
                "minReplicas": 1, "maxReplicas": 3, "metrics": [{"type": "Resource", "resource": cpu}],
            },
            status={"currentMetrics": [{"type": "Resource", "resource": now}]},
        )  # fmt: skip
        code, said = run("staging", **both(server), SHOKADO_SITES__STAGING__NAMESPACE=where)
        assert code == 0, said
        assert "shokado-v1 2 of 3 1 to 3, cpu 31 % of 70 %" in said
        assert "shokado-redis 1 of 1" in said
    code, said = run("staging", **both(server), SHOKADO_SITES__STAGING__NAMESPACE=where)
    assert (code, "not told:" in said, "v2 active 100 % ready" in said) == (0, True, True), said


@pytest.mark.slow
def test_who_may_only_predict_is_told_what_that_key_may_see(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    secret = add_key(file, "reader", Role.PREDICT)
    (tmp_path / "key").write_text(secret)
    settings = {"SHOKADO_ACCESS__KEYS_FILE": str(file), "SHOKADO_WORKERS": "1", "BENTOML_HOME": str(models)}
    with serving(environment=settings) as keyed:
        code, said = run("--url", keyed.url, "--key-file", str(tmp_path / "key"))
        assert code == 0, said
        assert "v1 active 80 % ready" in said
        assert "not told: The gateway wants an admin key" in said
        code, said = run("--url", keyed.url)
        assert (code, "not seen: The gateway wants" in said) == (1, True), said
        done = CliRunner().invoke(app, ["smoke-test", "--url", keyed.url, "--key-file", str(tmp_path / "key")])
        assert (done.exit_code, "all is well" in done.output) == (0, True), done.output
