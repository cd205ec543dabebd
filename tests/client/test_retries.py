"""When a request is sent again: by the rules alone, and to a server that is scripted to refuse."""

from collections.abc import Callable

import httpx
import pytest

from shokado.client import (
    NO_RETRIES,
    Conflict,
    DeadlinePassed,
    NoAnswer,
    Retries,
    ServerFailure,
    Unavailable,
)
from shokado.client.retries import RetryState, retry_after
from tests.client.conftest import Connect
from tests.client.scripted_server import Reply, scripted
from tests.support.clock import HandClock

SPLIT = {
    "environment": "production", "generation": 3, "active": "v1", "weights": {"v1": 1}, "shares": {"v1": 1.0},
    "percent": {"v1": 100.0}, "strategy": "random", "enabled": True, "salt": "", "shadow": None,
    "updated_at": "2026-01-01T00:00:00.000+00:00", "by": "me", "action": "split", "why": "",
}  # fmt: skip
PREDICTION = {
    "predictions": [0.5], "classes": [1], "version": "v1", "reason": "SPLIT", "generation": 3, "request_id": "r",
    "prediction_id": "p", "latency_ms": 0.2,
}  # fmt: skip
NOW = {"Retry-After": "0"}
DONE = Reply(200, SPLIT)


def refusal(code: str, status: int = 503, headers: dict[str, str] = NOW) -> Reply:
    return Reply(status, {"error": {"code": code, "message": "words"}, "request_id": "r"}, headers)


def response(status: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, request=httpx.Request("GET", "http://host"))


def attempts(clock: HandClock, deadline_s: float | None = None, chance: float = 0.0, **limits: float) -> RetryState:
    retries = Retries(**limits)  # type: ignore[arg-type]
    made = RetryState(retries, True, deadline_s, clock, lambda: chance)
    made.begin()
    return made


def test_the_server_says_how_long_to_wait() -> None:
    assert attempts(HandClock(0.0)).wait_after(response(503, retry_after="3")) == 3
    assert attempts(HandClock(0.0), chance=1.0).wait_after(response(429, retry_after="3")) == pytest.approx(3.3)


def test_without_its_word_each_wait_is_longer_than_the_last_one() -> None:
    made, waits = attempts(HandClock(0.0), max_attempts=5), []
    for _ in range(4):
        waits.append(made.wait_after(response(503)))
        made.begin()
    assert waits == [0.05, 0.1, 0.2, 0.4]
    assert made.wait_after(response(503)) is None, "five were made"


def test_no_attempt_begins_after_the_total_time() -> None:
    clock = HandClock(0.0)
    made = attempts(clock, max_total_s=10)
    assert made.wait_after(response(503, retry_after="10")) == 10
    assert made.wait_after(response(503, retry_after="11")) is None
    clock.now = 9.0
    assert made.wait_after(response(503, retry_after="1")) == 1
    assert made.wait_after(response(503, retry_after="2")) is None


def test_no_attempt_begins_after_the_deadline() -> None:
    clock = HandClock(0.0)
    made = attempts(clock, deadline_s=2)
    assert made.wait_after(response(503, retry_after="1")) == 1
    assert made.wait_after(response(503, retry_after="2")) is None
    clock.now = 1.5
    assert made.begin() == 0.5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 20.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_clock_of_the_server(value: str, seconds: float | None) -> None:
    assert retry_after(response(503, retry_after=value, date="Thu, 01 Jan 2026 00:00:10 GMT")) == seconds


@pytest.mark.parametrize(
    ("outcome", "of_prediction", "of_change"),
    [
        (response(503, retry_after="0"), True, True),
        (response(429, retry_after="0"), True, True),
        (response(503), True, False),
        (response(502, retry_after="0"), True, False),
        (response(500), False, False),
        (response(504, retry_after="0"), False, False),
        (response(412), False, False),
        (response(200), False, False),
        (httpx.ConnectError(""), True, True),
        (httpx.ConnectTimeout(""), True, True),
        (httpx.ReadError(""), True, False),
        (httpx.RemoteProtocolError(""), True, False),
        (httpx.ReadTimeout(""), False, False),
        (httpx.PoolTimeout(""), False, False),
        (httpx.UnsupportedProtocol(""), False, False),
    ],
)
def test_what_is_repeated(outcome: httpx.Response | httpx.TransportError, of_prediction: bool, of_change: bool) -> None:
    for repeatable, expected in ((True, of_prediction), (False, of_change)):
        made = RetryState(Retries(), repeatable, None, HandClock(0.0), lambda: 0.0)
        made.begin()
        assert (made.wait_after(outcome) is not None) is expected


