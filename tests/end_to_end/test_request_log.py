"""The request log of a real server: what was asked through any dialect is in it, also after a kill."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from shokado.request_log.logged_rows import LoggedRow, feedback_in, rows_in
from shokado.request_log.segments import segments_in
from shokado.request_log.sent import sent_in
from tests.request_log.sinks.s3_server import SECRET, s3_server
from tests.support import disk, http
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("models")
INSTANCES = {"instances": [ROW, ROW]}


def logging_to(folder: Path, **settings: str) -> dict[str, str]:
    named = {f"SHOKADO_LOG__{name.upper()}": value for name, value in settings.items()}
    return {"SHOKADO_WORKERS": "1", "SHOKADO_LOG__SHARE": "1", "SHOKADO_LOG__FOLDER": str(folder), **named}


def ask(server: Server, path: str = "/v1/models/predict", body: Any = INSTANCES, **headers: str) -> Any:
    answer = http.post(f"{server.url}{path}", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def all_sent(folder: Path) -> bool:
    return {segment.path.name for segment in segments_in(folder)} == sent_in(folder)


def rows_of(folder: Path, number: int) -> list[LoggedRow]:
    wait_until(lambda: len(list(rows_in(folder))) >= number)
    return list(rows_in(folder))


def test_each_row_is_recorded_as_it_was_answered(tmp_path: Path) -> None:
    with serving(environment=logging_to(tmp_path, flush_s="0.05")) as server:
        answer = ask(server, **{"X-Request-ID": "r-1", "X-Unit-ID": "user-7"})
        body = answer.json()
        first, second = rows_of(tmp_path, 2)
        assert list(first.features.values()) == ROW
        assert (first.request_id, first.unit, first.version) == ("r-1", "user-7", body["version"])
        assert first.prediction_id == body["prediction_id"]
        assert (first.index, second.index) == (0, 1)
        assert 0 < first.latency_ms < 30_000
        assert [first.label, second.label] == body["classes"]
        assert [first.scores["score"], second.scores["score"]] == pytest.approx(body["predictions"])
        said = {"prediction_id": body["prediction_id"], "index": 1, "label": 1, "reward": 0.5}
        assert http.post(f"{server.url}/v1/feedback", json=said, timeout=30).status_code in (200, 202)
        wait_until(lambda: list(feedback_in(tmp_path)))
        (feedback,) = feedback_in(tmp_path)
        assert (feedback.prediction_id, feedback.index, feedback.label, feedback.reward) == (
            body["prediction_id"], 1, "1", 0.5,
        )  # fmt: skip
        ask(server, "/invocations", {"inputs": [ROW]})
        ask(server, "/predict", {"features": ROW})
        assert len(rows_of(tmp_path, 4)) == 4
        wait_until(lambda: server.metric("shokado_log_rows_total") == 4)
        last = http.get(f"{server.url}/v1/log?limit=3", timeout=30).json()
        assert [row["feature_names"] for row in last["rows"]] == [list(first.features)] * 3
        assert last["rows"][2]["prediction_id"] == body["prediction_id"]
        assert str(ROW[1]) not in str(last), "values are not told"
    assert len(list(rows_in(tmp_path))) == 4, "what is stopped loses nothing"


@pytest.mark.slow
def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    with serving(environment=logging_to(tmp_path, flush_s="0.05")) as server:
        for _ in range(20):
            ask(server)
        before = rows_of(tmp_path, 40)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.workers() not in ([], [worker]), 60)
        wait_until(lambda: http.get(f"{server.url}/readyz", timeout=20).status_code == 200, 60)
        ask(server)
        after = rows_of(tmp_path, 42)
        assert after[: len(before)] == before


def test_a_full_disk_costs_records_and_no_request(small_disk: Path) -> None:
    folder = small_disk / "log"
    with serving(environment=logging_to(folder, flush_s="0.05")) as server:
        ask(server)
        assert len(rows_of(folder, 2)) == 2
        make_room = disk.fill(small_disk)
        # What a file's last page has left is room as well.
        wait_until(lambda: bool(ask(server)) and server.metric("shokado_log_dropped_rows_total") >= 2)
        make_room()
        wait_until(lambda: bool(ask(server)) and len(list(rows_in(folder))) > 2)


@pytest.mark.slow
def test_under_load_all_is_recorded_or_counted(tmp_path: Path) -> None:
    settings = logging_to(tmp_path, flush_s="0.05", max_waiting_bytes="65536") | {"SHOKADO_WORKERS": "2"}
    answered: Counter[str] = Counter()

    def work(server: Server) -> None:
        for _ in range(100):
            answered[ask(server).json()["version"]] += 2

    with serving(environment=settings) as server:
        threads = [threading.Thread(target=work, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def counted(version: str) -> float:
            names = ("shokado_log_rows_total", "shokado_log_dropped_rows_total")
            return sum(server.metric(name, version=version) for name in names)

        assert sum(answered.values()) == 8 * 100 * 2
        wait_until(lambda: all(counted(version) == rows for version, rows in answered.items()))
        recorded = {version: server.metric("shokado_log_rows_total", version=version) for version in answered}
    assert Counter(row.version for row in rows_in(tmp_path)) == recorded


@pytest.mark.slow
def test_what_was_recorded_is_in_the_bucket_whoever_was_killed(tmp_path: Path) -> None:
    """Of two workers the one that sends is killed, and the server is stopped in the end: each row is there, once."""
    with s3_server(tmp_path) as s3:
        sending = {"sink__url": f"s3://{s3.bucket}/{{model}}", "segment_s": "1", "flush_s": "0.05"}
        environment = {**logging_to(tmp_path / "log", **sending), **s3.variables, "SHOKADO_WORKERS": "2"}
        with serving(environment=environment, program=s3.python.with_name("bentoml")) as server:
            before = set(server.workers())
            for _ in range(10):
                ask(server)
            wait_until(lambda: bool(s3.keys("customers")), 120)
            wait_until(lambda: server.metric("shokado_log_shipped_segments_total") > 0, 60)
            (sender,) = {
                parent.pid
                for process in psutil.process_iter(["cmdline"])
                if "shokado.request_log.shipper" in (process.info["cmdline"] or [])
                and (parent := process.parent()) is not None
                and parent.pid in before
            }
            os.kill(sender, signal.SIGKILL)
            wait_until(lambda: len(set(server.workers()) - {sender}) == 2, 60)
            wait_until(lambda: http.get(f"{server.url}/readyz", timeout=20).status_code == 200, 60)
            for _ in range(10):
                ask(server)
            # How many files there are is up to who answered and when.
            wait_until(lambda: len(list(rows_in(tmp_path / "log"))) == 40 and all_sent(tmp_path / "log"), 120)
            assert server.metric("shokado_log_ship_failures_total") == 0
        for name in s3.keys("customers"):
            (tmp_path / "there").mkdir(exist_ok=True)
            (tmp_path / "there" / Path(name).name).write_bytes(s3.content(name))
    here, there = (Counter(row.prediction_id for row in rows_in(tmp_path / name)) for name in ("log", "there"))
    assert here == there
    assert sum(there.values()) == 40
    assert SECRET not in server.log.read_text()
