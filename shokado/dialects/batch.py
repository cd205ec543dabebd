"""The batch dialect, `POST /batch_predict` and `POST /predict/batch`: what `POST /predict` answers, for many rows.

In: `{"instances": [{name: value} or [..]], "model_version"?, "use_ab_testing"?: true}`; texts may also come as
`{"emails": [..]}` or `{"texts": [..]}`. Out: `{"predictions": [..],
"total", "class_counts"?, "model_version", "request_id", "prediction_id", "latency_ms"}`. One version answers all rows.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Generic

import msgspec

from runners.artefacts.card import Card
from runners.artefacts.scores import confidences_of, labels_of
from runners.inputs.rows import RequestRows, RowReader
from runners.inputs.text import TextRow
from shokado.dialects.dialect import JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import JSON, RequestHead
from shokado.dialects.instances import Bodies, Instances
from shokado.dialects.json_rows import explain_body, one_given, refuse_excess
from shokado.dialects.native import unsupported_type
from shokado.dialects.single import SingleOptions
from shokado.dialects.unit import unit_of
from shokado.dispatch.request import Prediction, PredictionRequest


class BatchBody(SingleOptions, Generic[Instances], kw_only=True):
    """The JSON body."""

    instances: Instances


class BatchTextBody(SingleOptions, kw_only=True):
    """The JSON body for a model that takes a text: one of the three."""

    instances: list[TextRow] | msgspec.UnsetType = msgspec.UNSET
    emails: list[str] | msgspec.UnsetType = msgspec.UNSET
    texts: list[str] | msgspec.UnsetType = msgspec.UNSET


class BatchItem(msgspec.Struct):
    """One row's answer. Feedback names it by `prediction_id` and `index`."""

    index: int
    prediction: float | list[float]
    prediction_class: int | str | list[int | str] | msgspec.UnsetType
    confidence: float | msgspec.UnsetType
    model_version: str
    request_id: str
    prediction_id: str
    timestamp: str
    latency_ms: float


class BatchAnswer(msgspec.Struct):
    """The JSON answer; `class_counts` has the classes that were predicted, for classifiers, or of several labels how
    many rows have the second class of each.
    """

    predictions: list[BatchItem]
    total: int
    class_counts: dict[str, int] | msgspec.UnsetType
    model_version: str
    request_id: str
    prediction_id: str
    latency_ms: float


_encode = msgspec.json.Encoder().encode
_decode_texts = msgspec.json.Decoder(BatchTextBody).decode


class Batch(Dialect):
    """Decode and encode of `POST /batch_predict`."""

    path = "/batch_predict"
    entities_beside = "instances"
    answer_type = BatchAnswer

    def __init__(self, row_format: RowReader) -> None:
        super().__init__(row_format)
        self._bodies = Bodies(BatchBody, row_format)

    def body_of(self, row: Any) -> Any:
        """The JSON body whose rows are of this type; texts have but one."""
        return BatchBody[list[row]] if self.row_format.text_field is None else BatchTextBody

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        if head.content_type != JSON:
            raise unsupported_type(head, JSON)
        decode = self._bodies.decode if self.row_format.text_field is None else self._decode_texts
        content, rows, count = decode(body)
        unit = unit_of(content.unit, content.user_id, content.request_id)
        version, split = content.model_version, content.use_ab_testing
        return PredictionRequest(rows, count, version, unit=unit, split=split)

    def _decode_texts(self, body: bytes) -> tuple[Any, RequestRows, int]:
        """The content of a body of texts, its packed rows, and their number. Raises `Problem` and `InputFault`."""
        refuse_excess(self.row_format, body)
        try:
            content = _decode_texts(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise explain_body(self.row_format, body, "instances", str(error), others=("emails", "texts")) from None
        texts = one_given(instances=content.instances, emails=content.emails, texts=content.texts)
        return content, self.row_format.pack(texts), len(texts)

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        scores = prediction.scores
        assert scores is not None
        card, version, values = prediction.card, prediction.version, scores.tolist()
        labels, confidences = labels_of(card, values), confidences_of(card, values)
        made_at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        of_all = (version, facts.request_id, facts.prediction_id)
        items = [
            BatchItem(
                index,
                score,
                labels[index] if labels else msgspec.UNSET,
                confidences[index] if confidences else msgspec.UNSET,
                *of_all,
                made_at,
                facts.latency_ms,
            )
            for index, score in enumerate(values)
        ]
        counts = _class_counts(card, labels) if labels else msgspec.UNSET
        return JSON_LINES, _encode(BatchAnswer(items, len(items), counts, *of_all, facts.latency_ms))

    def describe(self, card: Card) -> Description:
        named, listed = json_examples(card, self.row_format)
        examples = {
            "by name": {"instances": [named, named]},
            "lists, one version": {"instances": [listed], "model_version": card.version},
        }
        if self.row_format.text_field is not None:
            examples["texts alone"] = {"emails": list(named.values())}
        body = self.body_of(self.row_format.row_type)
        return Description(
            "Score rows one by one",
            {"application/json": Content(body, examples)},
            {"application/json": Content(BatchAnswer)},
        )


def _class_counts(card: Card, labels: list[Any]) -> dict[str, int]:
    if not card.outputs:
        return dict(Counter(map(str, labels)))
    columns = zip(*labels, strict=True)
    return {name: column.count(card.classes[1]) for name, column in zip(card.outputs, columns, strict=True)}


class BatchUnderPredict(Batch):
    """The same at `POST /predict/batch`."""

    path = "/predict/batch"
