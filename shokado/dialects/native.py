"""The native dialect, `POST /v1/models/predict`.

In: `{"instances": [[..]] or [{name: value}], "version"?, "unit"?}`, for a text model `{"instances": ["..", ..]}` as
well, or packed rows (little-endian, row after row) as `application/octet-stream`: in the precision that the model
takes, float32 unless its features say float64, or in the one that the content type's `dtype` says; its `columns` says
how many numbers a row has. Out:
`{"predictions", "classes"?, "version", "reason", "generation", ..}`, or, for `Accept: application/octet-stream`, the
packed float32 scores alone.
"""

from typing import Any, Generic

import msgspec

from runners.artefacts.card import Card
from runners.artefacts.scores import labels_of
from runners.inputs.rows import RowReader
from shokado.dialects.dialect import BINARY_LINES, JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import BINARY, JSON, RequestHead
from shokado.dialects.instances import Bodies, Instances
from shokado.dialects.problem import Problem
from shokado.dialects.unit import Unit, unit_of
from shokado.dispatch.request import Prediction, PredictionRequest


class NativeBody(msgspec.Struct, Generic[Instances], forbid_unknown_fields=True):
    """The JSON body. `unit`, `user_id` and `request_id` say what sticky assignment sticks to, in this order."""

    instances: Instances
    version: str | None = None
    unit: Unit = None
    user_id: Unit = None
    request_id: Unit = None


class NativeAnswer(msgspec.Struct):
    """The JSON answer. `predictions` are probabilities (binary), lists of them (multiclass, multilabel), values
    (regression), lists of values (several outputs), or what a decision function gives (classes without probabilities,
    anomalies).
    """

    predictions: list[float | list[float]]
    classes: list[int | str | list[int | str]] | msgspec.UnsetType
    version: str
    reason: str
    generation: int
    request_id: str
    prediction_id: str
    latency_ms: float


_encode = msgspec.json.Encoder().encode
_PACKED = Content({"type": "string", "format": "binary", "description": "Packed float32, little-endian."})
_OTHERWISE = "; otherwise with `dtype=float32` or `dtype=float64` behind the content type, beside `columns=`"


class Native(Dialect):
    """Decode and encode of the native route."""

    path = "/v1/models/predict"
    entities_beside = "instances"
    answer_type = NativeAnswer

    def __init__(self, row_format: RowReader) -> None:
        super().__init__(row_format)
        self._bodies = Bodies(NativeBody, row_format)

    def body_of(self, row: Any) -> Any:
        """The JSON body whose rows are of this type."""
        return NativeBody[list[row]]

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        if head.content_type == BINARY:
            return PredictionRequest(*self.row_format.pack_bytes(body, head.packed_as, head.columns))
        if head.content_type != JSON:
            raise unsupported_type(head, JSON, BINARY)
        content, rows, count = self._bodies.decode(body)
        unit = unit_of(content.unit, content.user_id, content.request_id)
        return PredictionRequest(rows, count, content.version, unit=unit)

    def encode(self, prediction: Prediction, head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        scores = prediction.scores
        assert scores is not None
        if head.binary_answer:
            return BINARY_LINES, scores.tobytes()
        origin, values = prediction.origin, scores.tolist()
        return JSON_LINES, _encode(
            NativeAnswer(
                values,
                labels_of(origin.card, values) or msgspec.UNSET,
                origin.version,
                prediction.reason,
                origin.generation,
                facts.request_id,
                facts.prediction_id,
                facts.latency_ms,
            )
        )

    def describe(self, card: Card) -> Description:
        named, listed = json_examples(card, self.row_format)
        examples = {
            "rows as lists": {"instances": [listed]},
            "rows by name, one version": {"instances": [named, named], "version": card.version},
            "sticky": {"instances": [named], "unit": "customer-1"},
        }
        precision = self.row_format.schema.precision.name
        description = f"Packed {precision}, little-endian{_OTHERWISE}."
        rows = {"type": "string", "format": "binary", "description": description, "x-dtype": precision}
        return Description(
            "Score rows",
            {"application/json": Content(self._bodies.type, examples)}
            | ({"application/octet-stream": Content(rows)} if self.row_format.takes_bytes else {}),
            {"application/json": Content(NativeAnswer), "application/octet-stream": _PACKED},
        )


def unsupported_type(head: RequestHead, *supported: bytes) -> Problem:
    """415, with what would be understood."""
    wanted = " or ".join(content_type.decode() for content_type in supported)
    got = head.content_type.decode("latin-1")[:100]
    return Problem("unsupported_media_type", f"content type {got!r} is not understood here; send {wanted}")
