"""Invocations as MLflow's scoring server has them: a batch becomes a frame of JSON, and its answer the scores.

In: what a model takes and gives, a batch; later the answer's body. Out: the request's body, the scores. No HTTP here:
`scoring_server` carries it. A frame has values as a client says them: levels and missing values are not packed there,
and what is whole or true is no number with a point.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from runners.artefacts.card import Task
from runners.inputs.precision import FLOAT32
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Feature
from runners.placements.executor import BatchScores, not_finite
from runners.placements.inference import Mismatch


class UnfitValue(Exception):
    """A row has a number that its column does not; the message says which."""


class _Answer(msgspec.Struct):
    predictions: list[Any]


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def write_frame(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """The body that asks for the predictions of rows of plain values, None where one is missing."""
    return _encode({"dataframe_split": {"columns": names, "data": rows}})


def write_batch(features: Sequence[Feature], row_format: RowFormat, rows: Rows) -> bytes:
    """The body that asks for a batch's predictions; `row_format` is that of the features. Raises `UnfitValue`."""
    if row_format.text_field is not None:
        return write_frame(row_format.feature_names, [[text] for text in row_format.unbatched(rows)])
    listed = [row_format.listed(row) for row in row_format.unbatched(rows)]
    for column, feature in enumerate(features):
        if feature.type in ("integer", "boolean"):
            for row in listed:
                row[column] = _whole(feature.name, row[column], truth=feature.type == "boolean")
    return write_frame(row_format.feature_names, listed)


def _whole(name: str, value: float | None, *, truth: bool) -> int | bool | None:
    """The value of a column of whole numbers, or of truth values, of which the server would make others."""
    if value is None or (truth and value in (0, 1)):
        return value if value is None else value == 1
    if truth or not value.is_integer():
        raise UnfitValue(f"{name!r} is {value:g}, where {'true or false' if truth else 'a whole number'} belongs")
    return int(value)


def read_predictions(body: bytes) -> list[Any]:
    """What is predicted for each row: a number, a truth value, a text, or None for what is none.

    Raises `Mismatch` for what is no answer, and for several outputs a row.
    """
    try:
        answer = _decode_answer(body)
    except msgspec.DecodeError:
        answer = _Answer(_with_nan(body))
    return [_single(prediction) for prediction in answer.predictions]


def _with_nan(body: bytes) -> list[Any]:
    """The predictions in an answer that has NaN in it, which no JSON has."""
    try:
        predictions = json.loads(body)["predictions"]
    except (ValueError, TypeError, KeyError):
        predictions = None
    if not isinstance(predictions, list):
        raise Mismatch("it does not answer with predictions, as MLflow's scoring server does")
    return predictions


def _single(prediction: Any) -> Any:
    """The one value of a row of a frame or of a matrix."""
    if isinstance(prediction, dict | list):
        values = list(prediction.values()) if isinstance(prediction, dict) else prediction
        if len(values) != 1:
            names = f" ({', '.join(map(str, prediction))[:100]})" if isinstance(prediction, dict) else ""
            raise Mismatch(f"it gives {len(values)} outputs a row{names}, where one number or label belongs")
        prediction = values[0]
    if not isinstance(prediction, float | int | str | None):
        raise Mismatch(f"it gives a {type(prediction).__name__} where a number or a label belongs")
    return prediction


def scores_of(task: Task, labels: Sequence[Any], predictions: Sequence[Any]) -> BatchScores:
    """The scores that predictions mean, float32 (rows,) or (rows, classes). Raises `Mismatch`.

    A value is its own; of the model's labels, in the classes' order, the one that is predicted has 1, others have 0.
    """
    if task is Task.REGRESSION:
        return _values(predictions)
    # True and 1 are one key.
    positions = {(type(label), label): position for position, label in enumerate(labels)}
    found = [positions.get((type(label), label)) for label in predictions]
    unknown = f"the model gave a label that is none of its {len(labels)}"
    failures = {row: unknown for row, position in enumerate(found) if position is None}
    known = np.array([position or 0 for position in found])
    if task is Task.BINARY:
        return BatchScores(known.astype(np.float32), failures)
    return BatchScores(np.eye(len(labels), dtype=np.float32)[known], failures)


def _values(predictions: Sequence[Any]) -> BatchScores:
    failures = {}
    for row, value in enumerate(predictions):
        if isinstance(value, bool | str):
            raise Mismatch("it gives labels, where numbers belong")
        if isinstance(value, int) and abs(value) > FLOAT32.whole and int(np.float32(value)) != value:
            failures[row] = "the model gave a whole number of more digits than a float32 has"
    with np.errstate(over="ignore"):
        scores = np.array([np.nan if value is None else value for value in predictions]).astype(np.float32)
    return BatchScores(scores, not_finite(scores) | failures)
