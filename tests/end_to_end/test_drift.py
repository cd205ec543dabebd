"""Drift of a real server: rows like those of the training are alike, shifted ones are not, and workers are added up."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shokado.lifecycle.datasets import generate_customers
from tests.support import http
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("models")]
SETTINGS = {
    "SHOKADO_WORKERS": "2",
    "SHOKADO_DRIFT__FLUSH_S": "0.05",
    # All are counted, and none is drawn, however many one worker answers between two flushes.
    "SHOKADO_DRIFT__ROWS_PER_FLUSH": "100000",
}
PINNED = {"X-Model-Version": "v1", "Connection": "close"}


def ask(server: Server, rows: np.ndarray) -> None:
    """Ask v1 for so many rows, over connections that either worker may take."""
    for start in range(0, len(rows), 250):
        body = {"instances": rows[start : start + 250].tolist()}
        answer = http.post(f"{server.url}/v1/models/predict", json=body, headers=PINNED, timeout=60)
        assert answer.status_code == 200, answer.text


def drift(server: Server, window: str = "hour", version: str = "v1") -> Any:
    answer = http.get(f"{server.url}/v1/drift/{version}", params={"window": window}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_watching(server: Server) -> bool:
    """Whether a worker answers, and counts; a connection waits where none listens yet."""
    with contextlib.suppress(httpx.TransportError):
        answer = http.get(f"{server.url}/v1/drift/v1", timeout=20)
        return answer.status_code == 200 and answer.json()["verdict"] != "not watched"
    return False


def counted(server: Server, rows: int) -> Any:
    """What is told once so many rows are counted."""
    wait_until(lambda: drift(server)["rows"] >= rows, 60, 0.2)
    found = drift(server)
    assert found["rows"] == rows
    return found


def test_what_the_cache_answers_counts_as_often_as_it_is_asked() -> None:
    with serving(environment={**SETTINGS, "SHOKADO_WORKERS": "1", "SHOKADO_CACHE__BACKEND": "memory"}) as server:
        wait_until(lambda: is_watching(server), 60)
        rows, _ = generate_customers(60, seed=79)
        for row in rows:
            ask(server, row[None])
        first = counted(server, 60)
        for _ in range(4):
            for row in rows:
                ask(server, row[None])
        found = counted(server, 300)
        wait_until(lambda: server.metric("shokado_cache_requests_total", version="v1", outcome="hit") == 240)
        for name, column in found["features"].items():
            before = first["features"][name]["cells"]
            assert [one["served"] for one in column["cells"]] == pytest.approx([one["served"] for one in before]), name


def test_shifted_rows_are_drift_of_that_feature_alone() -> None:
    with serving(environment=SETTINGS) as server:
        alike, _ = generate_customers(1_500, seed=77)
        # Rows that come before a worker has read the reference are not counted; connections find either worker.
        wait_until(lambda: all(is_watching(server) for _ in range(20)), 60)
        ask(server, alike[:50])
        few = counted(server, 50)
        assert few["verdict"] == "too few rows"
        assert {column["verdict"] for column in few["features"].values()} == {"too few rows"}
        ask(server, alike[50:])
        same = counted(server, 1_500)
        assert (same["verdict"], same["drifted"], same["note"]) == ("none", [], "")
        assert list(same["scores"]) == ["score"]
        assert same["reference"]["rows"] == 16_000
        shifted, _ = generate_customers(1_500, seed=78)
        shifted = shifted.copy()
        shifted[:, 0] = np.minimum(shifted[:, 0] + 25, 100)
        ask(server, shifted)
        found = counted(server, 3_000)
        features = {name: column["verdict"] for name, column in found["features"].items()}
        assert [name for name, verdict in features.items() if verdict != "none"] == ["age"]
        assert "age" in found["drifted"]
        assert found["features"]["age"]["psi"]["low"] > 0.1
        assert drift(server, "day", "a")["rows"] == 3_000
        wait_until(lambda: server.metric("shokado_drift_rows", version="v1", window="hour") == 3_000, 60, 0.5)
        wait_until(lambda: server.metric("shokado_drift_columns", version="v1", verdict="drift", window="hour") > 0, 60)
        low = server.metric("shokado_drift_psi", version="v1", kind="feature", column="age", bound="low")
        assert low == pytest.approx(found["features"]["age"]["psi"]["low"])


def test_a_killed_worker_loses_what_it_had_not_added(tmp_path: Path) -> None:
    store = {"SHOKADO_STORE": f"sqlite:///{tmp_path / 'routing.db'}", "SHOKADO_WORKERS": "1"}
    with serving(environment=SETTINGS | store) as server:
        wait_until(lambda: is_watching(server), 60, 0.2)
        rows = np.array([ROW] * 40)
        ask(server, rows)
        counted(server, 40)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.workers() not in ([], [worker]), 60)
        wait_until(lambda: is_watching(server), 60, 0.2)
        counted(server, 40)
        ask(server, rows)
        counted(server, 80)
    with serving(environment=SETTINGS | store | {"SHOKADO_DRIFT__FLUSH_S": "300"}) as server:
        wait_until(lambda: is_watching(server), 60, 0.2)
        ask(server, rows)
        assert drift(server)["rows"] == 80, "it is added when it is flushed"
    with serving(environment=SETTINGS | store) as server:
        wait_until(lambda: is_watching(server), 60, 0.2)
        counted(server, 120)


def test_drift_is_off_where_it_is_switched_off() -> None:
    with serving(environment={"SHOKADO_WORKERS": "1", "SHOKADO_DRIFT__ENABLED": "false"}) as server:
        found = drift(server)
        assert (found["verdict"], found["note"]) == ("not watched", "drift.enabled is false")
        answer = http.get(f"{server.url}/v1/drift/v1?window=week", timeout=20)
        assert answer.status_code == 422
        assert "window" in answer.json()["error"]["message"]
        assert http.get(f"{server.url}/v1/drift/v9", timeout=20).status_code == 404
