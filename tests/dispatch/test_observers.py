"""Observers: all are told everything, after the answers, and none of them can harm anybody."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from shokado.dispatch.fault import FELL_BACK, Fault
from shokado.dispatch.observers import MAX_ANSWERS, TELL_AFTER_S, Observers, PredictionObserver
from shokado.dispatch.request import Prediction
from tests.runners.scripted_executor import HandLoop
from tests.support.clock import HandClock
from tests.support.predictions import Listener, batch_of, prediction_of


class Stage:
    """Observers whose event loop and clock are driven by hand."""

    def __init__(self, *listeners: PredictionObserver) -> None:
        self.clock = HandClock()
        self.loop = HandLoop(self.clock)
        self.observers = Observers(self.loop.call_later, self.clock)
        self.observers.subscribe(
            predictions=listeners, batches=[listener for listener in listeners if isinstance(listener, Listener)]
        )

    def wait(self) -> None:
        """Until what was noted is told."""
        self.clock.advance(TELL_AFTER_S)
        self.loop.ring()


class Raises(Listener):
    """Listens to everything, and then raises."""

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        super().answered(version, predictions)
        raise ZeroDivisionError("of the observer")

    started = failed = cancelled = batch = answered  # type: ignore[assignment]


def test_nothing_is_told_at_once_and_everything_after_some_milliseconds() -> None:
    listener = Listener()
    stage = Stage(listener)
    first, second, other, left = (prediction_of(version) for version in ("v1", "v1", "v2", "v1"))
    batch = batch_of()
    for prediction in (first, second, other, left):
        stage.observers.started(prediction.version)
    stage.observers.batch(batch)
    for prediction in (first, other, second):
        stage.observers.answered(prediction)
    stage.observers.cancelled(left)
    stage.observers.failed(None, None, "malformed_body", Fault.CLIENT)
    assert listener.heard == []
    assert len(stage.loop.alarms) == 1
    stage.wait()
    (failure,) = listener.failures
    assert (failure.prediction, failure.version, failure.kind, failure.fault) == (
        None, None, "malformed_body", Fault.CLIENT,
    )  # fmt: skip
    assert sorted(listener.heard[1:3]) == [("started", "v1", 3), ("started", "v2", 1)]
    assert [listener.heard[0], *listener.heard[3:]] == [
        ("batch", batch),
        ("answered", "v1", first, second),
        ("answered", "v2", other),
        ("failed", failure),
        ("cancelled", "v1", left),
    ]


def test_many_answers_are_told_in_the_next_turn_of_the_loop() -> None:
    listener = Listener()
    stage = Stage(listener)
    for _ in range(2):
        for _ in range(MAX_ANSWERS + 1):
            stage.observers.batch(batch_of())
            stage.observers.answered(prediction_of())
        assert listener.heard == []
        stage.loop.ring()
        assert len(listener.heard) == MAX_ANSWERS + 2, "each batch, and all answers at once"
        listener.heard.clear()
        stage.wait()
        assert listener.heard == [], "what was to be told later was told"


def test_an_answered_prediction_does_not_keep_its_request() -> None:
    stage = Stage()
    prediction = prediction_of()
    done = prediction.done
    stage.observers.answered(prediction)
    assert prediction.done is not done


def test_what_was_told_is_not_told_again() -> None:
    listener = Listener()
    stage = Stage(listener)
    for _ in range(2):
        stage.observers.answered(prediction_of())
        stage.wait()
        stage.observers.tell()
        stage.wait()
    assert [event for event, *_ in listener.heard] == ["answered", "answered"]


def test_what_is_told_ahead_of_its_turn_leaves_nothing_for_it_and_loses_nothing() -> None:
    """As a flush of the metrics does."""
    listener = Listener()
    stage = Stage(listener)
    stage.observers.started("v1")
    stage.observers.tell()
    stage.observers.failed(None, "v1", FELL_BACK)
    stage.observers.tell()
    stage.observers.failed(None, "v1", FELL_BACK)
    stage.wait()
    stage.wait()
    assert [event for event, *_ in listener.heard] == ["started", "failed", "failed"]


def test_observers_are_told_after_what_was_scheduled_before_such_as_the_writing_of_answers() -> None:
    order = []

    class Notes(PredictionObserver):
        def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
            order.append(f"{len(predictions)} answers of {version} told")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        observers = Observers(loop.call_later)
        observers.subscribe([Notes()])
        for number in range(2):
            loop.call_soon(order.append, f"answer {number} written")
            observers.answered(prediction_of())
            order.append(f"answer {number} made")
        while len(order) < 5:
            await asyncio.sleep(0.001)

    asyncio.run(run())
    assert order[:2] == ["answer 0 made", "answer 1 made"]
    assert order.index("answer 0 written") < order.index("2 answers of v1 told")


def test_an_observer_that_raises_harms_no_other_and_hears_of_the_next() -> None:
    before, raises, after = Listener(), Raises(), Listener()
    stage = Stage(before, raises, after)
    for _ in range(2):
        stage.observers.started("v1")
        stage.observers.batch(batch_of())
        stage.observers.answered(prediction_of())
        stage.observers.failed(None, "v1", FELL_BACK)
        stage.observers.cancelled(prediction_of())
        stage.wait()
    assert before.heard == after.heard
    assert [event for event, *_ in after.heard] == ["batch", "started", "answered", "failed", "cancelled"] * 2


def test_an_observer_that_raises_is_logged_once_a_minute_with_how_often_it_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(Raises())
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            stage.observers.answered(prediction_of())
            stage.wait()
        assert len(caplog.records) == 1
        assert caplog.records[0].exc_info is not None
        assert "observer Raises failed" in caplog.text
        assert "of the observer" in caplog.text
        caplog.clear()
        stage.clock.advance(60)
        stage.observers.answered(prediction_of())
        stage.wait()
    assert "4 times" in caplog.messages[0]


def test_an_observer_is_asked_only_for_what_it_has_a_method_of_its_own_for() -> None:
    class Deaf(PredictionObserver):
        pass

    stage = Stage(Deaf())
    assert stage.observers._hear_answered == ()
    stage.observers.answered(prediction_of())
    stage.wait()


def test_without_observers_nothing_is_kept() -> None:
    stage = Stage()
    stage.observers.answered(prediction_of())
    stage.observers.batch(batch_of())
    stage.wait()
    assert (stage.observers._answered, stage.observers._batches) == ({}, [])
