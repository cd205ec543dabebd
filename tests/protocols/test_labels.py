"""From scores to labels."""

import pytest

from protocols.labels import classes_of
from runners.card import Task
from tests.protocols.cards import card


@pytest.mark.parametrize("classes", [(0, 1), ("no", "yes"), (1, 0)])
def test_the_second_class_begins_where_the_card_says(classes: tuple[int | str, ...]) -> None:
    scores = [0.0, 0.4999999701976776, 0.5, 0.5000000596046448, 1.0]
    first, second = classes
    tie_to_the_first = card(classes=classes)
    assert classes_of(tie_to_the_first, scores) == [first, first, first, second, second]
    tie_to_the_second = tie_to_the_first.model_copy(update={"positive_from": 0.5})
    assert classes_of(tie_to_the_second, scores) == [first, first, second, second, second]


def test_the_likeliest_of_many_classes_wins_and_the_first_of_equals() -> None:
    scores = [[0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.2, 0.5, 0.3]]
    many = card(Task.MULTICLASS, ("a", "b", "c"))
    assert classes_of(many, scores) == ["c", "a", "b"]


def test_a_value_has_no_label() -> None:
    assert classes_of(card(Task.REGRESSION, ()), [1.0]) == []
