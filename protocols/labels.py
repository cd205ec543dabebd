"""Labels: from scores to the classes that people know, or that the model knows."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runners.card import Card, Task

Label = TypeVar("Label")


def classes_of(card: Card, scores: list[float] | list[list[float]]) -> list[int | str]:
    """Each row's label, by the framework's own rule: the second class from a probability of `Card.positive_from` on, or
    the first of the likeliest classes; none for regression.
    """
    return _chosen(card, card.classes, scores)


def predicted(card: Card, scores: NDArray[np.float32]) -> list[Any]:
    """What MLflow's own server gives of these rows: labels in the model's own words, probabilities, or values."""
    if card.predicts == "probabilities":
        return probabilities(card, scores)
    if card.predicts == "scores" or not card.classes:
        return scores.tolist()  # type: ignore[no-any-return]
    return _chosen(card, card.own_classes or card.classes, scores.tolist())


def probabilities(card: Card, scores: NDArray[np.float32]) -> list[list[float]]:
    """What a classifier's `predict_proba` gives: float32 [N, classes], as lists."""
    both = np.column_stack((1 - scores, scores)) if card.task is Task.BINARY else scores
    return both.tolist()  # type: ignore[no-any-return]


def _chosen(card: Card, names: Sequence[Label], scores: list[Any]) -> list[Label]:
    if card.task is Task.REGRESSION:
        return []
    if card.task is Task.BINARY:
        (negative, positive), positive_from = names, card.positive_from
        return [positive if score >= positive_from else negative for score in scores]
    return [names[row.index(max(row))] for row in scores]
