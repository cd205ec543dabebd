"""Version 1 of KServe's protocol, `POST /v1/models/{model}:predict`.

In: `{"instances": [[..]] or [{name: value}]}`; other fields are ignored, as KServe does. Out: `{"predictions": [..]}`.
Errors: `{"error": ".."}`. Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from typing import Generic

import msgspec

from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from shokado.dialects.dialect import JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.instances import Bodies, Instances
from shokado.dialects.native import unsupported_type
from shokado.dialects.problem import Problem
from shokado.dispatch.request import Prediction, PredictionRequest


class KServeBody(msgspec.Struct, Generic[Instances]):
    """The JSON body."""

    instances: Instances


class KServeAnswer(msgspec.Struct):
    """The JSON answer. `predictions` are probabilities (binary), lists of them (multiclass, multilabel), values
    (regression), lists of values (several outputs), or what a decision function gives (classes without probabilities,
    anomalies).
    """

    predictions: list[float | list[float]]


class KServeError(msgspec.Struct):
    """The JSON of an error."""

    error: str


_encode = msgspec.json.Encoder().encode


class KServeV1(Dialect):
    """Decode and encode of KServe's route."""

    path = "/v1/models/{model}:predict"
    entities_beside = "instances"

    def __init__(self, row_format: RowReader) -> None:
        super().__init__(row_format)
        self._bodies = Bodies(KServeBody, row_format)

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        if head.content_type != JSON:
            raise unsupported_type(head, JSON)
        _, rows, count = self._bodies.decode(body)
        return PredictionRequest(rows, count)

    def encode(self, prediction: Prediction, _head: RequestHead, _facts: AnswerFacts) -> tuple[bytes, bytes]:
        assert prediction.scores is not None
        return JSON_LINES, _encode(KServeAnswer(prediction.scores.tolist()))

    def refuse(self, problem: Problem, _request_id: str) -> bytes:
        return _encode(KServeError(problem.message))

    def describe(self, card: Card) -> Description:
        named, listed = json_examples(card, self.row_format)
        examples = {"rows as lists": {"instances": [listed]}, "rows by name": {"instances": [named, named]}}
        return Description(
            "Score rows (KServe v1)",
            {"application/json": Content(self._bodies.type, examples)},
            {"application/json": Content(KServeAnswer)},
            error=KServeError,
        )
