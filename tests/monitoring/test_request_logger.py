"""The observer that records requests never waits, is bounded, and counts what it loses."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from configuration.log_settings import LogSettings
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin
from shokado.monitoring.request_logger import RequestLogger
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.logged_rows import feedback_in, rows_in
from tests.support.predictions import prediction_of
from tests.support.waiting import in_time, until

KEY = bytes(32)


class FailingWriter(LogWriter):
    """Its disk is full."""

    def write(self, records: Any, cards: Any) -> None:
        raise OSError(28, "No space left on device")


def test_what_is_answered_is_written_with_its_ids(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LogSettings(share=1, flush_s=0.01)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY), lambda: 1000.0)
        task = asyncio.create_task(logger.run())
        prediction = prediction_of(rows=2, latency_s=0.25)
        prediction.request_id, prediction.prediction_id, prediction.unit = "r-1", "p-1", "user-7"
        logger.answered("v1", [prediction])
        logger.feedback("p-1", 1, "yes", None)
        await until(lambda: len(list(rows_in(tmp_path))) == 2)
        task.cancel()
        await logger.stop()
        first, second = rows_in(tmp_path)
        assert (first.at, first.request_id, first.prediction_id, first.unit) == (1000, "r-1", "p-1", "user-7")
        assert (first.latency_ms, first.scores, second.scores) == (250, {"score": 0}, {"score": 1})
        assert [(said.index, said.label) for said in feedback_in(tmp_path)] == [(1, '"yes"')]
        assert logger.flush_counts() == ({"v1": 2}, {})
        assert logger.flush_counts() == ({}, {})

    in_time(scenario())


def test_a_version_is_recorded_under_the_name_that_answered(tmp_path: Path) -> None:
    """An artefact may be served under several names beside each other, and its card has the one it was made for."""

    async def scenario() -> None:
        settings = LogSettings(share=1)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY))
        first, second, third = (prediction_of(rows=1) for _ in range(3))
        made_for = first.origin.card.version
        second.origin = Origin("v9", first.origin.environment, 2, first.origin.card)
        third.origin = Origin(made_for, first.origin.environment, 2, first.origin.card)
        for prediction, number in ((first, 1), (second, 2), (third, 3)):
            prediction.prediction_id = f"p-{number}"
            logger.answered(prediction.origin.version, [prediction])
        await logger.stop()
        found = {row.prediction_id: row.version for row in rows_in(tmp_path)}
        assert found == {"p-1": made_for, "p-2": "v9", "p-3": made_for}

    in_time(scenario())


def test_requests_that_are_told_of_at_once_keep_their_own_rows(tmp_path: Path) -> None:
    """Of two routings, with different numbers of rows."""

    async def scenario() -> None:
        settings = LogSettings(share=1)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY))
        predictions = [prediction_of(rows=rows) for rows in (1, 3, 2, 1)]
        for number, prediction in enumerate(predictions):
            prediction.prediction_id = f"p-{number}"
            packed = np.arange(2 * prediction.row_count, dtype=np.float32) + 100 * number
            # Views of something else, as of a request or a batch.
            prediction.rows = memoryview(packed.tobytes())
            prediction.scores = (
                np.repeat(np.linspace(0.1, 0.4, prediction.row_count, dtype=np.float32), 2)[::2] + number
            )
        predictions[2].origin = predictions[0].origin
        logger.answered("v1", predictions)
        await logger.stop()
        rows = {(row.prediction_id, row.index): row for row in rows_in(tmp_path)}
        assert len(rows) == 7
        for number, prediction in enumerate(predictions):
            for index in range(prediction.row_count):
                row = rows[f"p-{number}", index]
                assert list(row.features.values()) == [100 * number + 2 * index, 100 * number + 2 * index + 1]
                assert prediction.scores is not None
                assert row.scores["score"] == prediction.scores[index]
        assert logger.flush_counts() == ({"v1": 7}, {})

    in_time(scenario())


def test_each_request_that_is_dealt_out_is_written_with_the_chance_of_its_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LogSettings(share=1)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY))
        predictions = [prediction_of() for _ in Reason]
        for prediction, reason in zip(predictions, Reason, strict=True):
            prediction.origin = msgspec.structs.replace(predictions[0].origin, shares={"v1": 0.9, "v2": 0.1})
            prediction.reason = prediction.prediction_id = reason
        later = prediction_of()
        later.origin, later.prediction_id = (
            msgspec.structs.replace(later.origin, shares={"v1": 0.2, "v2": 0.8}),
            "later",
        )
        logger.answered("v1", [*predictions, later])
        await logger.stop()
        assert {row.prediction_id: row.propensity for row in rows_in(tmp_path)} == {
            "SPLIT": 0.9, "STICKY": 0.9, "PINNED": None, "ACTIVE": None, "FALLBACK": None, "OUTSIDE_LAYER": None,
            "later": 0.2,
        }  # fmt: skip

    in_time(scenario())


def test_only_a_share_is_recorded(tmp_path: Path) -> None:
    draws = iter([0.1, 0.25, 0.24, 0.9])

    async def scenario() -> None:
        settings = LogSettings(share=0.25)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY), draw=lambda: next(draws))
        logger.answered("v1", [prediction_of() for _ in range(4)])
        await logger.stop()
        assert logger.flush_counts() == ({"v1": 2}, {})

    in_time(scenario())


def test_what_has_no_room_is_dropped_and_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LogSettings(share=1, max_waiting_bytes=2**16)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY))
        first = prediction_of(rows=100)
        # Of one routing, and together more than there is room for: those are recorded that fit.
        predictions = [msgspec.structs.replace(first) for _ in range(100)]
        logger.answered("v1", predictions)
        await logger.flush()
        written, dropped = logger.flush_counts()
        assert written["v1"] + dropped["v1"] == 10_000
        assert 4_000 < written["v1"] < 6_000, "some 1,300 bytes of 65,536 for each hundred"
        assert len(list(rows_in(tmp_path))) == written["v1"]
        logger.answered("v1", [prediction_of()])
        await logger.stop()
        assert logger.flush_counts() == ({"v1": 1}, {}), "there is room again"

    in_time(scenario())


def test_a_full_disk_loses_records_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LogSettings(share=1)
        logger = RequestLogger(settings, FailingWriter(settings, tmp_path, "a", KEY))
        for _ in range(3):
            logger.answered("v1", [prediction_of(rows=2)])
            await logger.flush()
        assert logger.flush_counts() == ({}, {"v1": 6})

    in_time(scenario())


def test_routings_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LogSettings(share=1)
        logger = RequestLogger(settings, LogWriter(settings, tmp_path, "a", KEY))
        for _ in range(600):
            logger.answered("v1", [prediction_of()])
            await logger.flush()
        assert len(logger._numbered) <= 256
        assert logger._waiting_cards == {}
        await logger.stop()
        assert len(list(rows_in(tmp_path))) == 600

    in_time(scenario())
