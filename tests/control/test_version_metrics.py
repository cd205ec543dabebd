"""Metrics of one version over HTTP, as worker processes have counted them."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.control.site import Site, open_site
from tests.monitoring.test_worker_processes import Worker
from tests.support.problems import code_of


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Worker]:
    """A process that counts."""
    worker = Worker(tmp_path)
    yield worker
    worker.close()


@pytest.fixture
def counted_site(tmp_path: Path, counting: Worker) -> Iterator[Site]:
    """A site whose metrics are in the folder of that process."""
    with open_site(tmp_path) as site:
        assert site.join().parts.metrics_folder == counting.folder
        yield site


def test_a_version_is_told_in_figures(counted_site: Site, counting: Worker) -> None:
    site = counted_site
    counting.count("started v1", "answered v1 0.004")
    site.run(site.workers[0].parts.timeline.statistics.observe())
    site.run(asyncio.sleep(1.1))
    counting.count("started v1", "answered v1 0.004", "scored v1 0.05 0.95", "started v1", "failed v1 overloaded")
    content = site.get("/v1/metrics/a?window_s=1")
    assert (content["version"], content["generation"], content["shared"]) == ("v1", 1, True)
    since_start, recent = content["since_start"], content["recent"]
    assert (since_start["requests"], recent["requests"]) == (2, 1)
    age_s = time.time() - psutil.Process().create_time()
    assert since_start["seconds"] == pytest.approx(age_s, abs=2), "this process stands for the server"
    assert since_start["request_rate_per_s"] == pytest.approx(2 / since_start["seconds"])
    assert recent["seconds"] > 0
    assert recent["request_rate_per_s"] == pytest.approx(1 / recent["seconds"], rel=0.01)
    assert (recent["error_rate"], recent["errors_by_kind"]) == (0.5, {"overloaded": 1})
    assert recent["latency_ms"]["p50"] == pytest.approx(3.75)
    assert (recent["batch_rows"]["count"], recent["predictions"]["rows"]) == (1, 2)
    (process,) = content["processes"]
    assert process["pid"] == counting.process.pid
    assert process["memory_bytes"] > 2**20
    assert process["cpu_seconds"] > 0
    assert process["cpu_utilization"] is not None
    machine = content["machine"]
    assert None not in machine.values()
    assert 0 <= machine["cpu_utilization"] <= 1
    assert machine["memory_available_bytes"] <= machine["memory_bytes"]


def test_a_version_that_nobody_asked_has_figures_without_numbers(site: Site) -> None:
    content = site.get("/v1/metrics/v3")
    assert content["processes"] == []
    for figures in (content["since_start"], content["recent"]):
        assert figures["requests"] == 0
        assert figures["error_rate"] is None
        assert figures["latency_ms"] == {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None}


def test_before_the_first_snapshot_everything_is_told_that_can_be(counted_site: Site, counting: Worker) -> None:
    counting.count("started v1", "answered v1 0.004")
    counted_site.workers[0].parts.timeline.statistics._snapshots = deque(maxlen=0)
    content = counted_site.get("/v1/metrics/v1")
    assert content["recent"] == content["since_start"]
    assert content["recent"]["requests"] == 1
    (process,) = content["processes"]
    assert None not in process.values()


def test_a_version_that_was_unloaded_still_has_figures(site: Site) -> None:
    assert site.ask("POST", "/v1/models/v3/unload").status_code == 200
    assert site.get("/v1/metrics/v3")["shared"] is False


def test_without_the_store_only_the_quality_is_missing(site: Site) -> None:
    assert site.get("/v1/metrics/v1")["quality"]["feedback"] == 0
    site.break_store()
    content = site.get("/v1/metrics/v1")
    assert (content["quality"], content["quality_hours"]) == (None, 24)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/metrics/v9", 404, "unknown_version"),
        ("/v1/metrics/v1?window_s=0", 422, "invalid"),
        ("/v1/metrics/v1?window_s=301", 422, "invalid"),
        ("/v1/metrics/v1?window_s=nan", 422, "invalid"),
        ("/v1/metrics/v1?window_s=x", 422, "invalid"),
    ],
)
def test_figures_that_there_are_not_are_refused(site: Site, path: str, status: int, code: str) -> None:
    answer = site.ask("GET", path)
    assert (answer.status_code, code_of(answer)) == (status, code)


def test_the_exposition_is_text_of_all_workers(counted_site: Site, counting: Worker) -> None:
    counting.count("started v1", "answered v1 0.004")
    answer = counted_site.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'shokado_requests_total{version="v1"} 1.0' in answer.text
