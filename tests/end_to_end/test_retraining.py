"""Retraining on real servers of two workers: a receiver is told once, whatever happens to the workers."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shokado.lifecycle.datasets import generate_customers
from tests.end_to_end.test_drift import SETTINGS as WATCHING
from tests.end_to_end.test_drift import ask as score
from tests.end_to_end.test_drift import is_watching
from tests.end_to_end.test_experiment_verdicts import asked, begin, ended, reward
from tests.end_to_end.test_routing import get
from tests.request_log.sinks.receiver import Receiver, receiving
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("models"), pytest.mark.timeout(600)]
SETTINGS = {
    "SHOKADO_RETRAINING__LOOK_EVERY_S": "0.2",
    "SHOKADO_RETRAINING__DRIFT_HOLD_S": "0",
    "SHOKADO_RETRAINING__MIN_INTERVAL_S": "0",
    "SHOKADO_RETRAINING__RETRY_S": "0.1",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def told(receiver: Receiver) -> list[Any]:
    return [json.loads(body) for body in receiver.bodies]


def events(server: Server) -> list[Any]:
    found: list[Any] = get(server, "/ab-test/status")["retraining"]
    return found


def shifted(rows: int) -> np.ndarray:
    found = generate_customers(rows, seed=78)[0].copy()
    found[:, 0] = np.minimum(found[:, 0] + 25, 100)
    return found


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_drift_is_told_once_though_workers_are_killed(receiver: Receiver, tmp_path: Path, kind: str) -> None:
    settings = {**WATCHING, **SETTINGS, "SHOKADO_RETRAINING__WEBHOOK": receiver.url}
    receiver.script = [(503, {})]
    with RedisServer(tmp_path / "redis") as redis:
        store = redis.url if kind == "redis" else f"sqlite:///{tmp_path}/store.db"
        with serving(environment=settings | {"SHOKADO_STORE": store}) as server:
            wait_until(lambda: all(is_watching(server) for _ in range(20)), 60)
            score(server, shifted(1_500))
            wait_until(lambda: [one["status"] for one in events(server)] == ["done"], 60)
            first, again = told(receiver)
            assert first == again, "it was refused once"
            assert (first["type"], first["data"]["version"], first["data"]["cause"]) == (
                "retraining.wanted",
                "v1",
                "drift",
            )
            assert "age" in first["data"]["reason"]
            (event,) = events(server)
            assert (event["id"], event["attempts"], event["version"]) == (first["id"], 2, "v1")
            wait_until(lambda: server.metric("shokado_retraining_attempts_total", cause="drift", outcome="done") == 1)
            for worker in server.workers():
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: is_watching(server), 60)
            score(server, shifted(500))
            # Some dozens of looks.
            wait_until(lambda: all(is_watching(server) for _ in range(100)), 60)
        with serving(environment=settings | {"SHOKADO_STORE": store}) as server:
            wait_until(lambda: is_watching(server), 60)
            score(server, shifted(500))
            assert [one["id"] for one in events(server)] == [first["id"]]
    assert len(receiver.bodies) == 2


def test_a_guardrail_that_is_broken_is_told(receiver: Receiver) -> None:
    settings = {**SETTINGS, "SHOKADO_WORKERS": "2", "SHOKADO_RETRAINING__WEBHOOK": receiver.url}
    with serving(environment=settings) as server:
        rails = [{"metric": "reward", "margin": 0.1}]
        plan = {"metric": "latency", "smallest_effect": 1000, "guardrails": rails, "max_duration_s": 8000}
        experiment = begin(server, split={"strategy": "hash"}, **plan)
        answers = asked(server, 200)
        assert reward(server, answers, {"v1": 1.0, "v2": 0.0}) == 200
        found = ended(server, experiment)
        assert found["verdict"] == "ROLLBACK", found["reason"]
        wait_until(lambda: [one["status"] for one in events(server)] == ["done"], 60)
        (event,) = told(receiver)
        assert event["data"]["version"] == "v2"
        assert (event["data"]["cause"], event["data"]["environment"]) == ("guardrail", "production")
        assert experiment in event["data"]["reason"]


def test_a_command_is_started_once_and_its_failure_is_told(tmp_path: Path) -> None:
    program = (
        f"import sys; open({str(tmp_path / 'runs')!r}, 'a').write(sys.stdin.read() + chr(10)); sys.exit('no data')"
    )
    settings = {
        **WATCHING,
        **SETTINGS,
        "SHOKADO_RETRAINING__COMMAND": json.dumps([sys.executable, "-c", program]),
        "SHOKADO_RETRAINING__MAX_ATTEMPTS": "2",
    }
    with serving(environment=settings) as server:
        wait_until(lambda: all(is_watching(server) for _ in range(20)), 60)
        score(server, shifted(1_500))
        wait_until(lambda: [one["status"] for one in events(server)] == ["failed"], 60)
        (event,) = events(server)
        assert (event["attempts"], event["note"]) == (2, f"{sys.executable} ended with 1: no data")
        runs = [json.loads(line) for line in (tmp_path / "runs").read_text().splitlines()]
        assert len(runs) == 2
        assert runs[0] == runs[1]
        assert runs[0]["id"] == event["id"]
        wait_until(lambda: server.metric("shokado_retraining_attempts_total", cause="drift", outcome="failed") == 1)


def test_without_a_webhook_and_a_command_there_are_no_events(server: Server) -> None:
    assert events(server) == []
