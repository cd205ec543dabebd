"""Predictions of a model that only Python can score: the values that its server gives, and the scores they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.artefacts.card import Task
from runners.inputs.precision import FLOAT32
from runners.placements.executor import BatchScores, not_finite
from runners.placements.inference import Mismatch


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is predicted for each row: as many values as the model has outputs, each a number, a truth value, a text, or
    None for what is none.

    Attributes:
        names: what the server calls the outputs; empty where it does not name them.
    """

    rows: list[list[Any]]
    names: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many outputs there are, the same for all rows. Raises `Mismatch`."""
        widths = {len(row) for row in self.rows}
        if len(widths) != 1 or 0 in widths:
            raise Mismatch("it does not give as many outputs for each row")
        return widths.pop()

    @property
    def in_words(self) -> str:
        """How many outputs, and which, for messages."""
        return f"{self.width} outputs a row" + (f" ({', '.join(self.names)[:100]})" if self.names else "")


def predicted_of(rows: list[list[Any]], names: Sequence[str] = ()) -> Predicted:
    """Raises `Mismatch` for what is no value. Names that only count the outputs are none."""
    for row in rows:
        for value in row:
            if not isinstance(value, float | int | str | None):
                raise Mismatch(f"it gives a {type(value).__name__} where a number or a label belongs")
    counted = [str(position) for position in range(len(names))]
    return Predicted(rows, () if list(names) == counted else tuple(names))


def scores_of(task: Task, labels: Sequence[Any], outputs: Sequence[str], predictions: Predicted) -> BatchScores:
    """The scores that predictions mean, float32 (rows,), (rows, classes) or (rows, outputs). Raises `Mismatch`.

    A value is its own; of the model's labels, in the classes' order, the one that is predicted has 1, others have 0.
    """
    expected = len(outputs) or 1
    if predictions.width != expected or (outputs and predictions.names and predictions.names != tuple(outputs)):
        belonging = f"{expected} ({', '.join(outputs)[:100]})" if outputs else "one number or label"
        raise Mismatch(f"it gives {predictions.in_words}, where {belonging} belongs")
    if task.is_of_values:
        return _values(predictions)
    # True and 1 are one key.
    positions = {(type(label), label): position for position, label in enumerate(labels)}
    found = [positions.get((type(label), label)) for (label,) in predictions.rows]
    unknown = f"the model gave a label that is none of its {len(labels)}"
    failures = {row: unknown for row, position in enumerate(found) if position is None}
    known = np.array([position or 0 for position in found])
    if task is Task.BINARY:
        return BatchScores(known.astype(np.float32), failures)
    return BatchScores(np.eye(len(labels), dtype=np.float32)[known], failures)


def _values(predictions: Predicted) -> BatchScores:
    """The values, (rows,) or (rows, outputs). Raises `Mismatch`."""
    failures = {}
    for index, row in enumerate(predictions.rows):
        for value in row:
            if isinstance(value, bool | str):
                several = f"of its {predictions.in_words} not all are numbers"
                raise Mismatch("it gives labels, where numbers belong" if len(row) == 1 else several)
            if isinstance(value, int) and not _is_held(value):
                failures[index] = "the model gave a whole number of more digits than a float32 has"
    known = [
        [np.nan if value is None or row in failures else value for value in values]
        for row, values in enumerate(predictions.rows)
    ]
    with np.errstate(over="ignore"):
        scores = np.array(known, dtype=np.float64).astype(np.float32)
    scores = scores[:, 0] if predictions.width == 1 else scores
    return BatchScores(np.ascontiguousarray(scores), not_finite(scores) | failures)


def _is_held(number: int) -> bool:
    size = abs(number)
    return size <= FLOAT32.whole or (size <= FLOAT32.largest and int(np.float32(number)) == number)
