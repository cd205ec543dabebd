"""Events of retraining: one for a cause, as far apart as they should be, called by one worker at a time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.retraining_settings import RetrainingSettings
from shokado.retraining import event as events
from shokado.retraining.event import EventStatus, Log, Outcome, RetrainingCause, RetrainingEvent
from tests.stores.entries import NOW

DAY_S = 86_400.0
ACCEPTED, REFUSED = Outcome(accepted=True, note="answered 202"), Outcome(accepted=False, note="answered 500")


def settings(**changes: Any) -> RetrainingSettings:
    return RetrainingSettings(**{"webhook": "http://ci/retrain", "min_interval_s": 0, **changes})


def cause(key: str = "drift:v1:2026-09-21", **changes: Any) -> RetrainingCause:
    return RetrainingCause(**{"kind": "drift", "key": key, "version": "v1", "reason": "age drifted", **changes})


def begun(*keys: str, at: float = NOW) -> Log:
    log: Log = ()
    for key in keys:
        log = events.with_causes(log, [cause(key)], settings(), at)
    return log


def test_a_cause_makes_one_event_however_often_it_is_seen() -> None:
    (one,) = log = begun("a")
    assert (one.status, one.attempts, one.at, one.cause, one.version) == (EventStatus.DUE, 0, NOW, "drift", "v1")
    for later in (0.0, 1.0, DAY_S, 7 * DAY_S):
        assert events.with_causes(log, [cause("a")], settings(), NOW + later) == log


def test_an_ended_event_is_remembered_for_longer_than_its_cause_is_looked_at() -> None:
    log = begun("a")
    ended = events.taken(log, events.ended(events.called(log[0], "w", settings(), NOW), ACCEPTED, settings(), NOW))
    assert events.with_causes(ended, [cause("a")], settings(), NOW + 7 * DAY_S) == ended
    assert events.with_causes(ended, [], settings(), NOW + events.KEEP_S + 1) == ()


def test_two_events_are_as_far_apart_as_they_should_be() -> None:
    chosen = settings(min_interval_s=100)
    log = events.with_causes((), [cause("a"), cause("b")], chosen, NOW)
    assert [one.key for one in log] == ["a"]
    assert events.with_causes(log, [cause("a"), cause("b")], chosen, NOW + 99) == log
    both = events.with_causes(log, [cause("a"), cause("b")], chosen, NOW + 100)
    assert [one.key for one in both] == ["a", "b"], "the cause still holds, and has its turn"
    assert len({one.id for one in both}) == 2


def test_a_clock_that_was_set_back_holds_up_nothing() -> None:
    log = begun("a", at=NOW + 10 * DAY_S)
    assert len(events.with_causes(log, [cause("b")], settings(min_interval_s=3600), NOW)) == 2


def test_the_log_is_bounded() -> None:
    log = begun(*map(str, range(events.MOST_EVENTS)))
    assert events.with_causes(log, [cause("more")], settings(), NOW + 1) == log
    assert len(events.encode_log(log)) < 2**17


def test_one_event_is_called_at_a_time() -> None:
    log = begun("a", "b")
    first = events.callable_event(log, NOW)
    assert first is not None
    assert first.key == "a"
    log = events.taken(log, events.called(first, "w1", settings(), NOW))
    assert events.callable_event(log, NOW + events.LEASE_S - 1) is None
    left = events.callable_event(log, NOW + events.LEASE_S)
    assert left is not None
    assert (left.key, left.worker) == ("a", "w1"), "its worker has ended"
    taken_over = events.called(left, "w2", settings(), NOW + events.LEASE_S)
    assert (taken_over.worker, taken_over.attempts, taken_over.id) == ("w2", 2, first.id)
    log = events.taken(log, taken_over)
    assert events.replaced(log, events.ended(left, ACCEPTED, settings(), NOW), "w1") is None, "it comes too late"


def test_what_fails_is_tried_again_later_and_later_and_then_no_more() -> None:
    chosen = settings(max_attempts=4, retry_s=10)
    (event,) = begun("a")
    at, rests = NOW, []
    while event.status is EventStatus.DUE:
        event = events.ended(events.called(event, "w", chosen, at), REFUSED, chosen, at)
        rests.append(event.due_at - at)
        at = event.due_at
    assert (event.status, event.attempts, event.note) == (EventStatus.FAILED, 4, "answered 500")
    assert rests[:3] == [10, 30, 90]


@pytest.mark.parametrize(("asked_s", "rest_s"), [(0, 10), (500, 500), (1e9, 3600)])
def test_a_receiver_may_ask_for_a_longer_rest(asked_s: float, rest_s: float) -> None:
    chosen = settings(retry_s=10)
    called = events.called(begun("a")[0], "w", chosen, NOW)
    assert events.ended(called, Outcome(False, "", asked_s), chosen, NOW).due_at - NOW == rest_s


def test_a_call_that_kills_its_workers_is_given_up() -> None:
    chosen = settings(max_attempts=2)
    (event,) = begun("a")
    for _ in range(2):
        event = events.called(event, "w", chosen, NOW)
        assert event.status is EventStatus.CALLING
    assert events.called(event, "w", chosen, NOW).status is EventStatus.FAILED


def test_a_worker_that_stops_leaves_the_event_to_another_one_at_once() -> None:
    left = events.interrupted(events.called(begun("a")[0], "w", settings(), NOW), NOW)
    assert (left.status, left.attempts) == (EventStatus.DUE, 0)
    assert events.callable_event((left,), NOW) == left


def test_what_is_told_is_the_same_at_each_attempt() -> None:
    event = begun("a")[0]
    body = events.body_of(event, "churn")
    assert body == events.body_of(events.called(event, "w", settings(), NOW), "churn")
    assert b'"cause":"drift"' in body
    assert event.id.encode() in body


texts = st.text(max_size=600)


@given(texts, texts, texts, st.none() | texts, st.floats(0, 1e12))
def test_a_log_comes_back_as_it_was(key: str, version: str, reason: str, environment: str | None, at: float) -> None:
    log = events.with_causes((), [RetrainingCause("guardrail", key, version, reason, environment)], settings(), at)
    assert events.decode_log(events.encode_log(log)) == log
    assert events.decode_log(None) == ()
    assert isinstance(log[0], RetrainingEvent)
