"""What an answer must be, whatever was asked."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

CHANGING = {"request_id", "prediction_id", "latency_ms", "timestamp", "generation"}
"""Fields of a good answer that differ from one time to the next."""
_HEAD = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*\r\n((?:[A-Za-z0-9-]+: ?[ -~]*\r\n)*)\r\n").fullmatch
_CLASSIFIED = re.compile(r"[0-9.e-]+:\d+:").match
"""`score:index:label` of Triton's classifications."""
_LENGTH = re.compile(rb"(?:^|\r\n)content-length: (\d+)\r\n")
_TYPE = re.compile(rb"(?:^|\r\n)content-type: ([^;\r]+)")


@dataclass(frozen=True)
class AnswerHead:
    """The first part of an answer; `body_bytes` is -1 when it does not say."""

    status: int
    content_type: str
    body_bytes: int
    closes: bool


def read_answer_head(data: bytes) -> AnswerHead | None:
    """The head of an answer; None when it is not HTTP."""
    found = _HEAD(data)
    if found is None:
        return None
    lines = found[2]
    length, kind = _LENGTH.search(lines), _TYPE.search(lines)
    closes = b"connection: close" in lines
    return AnswerHead(int(found[1]), kind[1].decode() if kind else "", int(length[1]) if length else -1, closes)


def fault_of(head: AnswerHead, body: bytes) -> str | None:
    """What is wrong with an answer to a request that may be anything; None when all is well."""
    if head.status >= 500:
        return f"status {head.status}"
    if head.status >= 400:
        return _error_fault(head, body)
    if head.content_type == "application/json":
        return None if _parsed(body) is not None else "the answer is no JSON"
    return None


def _error_fault(head: AnswerHead, body: bytes) -> str | None:
    content = _parsed(body)
    if head.content_type != "application/json" or not isinstance(content, dict) or not content:
        return f"status {head.status} without a JSON object that says why"
    return "a traceback" if b"Traceback" in body else None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except ValueError:
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def content_of(head: AnswerHead, body: bytes) -> Any:
    """The body of a good answer as values, for `is_same`."""
    return _parsed(body) if head.content_type == "application/json" else body


def is_same(content: Any, other: Any) -> bool:
    """Whether two good answers say the same: engines differ in the last digits, and each answer has its own id."""
    if isinstance(content, dict) and isinstance(other, dict):
        return content.keys() == other.keys() and all(
            name in CHANGING or is_same(value, other[name]) for name, value in content.items()
        )
    if isinstance(content, list) and isinstance(other, list):
        return len(content) == len(other) and all(map(is_same, content, other))
    if isinstance(content, str) and isinstance(other, str) and _CLASSIFIED(content) and _CLASSIFIED(other):
        (score, *which), (other_score, *other_which) = content.split(":", 1), other.split(":", 1)
        return which == other_which and is_same(float(score), float(other_score))
    if isinstance(content, float) and isinstance(other, float):
        return math.isclose(content, other, rel_tol=1e-4, abs_tol=1e-6)
    if isinstance(content, bytes) and isinstance(other, bytes):
        # Packed scores, or tensors behind JSON with an id of its own.
        return len(content) == len(other)
    return bool(content == other)
