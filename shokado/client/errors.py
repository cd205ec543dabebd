"""What goes wrong, as one family of exceptions: `ShokadoError`, and a subclass for each thing a caller may do about it.

In: an answer that is no success, or the transport's error. Out: the exception, with what the server says of the fault.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(eq=False)
class ShokadoError(Exception):
    """Base of all. A field that is not known, because no answer came or it was another server's, is None or empty."""

    message: str
    """What went wrong, for people; names the row and the feature where there is one."""
    status: int | None = None
    """The HTTP status; None without an answer."""
    code: str = ""
    """What went wrong, for programs, such as `wrong_feature_count`."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Where it is wrong: row, feature, limit."""
    request_id: str = ""
    """What the server's log knows the request by."""
    retry_after_s: float | None = None
    """Seconds that the server asked to wait; it was asked again already as often as `Retries` allows."""

    @property
    def row(self) -> int | None:
        """Number of the row that is wrong, from 0."""
        return self.detail.get("row")

    @property
    def feature(self) -> str | None:
        """Name of the feature that is wrong."""
        return self.detail.get("feature")

    def __str__(self) -> str:
        told = " ".join(str(part) for part in (self.status, self.code) if part)
        return f"{told}: {self.message}" if told else self.message


class NoAnswer(ShokadoError):
    """The server could not be reached, or the connection ended before its answer."""


class InvalidRequest(ShokadoError):
    """400 and the like: something about the request is wrong, and it will be the next time, too."""


class AccessDenied(ShokadoError):
    """401 or 403: there is no key, or it is not one for this."""


class NotFound(ShokadoError):
    """404: no such version, environment, generation or route."""


class Conflict(ShokadoError):
    """409 or 412: it does not fit to what the server has, or somebody else was faster."""


class FeaturesLacking(ShokadoError):
    """424: the server has no features of the entity that was named, or could not look them up; `detail` names both."""


class Unavailable(ShokadoError):
    """429, 502 or 503: not now; `retry_after_s` says when."""


class DeadlinePassed(ShokadoError):
    """504: it could not be done in time."""


class ServerFailure(ShokadoError):
    """500 and the like: the server's fault, which its log explains."""


class UnexpectedAnswer(ShokadoError):
    """What came is no answer of Shokado; perhaps another server has this address."""


_BY_STATUS: Mapping[int, type[ShokadoError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    424: FeaturesLacking,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: DeadlinePassed,
}


def error_of(response: httpx.Response, retry_after_s: float | None = None) -> ShokadoError:
    """The exception that an answer means which is no success, whoever gave it: a proxy's may be no JSON."""
    status = response.status_code
    other = UnexpectedAnswer if status < 400 else InvalidRequest if status < 500 else ServerFailure
    kind = _BY_STATUS.get(status, other)
    told: dict[str, Any]
    match _json(response.content):
        case {"error": {"code": str(code), "message": str(message)} as told, **around}:
            request_id = around.get("request_id")
        case {"error": str(message)} | {"message": str(message)}:
            # As the Open Inference Protocol, KServe and MLflow have it.
            code, told, request_id = "", {}, None
        case _:
            message = f"{described(response.request)} is answered with {status} {response.reason_phrase}".rstrip()
            code, told, request_id = "", {}, None
    detail = told.get("detail")
    named = str(request_id or response.headers.get("x-request-id", ""))
    return kind(message, status, code, detail if isinstance(detail, dict) else {}, named, retry_after_s)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def no_answer(error: httpx.TransportError, request: str) -> NoAnswer:
    """The exception that a transport's error means."""
    return NoAnswer(f"{request}: {str(error) or type(error).__name__}")


def described(request: httpx.Request) -> str:
    """Method and address, without credentials."""
    return f"{request.method} {request.url.copy_with(userinfo=b'', query=None)}"