@pytest.mark.parametrize("limits", [{"max_attempts": 0}, {"max_total_s": -1}, {"max_total_s": float("nan")}])
def test_limits_that_make_no_sense(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Retries(**limits)  # type: ignore[arg-type]


def test_a_prediction_is_sent_again_when_the_server_says(connect: Connect) -> None:
    with scripted(refusal("overloaded", headers={"Retry-After": "1"}), Reply(200, PREDICTION)) as server:
        assert connect(server.url).predict([[1]], unit="u", request_id="mine").predictions == [0.5]
    first, second = server.asked
    assert second.at - first.at >= 1
    assert (first.body, first.path, first.method) == (second.body, second.path, second.method)
    assert first.headers["x-request-id"] == second.headers["x-request-id"] == "mine"


def test_a_connection_that_breaks_costs_no_prediction(connect: Connect) -> None:
    with scripted(Reply(None), Reply(200, PREDICTION)) as server:
        assert connect(server.url).predict([[1]]).version == "v1"
    assert len(server.asked) == 2


def test_each_attempt_says_what_is_left_of_the_deadline(connect: Connect) -> None:
    with scripted(refusal("overloaded"), refusal("overloaded"), Reply(200, PREDICTION)) as server:
        connect(server.url).predict([[1]], deadline_s=60)
    left = [float(asked.headers["x-request-deadline-ms"]) for asked in server.asked]
    assert 60_000 >= left[0] > left[1] > left[2] > 0


def test_after_as_many_attempts_as_allowed_the_refusal_is_raised(connect: Connect) -> None:
    with scripted(refusal("overloaded", headers=NOW)) as server:
        client = connect(server.url, retries=Retries(max_attempts=3))
        with pytest.raises(Unavailable) as refused:
            client.predict([[1]])
        assert len(server.asked) == 3
        assert (refused.value.code, refused.value.retry_after_s, refused.value.request_id) == ("overloaded", 0, "r")
        with pytest.raises(Unavailable):
            connect(server.url, retries=NO_RETRIES).split()
        assert len(server.asked) == 4


def test_a_wait_that_is_too_long_is_left_to_the_caller(connect: Connect) -> None:
    with scripted(refusal("rate_limited", 429, {"Retry-After": "3600"})) as server:
        with pytest.raises(Unavailable) as refused:
            connect(server.url).split()
        assert (refused.value.status, refused.value.retry_after_s, len(server.asked)) == (429, 3600, 1)


Changes = Callable[[Connect, str], object]
CHANGES: dict[str, Changes] = {
    "split": lambda connect, url: connect(url).change_split({"v1": 1}),
    "rollback": lambda connect, url: connect(url).rollback(1),
    "activate": lambda connect, url: connect(url).activate("v1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_sent_again_when_it_was_refused_unread(change: Changes, connect: Connect) -> None:
    with scripted(refusal("overloaded"), refusal("rate_limited", 429), DONE) as server:
        change(connect, server.url)
    assert len(server.asked) == 3


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refusal("store_unavailable"), Unavailable),
        (refusal("not_ready", headers={}), Unavailable),
        (refusal("", 502), Unavailable),
        (refusal("internal", 500), ServerFailure),
        (refusal("generation_conflict", 412), Conflict),
        (refusal("deadline_exceeded", 504), DeadlinePassed),
        (Reply(None), NoAnswer),
    ],
)
def test_a_change_that_may_have_been_made_is_not(
    change: Changes, reply: Reply, error: type[Exception], connect: Connect
) -> None:
    with scripted(reply, DONE) as server:
        with pytest.raises(error):
            change(connect, server.url)
        assert len(server.asked) == 1


def test_feedback_counts_once_and_may_be_sent_twice(connect: Connect) -> None:
    taken = Reply(200, {"accepted": 0, "duplicate": 1, "rejected": 0, "results": [{"status": "duplicate"}]})
    with scripted(refusal("store_unavailable"), Reply(None), taken) as server:
        assert connect(server.url).feedback("id", label=1).duplicate == 1
    assert len({asked.body for asked in server.asked}) == 1
    assert len(server.asked) == 3
