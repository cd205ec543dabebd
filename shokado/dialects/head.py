"""The head of a prediction request: what its headers say, read once and, for the lane, remembered by its bytes."""

import re
from dataclasses import dataclass, field

from runners.inputs.precision import PRECISIONS, Precision
from runners.trace import TraceContext, read_traceparent, read_tracestate
from shokado.access.decision import credential_of
from shokado.access.forwarding import NAMES as FORWARDING
from shokado.access.forwarding import Headers
from shokado.dialects.compression import WBITS
from shokado.dialects.problem import Problem

JSON = b"application/json"
BINARY = b"application/octet-stream"

ID_PATTERN = "[A-Za-z0-9._:/+=@-]{1,128}"
NAME_PATTERN = "[A-Za-z0-9._-]{1,128}"
_SANE_ID = re.compile(ID_PATTERN.encode()).fullmatch
_NAME = re.compile(NAME_PATTERN.encode()).fullmatch
_WIDTH = re.compile(rb"[1-9][0-9]{0,8}").fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch
MAX_DEADLINE_MS = 3_600_000
"""An hour: whoever asks for more has mistaken the unit."""
MAX_UNIT_CHARACTERS = 256
"""More than an id of a user has; it is hashed with each request."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Headers that prediction routes heed. `problem` is set when one of them cannot be used."""

    content_type: bytes = JSON
    """Without parameters, in lower case; JSON where the client sent none."""
    packed_as: Precision | None = None
    """What rows are packed as, of the content type's parameter `dtype`; None: as the model takes them."""
    columns: int | None = None
    """How many numbers a packed row has, of the content type's parameter `columns`; None: as many as the model takes.
    """
    binary_answer: bool = False
    """Whether the client asked for `application/octet-stream`."""
    request_id: str | None = None
    """The client's `X-Request-ID`, kept if sane: at most 128 of letters, digits and `._:/+=@-`."""
    id_unit: str = ""
    """What the client sent as `X-Request-ID`, kept or not: equal ids stick to the same version."""
    pins: tuple[str, ...] = ()
    """Versions or aliases that the path and `X-Model-Version` name."""
    environment: str | None = None
    unit: str = ""
    """The client's `X-Unit-ID`: what sticky assignment sticks to."""
    deadline_s: float | None = None
    """Seconds from arrival, of `X-Request-Deadline-Ms`."""
    json_bytes: int | None = None
    """How much of the body is JSON, of `Inference-Header-Content-Length`; binary tensor data follow."""
    coding: bytes = b""
    """How the body is compressed, as `shokado.dialects.compression` understands it; empty where it is not."""
    problem: Problem | None = None
    credential: bytes | None = field(default=None, repr=False)
    """Digest of the key that was shown; see `access`."""
    forwarding: Headers = ()
    """Lines in which proxies say whom they pass it on for; see `shokado.access.forwarding`."""
    trace: TraceContext | None = None
    """The client's span that the request is part of, of `traceparent` and `tracestate`; None where it names none, or
    not as W3C has it."""


