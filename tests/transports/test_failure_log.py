"""The log of failed requests: a line with the id for each that is the server's fault, within bounds."""

import logging
from typing import Any

import pytest

from runners.errors import DeadlineExceeded, ModelFailure, Overloaded, Unreachable
from runners.inputs.faults import InputFault
from runners.trace import TraceContext
from shokado.dialects.problem import Problem, problem_of
from shokado.transports.failure_log import MAX_LINES, FailureLog
from tests.support.clock import HandClock


def told(log: FailureLog, error: Exception, request_id: str = "r-1", **more: Any) -> None:
    log.tell(error, problem_of(error), request_id, **more)


def test_a_line_has_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    told(FailureLog(), DeadlineExceeded(), version="v2", trace=TraceContext(10, 11, 1))
    (record,) = caplog.records
    assert record.getMessage() == (
        "request r-1: version v2: deadline_exceeded: the deadline passed before there were scores"
    )
    facts = {"request_id": "r-1", "version": "v2", "code": "deadline_exceeded"}
    ids = {"trace_id": f"{10:032x}", "span_id": f"{11:016x}"}
    assert (facts | ids).items() <= vars(record).items()
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unreachable(ConnectionError("10.0.0.3 is gone")), "the engine cannot be reached: 10.0.0.3 is gone"),
        (ModelFailure(3, "no"), "row 3: no"),
        (Problem("stopping", "the server is stopping"), "stopping: the server is stopping"),
    ],
)
def test_what_clients_need_not_know_is_in_the_line(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    told(FailureLog(), error)
    assert [record.getMessage() for record in caplog.records] == [f"request r-1: {words}"]


def test_what_nobody_foresaw_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    error = KeyError("surprise")
    told(FailureLog(), error)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("error", [InputFault("not_finite", "row 0 is NaN"), Problem("missing_key", "show a key")])
def test_what_is_the_clients_fault_is_not_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    told(FailureLog(), error)
    assert not caplog.records


def test_lines_of_a_code_are_bounded_and_what_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    log = FailureLog(clock)
    for number in range(100):
        told(log, Overloaded(1.0), f"r-{number}")
    assert len(caplog.records) == MAX_LINES
    told(log, DeadlineExceeded(), "another code")
    assert len(caplog.records) == MAX_LINES + 1
    clock.advance(1.0)
    told(log, Overloaded(1.0), "later")
    line = caplog.records[-1].getMessage()
    assert line.startswith("request later: overloaded")
    assert f"{100 - MAX_LINES} more requests failed so" in line
    told(log, Overloaded(1.0), "once more")
    assert "more requests" not in caplog.records[-1].getMessage()
