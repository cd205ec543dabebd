"""Which status each failure has, and what a client reads."""

import json

import pytest

from runners.errors import DeadlineExceeded, ModelFailure, NoScore, NotReady, Overloaded
from runners.inputs.faults import InputFault
from shokado.access.decision import Refused
from shokado.dialects.problem import Problem, invalid, problem_of
from shokado.dispatch.change import ConflictingChange, InvalidChange
from shokado.dispatch.request import UnknownVersion
from shokado.stores.store import GenerationConflict, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused("missing_key", "show a key"), 401, "missing_key"),
        (Refused("forbidden", "this needs another key"), 403, "forbidden"),
        (UnknownVersion("version", "v9", ["v1"]), 404, "unknown_version"),
        (UnknownVersion("environment", "moon", ["production"]), 404, "unknown_environment"),
        (Overloaded(1.5), 503, "overloaded"),
        (NotReady("version v1 is starting"), 503, "not_ready"),
        (DeadlineExceeded(), 504, "deadline_exceeded"),
        (ModelFailure(3, "boom in /secret/path"), 500, "model_failure"),
        (NoScore("v2", 3, "boom in /secret/path"), 422, "no_score"),
        (InvalidChange("no_weight", "at least one weight must be above 0"), 422, "no_weight"),
        (ConflictingChange("version_not_ready", "version v2 is starting"), 409, "version_not_ready"),
        (GenerationConflict(7, 8), 409, "generation_conflict"),
        (StoreUnavailable("the store cannot be used"), 503, "store_unavailable"),
        (RuntimeError("boom in /secret/path"), 500, "internal"),
        (KeyError("x"), 500, "internal"),
    ],
)
def test_each_error_has_its_status_and_tells_no_secrets(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    content = json.loads(problem.body("id-1"))
    assert content["request_id"] == "id-1"
    assert content["error"]["code"] == code
    assert "secret" not in problem.message


def test_a_key_is_asked_for_in_the_words_of_http() -> None:
    assert problem_of(Refused("unknown_key", "x")).headers["www-authenticate"] == 'Bearer realm="shokado"'
    assert problem_of(Refused("forbidden", "x")).headers == {"cache-control": "no-store"}


def test_a_code_that_is_not_in_the_table_is_no_problem_at_all() -> None:
    with pytest.raises(KeyError):
        Problem("teapot", "short and stout")


@pytest.mark.parametrize(
    ("code", "status"),
    [("not_a_number", 422), ("too_many_rows", 413), ("text_too_long", 413), ("unsupported_media_type", 415)],
)
def test_a_fault_of_input_has_the_status_of_its_code(code: str, status: int) -> None:
    problem = problem_of(InputFault(code, "bad", 3, "age", {"limit": 7}))
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail == {"row": 3, "feature": "age", "limit": 7}
    assert json.loads(problem.body("id"))["error"]["message"] == "bad"


def test_what_a_change_meets_is_told_in_particulars() -> None:
    assert problem_of(ConflictingChange("version_in_use", "x", version="v1")).detail == {"version": "v1"}
    assert problem_of(GenerationConflict(7, 8)).detail == {"expected": 7, "found": 8}


def test_a_store_that_is_away_says_that_predictions_go_on() -> None:
    problem = problem_of(StoreUnavailable("the store cannot be used"))
    assert problem.message == "the store cannot be used; predictions go on as they were"
    assert problem.retry_after == 1


def test_a_failing_row_is_named() -> None:
    assert problem_of(ModelFailure(3, "boom")).detail == {"row": 3}
    assert problem_of(NoScore("v2", 3, "boom")).detail == {"row": 3, "version": "v2"}


@pytest.mark.parametrize(("wait_s", "line"), [(0.001, b"1"), (1.0, b"1"), (1.01, b"2"), (17.5, b"18")])
def test_overload_says_when_to_come_back_in_whole_seconds(wait_s: float, line: bytes) -> None:
    assert problem_of(Overloaded(wait_s)).header_lines == b"retry-after: " + line + b"\r\n"


def test_other_problems_do_not_say_when_to_come_back() -> None:
    assert problem_of(DeadlineExceeded()).header_lines == b""
    assert problem_of(NotReady("x")).header_lines == b"retry-after: 1\r\n"


def test_a_problem_is_passed_on_as_it_is() -> None:
    problem = Problem("no_rows", "there are no rows")
    assert problem_of(problem) is problem
    assert json.loads(problem.body("i")) == {
        "error": {"code": "no_rows", "message": "there are no rows"},
        "request_id": "i",
    }


def test_details_that_are_not_known_are_left_out() -> None:
    assert invalid("no_rows", "m").detail == {}
    assert invalid("wrong_type", "m", row=0, feature="f", got=0).detail == {"row": 0, "feature": "f", "got": 0}
