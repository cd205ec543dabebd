"""What a dialect is: how one route reads a request and writes an answer. Everything else is the same for all."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import msgspec

from configuration.settings import DialectSettings
from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, ProblemBody
from shokado.dispatch.request import Prediction, PredictionRequest

JSON_LINES = b"content-type: application/json\r\n"
BINARY_LINES = b"content-type: application/octet-stream\r\n"


class AnswerFacts(msgspec.Struct, frozen=True, gc=False):
    """What an encoder may tell beside the scores."""

    request_id: str
    prediction_id: str
    """The id as clients see it, in URL-safe base64."""
    latency_ms: float
    """How long it took from the request's last byte to its encoding."""
    answer_options: Any = None
    """What the decoder found the client to want of the answer; see `PredictionRequest.answer_options`."""


@dataclass(frozen=True)
class Content:
    """A body in one content type, for the description of the API."""

    schema: Any
    """A type that msgspec knows, or a JSON schema as a dictionary where there is none."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """By name; JSON values, or text for content types that are no JSON. Each must get an answer."""


@dataclass(frozen=True)
class Description:
    """What the description of the API says about a dialect's route."""

    summary: str
    takes: Mapping[str, Content]
    """By content type."""
    gives: Mapping[str, Content]
    text: str = ""
    error: Any = ProblemBody
    """The shape of this dialect's errors: a type that msgspec knows."""
    headers: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Headers of requests, beside those that all dialects heed: description and JSON schema by name."""
    answer_headers: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    """Statuses of errors beside those that every prediction route may answer."""
    answer: str = "The prediction."


class Codec(Protocol):
    """What a call needs of its dialect, and the path or method that it is asked for by."""

    path: str

    def decode(self, body: bytes, head: RequestHead, /) -> PredictionRequest: ...

    def encode(self, prediction: Prediction, head: RequestHead, facts: AnswerFacts, /) -> tuple[bytes, bytes]: ...

    def refuse(self, problem: Problem, request_id: str) -> bytes: ...


class Dialect(ABC):
    """One route's decode and encode. Both run on the event loop and must not wait."""

    path: str
    """`{name}` stands for a name in it: the model's, a version's or an alias."""
    entities_beside: Literal["instances", "features"] | None = None
    """The field of its JSON bodies that has the rows, or the one row, where `entities` may stand beside or instead."""

    def __init__(self, row_format: RowReader) -> None:
        """`row_format` is of the rows that the versions take, with the server's limits."""
        self.row_format = row_format

    @classmethod
    def configured(cls, row_format: RowReader, _settings: DialectSettings) -> Self:
        """One that answers as it is set; most know only one way."""
        return cls(row_format)

    @abstractmethod
    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        """Raises `Problem` and `InputFault`."""

    @abstractmethod
    def encode(self, prediction: Prediction, head: RequestHead, facts: AnswerFacts, /) -> tuple[bytes, bytes]:
        """Header lines of the answer, each with its CRLF, and its body."""

    @abstractmethod
    def describe(self, card: Card) -> Description:
        """What the description of the API says, with examples out of the card."""

    def refuse(self, problem: Problem, request_id: str) -> bytes:
        """The JSON body that says what is wrong."""
        return problem.body(request_id)
