"""Figures from what was counted: percentiles within their buckets, and windows that say how long they really are."""

import asyncio
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.monitoring.metrics.buckets import SECONDS
from shokado.monitoring.process_identity import seconds_of
from shokado.monitoring.statistics import Statistics, figures, quantile
from tests.monitoring.test_worker_processes import Worker
from tests.support.clock import HandClock

BOUNDS = (*SECONDS, math.inf)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path)
    yield one
    one.close()


def started_at(worker: Worker) -> float:
    """When the server was started that this process stands for, in its clock."""
    return seconds_of(int(worker.folder.name.split("-")[-1]))


def cumulative(values: list[float]) -> list[tuple[float, float]]:
    return [(bound, float(sum(value <= bound for value in values))) for bound in BOUNDS]


def test_a_percentile_is_interpolated_within_its_bucket() -> None:
    buckets = [(1.0, 10.0), (2.0, 30.0), (math.inf, 30.0)]
    assert quantile(0.5, buckets) == pytest.approx(1.25)
    assert quantile(1 / 3, buckets) == pytest.approx(1.0)
    assert quantile(1 / 6, buckets) == pytest.approx(0.5)


def test_what_is_beyond_the_last_bound_is_told_as_that_bound() -> None:
    assert quantile(0.99, [(1.0, 1.0), (2.0, 1.0), (math.inf, 100.0)]) == 2.0


@pytest.mark.parametrize("buckets", [[], [(1.0, 0.0), (math.inf, 0.0)]])
def test_without_observations_there_is_no_percentile(buckets: list[tuple[float, float]]) -> None:
    assert quantile(0.5, buckets) is None


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(values: list[float], part: float) -> None:
    found = quantile(part, cumulative(values))
    assert found is not None
    true = float(np.quantile(values, part, method="inverted_cdf"))
    upper = next(bound for bound in BOUNDS if true <= bound)
    lower = max((bound for bound in BOUNDS if bound < true), default=0.0)
    assert lower - 1e-12 <= found <= upper + 1e-12


def test_figures_of_nothing_have_no_rates() -> None:
    nothing = figures({}, "v1", 10.0)
    assert (nothing.requests, nothing.request_rate_per_s, nothing.error_rate, nothing.latency_ms.p50) == (
        0, 0.0, None, None,
    )  # fmt: skip


def test_figures_are_those_of_the_version(worker: Worker) -> None:
    worker.count(
        *["started v1", "answered v1 0.004"] * 3, "started v1", "failed v1 model", "started v1", "cancelled v1",
        "batch v1 3 idle", "batch v1 100 full", "scored v1 0.05 0.25 0.95", "likeliest v2 0 2 2", "failed - malformed",
        "started v1", "failed v1 output client",
    )  # fmt: skip

    async def scenario() -> None:
        statistics = Statistics(worker.folder)
        v1, v2 = (await statistics.of("v1")).since_start, (await statistics.of("v2")).since_start
        assert (v1.requests, v1.errors, v1.errors_by_kind, v1.error_rate) == (3, 1, {"model": 1}, 0.25)
        assert (v1.cancelled, v1.rows, v1.batches_by_release) == (1, 106, {"full": 1, "idle": 2})
        assert v1.latency_ms.mean == pytest.approx(4)
        assert v1.latency_ms.p50 == pytest.approx(3.75)
        assert (v1.batch_rows.count, v1.queue_wait_ms.count) == (3, 3)
        assert v1.batch_rows.p50 == 4, "rows are whole"
        assert v1.batch_rows.mean == pytest.approx(106 / 3)
        assert v1.engine_seconds == pytest.approx(0.003)
        assert v1.predictions.mean == pytest.approx(1.25 / 3)
        assert [bucket.rows for bucket in v1.predictions.buckets] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
        assert (v1.predictions.buckets[0].up_to, v1.predictions.buckets[-1].up_to) == (0.1, None)
        assert (v2.predictions.classes, v2.predictions.rows, v2.requests) == ({"a": 1, "c": 2}, 3, 0)

    asyncio.run(scenario())


