"""What a model's scores mean, by its task: labels, confidence, how right they were, and where two versions disagree.

    task               scores, float32                       label of a row
    binary             (rows,): probability of the 2nd one   the 2nd class from `Card.positive_from` on, else the 1st
    multiclass         (rows, classes): probability of each  the likeliest class, the first one of equals
    regression         (rows,): the value                    none
    multioutput        (rows, outputs): the values           none
    binary_margin      (rows,): decision function            the 2nd class from `Card.positive_from` on, else the 1st
    multiclass_margin  (rows, classes): decision function    the class of the largest, the first one of equals
    anomaly            (rows,): small for anomalies          1 from `Card.positive_from` on, else -1
    multilabel         (rows, outputs): probability of each  of each output the 2nd class from `Card.positive_from` on
    multilabel_margin  (rows, outputs): decision functions   of each output the 2nd class from `Card.positive_from` on

In: a card, and scores as an engine gives them, or as lists (`tolist()`). Out: what clients are told, and what is
counted. Whoever adds a task says here what its scores mean.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card, Task

Scores = NDArray[np.float32]
"""Shape (rows,), or (rows, classes) for multiclass and (rows, outputs) for several values or labels."""
OneLabel = int | float | str | bool
Label = OneLabel | Sequence[OneLabel] | Mapping[str, OneLabel]
"""What somebody says would have been right: a class, the value of a regression, or several of either, by name or in
order.
"""

PROBABILITY_BOUNDS = tuple(tenths / 10 for tenths in range(1, 11))
TOLERANCE = 0.01
"""By how much of the standard deviation of the examples' scores two values may differ and still agree."""
_MAX_VALUE = 3.4028234663852886e38
"""Largest float32: no prediction lies beyond it, and no sum of errors below it overflows."""
LABELS_PER_OUTCOME = 24
"""How many labels a float32 holds, a bit each."""
_MAX_SHOWN_CHARACTERS = 100
"""What a message shows of a label or of the classes, which may be long."""

# Bound here, as an enum's members are found through its metaclass, which would cost every request.
BINARY = Task.BINARY

_Name = TypeVar("_Name")


class UnfitLabel(Exception):
    """The label is no class of the model, or no value, and so says nothing about a prediction."""


def output_of(task: Task) -> str:
    """What a model file calls its scores."""
    return "value" if task.is_of_values else "probabilities" if task.has_probabilities else "margins"


def column_of(task: Task) -> int | None:
    """Where the score of a row stands in what a model file gives, (rows, classes) or (rows, 1); None: all of it."""
    return {
        Task.BINARY: 1,
        Task.MULTICLASS: None,
        Task.REGRESSION: 0,
        Task.MULTIOUTPUT: None,
        Task.BINARY_MARGIN: 0,
        Task.MULTICLASS_MARGIN: None,
        Task.ANOMALY: 0,
        Task.MULTILABEL: None,
        Task.MULTILABEL_MARGIN: None,
    }[task]


def score_names(card: Card) -> tuple[str, ...]:
    """What the scores of a row are called, in their order."""
    if card.scores_per_row == 1:
        return ("score",)
    return card.outputs or tuple(map(str, card.classes))


def from_columns(task: Task, columns: NDArray[Any]) -> NDArray[Any]:
    """Scores from one column per class, (rows, classes), or from those of values, (rows, outputs) or (rows, 1)."""
    column = column_of(task)
    return columns if column is None else columns[:, column]


def to_columns(task: Task, scores: NDArray[Any]) -> NDArray[Any]:
    """The reverse: a column per class, (rows, classes), or per value, (rows, outputs) or (rows, 1), of the same dtype.

    What has columns already stays as it is.
    """
    if task is Task.BINARY and scores.ndim == 1:
        return np.column_stack((1 - scores, scores))
    return scores.reshape(len(scores), -1)


def likeliest(scores: NDArray[Any]) -> NDArray[np.int64]:
    """The position of each row's likeliest class, the first one of equals: int64 (rows,), of (rows, classes)."""
    positions: NDArray[np.int64] = scores.argmax(axis=1)
    return positions


def positions_of(task: Task, scores: Scores, positive_from: float) -> NDArray[np.int64]:
    """The position of each row's class, int64 (rows,), or of each of its labels', (rows, outputs); of classifiers.

    For `positive_from` see `Card`.
    """
    return (scores >= positive_from).astype(np.int64) if task.has_threshold else likeliest(scores)


