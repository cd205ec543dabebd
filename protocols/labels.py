"""Labels: from scores to the classes that people know."""

from runners.card import Card, Task


def classes_of(card: Card, scores: list[float] | list[list[float]]) -> list[int | str]:
    """Each row's label, by the framework's own rule: the second class from a probability of `Card.positive_from` on, or
    the first of the likeliest classes; none for regression.
    """
    if card.task is Task.REGRESSION:
        return []
    if card.task is Task.BINARY:
        (negative, positive), positive_from = card.classes, card.positive_from
        return [positive if score >= positive_from else negative for score in scores]  # type: ignore[operator]
    return [card.classes[row.index(max(row))] for row in scores]  # type: ignore[union-attr, arg-type]
