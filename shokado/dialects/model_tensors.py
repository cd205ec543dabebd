"""The tensors that a model takes and gives, as the Open Inference Protocol names them: for metadata and answers.

In: the model's card, and a prediction. Out: names, datatypes, shapes and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.artefacts.scores import Scores, labels_of, ranked
from runners.inputs.columns import Column, Number
from runners.inputs.datatypes import BYTES
from runners.inputs.schema import ROWS
from runners.inputs.union import UnionRows
from shokado.dialects.problem import Problem
from shokado.dispatch.request import Prediction

INPUT = "input"
PREDICTIONS = "predictions"
CLASSES = "classes"


@dataclass(frozen=True)
class TensorMetadata:
    """Name, datatype and shape of a tensor, as metadata shows them."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class WantedOutput(msgspec.Struct, frozen=True, gc=False):
    """An output that a request names."""

    name: str
    top: int | None = None
    """How many of the classes are wanted, best first, in place of the scores; None: the output as it is."""


def input_tensors(card: Card) -> list[TensorMetadata]:
    """What a model of this card takes: one matrix, a tensor of texts, or with texts beside others one for each."""
    schema = card.row_format.schema
    if schema.is_mixed:
        return _tensor_each(schema.columns, schema.precision.datatype)
    name = INPUT if len(schema.shape) > 1 else schema.names[0]
    return [TensorMetadata(name, schema.datatype, schema.shape)]


def union_tensors(union: UnionRows) -> list[TensorMetadata]:
    """What versions of different features take: a tensor for each feature, of which each version reads its own."""
    return _tensor_each(union.schema.columns, union.schema.datatype)


def _tensor_each(columns: Sequence[Column], of_numbers: str) -> list[TensorMetadata]:
    return [TensorMetadata(one.name, of_numbers if isinstance(one, Number) else BYTES, (ROWS,)) for one in columns]


def output_tensors(card: Card) -> tuple[TensorMetadata, ...]:
    """What a model of this card gives: `predictions`, and for classifiers `classes`, the labels."""
    return _outputs(card.scores_per_row, card.classes, has_labels=card.task.has_labels)


@lru_cache(maxsize=16)
def _outputs(per_row: int, classes: tuple[int | str, ...], *, has_labels: bool) -> tuple[TensorMetadata, ...]:
    scores = TensorMetadata(PREDICTIONS, "FP32", (ROWS,) if per_row == 1 else (ROWS, per_row))
    if not classes:
        return (scores,)
    datatype = "INT64" if all(isinstance(label, int) for label in classes) else BYTES
    return scores, TensorMetadata(CLASSES, datatype, scores.shape if has_labels else (ROWS,))


def chosen_outputs(card: Card, wanted: Sequence[WantedOutput]) -> Sequence[TensorMetadata]:
    """The outputs that are wanted, in their order; if none are named, all.

    Raises `Problem` (400) if one is unknown, twice, or has no classes to choose from. What there is depends on the
    version's task, so this is known when the version is.
    """
    tensors = output_tensors(card)
    if not wanted:
        return tensors
    known = {tensor.name: tensor for tensor in tensors}
    for one in wanted:
        if one.name not in known:
            message = f"there is no output {one.name[:100]!r}; there are {', '.join(known)}"
            raise Problem("unknown_output", message)
    if len({one.name for one in wanted}) < len(wanted):
        raise Problem("repeated_output", "an output is named twice")
    return [known[one.name] if one.top is None else _classified(card, one.name, one.top) for one in wanted]


def _classified(card: Card, name: str, top: int) -> TensorMetadata:
    """An output as the best of its classes. Raises `Problem` (400)."""
    if not card.task.has_probabilities or card.task.has_labels:
        gives = "values" if card.task.is_of_values else "several labels" if card.task.has_labels else "no probabilities"
        message = f"output {name!r}: there is no classification of it; {card.task.in_words} gives {gives}"
        raise Problem("no_classification", message)
    if name != PREDICTIONS:
        message = f"output {name!r}: there is no classification of it, as it has labels; ask for that of {PREDICTIONS}"
        raise Problem("no_classification", message)
    return TensorMetadata(name, BYTES, (ROWS, min(top, len(card.classes))))


def values_of(tensor: TensorMetadata, prediction: Prediction) -> Any:
    """The values of an output: float32 of shape (rows,), (rows, classes) or (rows, outputs), a list of labels, or of
    lists of several, or classifications as texts of shape (rows, wanted).
    """
    scores = prediction.scores
    assert scores is not None
    if tensor.name == PREDICTIONS:
        return scores if tensor.datatype != BYTES else classifications(prediction.card, scores, tensor.shape[1])
    labels = labels_of(prediction.card, scores.tolist())
    if tensor.datatype == "INT64":
        return labels
    has_several = len(tensor.shape) > 1
    return [[*map(str, row)] for row in labels] if has_several else [*map(str, labels)]


def flat_values(tensor: TensorMetadata, prediction: Prediction) -> tuple[tuple[int, ...], Any]:
    """The shape of an output, and its values as `values_of` has them, but flat: an array, or a list of labels."""
    values = values_of(tensor, prediction)
    if not isinstance(values, list):
        return values.shape, values.ravel()
    if len(tensor.shape) > 1:
        return (len(values), tensor.shape[1]), [label for row in values for label in row]
    return (len(values),), values


def classifications(card: Card, scores: Scores, top: int) -> NDArray[Any]:
    """The `top` likeliest classes of each row, best first, as texts `score:index:label` of shape (rows, top).

    Source: Triton's "Classification Extension"; a score has all its digits, where Triton's server prints six decimals.
    """
    best, probabilities = ranked(card, scores, top)
    names = [f"{index}:{label}" for index, label in enumerate(card.classes)]
    pairs = zip(probabilities.ravel().tolist(), best.ravel().tolist(), strict=True)
    texts = [f"{score}:{names[index]}" for score, index in pairs]
    return np.array(texts, object).reshape(best.shape)
