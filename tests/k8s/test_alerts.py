"""Alerts and scaling: what they look at is measured by a running bundle, and each alert fires when it should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from k8s.validate import FOLDER
from tests.k8s.cluster import Cluster
from tests.support import http
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until
from tests.tools import needs

needs_promtool = needs("promtool")
ERRORS = (
    'shokado_errors_total{namespace="shokado-production",job="shokado-gateway",version="v2",kind="%s",fault="server"}'
)
CLIENTS_ERRORS = (
    'shokado_errors_total{namespace="shokado-production",job="shokado-gateway",version="none",kind="%s",fault="client"}'
)
ANSWERED = 'shokado_requests_total{namespace="shokado-production",job="shokado-gateway",version="v2"}'
LATENCY = 'shokado_latency_seconds_bucket{namespace="shokado-production",job="shokado-gateway",version="v2",le="%s"}'
GATEWAY = '{namespace="shokado-production",job="shokado-gateway",pod="%s"}'
DRIFTED = (
    'shokado_drift_columns{namespace="shokado-production",job="shokado-gateway",pod="a",version="v2",window="hour",'
    'verdict="%s"}'
)
REMOTE_UP = 'shokado_remote_up{namespace="shokado-production",job="shokado-gateway",version="v2"}'
VERDICT = (
    'shokado_experiment_verdict{namespace="shokado-production",job="shokado-gateway",pod="%s",environment="production",'
    'verdict="%s"}'
)
LOG_DROPPED = (
    'shokado_log_dropped_rows_total{namespace="shokado-production",job="shokado-gateway",pod="a",version="v2"}'
)
SPANS = 'shokado_trace_spans_total{namespace="shokado-production",job="shokado-gateway",pod="a",outcome="%s"}'
EXPLANATIONS = (
    'shokado_explanation_seconds_bucket{namespace="shokado-production",job="shokado-gateway",version="v2",le="%s"}'
)

HEALTHY = {
    "up" + GATEWAY % "a": "1x60",
    ANSWERED: "0+6000x60",
    ERRORS % "internal": "0+1x60",
    CLIENTS_ERRORS % "malformed_body": "0+6000x60",
    ERRORS % "overloaded": "0x60",
    LATENCY % "0.25": "0+6000x60",
    LATENCY % "+Inf": "0+6000x60",
    "shokado_store_up" + GATEWAY % "a": "1x60",
    "shokado_rates_store_up" + GATEWAY % "a": "1x60",
    "shokado_keys_file_ok" + GATEWAY % "a": "1x60",
    REMOTE_UP: "1x60",
    VERDICT % ("a", "INVALID"): "0x60",
    VERDICT % ("a", "ROLLBACK"): "1x60",
    DRIFTED % "drift": "0x60",
    DRIFTED % "too few rows": "11x60",
    "shokado_log_ship_lag_seconds" + GATEWAY % "a": "20x60",
    LOG_DROPPED: "0x60",
    "shokado_log_unsent_segments_total" + GATEWAY % "a": "0x60",
    SPANS % "sent": "0+6000x60",
    SPANS % "dropped": "0x60",
    SPANS % "lost": "0+6x60",
    "shokado_refused_explanations_total" + GATEWAY % "a": "0+1x60",
    EXPLANATIONS % "2.5": "0+60x60",
    EXPLANATIONS % "10": "0+60x60",
    EXPLANATIONS % "+Inf": "0+60x60",
    "shokado_generation" + GATEWAY % "a": "7x60",
    "shokado_generation" + GATEWAY % "b": "7x60",
}
"""Series by minute, in promtool's words."""
FAULTS: dict[str, dict[str, str]] = {
    "ShokadoDown": {"up" + GATEWAY % "a": "_x60"},
    "ShokadoPodDown": {"up" + GATEWAY % "b": "0x60"},
    "ShokadoErrors": {ERRORS % "internal": "0+300x60"},
    "ShokadoRefuses": {ERRORS % "overloaded": "0+600x60"},
    "ShokadoSlow": {LATENCY % "0.25": "0+5900x60", LATENCY % "2.5": "0+6000x60"},
    "ShokadoStoreAway": {"shokado_store_up" + GATEWAY % "a": "0x60"},
    "ShokadoGenerationsDiffer": {"shokado_generation" + GATEWAY % "b": "6x60"},
    "ShokadoRatesStoreAway": {"shokado_rates_store_up" + GATEWAY % "a": "0x60"},
    "ShokadoKeysFileUnusable": {"shokado_keys_file_ok" + GATEWAY % "a": "0x60"},
    "ShokadoDrift": {DRIFTED % "drift": "0x10 2x50"},
    "ShokadoExperimentInvalid": {VERDICT % ("b", "INVALID"): "0x10 1x50"},
    "ShokadoVersionAway": {REMOTE_UP: "0x60"},
    "ShokadoLogBehind": {"shokado_log_ship_lag_seconds" + GATEWAY % "a": "0+120x60"},
    "ShokadoLogLost": {LOG_DROPPED: "0+10x60"},
    "ShokadoSpansLost": {SPANS % "dropped": "0+100x60"},
    "ShokadoExplanationsRefused": {"shokado_refused_explanations_total" + GATEWAY % "a": "0+60x60"},
    "ShokadoExplanationsSlow": {EXPLANATIONS % "2.5": "0+54x60"},
}


