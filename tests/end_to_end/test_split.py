"""The split, the metrics and batching, as seen from outside a server with two workers."""

import json
import math
import time
from collections import Counter
from statistics import NormalDist

import psutil
import pytest

from shokado.monitoring.metrics.metric_registry import FLUSH_EVERY_S
from tests.support import http
from tests.support.raw_http import NATIVE, Answer, Connection, near, request, rows_request
from tests.support.server import ROW, Server
from tests.support.waiting import wait_until

CONNECTIONS = 40
UNPINNED = request(json.dumps({"instances": [ROW]}).encode())


def ask_over_many_connections(server: Server, data: bytes, count: int) -> list[Answer]:
    """Answers to `count` requests, a hundred at a time on each of many connections."""
    answers: list[Answer] = []
    connections = [Connection(server) for _ in range(CONNECTIONS)]
    each = count // CONNECTIONS
    for connection in connections:
        connection.send(data * each)
    for connection in connections:
        answers += connection.read_all(each)
        connection.__exit__()
    return answers


def wait_until_flushed(server: Server) -> None:
    """Until what was asked before is in `/metrics`: nothing there changes for longer than workers wait to add it."""
    last: list[str] = []
    since = time.monotonic()

    def unchanged() -> bool:
        nonlocal since
        lines = [line for line in http.get(f"{server.url}/metrics", timeout=20).text.splitlines() if "_total" in line]
        if lines != last:
            last[:], since = lines, time.monotonic()
        return time.monotonic() - since > 2 * FLUSH_EVERY_S

    wait_until(unchanged)


def test_the_split_sends_each_version_its_share(server: Server) -> None:
    """80 to 20 over 4,000 requests, within what chance exceeds once in a million runs."""
    count = 4_000
    answers = ask_over_many_connections(server, UNPINNED, count)
    versions = Counter(answer.json["version"] for answer in answers)
    bound = NormalDist().inv_cdf(1 - 0.5e-6) * math.sqrt(count * 0.8 * 0.2)
    assert versions["v1"] + versions["v2"] == count
    assert abs(versions["v1"] - 0.8 * count) < bound
    assert {answer.json["reason"] for answer in answers} == {"SPLIT"}
    assert {answer.json["generation"] for answer in answers} == {1}


def test_each_answer_names_the_version_that_made_it(server: Server) -> None:
    with Connection(server) as connection:
        alone = {version: connection.ask(rows_request(version=version)).json["predictions"] for version in ("v1", "v2")}
    assert alone["v1"] != alone["v2"]
    for answer in ask_over_many_connections(server, UNPINNED, 400):
        assert answer.json["predictions"] == near(alone[answer.json["version"]])
        assert answer.header("x-model-version") == answer.json["version"]


def test_both_workers_answer_and_no_id_is_given_twice(server: Server) -> None:
    """Which worker takes a connection is the kernel's choice, so new ones are opened until both have had some."""
    ids: list[str] = []

    def workers_seen() -> int:
        ids.extend(answer.header("x-request-id") or "" for answer in ask_over_many_connections(server, UNPINNED, 2_000))
        return len({one[:12] for one in ids})

    wait_until(lambda: workers_seen() == 2)
    assert len(set(ids)) == len(ids)
    assert len({one[:12] for one in ids}) == 2, "an id begins with its worker's own digits"


