"""Errors of the control routes: every one in the shape that the prediction routes use, and how they are described."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from shokado.control.http.documentation import REFERENCE, describe, reference
from shokado.control.http.methods import allowed_methods
from shokado.control.outside import route_of
from shokado.dialects.error_codes import ERROR_CODES, STATUS_DESCRIPTIONS
from shokado.dialects.error_shapes import error_body
from shokado.dialects.open_inference import InferError
from shokado.dialects.problem import Problem, ProblemBody, problem_of
from shokado.dispatch.change import ChangeRefused
from shokado.dispatch.request import UnknownVersion
from shokado.stores.store import GenerationConflict, StoreUnavailable
from shokado.transports.failure_log import FailureLog

_EXAMPLES = {
    "malformed_body": "the body is not JSON: Expecting value",
    "unknown_version": "unknown version 'v9'; served are a, b, v1, v2",
    "version_not_ready": "version v2 is starting in worker 812 on web-1, so it cannot be given traffic",
    "generation_conflict": "the routing is at generation 8, not 7",
    "body_too_large": "the body is longer than 1048576 bytes",
    "unsupported_media_type": "content type 'text/plain' is not understood here; send application/json",
    "invalid_weight": "the weight of v1 is -1; weights are finite and not negative",
    "store_unavailable": "the store redis://store:6379/0 cannot be used: Connection refused; predictions go on as they "
    "were",
}
"""A message of one code for each status."""

BODY_ERRORS = (400, 413, 415, 422)

_failures = FailureLog()


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of these error answers, with an example each."""
    examples = {
        ERROR_CODES[code].status_if_match or ERROR_CODES[code].status: {"code": code, "message": message}
        for code, message in _EXAMPLES.items()
    }
    described: dict[int | str, dict[str, Any]] = {}
    for status in sorted(statuses):
        example = {"error": examples[status], "request_id": "3f9c2b7a10e40000000001"}
        content = {"application/json": {"schema": reference(ProblemBody), "example": example}}
        described[status] = {"description": STATUS_DESCRIPTIONS[status], "content": content}
    return described


def answer_errors(app: FastAPI) -> None:
    """Have every error of the app answered in the common shape, and that described."""
    handled = (
        Problem, UnknownVersion, ChangeRefused, GenerationConflict, StoreUnavailable, HTTPException,
        RequestValidationError, Exception,
    )  # fmt: skip
    for kind in handled:
        app.add_exception_handler(kind, answer_error)
    describe(app, _add_shapes)


def _add_shapes(schema: dict[str, Any]) -> None:
    _, shapes = msgspec.json.schema_components((ProblemBody, InferError), ref_template=REFERENCE)
    schema["components"]["schemas"] |= shapes


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer that an error gets."""
    match error:
        case HTTPException(status_code=404):
            problem = Problem("not_found", f"{request.method} {route_of(request.scope)}: {error.detail}")
        case HTTPException(status_code=405):
            problem = Problem("method_not_allowed", f"{request.method} {route_of(request.scope)}: {error.detail}")
        case RequestValidationError():
            problem = _invalid(error)
        case _:
            problem = problem_of(error)
    request_id = request.state.request_id
    _failures.tell(error, problem, request_id)
    headers = {**(getattr(error, "headers", None) or {}), "content-type": "application/json"}
    if problem.status == 405:
        # The framework names the methods of the first of a path's routes alone.
        headers["Allow"] = allowed_methods(request.app, request.scope)
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    # The middleware does not see what is answered to an unforeseen error.
    headers["x-request-id"] = request_id
    return Response(error_body(route_of(request.scope), problem, request_id), problem.status, headers=headers)


def _invalid(error: RequestValidationError) -> Problem:
    """422, naming the first field that is wrong. What was sent is not repeated, except for its names."""
    first = error.errors()[0]
    # A name may hold what is half a character in JSON, and none in an answer.
    where = [str(part).encode(errors="backslashreplace").decode()[:100] for part in first["loc"]]
    field = ".".join(where[1:]) or where[0]
    if first["type"] == "extra_forbidden":
        return Problem("unknown_field", f"{field}: unknown field", {"field": field})
    message = first["msg"].removeprefix("Value error, ")
    return Problem("invalid", f"{field}: {message}", {"field": field})