def rules(cluster: Cluster) -> list[dict[str, Any]]:
    (group,) = cluster.named("PrometheusRule", "shokado")["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.fixture
def server(models: Path) -> Iterator[Server]:
    """A gateway, one of whose versions is nowhere to be found."""
    remote = {"placement": "remote", "remote": {"url": "http://127.0.0.1:1"}}
    environment = {
        "SHOKADO_WORKERS": "1",
        "SHOKADO_VERSIONS__V2": json.dumps(remote),
        "SHOKADO_TRACING__ENDPOINT": "http://127.0.0.1:1",
    }
    with serving(environment=environment, away=["v2"]) as running:
        yield running


@pytest.fixture
def measured(server: Server) -> set[str]:
    """The names of all samples of a bundle that has answered a request, refused one, and explained one."""
    for instances, status in (([ROW], 200), ([[1.0]], 422)):
        answer = http.post(f"{server.url}/v1/models/predict", json={"instances": instances}, timeout=20)
        assert answer.status_code == status
    explained = http.post(f"{server.url}/v1/models/explain", json={"instances": [ROW], "version": "v1"}, timeout=20)
    assert explained.status_code == 200, explained.text
    wait_until(lambda: server.metric("shokado_errors_total") and server.metric("shokado_requests_total"))
    wait_until(lambda: server.metric("shokado_explained_rows_total"))
    wait_until(lambda: server.metric("shokado_drift_columns"), 90)
    # All of them are 0 while there is no experiment.
    wait_until(lambda: "shokado_experiment_verdict{" in http.get(f"{server.url}/metrics", timeout=20).text, 90)
    text = http.get(f"{server.url}/metrics", timeout=20).text
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_every_metric_is_one_that_the_bundle_has(monitored: Cluster, keda: Cluster, measured: set[str]) -> None:
    adapter = (FOLDER / "components" / "hpa-inflight" / "adapter-rules.yaml").read_text()
    (rule,) = yaml.safe_load(adapter)["rules"]["custom"]
    named = [
        *(rule["expr"] for rule in rules(monitored)),
        *(scaled["spec"]["triggers"][1]["metadata"]["query"] for scaled in keda.of("ScaledObject")),
        rule["seriesQuery"],
    ]
    names = {name for text in named for name in re.findall(r"\bshokado_\w+", text)}
    assert "shokado_in_flight" in names
    assert names <= measured


def test_every_kind_of_error_is_one_that_the_bundle_has(monitored: Cluster) -> None:
    kinds = {
        kind
        for rule in rules(monitored)
        for choice in re.findall(r'kind[=!]~?"([^"]+)"', rule["expr"])
        for kind in choice.split("|")
    }
    files = ("dialects/error_codes.py", "dispatch/fault.py")
    code = "".join((FOLDER.parent / "shokado" / name).read_text() for name in files)
    assert kinds
    for kind in kinds:
        assert f'"{kind}"' in code


def test_replicas_are_scaled_by_the_metric_that_the_adapter_gives(monitored: Cluster) -> None:
    adapter = (FOLDER / "components" / "hpa-inflight" / "adapter-rules.yaml").read_text()
    (rule,) = yaml.safe_load(adapter)["rules"]["custom"]
    for scaler in monitored.of("HorizontalPodAutoscaler"):
        processor, in_flight = scaler["spec"]["metrics"]
        assert processor["resource"]["name"] == "cpu"
        assert in_flight["pods"]["metric"]["name"] == rule["name"]["as"]


def promtool(*arguments: str | Path) -> None:
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def series(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": value} for name, value in values.items()]


@needs_promtool
def test_each_alert_fires_at_its_fault_and_at_no_other(monitored: Cluster, tmp_path: Path) -> None:
    assert [rule["alert"] for rule in rules(monitored)] == list(FAULTS)
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(monitored.named("PrometheusRule", "shokado")["spec"]))
    promtool("check", "rules", file)
    cases = [
        {
            "interval": "1m",
            "input_series": series(HEALTHY | fault),
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "30m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if fault else [],
                }
            ],
        }
        for alert, fault in [*FAULTS.items(), ("", {})]
    ]
    tests = tmp_path / "tests.yaml"
    tests.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}))
    promtool("test", "rules", tests)
