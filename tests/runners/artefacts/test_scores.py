"""What scores mean: labels, confidence, how right an outcome was, and where two versions disagree."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runners.artefacts.card import Card, Task
from runners.artefacts.scores import (
    PROBABILITY_BOUNDS,
    TOLERANCE,
    UnfitLabel,
    answers_of,
    as_model_predicts,
    bounds_of,
    bounds_of_outputs,
    confidences_of,
    differences_of,
    disagreements,
    errors_of,
    from_columns,
    is_right,
    labels_of,
    outcomes_of,
    outcomes_per_row,
    positions_of,
    probabilities_of,
    ranked,
    said_by,
    squared_error_of,
    to_columns,
    tolerance_of,
)
from tests.support.cards import make_card

MANY = make_card(Task.MULTICLASS, classes=["a", "b", "c"])
VALUE = make_card(Task.REGRESSION)
SEVERAL = make_card(Task.MULTIOUTPUT)
"""Two values, whose examples' standard deviations are 0.075 and 1000."""

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


@pytest.mark.parametrize(("card", "scores"), [(VALUE, [1.0]), (SEVERAL, [[1.0, 2.0]])])
def test_values_have_neither_label_nor_confidence(card: Card, scores: Any) -> None:
    assert labels_of(card, scores) == []
    assert confidences_of(card, scores) == []


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
    assert [MANY.classes[int(outcome)] for outcome in outcomes_of(MANY, scores)] == together
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
    tasks = (Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.MULTIOUTPUT)
    for task, scores in zip(tasks, (binary, many, values, many), strict=True):
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
            {"predicts": "array", "own_outputs": {"output": "numbered"}},
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
        for outcome in outcomes_of(card, scores).tolist():
            assert is_right(card, [outcome], label) == (labels_of(card, [outcome]) == [int(label)])


def test_what_is_no_class_or_no_number_cannot_be_judged() -> None:
    with pytest.raises(UnfitLabel, match=r"^the label is 'd'; the classes are a, b, c$"):
        is_right(MANY, [0.0], "d")
    with pytest.raises(UnfitLabel, match=r"^the label is True; labels of a regression are finite numbers$"):
        errors_of(VALUE, [1.0], True)
    assert errors_of(VALUE, [1.5], 1) == [-0.5]


LABELLED = make_card(Task.MULTILABEL)


@pytest.mark.parametrize(
    ("card", "scores", "label"),
    [
        (make_card(), [0.2, 0.5, 0.9], 1),
        (make_card(positive_from=0.6, classes=("no", "yes")), [0.2, 0.55, 0.9], "yes"),
        (MANY, [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], "c"),
        (LABELLED, [[0.9] * len(LABELLED.outputs), [0.1] * len(LABELLED.outputs)], [1] * len(LABELLED.outputs)),
    ],
)
def test_answers_are_right_where_they_are_what_the_label_says_without_a_card(
    card: Card, scores: Any, label: Any
) -> None:
    given, per_row = np.array(scores, np.float32), outcomes_per_row(card)
    outcomes = outcomes_of(card, given).reshape(len(given), per_row).tolist()
    right = (answers_of(card, given) == said_by(card, label)).all(axis=1)
    assert right.tolist() == [is_right(card, row, label) for row in outcomes]
    assert set(right.tolist()) == {True, False}


def test_answers_of_values_are_the_values() -> None:
    assert answers_of(VALUE, np.array([1.5, 2.0], np.float32)).tolist() == [[1.5], [2.0]]
    assert answers_of(SEVERAL, np.array([[1.5, 2.0]], np.float32)).tolist() == [[1.5, 2.0]]
    assert said_by(VALUE, 3) == [3.0]
    assert said_by(SEVERAL, dict(zip(reversed(SEVERAL.outputs), (2, 1), strict=True))) == [1.0, 2.0]


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


