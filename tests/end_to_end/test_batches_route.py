"""`/v1/batches` of a real server, which scores on Ray, and what becomes of a batch when the server is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dialects.cases import NAMES
from tests.end_to_end.test_batch import answers, customers, each_once
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.support import http
from tests.support.server import ROOT, Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 400


def settings(tmp_path: Path) -> dict[str, str]:
    command = tmp_path / "shokado"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {environment_of("batch").absolute()} -m shokado "$@"\n')
    command.chmod(0o755)
    return {
        "SHOKADO_BATCHES__INPUT": f'["{tmp_path}/data"]',
        "SHOKADO_BATCHES__OUTPUT": f'["{tmp_path}/scored"]',
        "SHOKADO_BATCHES__COMMAND": f'["{command}"]',
        "SHOKADO_BATCHES__FOLDER": str(tmp_path / "batches"),
        "SHOKADO_WORKERS": "2",
    }


def batch(server: Server, name: str) -> dict[str, Any]:
    answer = http.get(f"{server.url}/v1/batches/{name}", timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_batch_outlives_the_server_that_was_asked_for_it(models: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = customers(20_000)
    rows.to_parquet(tmp_path / "data" / "rows.parquet", row_group_size=100_000)
    body = {"input": f"{tmp_path}/data/rows.parquet", "output": f"{tmp_path}/scored/v1", "version": "v1"}
    with serving(environment=settings(tmp_path)) as server:
        answer = http.post(f"{server.url}/v1/batches", json=body, timeout=60)
        assert answer.status_code == 202, answer.text
        name = answer.json()["id"]
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(timeout=60)
    with serving(environment=settings(tmp_path)) as server:
        wait_until(lambda: batch(server, name)["state"] in ("succeeded", "failed"), PATIENCE_S)
        told = batch(server, name)
        log = (tmp_path / "batches" / name / "log.txt").read_text()
        assert (told["state"], told["error"], told["done"]) == ("succeeded", None, 20_000), log
        assert told["scored"] == {"v1": 20_000}
        found = each_once(tmp_path / "scored" / "v1", 20_000)
        expected = np.array(
            [one["score"] for one in answers(server, rows[:100][list(NAMES)], version="v1")], np.float32
        )
        # By the other engine, perhaps.
        np.testing.assert_allclose(found["score"][:100].to_numpy(np.float32), expected, atol=1e-5)
        again = http.post(f"{server.url}/v1/batches", json={**body, "version": "v2"}, timeout=60).json()["id"]
        wait_until(lambda: batch(server, again)["state"] == "failed", PATIENCE_S)
        assert "v1 was to score, and is not now" in batch(server, again)["error"]


def test_one_that_is_cancelled_goes_on_when_it_is_asked_for_again(models: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    customers(60_000).to_parquet(tmp_path / "data" / "rows.parquet", row_group_size=100)
    body = {"input": f"{tmp_path}/data", "output": f"{tmp_path}/scored", "split": True}
    with serving(environment=settings(tmp_path)) as server:
        name = http.post(f"{server.url}/v1/batches", json=body, timeout=60).json()["id"]
        wait_until(lambda: batch(server, name)["state"] == "running", PATIENCE_S)
        cancelled = http.post(f"{server.url}/v1/batches/{name}/cancel", json={}, timeout=60).json()
        assert cancelled["state"] == "cancelled"
        again = http.post(f"{server.url}/v1/batches", json=body, timeout=60).json()["id"]
        wait_until(lambda: batch(server, again)["state"] in ("succeeded", "failed"), PATIENCE_S)
        told = batch(server, again)
        assert (told["state"], told["done"]) == ("succeeded", 60_000), told
        assert set(told["scored"]) == {"v1", "v2"}
    each_once(tmp_path / "scored", 60_000)
