"""The line of points: what was counted between two moments, within bounds, and shared by all who look at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from shokado.monitoring.statistics import Statistics
from shokado.monitoring.timeline import KEPT_S, Timeline
from tests.monitoring.test_statistics import started_at
from tests.monitoring.test_worker_processes import Worker
from tests.support.clock import HandClock


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path)
    yield one
    one.close()


def test_a_point_tells_what_was_counted_since_the_one_before(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        timeline = Timeline(Statistics(worker.folder, clock))
        worker.count("started v1", "answered v1 0.004")
        await timeline.observe()
        assert timeline.after(0) == [], "there is nothing to compare the first snapshot with"
        clock.advance(5)
        worker.count(*["started v1", "answered v1 0.004"] * 10, "failed v1 model", "batch v1 30 idle", "scored v1 0.5")
        await timeline.observe()
        clock.advance(5)
        await timeline.observe()
        first, second = timeline.after(0)
        assert (second.at - first.at, second.at) == (5, clock.now)
        v1 = first.versions["v1"]
        assert (v1.request_rate, v1.error_rates) == (2.0, {"model": 0.2})
        assert v1.p50_ms == pytest.approx(3.75)
        assert (v1.batch_rows, v1.score) == (15.5, 0.5)
        assert (second.versions["v1"].request_rate, second.versions["v1"].p50_ms) == (0.0, None)
        assert first.processes[worker.process.pid].memory_bytes > 2**20
        assert timeline.after(first.at) == [second]

    asyncio.run(scenario())


def test_no_more_is_kept_than_was_said(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        timeline = Timeline(Statistics(worker.folder, clock))
        for _ in range(int(KEPT_S / 5) + 20):
            await timeline.observe()
            clock.advance(5)
        moments = timeline.after(0)
        assert moments[-1].at - moments[0].at == KEPT_S - 5

    asyncio.run(scenario())


def test_who_looks_sees_the_last_seconds_and_is_not_kept(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        timeline = Timeline(Statistics(worker.folder, clock))
        await timeline.observe()
        for second in range(1, 9):
            clock.advance(1)
            worker.count(*["started v1", "answered v1 0.004"] * second)
            if second == 5:
                await timeline.observe()
            look = await timeline.look()
        # Of the five seconds before now: those of 4 to 8.
        assert look.moment.versions["v1"].request_rate == (4 + 5 + 6 + 7 + 8) / 5
        assert (look.seconds, look.figures["v1"].requests) == (8, sum(range(1, 9)))
        assert [moment.at for moment in timeline.after(0)] == [clock.now - 3]

    asyncio.run(scenario())


def test_who_looks_before_the_first_snapshot_sees_what_was_counted_since_the_start(worker: Worker) -> None:
    clock = HandClock(started_at(worker) + 20)
    worker.count(*["started v1", "answered v1 0.004"] * 10)

    async def scenario() -> None:
        timeline = Timeline(Statistics(worker.folder, clock))
        look = await timeline.look()
        assert look.figures["v1"].requests == 10
        assert look.seconds == pytest.approx(20)
        assert (look.moment.at, look.moment.versions["v1"].request_rate) == (clock.now, 0.5)
        (process,) = look.processes
        assert look.moment.processes[process.pid].cpu_utilization == pytest.approx(process.cpu_utilization, rel=1e-3)
        assert process.cpu_utilization > 0, "since it started"

    asyncio.run(scenario())


def test_many_who_look_at_once_share_one_reading(worker: Worker) -> None:
    clock = HandClock()

    async def scenario() -> None:
        statistics = Statistics(worker.folder, clock)
        timeline = Timeline(statistics)
        await timeline.observe()
        clock.advance(6)
        looks = await asyncio.gather(*(timeline.look() for _ in range(50)))
        assert len({id(look) for look in looks}) == 1
        clock.advance(0.6)
        assert await timeline.look() is not looks[0]

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_read_does_not_end_the_snapshots(worker: Worker) -> None:
    broken = worker.folder / f"counter_{worker.process.pid}-9.db"

    async def scenario() -> None:
        timeline = Timeline(Statistics(worker.folder))
        broken.mkdir()
        running = asyncio.create_task(timeline.run())
        with pytest.raises(IsADirectoryError):
            await timeline.observe()
        broken.rmdir()
        await timeline.observe()
        assert not running.done()
        running.cancel()
        assert (await timeline.look()).figures.keys() >= {"v1"}

    asyncio.run(scenario())
