"""What workers count is added up over a real store; other references do not mix, and an outage loses nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from configuration.drift_settings import DriftSettings
from runners.artefacts.artefact import Artefact
from runners.batching.observer import EndedBatch, ReleaseReason
from shokado.dispatch.fault import Fault
from shokado.dispatch.observers import Failure
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.drift.column_counts import ColumnCounts
from shokado.drift.divergence import DriftVerdict
from shokado.drift.version_drift import DriftWindow, VersionDrift
from shokado.monitoring.drift_watch import CachedAnswers, DriftWatch
from shokado.stores.follower import Follower
from shokado.stores.sqlite_store import SqliteStore
from tests.drift.references import put_reference, typed_reference, typed_rows
from tests.stores.entries import NOW, report
from tests.support.settings import paper_settings
from tests.support.waiting import in_time

SETTINGS = DriftSettings(rows_per_flush=500)


def batch(rows: np.ndarray, version: str = "v1", failures: dict[int, str] | None = None) -> EndedBatch:
    scores = np.random.default_rng(1).random(len(rows)).astype(np.float32)
    return EndedBatch(version, rows, scores, failures or {}, [0.0], ReleaseReason.IDLE, 0.001)


class Watched:
    """Watches of several workers over one store."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "routing.db"
        self.now = NOW
        self.random = np.random.default_rng(11)
        self.artefacts: dict[str, Artefact] = {"v1": put_reference(folder / "v1", typed_reference(self.random))}

    async def watch(self, settings: DriftSettings = SETTINGS) -> DriftWatch:
        follower = Follower(SqliteStore(self.path), paper_settings(), lambda _: None, lambda: report("a"))
        watch = DriftWatch(settings, follower, lambda: self.artefacts, lambda: self.now)
        await watch.follow()
        return watch


def test_rows_that_the_cache_answers_are_counted_with_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        card = stage.artefacts["v1"].card
        rows = typed_rows(300, stage.random)
        watch.batch(batch(rows[:100]))
        listener = CachedAnswers(watch)
        origin = Origin("v1", "production", 1, card)
        for start in range(100, 300, 10):
            part = rows[start : start + 10].astype(card.row_format.dtype)
            answered = [
                Prediction(
                    one.tobytes(), 1, print, origin=origin, reason=Reason.SPLIT, cached=number % 2 == 0,
                    scores=np.array([0.5], dtype=np.float32),
                )
                for number, one in enumerate(part)
            ]  # fmt: skip
            listener.answered("v1", answered)
        await watch.flush()
        found = await watch.told("v1", DriftWindow.HOUR)
        assert (found.rows, found.rows_seen) == (200, 200), "those that are in a batch are counted there"
        first = next(iter(found.features.values()))
        expected = np.concatenate([rows[:100], rows[100::2]])
        columns = watch._watched["v1"]
        assert isinstance(columns, ColumnCounts)
        column = columns.features[0]
        counts = column.bins.count(expected[:, 0])
        assert [round(200 * (cell.served or 0)) for cell in first.cells] == counts.tolist()
        # Beyond what a flush keeps, they are counted and drawn.
        few = await stage.watch(DriftSettings(rows_per_flush=20))
        many = [answered[0]] * 50
        for _ in range(4):
            CachedAnswers(few).answered("v1", many)
        CachedAnswers(few).answered("v9", many)
        await few.flush()
        found = await watch.told("v1", DriftWindow.HOUR)
        assert (found.rows, found.rows_seen) == (220, 400)

    in_time(scenario())


def test_the_counts_of_all_workers_are_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        one, other = await stage.watch(), await stage.watch()
        for watch in (one, other):
            watch.batch(batch(typed_rows(300, stage.random)))
            watch.batch(batch(typed_rows(10, stage.random), "v2"))
            await watch.flush()
            await watch.flush()
        for watch in (one, other):
            found = await watch.told("v1", DriftWindow.HOUR)
            assert (found.rows, found.rows_seen, found.verdict) == (600, 600, DriftVerdict.NONE)
        one.batch(batch(typed_rows(2_000, stage.random)))
        await one.flush()
        found = await other.told("v1", DriftWindow.HOUR)
        assert (found.rows, found.rows_seen) == (600 + 500, 600 + 2_000), "of many rows a sample"

    in_time(scenario())


def test_what_shifts_has_drifted_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        watch.batch(batch(typed_rows(50, stage.random, shift=9)))
        await watch.flush()
        few = await watch.told("v1", DriftWindow.HOUR)
        assert (few.verdict, few.drifted, few.features["width"].psi) == (DriftVerdict.TOO_FEW_ROWS, [], None)
        for _ in range(4):
            watch.batch(batch(typed_rows(500, stage.random, shift=1)))
            await watch.flush()
        found = await watch.told("v1", DriftWindow.HOUR)
        assert (found.verdict, found.drifted) == (DriftVerdict.DRIFT, ["width"])
        assert found.features["port"].verdict is found.scores["score"].verdict is DriftVerdict.NONE
        psi = found.features["width"].psi
        assert psi is not None
        assert psi.low > 0.1
        assert [cell.level for cell in found.features["port"].cells] == ["S", "C", None, None]

    in_time(scenario())


