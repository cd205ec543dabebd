"""Labels: from scores to the classes that people know."""

from runners.card import POSITIVE_FROM, Card, Task


def classes_of(card: Card, scores: list[float] | list[list[float]]) -> list[int | str]:
    """Each row's label: the second class from a probability of 0.5 on, or the likeliest class; none for regression."""
    if card.task is Task.REGRESSION:
        return []
    if card.task is Task.BINARY:
        negative, positive = card.classes
        return [positive if score >= POSITIVE_FROM else negative for score in scores]  # type: ignore[operator]
    return [card.classes[row.index(max(row))] for row in scores]  # type: ignore[union-attr, arg-type]
