"""Labels: from scores to the classes that people know, or that the model knows."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card, Task

Label = TypeVar("Label")


def classes_of(card: Card, scores: list[float] | list[list[float]]) -> list[int | str]:
    """Each row's label, by the framework's own rule: the second class from a probability of `Card.positive_from` on, or
    the first of the likeliest classes; none for regression.
    """
    if card.task is Task.BINARY and len(scores) == 1:
        score: Any = scores[0]  # the usual case, at half the price
        return [card.classes[score >= card.positive_from]]
    return _chosen(card, card.classes, scores)


def predicted(card: Card, scores: NDArray[np.float32]) -> list[Any]:
    """What MLflow's own server gives of these rows: labels in the model's own words, probabilities, or values."""
    if card.predicts == "probabilities":
        return probabilities(card, scores)
    if card.predicts == "scores" or not card.classes:
        return scores.tolist()  # type: ignore[no-any-return]
    return _chosen(card, card.own_classes or card.classes, scores.tolist())


def classifications(card: Card, scores: NDArray[np.float32], top: int) -> NDArray[Any]:
    """The `top` likeliest classes of each row, best first, as texts `score:index:label` of shape (rows, top).

    Of equals the first one comes first, unless a binary model predicts its second class at a tie. Source: Triton's
    "Classification Extension"; a score has all its digits, where Triton's server prints six decimals.
    """
    both = card.task is Task.BINARY
    values = np.column_stack((1 - scores, scores)) if both else scores
    if both and card.positive_from <= 0.5:
        order = 1 - np.argsort(-values[:, ::-1], axis=1, kind="stable")
    else:
        order = np.argsort(-values, axis=1, kind="stable")
    best = order[:, :top]
    chosen = np.take_along_axis(values, best, axis=1)
    names = [f"{index}:{label}" for index, label in enumerate(card.classes)]
    pairs = zip(chosen.ravel().tolist(), best.ravel().tolist(), strict=True)
    texts = [f"{score}:{names[index]}" for score, index in pairs]
    return np.array(texts, object).reshape(best.shape)


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