def test_unknown_levels_are_counted_also_where_they_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        refused = Failure(None, None, "unknown_level", Fault.CLIENT, "port")
        watch.failed([refused, refused, Failure(None, None, "unknown_level"), Failure(None, None, "x", feature="port")])
        await watch.flush()
        watch.batch(batch(np.array([[0, 2], [0, 0]], dtype=np.float32)))
        watch.failed([refused])
        await watch.flush()
        unknown = (await watch.told("v1", DriftWindow.HOUR)).features["port"].unknown_levels
        assert unknown is not None
        assert (unknown.rows, unknown.refused_requests) == (1, 3)

    in_time(scenario())


def test_rows_that_failed_are_not_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        rows = typed_rows(10, stage.random)
        watch.batch(batch(rows, failures={0: "overflow", 9: "overflow"}))
        watch.batch(EndedBatch("v1", rows, None, {}, [0.0], ReleaseReason.IDLE, 0.001))
        await watch.flush()
        assert (await watch.told("v1", DriftWindow.HOUR)).rows == 8

    in_time(scenario())


def test_windows_look_back_an_hour_and_a_day(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        for hours_ago, rows in ((23, 1), (2, 2), (0.5, 4), (0, 8)):
            stage.now = NOW - hours_ago * 3600
            watch.batch(batch(typed_rows(rows, stage.random)))
            await watch.flush()
        hour, day = [await watch.told("v1", window) for window in DriftWindow]
        assert (hour.rows, day.rows) == (12, 15)
        assert 3600 <= hour.seconds < 3900
        assert 86_400 <= day.seconds < 86_700

    in_time(scenario())


def test_a_replaced_reference_begins_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        old, new = await stage.watch(), await stage.watch()
        old.batch(batch(typed_rows(100, stage.random)))
        await old.flush()
        stage.artefacts = {"v1": put_reference(tmp_path / "v1", typed_reference(stage.random))}
        new.batch(batch(typed_rows(7, stage.random)))
        await new.follow()
        await new.flush()
        assert (await new.told("v1", DriftWindow.HOUR)).rows == 0, "nor what was drawn for the one before"
        new.batch(batch(typed_rows(5, stage.random)))
        await new.flush()
        assert (await new.told("v1", DriftWindow.HOUR)).rows == 5
        assert (await old.told("v1", DriftWindow.HOUR)).rows == 100

    in_time(scenario())


def test_what_an_outage_holds_up_is_added_to_its_own_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        stage.path.mkdir()
        watch.batch(batch(typed_rows(3, stage.random)))
        await watch.flush()
        stage.now = NOW + 7200
        watch.batch(batch(typed_rows(5, stage.random)))
        await watch.flush()
        stage.path.rmdir()
        await watch.flush()
        hour, day = [await watch.told("v1", window) for window in DriftWindow]
        assert (hour.rows, day.rows) == (5, 8)

    in_time(scenario())


def test_a_version_that_is_not_watched_says_why(tmp_path: Path) -> None:
    async def why(change: Callable[[Watched], Any]) -> VersionDrift:
        stage = Watched(tmp_path)
        change(stage)
        return await (await stage.watch()).told("v1", DriftWindow.DAY)

    def lose(stage: Watched) -> None:
        stage.artefacts = {"v1": put_reference(tmp_path / "none", None)}

    def damage(stage: Watched) -> None:
        (tmp_path / "v1" / "reference.json").write_text("{}")

    lost, damaged = in_time(why(lose)), in_time(why(damage))
    gone = in_time(why(lambda stage: stage.artefacts.clear()))
    assert {found.verdict for found in (lost, damaged, gone)} == {DriftVerdict.NOT_WATCHED}
    assert lost.note == "it has no reference; one is made by: shokado models reference paper:v1 FILE"
    assert "not the file that its card describes" in damaged.note
    assert gone.note == "it is not in memory"


def test_many_flushes_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        stage.path.mkdir()
        for number in range(400):
            stage.now = NOW + 300 * number
            watch.batch(batch(typed_rows(1, stage.random)))
            await watch.flush()
        assert len(watch._kept) <= 86_400 / 300 + 3

    in_time(scenario())


def test_a_flush_that_is_cancelled_adds_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Watched(tmp_path)
        watch = await stage.watch()
        for _ in range(20):
            watch.batch(batch(typed_rows(1, stage.random)))
            flushing = asyncio.create_task(watch.flush())
            await asyncio.sleep(0)
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
        await watch.flush()
        assert (await watch.told("v1", DriftWindow.HOUR)).rows == 20

    in_time(scenario())
