"""Problems as clients get them: of whatever a decoder raises, and in answers of the common shape."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from runners.inputs.faults import InputFault
from shokado.dialects.problem import Problem, problem_of

REFUSALS = (Problem, InputFault)
"""What decoding a request may raise."""


class Caught:
    """The problem, once the block has ended."""

    value: Problem


@contextmanager
def refused_input(match: str | None = None) -> Iterator[Caught]:
    """The block must refuse its input, with a message that `match` finds."""
    caught = Caught()
    with pytest.raises(REFUSALS, match=match) as raised:
        yield caught
    caught.value = problem_of(raised.value)


def code_in(content: Any, request_id: str | None) -> str:
    """The code of an error; it must have the common shape, name the request, and tell nothing of the inside."""
    assert set(content) == {"error", "request_id"}, content
    assert {"code", "message"} <= set(content["error"]) <= {"code", "message", "detail"}, content
    assert content["error"]["message"], content
    assert content["request_id"] == request_id, content
    assert "Traceback" not in str(content), content
    return str(content["error"]["code"])


def code_of(answer: httpx.Response) -> str:
    """The code of an answer that is an error."""
    return code_in(answer.json(), answer.headers.get("x-request-id"))


def message_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])
