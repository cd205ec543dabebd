"""Feedback: what is joined to which prediction, what is refused, and in which words."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.artefacts.card import Card, Task
from shokado.experiments.feedback_collector import Feedback, FeedbackStatus, Ruling, join, refused
from shokado.experiments.figures import Counted
from shokado.experiments.prediction_id import PredictionIds
from shokado.stores.store import Tally
from tests.support.cards import make_card, toy_card
from tests.transports.predictions import prediction

NOW = 1_790_000_000.0
HOUR_S = 3600.0
SECRET = bytes(range(32))
BINARY = toy_card()
MULTICLASS = toy_card(Task.MULTICLASS, ("low", "middle", "high"))
REGRESSION = toy_card(Task.REGRESSION, ())
SEVERAL = toy_card(Task.MULTIOUTPUT, ())
"""Two values a row, `speed` and `cost`."""
IDS = PredictionIds(SECRET, HOUR_S, clock=lambda: NOW)

plain = st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none())
labels = st.one_of(plain, st.lists(st.floats(), max_size=3), st.dictionaries(st.text(max_size=5), st.floats()))


def made(card: Card, scores: list[Any], at: float = NOW) -> str:
    """The id of a prediction with these scores."""
    return PredictionIds(SECRET, HOUR_S, clock=lambda: at).make(prediction(card, scores))


def ruling(card: Card, scores: list[Any], at: float = NOW, **entry: Any) -> Ruling:
    """On feedback for a prediction by version v1."""
    return join(Feedback(made(card, scores, at), **entry), IDS.read, {"v1": card}, NOW, HOUR_S)


def counted(ruling: Ruling) -> dict[str, float]:
    """What an accepted entry adds, by name; all of it to version v1 in production."""
    assert ruling.status is FeedbackStatus.ACCEPTED, ruling.reason
    assert ruling.settlement is not None
    assert {(tally.version, tally.environment) for tally in ruling.settlement.counts} == {("v1", "production")}
    return {tally.name: value for tally, value in ruling.settlement.counts.items()}


@pytest.mark.parametrize(
    ("scores", "index", "label", "correct"),
    [
        ([0.9], 0, 1, 1),
        ([0.9], 0, 0, 0),
        ([0.5], 0, 1, 0),
        ([0.5000000596046448], 0, 1, 1),
        ([0.49], 0, 1, 0),
        ([0.1], 0, 0, 1),
        ([0.1, 0.2, 0.8], 2, 1, 1),
        ([0.1, 0.2, 0.8], 1, 1, 0),
        ([0.9], 0, "1", 1),
        ([0.9], 0, 1.0, 1),
        ([0.9], 0, True, 1),
        ([0.9], 0, False, 0),
    ],
)
def test_a_label_says_whether_a_binary_model_was_right(
    scores: list[float], index: int, label: Any, correct: int
) -> None:
    assert counted(ruling(BINARY, scores, index=index, label=label)) == {
        Counted.FEEDBACK: 1,
        Counted.DELAY_S: 0,
        Counted.CLASS_LABELS: 1,
        Counted.CORRECT: correct,
    }


@pytest.mark.parametrize(("score", "label", "correct"), [(-0.25, -1, 1), (-0.25, 1, 0), (0.0, 1, 1), (0.25, "-1", 0)])
def test_a_label_says_whether_a_row_was_an_anomaly(score: float, label: Any, correct: int) -> None:
    anomaly = make_card(Task.ANOMALY)
    assert counted(ruling(anomaly, [score], label=label))[Counted.CORRECT] == correct


@pytest.mark.parametrize(
    ("classes", "label", "correct"),
    [
        (("low", "middle", "high"), "high", 1),
        (("low", "middle", "high"), "low", 0),
        (("1", "2", "3"), 3, 1),
        (("1", "2", "3"), "3", 1),
        ((0, 1, 2), 2, 1),
        ((0, 1, 2), "2", 1),
        ((0, 1, 2), 2.0, 1),
        ((0, 1, 2), 1, 0),
        # A text and a number that are written alike are two classes.
        ((2, "1", "2"), "2", 1),
        ((2, "1", "2"), 2, 0),
    ],
)
def test_a_label_says_whether_a_model_of_many_classes_was_right(
    classes: tuple[int | str, ...], label: Any, correct: int
) -> None:
    found = counted(ruling(toy_card(Task.MULTICLASS, classes), [[0.1, 0.2, 0.7]], label=label))
    assert found[Counted.CORRECT] == correct


@pytest.mark.parametrize(("label", "squared"), [(3.5, 1.0), (2.5, 0.0), (2, 0.25), (-1.5, 16.0)])
def test_a_label_says_how_far_a_regression_was_off(label: float, squared: float) -> None:
    assert counted(ruling(REGRESSION, [2.5], label=label)) == {
        Counted.FEEDBACK: 1,
        Counted.DELAY_S: 0,
        Counted.VALUE_LABELS: 1,
        Counted.SQUARED_ERROR: squared,
        Counted.SQUARED_ERROR_SQUARED: squared**2,
    }


@pytest.mark.parametrize("label", [[3.5, 2002.0], {"cost": 2002, "speed": 3.5}])
@pytest.mark.parametrize("index", [0, 1, 15])
def test_a_label_says_how_far_several_values_were_off(index: int, label: Any) -> None:
    scores = [[row * 10.0, row * 1000.0] for row in range(16)]
    scores[index] = [2.5, 2000.0]
    assert counted(ruling(SEVERAL, scores, index=index, label=label)) == {
        Counted.FEEDBACK: 1,
        Counted.DELAY_S: 0,
        Counted.VALUE_LABELS: 1,
        Counted.SQUARED_ERROR: (1 + 4) / 2,
        Counted.SQUARED_ERROR_SQUARED: 6.25,
    }


def test_labels_of_several_values_can_be_joined_to_fewer_rows_and_of_too_many_to_none() -> None:
    refusal = ruling(SEVERAL, [[1.0, 2.0]] * 20, index=16, label=[1.0, 2.0])
    assert refusal.status is FeedbackStatus.INVALID
    assert refusal.reason == "labels can be joined to the first 16 rows of a request; send a reward instead"
    wide = SEVERAL.model_copy(update={"outputs": tuple(f"output_{index}" for index in range(33))})
    refusal = ruling(wide, [[1.0] * 33], label=[1.0] * 33)
    assert refusal.reason == "labels can be joined to no row of 33 values; send a reward instead"
    assert counted(ruling(wide, [[1.0] * 33], reward=1))[Counted.REWARD_SUM] == 1


LABELS = toy_card(Task.MULTILABEL)


@pytest.mark.parametrize(("label", "correct"), [([0, 1], 1), ({"old": True, "loud": "0"}, 1), ([1, 1], 0), ([0, 0], 0)])
@pytest.mark.parametrize("index", [0, 31])
def test_a_label_of_several_labels_says_whether_all_were_right(index: int, label: Any, correct: int) -> None:
    scores = [[0.75, 0.25]] * 32
    scores[index] = [0.25, 0.75]
    found = counted(ruling(LABELS, scores, index=index, label=label))
    assert (found[Counted.CLASS_LABELS], found[Counted.CORRECT]) == (1, correct)


def test_a_label_of_very_many_labels_can_be_joined_to_few_rows() -> None:
    tags = LABELS.model_copy(update={"outputs": tuple(f"tag {at}" for at in range(769))})
    refusal = ruling(tags, [[0.5] * 769], label=[0] * 769)
    assert refusal.reason == "labels can be joined to no row of 769 labels; send a reward instead"
    tags = LABELS.model_copy(update={"outputs": tags.outputs[:25]})
    assert counted(ruling(tags, [[0.5] * 25] * 16, index=15, label=[0] * 25))[Counted.CORRECT] == 1
    refusal = ruling(tags, [[0.5] * 25] * 17, index=16, label=[0] * 25)
    assert refusal.reason == "labels can be joined to the first 16 rows of a request; send a reward instead"


@pytest.mark.parametrize("reward", [0, 0.0, 0.25, 1, 1.0, True])
def test_a_reward_counts_as_what_it_is(reward: float) -> None:
    found = counted(ruling(REGRESSION, [2.5], reward=reward))
    assert found == {Counted.FEEDBACK: 1, Counted.DELAY_S: 0, Counted.REWARDS: 1, Counted.REWARD_SUM: float(reward)}


def test_a_label_and_a_reward_may_come_together() -> None:
    found = counted(ruling(BINARY, [0.9], label=0, reward=0.5))
    assert (found[Counted.CORRECT], found[Counted.REWARD_SUM], found[Counted.FEEDBACK]) == (0, 0.5, 1)


def test_feedback_is_counted_with_its_delay() -> None:
    assert counted(ruling(BINARY, [0.9], at=NOW - 60, label=1))[Counted.DELAY_S] == 60


def test_a_prediction_of_a_clock_that_is_ahead_has_no_negative_delay() -> None:
    assert counted(ruling(BINARY, [0.9], at=NOW + 5, label=1))[Counted.DELAY_S] == 0


def test_the_same_row_has_the_same_key_and_every_other_row_another() -> None:
    first, second = made(BINARY, [0.9, 0.9]), made(BINARY, [0.9, 0.9])
    keys = []
    for entry in (
        Feedback(first, label=1),
        Feedback(first, reward=0.0),
        Feedback(first, index=1, label=1),
        Feedback(second, label=1),
    ):
        settlement = join(entry, IDS.read, {"v1": BINARY}, NOW, HOUR_S).settlement
        assert settlement is not None
        keys.append(settlement.key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_key_is_remembered_for_longer_than_its_id_is_good() -> None:
    settlement = ruling(BINARY, [0.9], at=NOW - 100, label=1).settlement
    assert settlement is not None
    assert settlement.expires_at > NOW - 100 + HOUR_S


@pytest.mark.parametrize(
    ("entry", "status", "reason"),
    [
        ({"label": 2}, FeedbackStatus.INVALID, "the label is 2; the classes are 0, 1"),
        ({"label": "yes"}, FeedbackStatus.INVALID, "the label is 'yes'; the classes are 0, 1"),
        ({"label": 0.5}, FeedbackStatus.INVALID, "the label is 0.5; the classes are 0, 1"),
        ({"label": float("nan")}, FeedbackStatus.INVALID, "the label is nan; the classes are 0, 1"),
        ({"reward": 1.5}, FeedbackStatus.INVALID, "the reward is 1.5; rewards are numbers from 0 to 1"),
        ({"reward": -0.1}, FeedbackStatus.INVALID, "the reward is -0.1; rewards are numbers from 0 to 1"),
        ({"reward": float("nan")}, FeedbackStatus.INVALID, "the reward is nan; rewards are numbers from 0 to 1"),
        ({"label": 1, "reward": 2}, FeedbackStatus.INVALID, "the reward is 2; rewards are numbers from 0 to 1"),
        ({"label": 3, "reward": 1}, FeedbackStatus.INVALID, "the label is 3; the classes are 0, 1"),
        ({}, FeedbackStatus.INVALID, "neither a label nor a reward is given"),
        ({"label": 1, "index": 2}, FeedbackStatus.UNKNOWN, "the request had 2 rows, counted from 0; there is no row 2"),
        (
            {"reward": 1, "index": -1},
            FeedbackStatus.UNKNOWN,
            "the request had 2 rows, counted from 0; there is no row -1",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_reason(
    entry: Mapping[str, Any], status: FeedbackStatus, reason: str
) -> None:
    found = ruling(BINARY, [0.9, 0.1], **entry)
    assert (found.status, found.reason, found.version, found.settlement) == (status, reason, "v1", None)


@pytest.mark.parametrize("label", [True, "2.5", float("nan"), float("inf"), 1e39, -1e39, 10**400])
def test_a_regression_wants_a_finite_number(label: Any) -> None:
    found = ruling(REGRESSION, [2.5], label=label)
    assert found.status is FeedbackStatus.INVALID
    assert found.reason.endswith("; labels of a regression are finite numbers")
    assert len(found.reason) < 200


def test_true_is_no_class_where_the_classes_are_not_0_and_1() -> None:
    for classes in ((1, 2), ("True", "False")):
        assert ruling(toy_card(Task.BINARY, classes), [0.9], label=True).status is FeedbackStatus.INVALID


def test_the_reason_does_not_repeat_hundreds_of_classes_or_characters() -> None:
    many = toy_card(Task.MULTICLASS, tuple(range(1000)))
    found = ruling(many, [[0.0] * 1000], label="x" * 10_000)
    assert "(1000 in all)" in found.reason
    assert len(found.reason) < 300


def test_beyond_the_rows_that_an_id_carries_rewards_are_taken_and_labels_are_not() -> None:
    scores = [0.9] * 40
    assert counted(ruling(BINARY, scores, index=31, label=1))[Counted.CORRECT] == 1
    assert counted(ruling(BINARY, scores, index=39, reward=1))[Counted.REWARD_SUM] == 1
    refusal = ruling(BINARY, scores, index=32, label=1)
    assert refusal.status is FeedbackStatus.INVALID
    assert refusal.reason == "labels can be joined to the first 32 rows of a request; send a reward instead"


@pytest.mark.parametrize("text", ["", "nonsense", "é", "A" * 100_000])
def test_what_is_no_id_is_malformed(text: str) -> None:
    found = join(Feedback(text, label=1), IDS.read, {"v1": BINARY}, NOW, HOUR_S)
    assert (found.status, found.version, found.settlement) == (FeedbackStatus.MALFORMED, "", None)
    assert found.reason


def test_an_id_of_another_service_is_forged() -> None:
    stranger = PredictionIds(bytes(32), HOUR_S, clock=lambda: NOW).make(prediction(BINARY, [0.9]))
    assert join(Feedback(stranger, label=1), IDS.read, {"v1": BINARY}, NOW, HOUR_S).status is FeedbackStatus.FORGED


def test_an_id_that_is_too_old_has_expired() -> None:
    assert ruling(BINARY, [0.9], at=NOW - HOUR_S + 1, label=1).status is FeedbackStatus.ACCEPTED
    assert ruling(BINARY, [0.9], at=NOW - HOUR_S - 1, label=1).status is FeedbackStatus.EXPIRED


def test_a_version_that_is_gone_is_unknown() -> None:
    found = join(Feedback(made(BINARY, [0.9]), label=1), IDS.read, {"v2": BINARY}, NOW, HOUR_S)
    assert (found.status, found.version) == (FeedbackStatus.UNKNOWN, "")
    assert "version v1" in found.reason


@given(
    card=st.sampled_from([BINARY, MULTICLASS, REGRESSION, SEVERAL]),
    index=st.integers(-1, 40),
    label=labels,
    reward=st.one_of(st.none(), st.floats(), st.integers()),
)
def test_whatever_is_sent_gets_a_ruling(card: Card, index: int, label: Any, reward: Any) -> None:
    scores: list[Any] = {MULTICLASS.task: [[0.1, 0.7, 0.2]], SEVERAL.task: [[0.3, 1.5]]}.get(card.task, [0.3]) * 40
    found = ruling(card, scores, index=index, label=label, reward=reward)
    accepted = found.status is FeedbackStatus.ACCEPTED
    assert accepted == (found.settlement is not None)
    assert accepted == (not found.reason)
    if accepted:
        assert all(0 <= value < float("inf") for value in counted(found).values())


def test_refused_feedback_is_added_up_over_versions_and_minutes() -> None:
    tallies = {
        (0, Tally("", "", "feedback_forged")): 2.0,
        (60, Tally("", "", "feedback_forged")): 1.0,
        (60, Tally("v1", "", "feedback_duplicate")): 4.0,
        (60, Tally("v1", "production", "feedback")): 9.0,
    }
    found = refused(tallies)
    assert (found[FeedbackStatus.FORGED], found[FeedbackStatus.DUPLICATE], found[FeedbackStatus.EXPIRED]) == (3, 4, 0)
    assert FeedbackStatus.ACCEPTED not in found
