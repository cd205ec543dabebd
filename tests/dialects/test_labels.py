"""From scores to labels."""

import numpy as np
import pytest

from runners.artefacts.card import Task
from shokado.dialects.labels import classes_of, classifications
from tests.dialects.cards import card


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


def test_classifications_have_the_best_first_with_all_digits() -> None:
    binary = card(classes=("no", "yes"))
    found = classifications(binary, np.array([0.75, 0.25, 1e-9], np.float32), 2).tolist()
    assert found[:2] == [["0.75:1:yes", "0.25:0:no"], ["0.75:0:no", "0.25:1:yes"]]
    assert np.float32(found[2][1].split(":")[0]) == np.float32(1e-9)
    many = card(Task.MULTICLASS, ("a", "b", "c"))
    scores = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]], np.float32)
    assert classifications(many, scores, 2).tolist() == [["0.5:2:c", "0.25:0:a"], ["0.5:0:a", "0.25:1:b"]]


@pytest.mark.parametrize("positive_from", [0.5, card().positive_from])
def test_the_best_of_two_equals_is_the_label(positive_from: float) -> None:
    tie = card(classes=("no", "yes")).model_copy(update={"positive_from": positive_from})
    (first, second), *_ = classifications(tie, np.array([0.5], np.float32), 2).tolist()
    assert first.endswith(f":{classes_of(tie, [0.5])[0]}")
    assert sorted((first, second)) == ["0.5:0:no", "0.5:1:yes"]
