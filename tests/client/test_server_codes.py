"""What the client makes of every error code that the server may answer with: it has no table of them, but agrees."""

import httpx
import pytest

from shokado.client import errors
from shokado.client.errors import ShokadoError, error_of
from shokado.client.retries import Retries, RetryState
from shokado.dialects.error_codes import ERROR_CODES, Repeat

KINDS: dict[str, type[ShokadoError]] = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "UNIMPLEMENTED": errors.InvalidRequest,
    "UNAUTHENTICATED": errors.AccessDenied,
    "PERMISSION_DENIED": errors.AccessDenied,
    "NOT_FOUND": errors.NotFound,
    "ABORTED": errors.Conflict,
    "FAILED_PRECONDITION": errors.FeaturesLacking,
    "RESOURCE_EXHAUSTED": errors.Unavailable,
    "UNAVAILABLE": errors.Unavailable,
    "DEADLINE_EXCEEDED": errors.DeadlinePassed,
    "INTERNAL": errors.ServerFailure,
}
"""The client's word for each status of gRPC."""


def answer(code: str, status: int) -> httpx.Response:
    found = ERROR_CODES[code]
    headers = {} if found.retry_after_s is None else {"retry-after": f"{found.retry_after_s:g}"}
    content = {"error": {"code": code, "message": "words"}, "request_id": "r"}
    return httpx.Response(status, json=content, headers=headers, request=httpx.Request("GET", "http://host"))


@pytest.mark.parametrize("code", ERROR_CODES)
def test_a_code_is_the_exception_that_its_status_says(code: str) -> None:
    found = ERROR_CODES[code]
    # A request that is late to arrive is the client's own fault.
    expected = errors.InvalidRequest if code == "request_timeout" else KINDS[found.grpc]
    for status in filter(None, (found.status, found.status_if_match)):
        assert type(error_of(answer(code, status))) is expected


@pytest.mark.parametrize("code", ERROR_CODES)
def test_a_code_is_repeated_as_the_table_allows(code: str) -> None:
    found = ERROR_CODES[code]

    def repeats(repeatable: bool) -> bool:
        state = RetryState(Retries(), repeatable, None, lambda: 0.0, lambda: 0.0)
        state.begin()
        return state.wait_after(answer(code, found.status)) is not None

    assert repeats(True) == (found.repeat is not Repeat.NEVER)
    assert repeats(False) == (found.repeat is Repeat.SAFE)
