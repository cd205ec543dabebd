"""The single-row dialect, `POST /predict`.

In: `{"features": {name: value} or [..], "model_version"?, "use_ab_testing"?: true}`; a text may also stand under its
own name, as in `{"email_content": ".."}`. Out: `{"prediction", "prediction_class"?, "confidence"?, "model_version",
"request_id", "prediction_id", "timestamp", "latency_ms"}`.
"""

import time
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic

import msgspec

from runners.artefacts.card import Card
from runners.artefacts.scores import confidences_of, labels_of
from runners.inputs.rows import RequestRows, RowReader
from runners.inputs.text import TextRow
from shokado.dialects.dialect import JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.json_rows import AnyRow, explain_body, one_given, refuse_excess, truth_reader
from shokado.dialects.native import unsupported_type
from shokado.dialects.unit import Unit, unit_of
from shokado.dispatch.request import Prediction, PredictionRequest


class SingleOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a body may say beside its rows; `use_ab_testing: false` asks for the active version."""

    model_version: str | None = None
    use_ab_testing: bool = True
    unit: Unit = None
    user_id: Unit = None
    request_id: Unit = None


class SingleBody(SingleOptions, Generic[AnyRow], kw_only=True):
    """The JSON body."""

    features: AnyRow


class SingleTextBody(SingleOptions, kw_only=True):
    """The JSON body for a model that takes a text; a field of the text's own name is added where it is known."""

    features: TextRow | msgspec.UnsetType = msgspec.UNSET


class SingleAnswer(msgspec.Struct):
    """The JSON answer. `prediction_class` is a list of several labels. `confidence` is the probability of the one class
    that was chosen, where there are probabilities.
    """

    prediction: float | list[float]
    prediction_class: int | str | list[int | str] | msgspec.UnsetType
    confidence: float | msgspec.UnsetType
    model_version: str
    request_id: str
    prediction_id: str
    timestamp: str
    latency_ms: float


_encode = msgspec.json.Encoder().encode


class Single(Dialect):
    """Decode and encode of the single-row route."""

    path = "/predict"
    entities_beside = "features"
    answer_type = SingleAnswer

    def __init__(self, row_format: RowReader) -> None:
        super().__init__(row_format)
        self._body = self.body_of(row_format.row_type)
        self._read_truths = truth_reader(row_format, lambda row: SingleBody[row])  # type: ignore[valid-type]
        self._decode = msgspec.json.Decoder(self.body_of(row_format.quick_row_type)).decode

    def body_of(self, row: Any) -> Any:
        """The JSON body whose row is of this type; texts have but one."""
        text_field = self.row_format.text_field
        return SingleBody[row] if text_field is None else _text_body(text_field)

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        row_format = self.row_format
        if head.content_type != JSON:
            raise unsupported_type(head, JSON)
        refuse_excess(row_format, body, max_rows=1)
        try:
            content = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            key, others = ("features", ()) if row_format.text_field is None else (row_format.text_field, ("features",))
            content = self._read_truths(body)
            if content is None:
                raise explain_body(row_format, body, key, str(error), others=others, rows_in=_one_row) from None
            return self._request(content, row_format.pack_values([content.features]))
        if row_format.text_field is None:
            row = content.features
        else:
            row = one_given(**{row_format.text_field: content.text, "features": content.features})
        return self._request(content, row_format.pack([row]))

    def _request(self, content: Any, rows: RequestRows) -> PredictionRequest:
        unit = unit_of(content.unit, content.user_id, content.request_id)
        return PredictionRequest(rows, 1, content.model_version, unit=unit, split=content.use_ab_testing)

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        scores = prediction.scores
        assert scores is not None
        card, values = prediction.card, scores.tolist()
        labels, confidences = labels_of(card, values), confidences_of(card, values)
        answer = SingleAnswer(
            values[0],
            labels[0] if labels else msgspec.UNSET,
            confidences[0] if confidences else msgspec.UNSET,
            prediction.version,
            facts.request_id,
            facts.prediction_id,
            datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
            facts.latency_ms,
        )
        return JSON_LINES, _encode(answer)

    def describe(self, card: Card) -> Description:
        named, listed = json_examples(card, self.row_format)
        examples = {
            "by name": {"features": named},
            "a list, one version": {"features": listed, "model_version": card.version},
            "the active version": {"features": named, "use_ab_testing": False},
        }
        if self.row_format.text_field is not None:
            examples["the text alone"] = dict(named)
        return Description(
            "Score one row",
            {"application/json": Content(self._body, examples)},
            {"application/json": Content(SingleAnswer)},
        )


def first_example(card: Card, read: RowReader | None = None) -> dict[str, Any]:
    """The shortest body that holds the first example of the card; `read` is how requests are read."""
    named, _ = json_examples(card, read)
    return {"features": named} if card.row_format.text_field is None else named


def _one_row(row: Any) -> list[Any]:
    return [row]


@cache
def _text_body(name: str) -> Any:
    """The struct with the text's own field; one for all routes, so that it is described once."""
    own = msgspec.field(default=msgspec.UNSET, name=name)
    text = ("text", str | msgspec.UnsetType, own)
    return msgspec.defstruct(SingleTextBody.__name__, [text], bases=(SingleTextBody,), kw_only=True)
