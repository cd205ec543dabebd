"""The single-row dialect, `POST /predict`.

In: `{"features": {name: value} or [..], "model_version"?, "use_ab_testing"?: true}`. Out: `{"prediction",
"prediction_class"?, "confidence"?, "model_version", "request_id", "prediction_id", "timestamp", "latency_ms"}`.
"""

import time
from datetime import UTC, datetime

import msgspec

from dispatch.request import Prediction, PredictionRequest
from protocols.dialect import AnswerFacts
from protocols.head import JSON, RequestHead
from protocols.labels import classes_of
from protocols.native import unsupported_type
from protocols.signature import Signature
from protocols.unit import Unit, unit_of
from runners.card import Task


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON body; `use_ab_testing: false` asks for the active version."""

    features: list[float] | dict[str, float]
    model_version: str | None = None
    use_ab_testing: bool = True
    unit: Unit = None
    user_id: Unit = None
    request_id: Unit = None


class Answer(msgspec.Struct):
    """The JSON answer. `confidence` is the probability of the class that was chosen."""

    prediction: float | list[float]
    prediction_class: int | str | msgspec.UnsetType
    confidence: float | msgspec.UnsetType
    model_version: str
    request_id: str
    prediction_id: bytes
    timestamp: str
    latency_ms: float


_decode = msgspec.json.Decoder(Body).decode
_encode = msgspec.json.Encoder().encode


class Single:
    """Decode and encode of the single-row route."""

    route = b"/predict"

    def decode(self, body: bytes, head: RequestHead, signature: Signature) -> PredictionRequest:
        if head.content_type != JSON:
            raise unsupported_type(head, JSON)
        try:
            content = _decode(body)
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
        answer = Answer(
            score,
            labels[0] if labels else msgspec.UNSET,
            _confidence(prediction.card.task, score),
            prediction.version,
            facts.request_id,
            facts.prediction_id,
            datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            facts.latency_ms,
        )
        return JSON, _encode(answer)


def _confidence(task: Task, score: float | list[float]) -> float | msgspec.UnsetType:
    match task, score:
        case Task.BINARY, float():
            return max(score, 1 - score)
        case Task.MULTICLASS, list():
            return max(score)
        case _:
            return msgspec.UNSET
