"""A rollout as in a cluster, without one: a gateway, and each version in a server of its own that it reaches remotely.

The canary goes from 10 % to all under load; and again, with a runner that fails at 10 %. No client notices either.
"""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from shokado.cli.app import app
from shokado.lifecycle.rollout import canary as rollout_canary
from tests.end_to_end.closed_loop import ClosedLoop, load
from tests.support import http
from tests.support.raw_http import request
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
CLIENTS = 4
# How fast a machine is, and two processors for four servers, is nothing that this looks at.
POLICY = {
    "min_seconds": 7, "min_requests": 100, "max_seconds": 120, "max_p99_ratio": 1000, "p99_allowance_ms": 10_000,
    "experiment": {"metric": "error_rate", "smallest_effect": 0.05},
}  # fmt: skip


def write(file: Path, content: Any) -> Path:
    file.write_text(yaml.safe_dump(content))
    return file


@contextmanager
def runner_of(version: str, folder: Path) -> Iterator[Server]:
    """A server with one version."""
    only = {"active": version, "weights": {version: 1}}
    environments = {"production": only}
    content = {"model": "customers", "workers": 1, "versions": {version: {}}, "environments": environments}
    with serving(environment={"SHOKADO_CONFIG": str(write(folder / f"{version}.yaml", content))}) as running:
        yield running


@contextmanager
def gateway_of(runners: dict[str, Server], folder: Path) -> Iterator[Server]:
    """A gateway with two workers; the first version is the active one, and has everything."""
    placed = {
        version: {"placement": "remote", "remote": {"url": runner.url, "timeout_s": 1}}
        for version, runner in runners.items()
    }
    active, *others = runners
    weights = {active: 100} | dict.fromkeys(others, 0)
    environments = {"production": {"active": active, "weights": weights}}
    content = {"model": "customers", "workers": 2, "versions": placed, "environments": environments}
    with serving(environment={"SHOKADO_CONFIG": str(write(folder / "gateway.yaml", content))}) as running:
        yield running


@contextmanager
def processes_of(runner: Server) -> Iterator[list[int]]:
    """Those of a server, whose workers have sessions of their own; all are killed in the end, stopped ones as well."""
    processes = [runner.process.pid, *runner.workers()]
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def first(models: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The runner of v1."""
    with runner_of("v1", tmp_path_factory.mktemp("first")) as running:
        yield running


def predict(number: int) -> bytes:
    return request(json.dumps({"instances": [ROW]}).encode())


def canary(gateway: Server, folder: Path, **changes: Any) -> int:
    """`shokado canary run v2` by the policy, but for what is to be otherwise, and its exit status."""
    policy = write(folder / "policy.yaml", POLICY | changes)
    result = CliRunner().invoke(app, ["canary", "run", "v2", "--url", gateway.url, "--policy", str(policy)])
    print(result.output)
    return result.exit_code


def history(gateway: Server) -> list[tuple[dict[str, float], str]]:
    """Shares and reason of each generation, oldest first."""
    entries = http.get(f"{gateway.url}/v1/traffic-split/history", timeout=20).json()["entries"]
    return [(entry["environments"]["production"]["shares"], entry["why"]) for entry in reversed(entries)]


def answered_by(clients: ClosedLoop) -> Counter[tuple[str, str]]:
    """Answers by version and reason. Every request has been answered, with a prediction."""
    assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}
    return Counter((answer.json["version"], answer.json["reason"]) for answer in clients.answers)


def test_a_version_is_rolled_out_under_load(first: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of some seconds: how long they last is nothing that this looks at.
    monkeypatch.setattr(rollout_canary, "LOOK_EVERY_S", 1.0)
    with (
        runner_of("v2", tmp_path) as second,
        gateway_of({"v1": first, "v2": second}, tmp_path) as gateway,
    ):
        with load(gateway, CLIENTS, predict) as clients:
            assert canary(gateway, tmp_path, min_seconds=2) == 0
            clients.wait_for_answers(20)
        answers = answered_by(clients)
        now = http.get(f"{gateway.url}/v1/traffic-split", timeout=20).json()
        # The beginning and the end of the experiment change no shares.
        shares = [shares for shares, why in history(gateway) if why.startswith(("canary of v2 p", "canary of v2 b"))]
    assert set(answers) == {("v1", "SPLIT"), ("v2", "SPLIT")}
    assert (now["active"], now["shares"]) == ("v2", {"v2": 1.0})
    assert shares == [{"v1": 0.9, "v2": 0.1}, {"v1": 0.5, "v2": 0.5}, {"v2": 1.0}, {"v2": 1.0}]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGSTOP, id="hanging"),  # it keeps its connections, and answers nothing
    ],
)
def test_a_version_that_fails_at_ten_percent_is_taken_back(how: signal.Signals, first: Server, tmp_path: Path) -> None:
    with (
        runner_of("v2", tmp_path) as second,
        processes_of(second) as processes,
        gateway_of({"v1": first, "v2": second}, tmp_path) as gateway,
        load(gateway, CLIENTS, predict) as clients,
    ):

        def fail_when_it_answers() -> None:
            wait_until(lambda: gateway.metric("shokado_requests_total", version="v2") >= 50, 60)
            for process in processes:
                os.kill(process, how)

        failing = threading.Thread(target=fail_when_it_answers)
        failing.start()
        # An experiment would find it as well, and whoever is first says why.
        assert canary(gateway, tmp_path, experiment=None) == 1
        failing.join()
        clients.wait_for_answers(20)
        now = http.get(f"{gateway.url}/v1/traffic-split", timeout=20).json()
        shares, reasons = zip(*history(gateway), strict=True)
        clients.stop()
        fallen_back = answered_by(clients)["v1", "FALLBACK"]
        assert fallen_back > 0
        # Every request that v2 did not answer counts against it.
        wait_until(lambda: gateway.metric("shokado_errors_total", version="v2", kind="fell_back") == fallen_back)
    assert (now["active"], now["shares"]) == ("v1", {"v1": 1.0})
    assert shares == ({"v1": 1.0}, {"v1": 0.9, "v2": 0.1}, {"v1": 1.0})
    assert reasons[-1].startswith("canary of v2 failed at 10 %: ")
    assert "fallbacks in" in reasons[-1]
