"""Invocations, as MLflow's scoring server has them: a frame as JSON of columns and rows, and a list of predictions."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from runners.placements.inference import Mismatch
from runners.placements.predicted import Predicted, predicted_of


class _Answer(msgspec.Struct):
    predictions: list[Any]


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class Invocations:
    """A way to ask for frames; see `frames`."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the columns."""
        self._names = names

    def write(self, rows: Sequence[Sequence[Any]]) -> bytes:
        return _encode({"dataframe_split": {"columns": self._names, "data": rows}})

    def read(self, body: bytes) -> Predicted:
        try:
            answer = _decode_answer(body)
        except msgspec.DecodeError:
            answer = _Answer(_with_nan(body))
        predictions = answer.predictions
        if predictions and isinstance(predictions[0], dict):
            return _of_records(predictions)
        return predicted_of([given if isinstance(given, list) else [given] for given in predictions])


def _of_records(predictions: list[Any]) -> Predicted:
    """The rows of a frame."""
    names = list(predictions[0])
    if any(not isinstance(record, dict) or list(record) != names for record in predictions):
        raise Mismatch("it does not give the same outputs for each row")
    return predicted_of([list(record.values()) for record in predictions], names)


def _with_nan(body: bytes) -> list[Any]:
    """The predictions in an answer that has NaN in it, which no JSON has."""
    try:
        predictions = json.loads(body)["predictions"]
    except (ValueError, TypeError, KeyError):
        predictions = None
    if not isinstance(predictions, list):
        raise Mismatch("it does not answer with predictions, as MLflow's scoring server does")
    return predictions
