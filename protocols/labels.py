"""Labels: from scores to the classes that people know."""

import numpy as np

from runners.card import POSITIVE_FROM, Card, Task
from runners.engine import Scores


def classes_of(card: Card, scores: Scores) -> list[int | str]:
    """Each row's label: the second class from a probability of 0.5 on, or the likeliest class; none for regression."""
    if card.task is Task.REGRESSION:
        return []
    if card.task is Task.BINARY:
        negative, positive = card.classes
        return [positive if score >= POSITIVE_FROM else negative for score in scores.tolist()]
    return [card.classes[index] for index in np.argmax(scores, axis=1).tolist()]
