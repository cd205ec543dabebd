"""The dialect of explanations, `POST /v1/models/explain`: asked as the native one, answered with contributions.

In: what `POST /v1/models/predict` takes. Out: `{"explanations": [{"prediction", "contributions", ..}], "base",
"method", "scale", "version", ..}`.
"""

from typing import Any

import msgspec
import numpy as np

from configuration.explanation_settings import ExplanationSettings
from runners.artefacts.card import Card
from runners.artefacts.scores import labels_of
from runners.explanations.contributions import Contributions, Values
from runners.inputs.rows import RowReader
from shokado.dialects.dialect import JSON_LINES, AnswerFacts, Content, Description
from shokado.dialects.head import RequestHead
from shokado.dialects.native import Native
from shokado.dialects.problem import Problem
from shokado.dispatch.request import Prediction, PredictionRequest

Number = float | list[float]
"""A list in the order of `outputs` where a row has several scores."""


class RowExplanation(msgspec.Struct):
    """One row's prediction, as it is predicted, and what each feature contributed to it.

    `base` of the answer plus all `contributions` is `explained`: the prediction itself, or on the scale `margin` what
    the link makes it of. `standard_errors` say how far sampled contributions lie from those of all orders.
    """

    prediction: Number
    explained: Number
    contributions: dict[str, Number]
    standard_errors: dict[str, Number] | msgspec.UnsetType = msgspec.UNSET


class ExplanationAnswer(msgspec.Struct, kw_only=True):
    """The JSON answer.

    `method`: `trees` (XGBoost's own, exact), `enumerated` (exact) or `sampled`, both against `background_rows` rows of
    the version's data. `scale`: `probability`, `value`, `decision`, or `margin`, of which `link` makes the score:
    `logistic`, `softmax` or `exponential`.
    """

    explanations: list[RowExplanation]
    classes: list[int | str | list[int | str]] | msgspec.UnsetType = msgspec.UNSET
    """Classifiers' label of each row, as it is predicted."""
    base: Number
    method: str
    scale: str
    link: str | msgspec.UnsetType = msgspec.UNSET
    background_rows: int | msgspec.UnsetType = msgspec.UNSET
    version: str
    reason: str
    generation: int
    request_id: str
    latency_ms: float
    outputs: list[int | str] | msgspec.UnsetType = msgspec.UNSET
    """The classes or outputs that lists of numbers are of."""


_encode = msgspec.json.Encoder().encode


class ExplanationDialect(Native):
    """Decode as the native dialect does; an answer needs the contributions as well."""

    path = "/v1/models/explain"

    def __init__(self, row_format: RowReader, settings: ExplanationSettings) -> None:
        super().__init__(row_format)
        self._settings = settings

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        request = super().decode(body, head)
        limit = self._settings.max_rows
        if request.row_count > limit:
            message = f"{request.row_count} rows; at most {limit} are explained at once (explanations.max_rows)"
            raise Problem("too_many_rows", message, {"limit": limit})
        return request

    def encode_explanation(
        self, prediction: Prediction, found: Contributions, facts: AnswerFacts
    ) -> tuple[bytes, bytes]:
        """Header lines and body of the answer."""
        origin, card = prediction.origin, prediction.card
        assert prediction.scores is not None
        scores = prediction.scores.tolist()
        rows = [
            RowExplanation(score, _numbers(explained), _named(card, contributions))
            for score, explained, contributions in zip(scores, found.explained, found.contributions, strict=True)
        ]
        if found.errors is not None:
            for row, errors in zip(rows, found.errors, strict=True):
                row.standard_errors = _named(card, errors)
        several = found.contributions.shape[2] > 1
        answer = ExplanationAnswer(
            explanations=rows,
            classes=labels_of(card, scores) or msgspec.UNSET,
            base=_numbers(found.base),
            method=found.method,
            scale=found.scale,
            link=found.link or msgspec.UNSET,
            background_rows=found.background_rows or msgspec.UNSET,
            version=origin.version,
            reason=prediction.reason,
            generation=origin.generation,
            request_id=facts.request_id,
            latency_ms=facts.latency_ms,
            outputs=list(card.outputs or card.classes) if several else msgspec.UNSET,
        )
        return JSON_LINES, _encode(answer)

    def describe(self, card: Card) -> Description:
        predicted = super().describe(card)
        limit = self._settings.max_rows
        return Description(
            "Explain scores",
            takes=predicted.takes,
            gives={"application/json": Content(ExplanationAnswer)},
            text=f"What each feature contributes to the scores of up to {limit} rows: the contributions and the base "
            "add up to what is explained. Rows are assigned as for a prediction, or to the version that is named; they "
            "count for no experiment, and have no prediction id.",
            statuses=(409,),
            answer="The contributions.",
        )


def _numbers(values: Values) -> Any:
    """A number where there is one, else the list."""
    return values.item() if values.size == 1 else values.tolist()


def _named(card: Card, values: Values) -> dict[str, Any]:
    """Numbers by feature, of (features, outputs)."""
    listed = np.squeeze(values, axis=1).tolist() if values.shape[1] == 1 else values.tolist()
    return dict(zip(card.feature_names, listed, strict=True))