def test_of_several_values_all_are_kept_for_labels() -> None:
    scores = np.array([[0.25, 1000.0], [0.5, 3000.0]], np.float32)
    assert outcomes_of(SEVERAL, scores).tolist() == scores.tolist()
    assert (outcomes_per_row(SEVERAL), outcomes_per_row(MANY), outcomes_per_row(VALUE)) == (2, 1, 1)


@pytest.mark.parametrize("label", [[1.0, 1002], (1.0, 1002.0), {"cost": 1002, "speed": 1.0}])
def test_the_error_of_several_values_is_the_mean_of_their_squares(label: Any) -> None:
    assert squared_error_of(SEVERAL, (0.0, 1000.0), label) == (1 + 4) / 2
    assert squared_error_of(VALUE, (0.0,), 3) == 9


@pytest.mark.parametrize(
    "label", [1.0, "1.0, 2.0", True, [1.0], [1.0, 2.0, 3.0], [], {"speed": 1.0}, {"speed": 1.0, "price": 2.0}]
)
def test_a_label_of_several_values_has_each_of_them(label: Any) -> None:
    says = r"; it must be a list of 2 numbers, or an object of them: speed, cost$"
    with pytest.raises(UnfitLabel, match=says):
        squared_error_of(SEVERAL, (0.0, 1000.0), label)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39, True, "1", None, [1.0]])
def test_each_of_several_values_is_a_finite_number(value: Any) -> None:
    with pytest.raises(UnfitLabel, match=r"are finite numbers$"):
        squared_error_of(SEVERAL, (0.0, 1000.0), [1.0, value])


@pytest.mark.parametrize("label", [[1.0], {"a": 1.0}])
def test_a_list_is_no_label_of_what_has_one(label: Any) -> None:
    with pytest.raises(UnfitLabel, match=r"the classes are a, b, c$"):
        is_right(MANY, [0.0], label)
    with pytest.raises(UnfitLabel, match=r"finite numbers$"):
        squared_error_of(VALUE, (0.0,), label)


def test_several_values_disagree_each_by_its_own_spread() -> None:
    answered = np.zeros((4, 2), dtype=np.float32)
    speed, cost = 0.075 * TOLERANCE, 1000 * TOLERANCE
    shadow = np.array([[speed * 0.9, cost * 0.9], [speed * 1.1, 0], [0, cost * 1.1], [0.075, 3000]], dtype=np.float32)
    found, differences = disagreements(SEVERAL, answered, SEVERAL, shadow)
    assert found == 3
    assert differences == pytest.approx([0.9 * TOLERANCE, 1.1 * TOLERANCE, 1.1 * TOLERANCE, 3.0])


def test_a_value_that_is_always_the_same_is_compared_in_its_own_unit() -> None:
    examples = {"rows": [[1.0, 2.0]] * 2, "scores": [[7.0, 0.0], [7.0, 2.0]]}
    card = make_card(Task.MULTIOUTPUT, examples=examples)
    scores = np.array([[7.0, 1.0]], np.float32)
    assert differences_of(card, scores, np.array([[7.5, 1.0]], np.float32)).tolist() == [0.5]


def test_what_scores_may_differ_by_is_told_for_each_of_several_values() -> None:
    receipt = {"rows": 10, "max_abs_difference": 1e-7, "tolerance": 1e-4}
    files = {kind: {"sha256": "0" * 64, "size_bytes": 10} for kind in ("onnx", "ubj")}
    both = {"onnx": receipt | {"tolerances": [1e-4, 3.0]}, "ubj": receipt | {"tolerances": [2e-4, 2.0]}}
    assert tolerance_of(make_card(Task.MULTIOUTPUT, files=files, verification=both), 0.0).tolist() == [2e-4, 3.0]
    assert tolerance_of(make_card(), 0.0) == 1e-4
    assert tolerance_of(make_card().model_copy(update={"verification": {}}), math.inf) == math.inf