def read_head(headers: Headers, pins: tuple[str, ...] = ()) -> RequestHead:
    """Read a request's headers, whose names are in lower case; `pins` are the versions that its path names."""
    found = {name: value.strip() for name, value in headers if name in _HEEDED}
    request_id = found.get(b"x-request-id", b"")
    content_type, *parameters = found.get(b"content-type", JSON).lower().split(b";")
    packed_as, columns, problem = _packing(parameters) if parameters else (None, None, None)
    names: dict[bytes, str | None] = {}
    for header in (b"x-model-version", b"x-environment"):
        value = found.get(header)
        names[header] = value.decode("latin-1") if value else None
        if value and not _NAME(value):
            problem = Problem("bad_header", f"{header.decode()} is not a name")
    unit = found.get(b"x-unit-id", b"")
    if len(unit) > MAX_UNIT_CHARACTERS:
        problem = Problem("bad_header", f"x-unit-id is longer than {MAX_UNIT_CHARACTERS} characters")
    deadline_s = _deadline(found.get(b"x-request-deadline-ms"))
    if deadline_s is not None and not 0 < deadline_s <= MAX_DEADLINE_MS / 1000:
        limits = f"a number of milliseconds above 0 and up to {MAX_DEADLINE_MS}"
        problem = Problem("bad_header", f"x-request-deadline-ms must be {limits}")
    json_bytes = found.get(b"inference-header-content-length", b"")
    if json_bytes and not _LENGTH(json_bytes):
        problem = Problem("bad_header", "inference-header-content-length is not a number of bytes")
    coding = found.get(b"content-encoding", b"identity").lower()
    if coding != b"identity" and coding not in WBITS:
        got = coding[:40].decode("latin-1")
        message = f"content encoding {got!r} is not understood here; send gzip, deflate, or the body as it is"
        problem = Problem("unsupported_encoding", message)
    if len(request_id) > MAX_UNIT_CHARACTERS:
        problem = Problem("bad_header", f"x-request-id is longer than {MAX_UNIT_CHARACTERS} characters")
    version = names[b"x-model-version"]
    if len(dict(headers)) < len(headers):
        problem = _conflict(headers) or problem
    forwarding: Headers = ()
    if b"x-forwarded-for" in found or b"forwarded" in found:
        forwarding = [line for line in headers if line[0] in FORWARDING]
    return RequestHead(
        content_type=content_type.strip(),
        packed_as=packed_as,
        columns=columns,
        binary_answer=found.get(b"accept", b"").split(b";")[0].strip().lower() == BINARY,
        request_id=request_id.decode("ascii") if _SANE_ID(request_id) else None,
        id_unit=_text(request_id) if len(request_id) <= MAX_UNIT_CHARACTERS else "",
        pins=(*pins, version) if version else pins,
        environment=names[b"x-environment"],
        unit=_text(unit),
        deadline_s=deadline_s,
        json_bytes=int(json_bytes) if json_bytes and problem is None else None,
        coding=coding if coding in WBITS else b"",
        problem=problem,
        credential=credential_of(_latin(found, b"x-api-key"), _latin(found, b"authorization")),
        forwarding=forwarding,
        trace=_trace(headers) if b"traceparent" in found else None,
    )


_SENT_ONCE = frozenset(
    (
        b"content-type",
        b"x-model-version",
        b"x-environment",
        b"x-unit-id",
        b"x-request-deadline-ms",
        b"inference-header-content-length",
        b"content-encoding",
    )
)
"""Proxies add request ids of their own."""
_HEEDED = _SENT_ONCE | {b"accept", b"x-request-id", b"x-api-key", b"authorization", b"traceparent", *FORWARDING}


def _conflict(headers: Headers) -> Problem | None:
    """What there is to say of lines of one name that differ: no choice between them would be right."""
    values: dict[bytes, set[bytes]] = {}
    for name, value in headers:
        if name in _SENT_ONCE:
            values.setdefault(name, set()).add(value.strip())
    for name, sent in values.items():
        if len(sent) > 1:
            message = f"{name.decode()} is sent twice, with different values"
            return Problem("conflicting_version" if name == b"x-model-version" else "bad_header", message)
    return None


def _trace(headers: Headers) -> TraceContext | None:
    parents = [value for name, value in headers if name == b"traceparent"]
    context = read_traceparent(parents[0].strip(b" \t")) if len(parents) == 1 else None
    if context is not None:
        context.state = read_tracestate([value for name, value in headers if name == b"tracestate"])
    return context


def _packing(parameters: list[bytes]) -> tuple[Precision | None, int | None, Problem | None]:
    """What a content type's parameters `dtype` and `columns` say of packed rows, or why one says nothing."""
    pairs = [parameter.strip().partition(b"=") for parameter in parameters]
    said = {name: value.strip(b'" ') for name, _, value in pairs}
    dtype, columns = said.get(b"dtype"), said.get(b"columns")
    problem = None
    if dtype is not None and dtype.decode("latin-1") not in PRECISIONS:
        problem = _not_understood("dtype", dtype, f"{' and '.join(PRECISIONS)} are, or none")
    if columns is not None and not _WIDTH(columns):
        problem = _not_understood("columns", columns, "a number of columns is, or none")
    if problem is not None:
        return None, None, problem
    precision = PRECISIONS[dtype.decode()] if dtype is not None else None
    return precision, int(columns) if columns is not None else None, None


def _not_understood(parameter: str, value: bytes, known: str) -> Problem:
    said = value[:40].decode("latin-1")
    return Problem("unsupported_media_type", f"{parameter}={said!r} of the content type is not understood; {known}")


def _latin(found: dict[bytes, bytes], name: bytes) -> str:
    return found.get(name, b"").decode("latin-1")


def _text(value: bytes) -> str:
    """As a body would spell it, so that a unit is the same in both."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _deadline(value: bytes | None) -> float | None:
    """Seconds; -1 for what is no number."""
    if not value:
        return None
    try:
        return float(value) / 1000
    except ValueError:
        return -1.0