def test_the_figures_since_the_start_know_when_the_server_was_started(worker: Worker) -> None:
    """Which this process stands for, whose workers may have been started later."""
    started_at = psutil.Process().create_time() - psutil.boot_time()
    clock = HandClock()
    worker.count(*["started v1", "answered v1 0.004", "batch v1 10 idle"] * 30)

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        for age_s in (100, 300):
            clock.now = started_at + age_s
            found = (await statistics.of("v1")).since_start
            # The kernel tells when the machine was started in whole seconds.
            assert found.seconds == pytest.approx(age_s, abs=2)
            assert found.request_rate_per_s == pytest.approx(30 / found.seconds)
            assert found.engine_utilization == pytest.approx(30 * 0.001 / found.seconds)

    asyncio.run(scenario())


def test_the_clock_is_the_one_that_the_start_of_processes_is_told_by(worker: Worker) -> None:
    async def scenario() -> None:
        age_s = time.time() - psutil.Process().create_time()
        assert (await Statistics(worker.folder).of("v1")).since_start.seconds == pytest.approx(age_s, abs=2)

    asyncio.run(scenario())


def test_the_recent_figures_are_the_difference_to_a_snapshot_and_say_how_long_ago_it_was(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        await statistics.observe()
        for _ in range(4):
            clock.advance(5)
            worker.count("started v1", "answered v1 0.004", "batch v1 10 idle")
            await statistics.observe()
        clock.advance(3)
        worker.count("started v1", "answered v1 2")
        found = {}
        for window_s in (1, 8, 9, 300):
            recent = (await statistics.of("v1", window_s)).recent
            found[window_s] = recent.seconds, recent.requests
        assert found == {1: (3, 1), 8: (8, 2), 9: (13, 3), 300: (23, 5)}
        recent = (await statistics.of("v1", 8)).recent
        assert recent.request_rate_per_s == 2 / 8
        assert recent.engine_utilization == pytest.approx(0.001 / 8)
        assert recent.latency_ms.mean == pytest.approx((4 + 2000) / 2)

    asyncio.run(scenario())


def test_before_the_first_snapshot_the_recent_figures_are_those_since_the_start(worker: Worker) -> None:
    clock = HandClock(started_at(worker) + 20)
    worker.count(*["started v1", "answered v1 0.004"] * 3)

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        found = await statistics.of("v1")
        assert found.recent == found.since_start
        assert found.recent.requests == 3
        assert found.recent.seconds == pytest.approx(20)
        # A snapshot that was begun later, and read sooner, is nothing to compare with.
        clock.advance(5)
        later = await statistics.observe()
        clock.advance(-1)
        now = await statistics.take()
        assert statistics.before(now.at - 60, now).at == pytest.approx(started_at(worker))
        clock.advance(2)
        assert statistics.before(now.at - 60, await statistics.take()) is later

    asyncio.run(scenario())


def test_only_so_many_snapshots_are_kept(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        for _ in range(80):
            await statistics.observe()
            clock.advance(5)
        found = await statistics.of("v1", 10_000)
        assert found.recent.seconds == 305

    asyncio.run(scenario())


def test_processes_are_told_while_they_live(worker: Worker, tmp_path: Path) -> None:
    other = Worker(tmp_path)
    clock = HandClock()

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        first = {process.pid: process for process in (await statistics.of("v1")).processes}
        assert set(first) == {worker.process.pid, other.process.pid}
        assert all(process.cpu_utilization > 0 for process in first.values()), "since they started"
        await statistics.observe()
        clock.advance(2)
        other.kill()
        (left,) = (await statistics.of("v1")).processes
        assert left.pid == worker.process.pid
        assert left.cpu_utilization >= 0
        assert left.memory_bytes > 2**20

    try:
        asyncio.run(scenario())
    finally:
        other.close()


def test_several_values_are_told_by_name_and_bucket() -> None:
    rows = {"speed": {"1.0": 2.0, "+Inf": 1.0, "0.5": 3.0, "0.25": 0.0}, "a\nb": {"10.0": 6.0}}
    values = {
        ("shokado_output_rows_total", "v1", f"{name}\n{bound}"): number
        for name, buckets in rows.items()
        for bound, number in buckets.items()
    }
    found = figures(values, "v1", 60.0).predictions
    assert found.rows == 6
    told = {name: [(bucket.up_to, bucket.rows) for bucket in buckets] for name, buckets in found.outputs.items()}
    assert told == {"speed": [(0.5, 3), (1.0, 2), (None, 1)], "a\nb": [(10.0, 6)]}
    assert "outputs" not in figures({}, "v1", 60.0).model_dump()["predictions"]