def test_several_values_are_counted_by_the_deciles_of_each() -> None:
    scores = [[float(value), 100.0 * value] for value in range(11)]
    card = make_card(Task.MULTIOUTPUT, examples={"rows": [[1.0, 2.0]] * 11, "scores": scores})
    bounds = bounds_of_outputs(card)
    assert bounds["speed"] == pytest.approx([float(value) for value in range(1, 11)])
    assert bounds["cost"] == pytest.approx([100.0 * value for value in range(1, 11)])
    assert bounds_of_outputs(MANY) == bounds_of_outputs(VALUE) == {}


def test_a_file_of_several_values_predicts_lists_or_one_after_the_other() -> None:
    scores = np.array([[0.5, 3.0], [0.25, 4.0]], np.float32)
    assert as_model_predicts(SEVERAL, scores) == [[0.5, 3.0], [0.25, 4.0]]
    columns = SEVERAL.model_copy(update={"predicts": "columns", "own_outputs": {"y": "row"}})
    assert as_model_predicts(columns, scores) == {"y": [[0.5, 3.0], [0.25, 4.0]]}
    records = columns.model_copy(update={"predicts": "records"})
    assert as_model_predicts(records, scores) == [{"y": 0.5}, {"y": 3.0}, {"y": 0.25}, {"y": 4.0}]


MARGIN, MARGINS, ANOMALY = (make_card(task) for task in (Task.BINARY_MARGIN, Task.MULTICLASS_MARGIN, Task.ANOMALY))


def test_margins_have_labels_and_no_confidence() -> None:
    assert labels_of(MARGIN, [-0.5, 0.0, 1e-30, 7.0]) == ["no", "no", "yes", "yes"]
    assert labels_of(ANOMALY, [-0.5, -1e-30, 0.0, 7.0]) == [-1, -1, 1, 1]
    assert labels_of(MARGINS, [[-3.0, -2.0, -2.0], [5.0, -7.0, 5.5]]) == ["middle", "high"]
    for card, scores in ((MARGIN, [2.5]), (ANOMALY, [2.5]), (MARGINS, [[1.0, 2.0, 3.0]])):
        assert labels_of(card, scores) != []
        assert confidences_of(card, scores) == []


@pytest.mark.parametrize("card", [MARGIN, ANOMALY])
def test_a_label_says_whether_a_margin_was_right(card: Card) -> None:
    scores = np.array([-0.5, -1e-30, 0.0, 1e-30, 0.4, 7.0], np.float32)
    for outcome, label in zip(outcomes_of(card, scores).tolist(), labels_of(card, scores.tolist()), strict=True):
        assert [is_right(card, [outcome], each) for each in card.classes] == [label == each for each in card.classes]


def test_margins_are_counted_by_deciles_and_disagree_by_their_labels() -> None:
    scores = [float(value) for value in range(-5, 6)]
    card = make_card(Task.BINARY_MARGIN, examples={"rows": [[1.0, 2.0]] * 11, "scores": scores})
    assert bounds_of(card) == pytest.approx(scores[1:])
    one, other = np.array([-1.0, 0.25, 9.0], np.float32), np.array([-0.5, -0.25, 4.0], np.float32)
    found, differences = disagreements(MARGIN, one, MARGIN, other)
    assert (found, differences.tolist()) == (1, [0.5, 0.5, 5.0])
    found, differences = disagreements(MARGINS, np.eye(3, dtype=np.float32), MARGINS, np.eye(3, dtype=np.float32)[::-1])
    assert (found, differences.tolist()) == (2, [1.0, 0.0, 1.0])


def test_margins_have_columns_of_their_own() -> None:
    for task in (Task.BINARY_MARGIN, Task.ANOMALY):
        assert to_columns(task, np.array([-0.5, 3.0], np.float32)).tolist() == [[-0.5], [3.0]]
        assert from_columns(task, np.array([[-0.5], [3.0]], np.float32)).tolist() == [-0.5, 3.0]


LABELS, LABEL_MARGINS = make_card(Task.MULTILABEL), make_card(Task.MULTILABEL_MARGIN)
"""Two labels, which are called loud and old."""
TAGS = LABELS.model_copy(update={"outputs": tuple(f"tag {at}" for at in range(53)), "classes": ("no", "yes")})