def labels_of(card: Card, scores: list[float] | list[list[float]]) -> list[Any]:
    """Each row's label, by the framework's own rule; of several, their list; empty for values.

    `scores` are `tolist()` of an array's.
    """
    if card.task is BINARY and len(scores) == 1:
        score: Any = scores[0]  # the usual case, at half the price
        return [card.classes[score >= card.positive_from]]
    return _named(card, card.classes, scores)


def confidences_of(card: Card, scores: list[float] | list[list[float]]) -> list[float]:
    """Each row's largest probability of a class; empty where there is no one. `scores` are `tolist()` of an array's."""
    rows: list[Any] = scores
    if card.task is BINARY:
        return [score if score >= 0.5 else 1 - score for score in rows]
    return [max(row) for row in rows] if card.task is Task.MULTICLASS else []


def as_model_predicts(card: Card, scores: Scores) -> list[Any] | dict[str, list[Any]]:
    """What the `predict` of the logged model gives of these rows, and so MLflow's own server: labels in the model's own
    words, probabilities, values, or an ONNX model's outputs by their names (see `Card.predicts`).
    """
    if card.predicts == "array":
        (kind,) = card.own_outputs.values()
        return _OWN_OUTPUTS[kind](card, scores)
    if card.predicts == "columns":
        return {name: _OWN_OUTPUTS[kind](card, scores) for name, kind in card.own_outputs.items()}
    if card.predicts == "records":
        flat = {"column": "values", "row": "each", "probabilities": "probability"}
        columns = [_OWN_OUTPUTS[flat.get(kind, kind)](card, scores) for kind in card.own_outputs.values()]
        return [dict(zip(card.own_outputs, row, strict=True)) for row in zip(*columns, strict=True)]
    if card.predicts == "probabilities":
        return probabilities_of(card, scores)
    if card.predicts == "scores" or not card.classes:
        return scores.tolist()  # type: ignore[no-any-return]
    labels = _own_labels(card, scores)
    return [[label] for label in labels] if card.predicts == "label_lists" else labels


def _own_labels(card: Card, scores: Scores) -> list[Any]:
    return _named(card, card.own_classes or card.classes, scores.tolist())


def probabilities_of(card: Card, scores: Scores) -> list[list[float]]:
    """What `predict_proba` gives, where there is one: each row's probability of each class, as lists; of several labels
    that of the second class of each.
    """
    return to_columns(card.task, scores).tolist()  # type: ignore[no-any-return]


_OWN_OUTPUTS: dict[str, Callable[[Card, Scores], list[Any]]] = {
    "labels": _own_labels,
    "values": lambda _, scores: scores.tolist(),
    "column": lambda _, scores: scores.reshape(-1, 1).tolist(),
    "row": lambda _, scores: scores.tolist(),
    "each": lambda _, scores: scores.ravel().tolist(),
    "probabilities": probabilities_of,
    "probability": lambda card, scores: to_columns(card.task, scores).ravel().tolist(),
    "maps": lambda card, scores: [
        dict(zip(card.own_classes or card.classes, row, strict=True)) for row in probabilities_of(card, scores)
    ],
    "numbered": lambda card, scores: [dict(enumerate(row)) for row in to_columns(card.task, scores).tolist()],
}
"""What an ONNX model's outputs are made of, by `OwnOutput`; and those of a list one by one: `each`, `probability`."""


def ranked(card: Card, scores: Scores, top: int) -> tuple[NDArray[np.int64], Scores]:
    """The `top` likeliest classes of each row, best first: positions int64, and probabilities float32, (rows, top).

    Of equals the first one comes first, unless a binary model predicts its second class at a tie.
    """
    columns = to_columns(card.task, scores)
    if card.task is Task.BINARY and card.positive_from <= 0.5:
        order = 1 - np.argsort(-columns[:, ::-1], axis=1, kind="stable")
    else:
        order = np.argsort(-columns, axis=1, kind="stable")
    best = order[:, :top]
    return best, np.take_along_axis(columns, best, axis=1)


def outcomes_of(card: Card, scores: Scores) -> Scores:
    """What labels can be compared with later, float32: the score, (rows,), for multiclass the position of the likeliest
    class, (rows,), of several values all of them, (rows, outputs), and of several labels a bit each, (rows, numbers).
    """
    if scores.ndim == 1 or not card.classes:
        return scores
    if not card.outputs:
        return likeliest(scores).astype(np.float32)
    labels = positions_of(card.task, scores, card.positive_from)
    bits = np.pad(labels, ((0, 0), (0, -len(card.outputs) % LABELS_PER_OUTCOME)))
    numbers = bits.reshape(len(scores), outcomes_per_row(card), LABELS_PER_OUTCOME) << np.arange(LABELS_PER_OUTCOME)
    return np.asarray(numbers.sum(axis=2), dtype=np.float32)


