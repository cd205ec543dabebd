"""The single-row dialect, `POST /predict`.

In: `{"features": {name: value} or [..], "model_version"?, "use_ab_testing"?: true}`. Out: `{"prediction",
"prediction_class"?, "confidence"?, "model_version", "request_id", "prediction_id", "timestamp", "latency_ms"}`.
"""

import time
from datetime import UTC, datetime
from typing import Generic

import msgspec

from dispatch.request import Prediction, PredictionRequest
from protocols.dialect import JSON_LINES, AnswerFacts, Content, Description, Dialect
from protocols.head import JSON, RequestHead
from protocols.labels import classes_of
from protocols.native import unsupported_type
from protocols.signature import AnyRow, Signature, example_rows
from protocols.unit import Unit, unit_of
from runners.card import Card, Task


class SingleBody(msgspec.Struct, Generic[AnyRow], forbid_unknown_fields=True):
    """The JSON body; `use_ab_testing: false` asks for the active version."""

    features: AnyRow
    model_version: str | None = None
    use_ab_testing: bool = True
    unit: Unit = None
    user_id: Unit = None
    request_id: Unit = None


class SingleAnswer(msgspec.Struct):
    """The JSON answer. `confidence` is the probability of the class that was chosen."""

    prediction: float | list[float]
    prediction_class: int | str | msgspec.UnsetType
    confidence: float | msgspec.UnsetType
    model_version: str
    request_id: str
    prediction_id: bytes
    timestamp: str
    latency_ms: float


_encode = msgspec.json.Encoder().encode


class Single(Dialect):
    """Decode and encode of the single-row route."""

    path = "/predict"

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self._decode = msgspec.json.Decoder(SingleBody[signature.row_type]).decode  # type: ignore[name-defined]

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        signature = self.signature
        if head.content_type != JSON:
            raise unsupported_type(head, JSON)
        try:
            content = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise signature.explain_body(body, "features", str(error), single=True) from None
        rows = signature.pack([content.features])
        unit = unit_of(content.unit, content.user_id, content.request_id)
        return PredictionRequest(rows, 1, content.model_version, unit=unit, split=content.use_ab_testing)

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        scores = prediction.scores
        assert scores is not None
        values = scores.tolist()
        score = values[0]
        labels = classes_of(prediction.card, values)
        answer = SingleAnswer(
            score,
            labels[0] if labels else msgspec.UNSET,
            confidence_of(prediction.card.task, score),
            prediction.version,
            facts.request_id,
            facts.prediction_id,
            datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            facts.latency_ms,
        )
        return JSON_LINES, _encode(answer)

    def describe(self, card: Card) -> Description:
        named, listed = example_rows(card)
        examples = {
            "by name": {"features": named},
            "a list, one version": {"features": listed, "model_version": card.version},
            "the active version": {"features": named, "use_ab_testing": False},
        }
        body = SingleBody[self.signature.row_type]  # type: ignore[name-defined]
        return Description(
            "Score one row",
            {"application/json": Content(body, examples)},
            {"application/json": Content(SingleAnswer)},
        )


def confidence_of(task: Task, score: float | list[float]) -> float | msgspec.UnsetType:
    """Probability of the class that was chosen; none for regression."""
    match task, score:
        case Task.BINARY, float():
            return max(score, 1 - score)
        case Task.MULTICLASS, list():
            return max(score)
        case _:
            return msgspec.UNSET
