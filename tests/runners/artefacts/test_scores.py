"""What scores mean: labels, confidence, how right an outcome was, and where two versions disagree."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runners.artefacts.card import Task
from runners.artefacts.scores import (
    TOLERANCE,
    UnfitLabel,
    as_model_predicts,
    bounds_of,
    confidences_of,
    disagreements,
    error_of,
    from_columns,
    is_right,
    labels_of,
    outcomes_of,
    positions_of,
    probabilities_of,
    ranked,
    to_columns,
)
from tests.support.cards import make_card

MANY = make_card(Task.MULTICLASS, classes=["a", "b", "c"])
VALUE = make_card(Task.REGRESSION)

single = arrays.arrays(np.float32, 20, elements=st.floats(0, 1, width=32))
several = arrays.arrays(np.float32, (20, 3), elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize("classes", [(0, 1), ("no", "yes"), (1, 0)])
def test_the_second_class_begins_where_the_card_says(classes: tuple[int | str, ...]) -> None:
    scores = [0.0, 0.4999999701976776, 0.5, 0.5000000596046448, 1.0]
    first, second = classes
    tie_to_the_first = make_card(classes=classes)
    assert labels_of(tie_to_the_first, scores) == [first, first, first, second, second]
    tie_to_the_second = make_card(classes=classes, positive_from=0.5)
    assert labels_of(tie_to_the_second, scores) == [first, first, second, second, second]


def test_the_likeliest_of_many_classes_wins_and_the_first_of_equals() -> None:
    scores = [[0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.2, 0.5, 0.3]]
    assert labels_of(MANY, scores) == ["c", "a", "b"]


def test_a_value_has_neither_label_nor_confidence() -> None:
    assert labels_of(VALUE, [1.0]) == []
    assert confidences_of(VALUE, [1.0]) == []


@given(scores=single, positive_from=st.floats(0, 1, width=32))
def test_one_row_has_the_label_that_it_has_among_others(scores: Any, positive_from: float) -> None:
    card = make_card(classes=["no", "yes"], positive_from=positive_from)
    together = labels_of(card, scores.tolist())
    assert [label for score in scores.tolist() for label in labels_of(card, [score])] == together
    assert [card.classes[position] for position in positions_of(card.task, scores, positive_from)] == together


@given(scores=several)
def test_many_classes_have_one_rule(scores: Any) -> None:
    together = labels_of(MANY, scores.tolist())
    assert [MANY.classes[position] for position in positions_of(MANY.task, scores, 0.0)] == together
    assert [MANY.classes[int(outcome)] for outcome in outcomes_of(scores)] == together
    assert [texts[0] for texts in np.array(MANY.classes)[ranked(MANY, scores, 1)[0]].tolist()] == together


@given(scores=single)
def test_confidence_is_the_larger_probability_of_two(scores: Any) -> None:
    assert confidences_of(make_card(), scores.tolist()) == [max(score, 1 - score) for score in scores.tolist()]


def test_confidence_is_the_largest_probability_of_many() -> None:
    assert confidences_of(MANY, [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]) == [0.5, 0.5]


def test_columns_are_classes_or_values() -> None:
    binary, values = np.array([0.25, 1.0], np.float32), np.array([-1.5, 7.0], np.float32)
    many = np.array([[0.25, 0.25, 0.5]], np.float32)
    assert to_columns(Task.BINARY, binary).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    for task, scores in ((Task.BINARY, binary), (Task.MULTICLASS, many), (Task.REGRESSION, values)):
        columns = to_columns(task, scores)
        assert (columns.ndim, columns.dtype.name) == (2, "float32")
        assert to_columns(task, columns).tolist() == columns.tolist()
        assert from_columns(task, columns).tolist() == scores.tolist()


def test_the_best_classes_come_first_and_the_first_of_equals() -> None:
    scores = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]], np.float32)
    positions, probabilities = ranked(MANY, scores, 2)
    assert positions.tolist() == [[2, 0], [0, 1]]
    assert (probabilities.tolist(), probabilities.dtype.name) == ([[0.5, 0.25], [0.5, 0.25]], "float32")


@pytest.mark.parametrize("positive_from", [0.5, make_card().positive_from])
def test_the_best_of_two_equals_is_the_label(positive_from: float) -> None:
    tie = make_card(classes=["no", "yes"], positive_from=positive_from)
    positions, probabilities = ranked(tie, np.array([0.5], np.float32), 2)
    assert tie.classes[positions[0, 0]] == labels_of(tie, [0.5])[0]
    assert sorted(positions[0].tolist()) == [0, 1]
    assert probabilities.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({}, ["low", "high"]),
        ({"own_classes": [0, 1, 2]}, [0, 2]),
        ({"predicts": "scores"}, [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]),
        ({"predicts": "probabilities"}, [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]),
        (
            {"predicts": "array", "own_outputs": {"output": "probabilities"}},
            [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]],
        ),
        (
            {"predicts": "array", "own_outputs": {"0": "maps"}, "own_classes": [0, 1, 2]},
            [{0: 0.5, 1: 0.25, 2: 0.25}, {0: 0.0, 1: 0.0, 2: 1.0}],
        ),
    ],
)
def test_a_logged_model_predicts_in_its_own_words(changes: dict[str, Any], given: list[Any]) -> None:
    scores = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], np.float32)
    assert as_model_predicts(make_card(Task.MULTICLASS, **changes), scores) == given


def test_a_logged_model_of_two_classes_may_predict_one_probability_or_both() -> None:
    scores = np.array([0.25], np.float32)
    assert as_model_predicts(make_card(predicts="scores"), scores) == [0.25]
    both = make_card(predicts="probabilities")
    assert as_model_predicts(both, scores) == probabilities_of(both, scores) == [[0.75, 0.25]]
    assert as_model_predicts(VALUE, np.array([-7.5], np.float32)) == [-7.5]
    column = make_card(Task.REGRESSION, predicts="array", own_outputs={"output": "column"})
    assert as_model_predicts(column, np.array([-7.5], np.float32)) == [[-7.5]]


@given(scores=single, label=st.sampled_from([0, 1, "0", "1", True, False, 0.0, 1.0]))
def test_what_was_right_is_judged_by_the_label_that_was_given(scores: Any, label: Any) -> None:
    for card in (make_card(), make_card(positive_from=0.25)):
        for outcome in outcomes_of(scores).tolist():
            assert is_right(card, outcome, label) == (labels_of(card, [outcome]) == [int(label)])


def test_what_is_no_class_or_no_number_cannot_be_judged() -> None:
    with pytest.raises(UnfitLabel, match=r"^the label is 'd'; the classes are a, b, c$"):
        is_right(MANY, 0.0, "d")
    with pytest.raises(UnfitLabel, match=r"^the label is True; labels of a regression are finite numbers$"):
        error_of(1.0, True)
    assert error_of(1.5, 1) == -0.5


@given(answered=single, shadow=single)
def test_binary_scores_disagree_when_each_version_has_its_own_class(answered: Any, shadow: Any) -> None:
    found, differences = disagreements(make_card(), answered, make_card(positive_from=0.5), shadow)
    assert found == sum((one > 0.5) != (other >= 0.5) for one, other in zip(answered, shadow, strict=True))
    assert differences.tolist() == [abs(float(a) - float(b)) for a, b in zip(answered, shadow, strict=True)]


@given(answered=several, shadow=several)
def test_many_classes_disagree_when_another_is_the_likeliest(answered: Any, shadow: Any) -> None:
    found, differences = disagreements(MANY, answered, MANY, shadow)
    pairs = list(zip(answered.tolist(), shadow.tolist(), strict=True))
    assert found == sum(one.index(max(one)) != other.index(max(other)) for one, other in pairs)
    assert differences.tolist() == [max(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs]


@pytest.mark.parametrize(("examples", "tolerance"), [([10.0, 30.0], 10 * TOLERANCE), ([10.0, 10.0], 1e-4)])
def test_values_disagree_beyond_a_part_of_their_spread_or_the_verified_tolerance(
    examples: list[float], tolerance: float
) -> None:
    card = make_card(Task.REGRESSION, examples={"rows": [[1.0, 2.0], [0.1, -3.0]], "scores": examples})
    answered = np.zeros(4, dtype=np.float32)
    shadow = np.array([0.0, tolerance * 0.99, -tolerance * 1.01, math.pi], dtype=np.float32)
    found, differences = disagreements(card, answered, card, shadow)
    assert found == 2
    assert differences == pytest.approx([0, tolerance * 0.99, tolerance * 1.01, math.pi])


def test_probabilities_are_counted_by_tenths_and_values_by_deciles() -> None:
    assert bounds_of(make_card()) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    scores = [float(value) for value in range(11)]
    values = make_card(Task.REGRESSION, examples={"rows": [[1.0, 2.0]] * 11, "scores": scores})
    assert bounds_of(values) == pytest.approx(scores[1:])
    assert bounds_of(make_card(Task.REGRESSION, examples={"rows": [[1.0, 2.0]] * 2, "scores": [3.0, 3.0]})) == (3.0,)