def outcomes_per_row(card: Card) -> int:
    """How many numbers of `outcomes_of` belong to a row."""
    return -(-len(card.outputs) // LABELS_PER_OUTCOME) if card.task.has_labels else len(card.outputs) or 1


def answers_of(card: Card, scores: Scores) -> Scores:
    """What `said_by` of a label is compared with, float32 (rows, numbers): the position of each row's class, or of each
    of its labels', and for values the values. Whoever compares needs no card.
    """
    answers = positions_of(card.task, scores, card.positive_from) if card.classes else scores
    return answers.reshape(len(scores), -1).astype(np.float32)


def said_by(card: Card, label: Label) -> list[float]:
    """What a label says of a row, as numbers: one for each of `answers_of`. Raises `UnfitLabel`."""
    return [float(one) for one in (positions_said(card, label) if card.classes else _values_said(card, label))]


def is_right(card: Card, outcomes: Sequence[float], label: Label) -> bool:
    """Whether a classifier's outcomes of a row (see `outcomes_of`) have the class that the label says; of several
    labels, whether all are right. Raises `UnfitLabel`.
    """
    said = positions_said(card, label)
    if card.outputs:
        bits = [int(number) >> bit & 1 for number in outcomes for bit in range(LABELS_PER_OUTCOME)]
        return said == bits[: len(said)]
    one = outcomes[0] >= card.positive_from if card.task.has_threshold else outcomes[0]
    return said == [int(one)]


def positions_said(card: Card, label: Label) -> list[int]:
    """The position of the class that a label says, or of each output's. Raises `UnfitLabel`.

    A class may be written as text, and True and False are the classes 1 and 0 where there are no others.
    """
    if card.outputs:
        said = _in_order(card, label, f"labels ({_shown_classes(card.classes)})")
        return [_position_of(one, card.classes) for one in said]
    return [_position_of(label, card.classes)]


def _in_order(card: Card, label: Label, what: str) -> Sequence[OneLabel]:
    """What a label says of each output. Raises `UnfitLabel`; `what` outputs are called there."""
    if isinstance(label, Mapping) and label.keys() == set(card.outputs):
        return [label[name] for name in card.outputs]
    if isinstance(label, Sequence) and not isinstance(label, str) and len(label) == len(card.outputs):
        return label
    raise UnfitLabel(
        f"the label is {_shown(label)}; it must be a list of {len(card.outputs)} {what}, or an object of them: "
        f"{_shortened(', '.join(card.outputs))}"
    )


def errors_of(card: Card, outcomes: Sequence[float], label: Label) -> list[float]:
    """How far a label is above each of a row's values, whose `outcomes` these are. Raises `UnfitLabel`."""
    return [value - outcome for outcome, value in zip(outcomes, _values_said(card, label), strict=True)]


def _values_said(card: Card, label: Label) -> list[float]:
    return [_value_said(one) for one in (_in_order(card, label, "numbers") if card.outputs else [label])]


def _value_said(label: Label) -> float:
    if isinstance(label, bool) or not isinstance(label, int | float) or not abs(label) <= _MAX_VALUE:
        raise UnfitLabel(f"the label is {_shown(label)}; labels of a regression are finite numbers")
    return label


def squared_error_of(card: Card, outcomes: Sequence[float], label: Label) -> float:
    """The squared error of a row's values, whose `outcomes` these are; of several the mean, as scikit-learn has it.

    Raises `UnfitLabel`.
    """
    errors = errors_of(card, outcomes, label)
    return sum(error**2 for error in errors) / len(errors)


def absolute_error_of(card: Card, outcomes: Sequence[float], label: Label) -> float:
    """The same without the square: of several values the mean of their absolute errors. Raises `UnfitLabel`."""
    errors = errors_of(card, outcomes, label)
    return sum(map(abs, errors)) / len(errors)


def tolerance_of(card: Card, default: float) -> NDArray[np.float64]:
    """By how much scores may differ that are the same, as the version's files were verified: one number, or of several
    values one for each, (outputs,). `default` where they were not.
    """
    receipts = [receipt.tolerances or receipt.tolerance for receipt in card.verification.values()]
    return np.asarray(np.max(np.array(receipts, dtype=np.float64), axis=0) if receipts else default)


def deviations_of(card: Card) -> NDArray[np.float64]:
    """The standard deviation of the examples' scores: a number, or of several a row one for each, (outputs,)."""
    return np.asarray(np.std(np.array(card.examples.scores), axis=0))


def units_of(card: Card) -> NDArray[np.float64]:
    """What differences of several values are told in, (outputs,): the standard deviation of each, 1 where it is 0."""
    deviations = deviations_of(card)
    return np.where(deviations > tolerance_of(card, 0.0), deviations, 1.0)


def differences_of(card: Card, scores: Scores, other_scores: Scores) -> NDArray[np.float64]:
    """Each row's absolute difference, float64 (rows,): of several scores the largest one.

    Several values may be in different units, so theirs are in standard deviations of the scores of the card's examples,
    where those are not all the same.
    """
    differences = np.abs(scores.astype(np.float64) - other_scores)
    if card.task is Task.MULTIOUTPUT:
        differences /= units_of(card)
    return differences.max(axis=1) if differences.ndim > 1 else differences


def disagreements(
    card: Card, scores: Scores, other_card: Card, other_scores: Scores
) -> tuple[int, NDArray[np.float64]]:
    """On how many rows another version disagrees, and each row's absolute difference (see `differences_of`).

    Classifiers disagree on a row when its label differs, each by its own rule. Values disagree when they, or some of
    several, differ by more than `TOLERANCE` standard deviations of the scores of the other version's examples, or than
    the tolerance that the other version was verified with, if that is more.
    """
    differences = differences_of(other_card, scores, other_scores)
    if not other_card.classes:
        return int(values_apart(other_card, scores, other_scores).sum()), differences
    positions = positions_of(card.task, scores, card.positive_from)
    others = positions_of(other_card.task, other_scores, other_card.positive_from)
    return int((positions != others).reshape(len(positions), -1).any(axis=1).sum()), differences


def values_apart(card: Card, scores: NDArray[Any], other_scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have values, or some of several, that disagree with the card's version: bool (rows,)."""
    tolerance = np.maximum(TOLERANCE * deviations_of(card), tolerance_of(card, 0.0))
    apart = np.abs(scores.astype(np.float64) - other_scores) > tolerance
    return np.asarray(apart.reshape(len(apart), -1).any(axis=1))


def bounds_of(card: Card) -> tuple[float, ...]:
    """Upper bounds, ascending, by which scores of one number a row are counted: tenths for probabilities; for others,
    the deciles of the examples' scores.
    """
    of_probabilities = card.task.has_probabilities or card.scores_per_row > 1
    return PROBABILITY_BOUNDS if of_probabilities else _deciles(card.examples.scores)


def bounds_of_outputs(card: Card) -> dict[str, tuple[float, ...]]:
    """Upper bounds by which each of several scores is counted, by its name: tenths for probabilities, else deciles.
    Empty for other tasks.
    """
    if card.task is Task.MULTILABEL:
        return dict.fromkeys(card.outputs, PROBABILITY_BOUNDS)
    columns = np.array(card.examples.scores).T if card.outputs else ()
    return {name: _deciles(column) for name, column in zip(card.outputs, columns, strict=True)}


def _deciles(values: Any) -> tuple[float, ...]:
    return tuple(np.unique(np.quantile(values, np.linspace(0.1, 1, 10))).tolist())


def _named(card: Card, names: Sequence[_Name], scores: list[Any]) -> list[_Name] | list[list[_Name]]:
    """Each row's class by its name, or its labels', of those that are given in the order of `Card.classes`."""
    if not card.classes:
        return []
    if card.task.has_threshold:
        (negative, positive), positive_from = names, card.positive_from
        if card.outputs:
            return [[positive if score >= positive_from else negative for score in row] for row in scores]
        return [positive if score >= positive_from else negative for score in scores]
    return [names[row.index(max(row))] for row in scores]


def _position_of(label: Label, classes: tuple[int | str, ...]) -> int:
    positions = _positions(classes)
    position: int | None
    if isinstance(label, bool):
        position = positions.get(int(label)) if set(classes) == {0, 1} else None
    elif not isinstance(label, int | float | str):
        position = None
    else:
        # A number for a class that is a text with digits, as a text with digits for a class that is a number.
        position = positions.get(label, positions.get(str(label)))
    if position is None:
        raise UnfitLabel(f"the label is {_shown(label)}; the classes are {_shown_classes(classes)}")
    return position


@lru_cache(maxsize=64)
def _positions(classes: tuple[int | str, ...]) -> dict[int | float | str, int]:
    """Position of each class, by itself and by how it is written."""
    positions: dict[int | float | str, int] = {str(name): position for position, name in enumerate(classes)}
    return positions | {name: position for position, name in enumerate(classes)}


def _shown(label: Label) -> str:
    return _shortened(repr(label))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + ".."


def _shown_classes(classes: tuple[int | str, ...]) -> str:
    text = ", ".join(map(str, classes))
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + f" .. ({len(classes)} in all)"
