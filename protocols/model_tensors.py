"""The tensors that a model takes and gives, as the Open Inference Protocol names them: for metadata and answers.

In: the model's card, and a prediction. Out: names, datatypes, shapes and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dispatch.request import Prediction
from protocols.labels import classes_of
from protocols.problem import Problem
from runners.card import Card, Task

INPUT = "input"
PREDICTIONS = "predictions"
CLASSES = "classes"
ROWS = -1
"""The side of a shape that may have any length."""


@dataclass(frozen=True)
class TensorMetadata:
    """Name, datatype and shape of a tensor, as metadata shows them."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def input_tensors(card: Card) -> list[TensorMetadata]:
    """What a model of this card takes: one matrix, or a tensor of texts."""
    if card.takes_text:
        return [TensorMetadata(card.feature_names[0], "BYTES", (ROWS,))]
    return [TensorMetadata(INPUT, "FP32", (ROWS, len(card.features)))]


def output_tensors(card: Card) -> tuple[TensorMetadata, ...]:
    """What a model of this card gives: `predictions`, and for classifiers `classes`, the labels."""
    return _outputs(card.task, card.classes)


@lru_cache(maxsize=16)
def _outputs(task: Task, classes: tuple[int | str, ...]) -> tuple[TensorMetadata, ...]:
    if task is Task.REGRESSION:
        return (TensorMetadata(PREDICTIONS, "FP32", (ROWS,)),)
    scores = (ROWS, len(classes)) if task is Task.MULTICLASS else (ROWS,)
    datatype = "INT64" if all(isinstance(label, int) for label in classes) else "BYTES"
    return TensorMetadata(PREDICTIONS, "FP32", scores), TensorMetadata(CLASSES, datatype, (ROWS,))


def chosen_outputs(card: Card, names: Sequence[str]) -> Sequence[TensorMetadata]:
    """The outputs of these names, in their order; for no names, all. Raises `Problem` (400) if one is unknown or twice.

    What there is depends on the version's task, so this is known when the version is.
    """
    tensors = output_tensors(card)
    if not names:
        return tensors
    known = {tensor.name: tensor for tensor in tensors}
    for name in names:
        if name not in known:
            message = f"there is no output {name[:100]!r}; there are {', '.join(known)}"
            raise Problem(400, "unknown_output", message)
    if len(set(names)) < len(names):
        raise Problem(400, "repeated_output", "an output is named twice")
    return [known[name] for name in names]


def values_of(tensor: TensorMetadata, prediction: Prediction) -> Any:
    """The values of an output: float32 of shape (rows,) or (rows, classes), or a list of labels."""
    scores = prediction.scores
    assert scores is not None
    if tensor.name == PREDICTIONS:
        return scores
    labels = classes_of(prediction.card, scores.tolist())
    return labels if tensor.datatype == "INT64" else [str(label) for label in labels]