def test_of_several_labels_each_has_its_class_by_the_same_rule() -> None:
    scores = [[0.5, 0.5000000596046448], [0.0, 1.0], [0.75, 0.25]]
    assert labels_of(LABELS, scores) == [[0, 1], [0, 1], [1, 0]]
    at_half = LABELS.model_copy(update={"positive_from": 0.5})
    assert labels_of(at_half, scores)[0] == [1, 1]
    assert labels_of(LABEL_MARGINS, [[-0.5, 0.0], [1e-30, 7.0]]) == [["no", "no"], ["yes", "yes"]]
    assert confidences_of(LABELS, scores) == []
    assert positions_of(LABELS.task, np.array(scores, np.float32), LABELS.positive_from).tolist() == [
        [0, 1], [0, 1], [1, 0],
    ]  # fmt: skip


def test_several_labels_are_predicted_as_lists_in_the_models_own_words() -> None:
    scores = np.array([[0.25, 0.75]], np.float32)
    assert as_model_predicts(LABELS, scores) == [[0, 1]]
    for own in ((False, True), (0.0, 1.0), ("no", "yes")):
        (found,) = as_model_predicts(LABELS.model_copy(update={"own_classes": own}), scores)
        assert (found, type(found[0])) == ([*own], type(own[0]))
    for predicts in ("scores", "probabilities"):
        assert as_model_predicts(LABELS.model_copy(update={"predicts": predicts}), scores) == [[0.25, 0.75]]
    assert probabilities_of(LABELS, scores) == [[0.25, 0.75]]


@given(scores=arrays.arrays(np.float32, (4, 53), elements=st.floats(0, 1, width=32)), wrong=st.integers(0, 52))
def test_a_label_of_several_is_right_where_all_are(scores: Any, wrong: int) -> None:
    """Their bits come back out of the few numbers that an id carries."""
    outcomes = outcomes_of(TAGS, scores)
    assert (outcomes.shape, outcomes.dtype.name, outcomes_per_row(TAGS)) == ((4, 3), "float32", 3)
    for carried, labels in zip(outcomes.tolist(), labels_of(TAGS, scores.tolist()), strict=True):
        assert is_right(TAGS, carried, labels)
        assert is_right(TAGS, carried, dict(zip(TAGS.outputs, labels, strict=True)))
        other = [("yes" if label == "no" else "no") if at == wrong else label for at, label in enumerate(labels)]
        assert not is_right(TAGS, carried, other)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (1, r"must be a list of 2 labels \(0, 1\), or an object of them: loud, old$"),
        ([1], r"must be a list of 2 labels"),
        ("01", r"must be a list of 2 labels"),
        ({"loud": 1}, r"must be a list of 2 labels"),
        ([1, 2], r"^the label is 2; the classes are 0, 1$"),
        ([[1], 0], r"^the label is \[1\]; the classes are 0, 1$"),
    ],
)
def test_a_label_of_several_labels_has_a_class_for_each(label: Any, says: str) -> None:
    with pytest.raises(UnfitLabel, match=says):
        is_right(LABELS, [0.0], label)


def test_several_labels_disagree_where_one_does() -> None:
    one = np.array([[0.4, 0.6], [0.4, 0.6], [0.4, 0.6]], np.float32)
    other = np.array([[0.1, 0.9], [0.6, 0.6], [0.75, 0.25]], np.float32)
    found, differences = disagreements(LABELS, one, LABELS, other)
    assert found == 2
    assert differences == pytest.approx([0.3, 0.2, 0.35])


def test_probabilities_of_several_labels_are_counted_by_tenths_each_and_margins_by_deciles() -> None:
    assert bounds_of_outputs(LABELS) == {"loud": PROBABILITY_BOUNDS, "old": PROBABILITY_BOUNDS}
    assert bounds_of_outputs(LABEL_MARGINS)["old"][-1] == 1.0
    assert len(bounds_of_outputs(LABEL_MARGINS)["old"]) > 2
