"""Answers that are no success, as exceptions."""

import json

import httpx
import pytest

from shokado.client import errors
from shokado.client.errors import ShokadoError, error_of


def response(status: int, content: object, **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = httpx.Request("POST", "http://me:secret@host/v1/models/predict?limit=1")
    return httpx.Response(status, content=body, headers=headers, request=request)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, errors.UnexpectedAnswer),
        (400, errors.InvalidRequest),
        (401, errors.AccessDenied),
        (403, errors.AccessDenied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (412, errors.Conflict),
        (413, errors.InvalidRequest),
        (422, errors.InvalidRequest),
        (429, errors.Unavailable),
        (500, errors.ServerFailure),
        (502, errors.Unavailable),
        (503, errors.Unavailable),
        (504, errors.DeadlinePassed),
        (507, errors.ServerFailure),
    ],
)
def test_a_status_has_its_exception(status: int, kind: type[ShokadoError]) -> None:
    found = error_of(response(status, b""))
    assert type(found) is kind
    assert found.status == status


def test_the_words_of_the_server_are_kept() -> None:
    told = {"code": "wrong_type", "message": "row 3: age is text", "detail": {"row": 3, "feature": "age", "limit": 9}}
    found = error_of(response(422, {"error": told, "request_id": "r-1"}), 2.0)
    assert (found.code, found.message, found.row, found.feature) == ("wrong_type", told["message"], 3, "age")
    assert (found.detail["limit"], found.request_id, found.retry_after_s) == (9, "r-1", 2.0)
    assert str(found) == "422 wrong_type: row 3: age is text"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Bad Gateway</html>", b"\xff", [], {}, {"error": None}, {"error": 7}, {"error": {"code": "x"}}],
)
def test_the_answer_of_a_proxy_says_what_was_asked_and_no_secret(content: object) -> None:
    found = error_of(response(502, content, **{"x-request-id": "r-2"}))
    assert str(found) == "502: POST http://host/v1/models/predict is answered with 502 Bad Gateway"
    assert (found.code, found.row, found.feature, found.request_id) == ("", None, None, "r-2")


@pytest.mark.parametrize("content", [{"error": "words"}, {"error_code": "BAD_REQUEST", "message": "words"}])
def test_errors_of_other_dialects_keep_their_words(content: object) -> None:
    assert str(error_of(response(400, content))) == "400: words"
