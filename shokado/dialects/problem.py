"""Problems: every way in which a request gets no prediction, with its code and words for the client.

Which status a code has stands in `error_codes`.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec

from runners.errors import DeadlineExceeded, ModelFailure, NoScore, NotExplainable, NotReady, Overloaded
from runners.inputs.faults import InputFault
from shokado.access.decision import Refused
from shokado.dialects.error_codes import CODES_DESCRIPTION, ERROR_CODES
from shokado.dispatch.change import ChangeRefused
from shokado.dispatch.fault import Fault
from shokado.dispatch.request import UnknownVersion
from shokado.stores.store import GenerationConflict, StoreUnavailable

FAILED_DEPENDENCY = 424
"""The status of requests whose features could not be had."""

_encode = msgspec.json.Encoder().encode


class ProblemError(msgspec.Struct, omit_defaults=True):
    """What is wrong."""

    code: Annotated[str, msgspec.Meta(description=CODES_DESCRIPTION)]
    message: str
    """For people."""
    detail: dict[str, Any] = {}
    """Where: the row, the feature, the limit."""


class ProblemBody(msgspec.Struct):
    """The JSON of every error whose dialect has no shape of its own."""

    error: ProblemError
    request_id: str


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error: a code for programs, a message for people, and particulars.

    Raises `KeyError` for a code that is not in the table.
    """

    code: str
    message: str
    detail: dict[str, Any] = field(default_factory=dict)
    retry_after_s: float | None = None
    """Where it was measured; left out: what the table says."""
    headers: dict[str, str] = field(default_factory=dict)
    """More of the answer's headers, names in lower case."""
    status: int = 0
    """HTTP's status; left out: what the table says."""

    def __post_init__(self) -> None:
        found = ERROR_CODES[self.code]
        self.status = self.status or found.status
        if self.retry_after_s is None:
            self.retry_after_s = found.retry_after_s

    def body(self, request_id: str) -> bytes:
        """The JSON that every dialect without an error shape of its own answers with."""
        return _encode(ProblemBody(ProblemError(self.code, self.message, self.detail), request_id))

    @property
    def fault(self) -> Fault:
        """Whose fault it is: the only place that says so. The client's are those of 400 to 499, but for 424: what the
        client names has no features, or they could not be had.
        """
        return Fault.CLIENT if self.status < 500 and self.status != FAILED_DEPENDENCY else Fault.SERVER

    @property
    def retry_after(self) -> int | None:
        """The header's value: whole seconds, at least one; None where there is no time to name."""
        return None if self.retry_after_s is None else max(1, math.ceil(self.retry_after_s))

    @property
    def header_lines(self) -> bytes:
        lines = b"" if self.retry_after is None else b"retry-after: %d\r\n" % self.retry_after
        return lines + b"".join(f"{name}: {value}\r\n".encode() for name, value in self.headers.items())


Raised = TypeVar("Raised", bound=BaseException)


def parted(fault: Raised) -> Raised:
    """The fault without its traceback and what came before it, whose frames know it: a cycle for the collector."""
    fault.__traceback__ = fault.__context__ = fault.__cause__ = None
    return fault


def problem_of(error: BaseException) -> Problem:  # noqa: C901, PLR0912  # one case for each kind of error
    """The problem that an exception of the inner rooms means to a client; anything unforeseen is an internal error."""
    match error:
        case Problem():
            return error
        case Refused():
            problem = Problem(error.code, str(error), retry_after_s=error.retry_after_s, headers=error.headers)
            if problem.status == 401:
                problem.headers["www-authenticate"] = 'Bearer realm="shokado"'
            return problem
        case InputFault():
            return Problem(error.code, error.message, error.detail)
        case UnknownVersion():
            return Problem(f"unknown_{error.what}", str(error))
        case Overloaded():
            message = f"the server is overloaded: {error}; try again later"
            return Problem("overloaded", message, retry_after_s=error.retry_after_s)
        case NotReady():
            return Problem("not_ready", str(error))
        case NotExplainable():
            return Problem("not_explainable", str(error))
        case DeadlineExceeded():
            return Problem("deadline_exceeded", str(error))
        case NoScore():
            return Problem("no_score", error.message, {"row": error.row, "version": error.version})
        case ModelFailure():
            message = f"the model could not score row {error.row}"
            return Problem("model_failure", message, {"row": error.row})
        case ChangeRefused():
            return Problem(error.code, str(error), error.detail)
        case GenerationConflict():
            detail = {"expected": error.expected, "found": error.found}
            return Problem("generation_conflict", str(error), detail)
        case StoreUnavailable():
            message = f"{error}; predictions go on as they were"
            return Problem("store_unavailable", message)
        case _:
            return Problem("internal", "an unexpected error happened; the server's log has it")


def malformed(message: str) -> Problem:
    """400: the body is not what its content type says."""
    return Problem("malformed_body", message)


def invalid(code: str, message: str, row: int | None = None, feature: str | None = None, **detail: Any) -> Problem:
    """422: readable, but not a request that the model can score; names the row and the feature where there is one."""
    where = {"row": row, "feature": feature, **detail}
    return Problem(code, message, {key: value for key, value in where.items() if value is not None})


def conflicting_version(name: str) -> Problem:
    """400: path, header and body pin different versions; `name` is the one of the path or of the header."""
    message = f"{name[:100]!r} and another version are named: path, x-model-version and body must agree"
    return Problem("conflicting_version", message)


def body_too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"the body is longer than {limit} bytes", {"limit": limit})