def test_metrics_add_up_over_the_workers(server: Server) -> None:
    """What was answered is what is counted: requests and rows by version, errors by kind."""

    def counted() -> dict[str, float]:
        return {
            "v1": server.metric("shokado_requests_total", version="v1"),
            "v2": server.metric("shokado_requests_total", version="v2"),
            "rows": server.metric("shokado_rows_total"),
            "batched": server.metric("shokado_batch_rows_sum"),
            "latencies": server.metric("shokado_latency_seconds_count"),
            "wrong": server.metric("shokado_errors_total", kind="wrong_feature_count"),
            "malformed": server.metric("shokado_errors_total", kind="malformed_body"),
            "unknown": server.metric("shokado_errors_total", kind="unknown_version"),
        }

    wait_until_flushed(server)
    before = counted()
    two_rows = request(json.dumps({"instances": [ROW, ROW]}).encode())
    answers = ask_over_many_connections(server, UNPINNED, 400) + ask_over_many_connections(server, two_rows, 400)
    ask_over_many_connections(server, request(b'{"instances": [[1]]}'), 80)
    ask_over_many_connections(server, request(b"{"), 120)
    ask_over_many_connections(server, rows_request(version="v9"), 40)
    versions = Counter(answer.header("x-model-version") for answer in answers)
    expected = {"v1": versions["v1"], "v2": versions["v2"], "rows": 1_200, "batched": 1_200, "latencies": 800}
    expected |= {"wrong": 80, "malformed": 120, "unknown": 40}
    wait_until(lambda: {name: value - before[name] for name, value in counted().items()} == expected, 10)
    assert server.metric("shokado_in_flight") == 0


def test_the_figures_since_the_start_are_by_the_age_of_the_server(server: Server) -> None:
    found = http.get(f"{server.url}/v1/metrics/v1", timeout=20).json()["since_start"]
    age_s = time.time() - psutil.Process(server.process.pid).create_time()
    # The kernel tells when the machine was started in whole seconds; an answer takes as long as the machine is busy.
    assert age_s - 10 < found["seconds"] < age_s + 2
    assert found["request_rate_per_s"] == pytest.approx(found["requests"] / found["seconds"])
    assert found["engine_utilization"] == pytest.approx(found["engine_seconds"] / found["seconds"])


def test_a_body_that_is_too_large_is_counted_by_its_kind(server: Server) -> None:
    wait_until_flushed(server)
    before = server.metric("shokado_errors_total", kind="body_too_large")
    with Connection(server) as connection:
        assert connection.ask(request(headers=[("content-length", "999999999")])).status == 413
    wait_until(lambda: server.metric("shokado_errors_total", kind="body_too_large") == before + 1, 10)


def test_requests_that_come_together_are_computed_together(server: Server) -> None:
    """From `/metrics`: fewer batches than requests, and batches of more than one row."""

    def counted() -> tuple[float, float, float]:
        batches = server.metric("shokado_batch_rows_count")
        lone = server.metric("shokado_batch_rows_bucket", le="1.0")
        return server.metric("shokado_requests_total"), batches, lone

    wait_until_flushed(server)
    requests, batches, lone = counted()
    connections = [Connection(server) for _ in range(CONNECTIONS)]
    for _ in range(25):
        for connection in connections:
            connection.send(rows_request())
        assert all(connection.read().status == 200 for connection in connections)
    for connection in connections:
        connection.__exit__()
    ask_over_many_connections(server, rows_request(), 2_000)
    sent = 25 * CONNECTIONS + 2_000
    wait_until(lambda: counted()[0] == requests + sent, 10)
    assert 0 < counted()[1] - batches < 0.6 * sent
    assert counted()[2] - lone < counted()[1] - batches


@pytest.mark.parametrize("path", [NATIVE, NATIVE + "?x"])
def test_one_request_alone_is_one_batch(server: Server, path: str) -> None:
    wait_until_flushed(server)
    before = server.metric("shokado_batch_rows_count")
    with Connection(server) as connection:
        assert connection.ask(rows_request(*[ROW] * 3, path=path)).status == 200
    wait_until(lambda: server.metric("shokado_batch_rows_count") == before + 1, 10)


def test_metrics_are_readable_text_with_bounded_labels(server: Server) -> None:
    answer = http.get(f"{server.url}/metrics", timeout=20)
    assert answer.headers["content-type"].startswith("text/plain")
    versions = {line.split('version="')[1].split('"')[0] for line in answer.text.splitlines() if 'version="' in line}
    assert versions == {"v1", "v2", "none"}
