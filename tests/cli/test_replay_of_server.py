"""A replay of a real server's log, against a version of it and against the same one of the store: both say the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shokado.access.keys import Role, add_key
from shokado.client import Client, FeedbackEntry
from shokado.lifecycle.datasets import generate_customers
from shokado.request_log.logged_rows import feedback_in, rows_in
from tests.conftest import PLACES
from tests.support.server import ROOT, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("models")]
REQUESTS = 300


def replay(target: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "shokado", "replay", str(target), "--against", "v2", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **PLACES, "COLUMNS": "200"},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


def ask(client: Client) -> list[tuple[str, int, float, float]]:
    """Rows that the split has answered: the version, the label, its score, and the score of v2, asked for besides."""
    rows, labels = generate_customers(3 * REQUESTS, seed=11)
    answered: list[tuple[str, int, float, float]] = []
    said = []
    for number in range(REQUESTS):
        # Some of one row, some of three.
        part = slice(3 * number, 3 * number + 1 + 2 * (number % 2))
        answer = client.predict(rows[part], unit=f"user-{number % 150}")
        asked = client.predict(rows[part].tolist(), version="v2", request_id=f"shokado-replay-own-{number}")
        pairs = zip(labels[part].tolist(), answer.predictions, asked.predictions, strict=True)
        answered += [(answer.version, label, before, after) for label, before, after in pairs]
        said += [FeedbackEntry(answer.prediction_id, at, int(one)) for at, one in enumerate(labels[part])]
    assert client.feedback_batch(said).accepted == len(answered)
    return answered


def groups(report: Any, by: str) -> dict[str, Any]:
    (table,) = [table for table in report["tables"] if table["by"] == by]
    return {group["group"]: group for group in table["groups"]}


def test_what_a_version_would_have_answered_is_what_it_answers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    keys, key_file = tmp_path / "keys.yaml", tmp_path / "key"
    key_file.write_text(add_key(keys, "ci", Role.PREDICT))
    environment = {
        **PLACES,
        "SHOKADO_WORKERS": "1",
        "SHOKADO_LOG__SHARE": "1",
        "SHOKADO_LOG__FOLDER": str(log),
        "SHOKADO_LOG__FLUSH_S": "0.05",
        "SHOKADO_ACCESS__KEYS_FILE": str(keys),
    }
    with serving(environment=environment) as server:
        with Client(server.url, key=key_file.read_text()) as client:
            answered = ask(client)
        wait_until(lambda: len(list(feedback_in(log))) == len(answered), 60)
        wait_until(lambda: len(list(rows_in(log))) == 2 * len(answered), 60)

        refused = replay(tmp_path / "none", "--log", str(log), "--url", server.url)
        assert refused.returncode == 2
        assert "The server wants a key" in refused.stderr
        options = ("--log", str(log), "--by", "region", "--max-errors", "0.03", "--max-disagreement", "0.0001")
        of_server = ("--url", server.url, "--key-file", str(key_file), "--rate", "300")
        served = replay(tmp_path / "served", *options, *of_server, "--max-p95-ms", "30000")
        assert served.returncode == 1, served.stdout + served.stderr
        again = replay(tmp_path / "again", "--log", str(log), "--version", "v1", "--most", "50", *of_server)
        assert again.returncode == 0, again.stderr
    stored = replay(tmp_path / "stored", *options)
    assert stored.returncode == 1, stored.stderr

    found, alone = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("served", "stored"))
    before, after = np.array([one[2] for one in answered]), np.array([one[3] for one in answered])
    right = np.array([one[1] for one in answered])
    for report in (found, alone):
        overall = report["overall"]
        assert (overall["requests"], overall["rows"], overall["failed"]) == (REQUESTS, len(answered), 0)
        assert overall["units"] == 150
        assert overall["shifts"]["score"]["value"] == pytest.approx((after - before).mean(), abs=1e-6)
        assert overall["difference"]["value"] == pytest.approx(np.abs(after - before).mean(), abs=1e-6)
        assert overall["disagreement"]["value"] == pytest.approx(((after > 0.5) != (before > 0.5)).mean())
        assert overall["quality"]["candidate"] == pytest.approx(((after > 0.5) == right).mean())
        assert overall["quality"]["original"] == pytest.approx(((before > 0.5) == right).mean())
        by_version = groups(report, "version")
        assert by_version["v2"]["difference"]["value"] < 1e-6, "what it has answered it answers again"
        assert by_version["v1"]["rows"] == sum(one[0] == "v1" for one in answered)
        assert sum(group["rows"] for group in groups(report, "region").values()) == len(answered)
        assert {one["reason"]: one["requests"] for one in report["left_out"]}["an earlier replay sent it"] >= REQUESTS
    assert [finding["verdict"] for finding in found["findings"]] == ["FAIL", "PASS", "PASS"]
    assert found["overall"]["candidate_latency"]["p95"] > 0
    assert found["overall"]["p95_ms"]["low"] <= found["overall"]["candidate_latency"]["p95"]
    assert alone["overall"]["candidate_latency"] is None
    page = (tmp_path / "served" / "report.html").read_text()
    assert all(f"<h3>{title}" in page for title in ("Scores", "Differences", "Row by row", "Latency"))
