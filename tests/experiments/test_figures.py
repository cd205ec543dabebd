"""Figures per version: what they are of which counts, and how sure they are."""

from shokado.experiments.figures import Counted, Proportion, add_up, figures
from shokado.experiments.proportions import wilson
from shokado.stores.store import Tally

Entry = tuple[int, str, str, str, float]


def tallies(*entries: Entry) -> dict[tuple[int, Tally], float]:
    """Of (minute, version, environment, name, value)."""
    return {(minute, Tally(*tally)): value for minute, *tally, value in entries}


ANSWERED: list[Entry] = [
    (0, "v1", "", "requests", 8),
    (0, "v1", "", "rows", 30),
    (60, "v1", "", "rows", 10),
    (60, "v1", "", "on_time", 7),
    (60, "v1", "", "failed", 2),
    (0, "v2", "", "rows", 1000),
]


def test_a_version_that_was_never_heard_of_has_no_figures() -> None:
    empty = figures({}, "v1")
    assert (empty.requests, empty.rows, empty.on_time, empty.failed, empty.feedback, empty.labels) == (0,) * 6
    assert empty.accuracy is empty.conversion is None
    assert empty.mean_squared_error is empty.label_coverage is empty.mean_delay_s is None


def test_counts_of_all_minutes_are_added_up_and_those_of_other_versions_left_out() -> None:
    found = figures(tallies(*ANSWERED), "v1")
    assert (found.requests, found.rows, found.on_time, found.failed) == (8, 40, 7, 2)


def test_a_classifier_has_an_accuracy() -> None:
    found = figures(
        tallies(
            *ANSWERED,
            (0, "v1", "production", "class_labels", 15),
            (60, "v1", "staging", "class_labels", 5),
            (60, "v1", "staging", "correct", 5),
            (60, "v1", "production", "feedback", 20),
            (60, "v1", "production", "delay_s", 50),
        ),
        "v1",
    )
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.observations) == (0.25, 20)
    assert (found.labels, found.label_coverage, found.mean_delay_s) == (20, 0.5, 2.5)
    assert found.mean_squared_error is None


def test_a_classifier_that_is_always_wrong_has_an_accuracy_of_zero() -> None:
    found = figures(tallies((0, "v1", "production", "class_labels", 4)), "v1")
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.low) == (0, 0)


def test_a_regression_has_a_mean_squared_error_and_no_accuracy() -> None:
    counted = tallies(
        (0, "v1", "production", "value_labels", 4), (0, "v1", "production", "squared_error", 10), *ANSWERED
    )
    found = figures(counted, "v1")
    assert (found.mean_squared_error, found.labels, found.label_coverage, found.accuracy) == (2.5, 4, 0.1, None)


def test_a_regression_without_any_error_has_an_error_of_zero() -> None:
    assert figures(tallies((0, "v1", "production", "value_labels", 4)), "v1").mean_squared_error == 0


def test_the_conversion_is_the_mean_reward() -> None:
    counted = tallies((0, "v1", "production", "rewards", 4), (0, "v1", "production", "reward_sum", 3))
    conversion = figures(counted, "v1").conversion
    assert conversion is not None
    assert (conversion.value, conversion.observations) == (0.75, 4)


def test_one_environment_has_its_own_feedback_and_the_requests_of_all() -> None:
    counted = tallies(
        *ANSWERED,
        (0, "v1", "production", "rewards", 4),
        (0, "v1", "staging", "rewards", 2),
        (0, "v1", "staging", "reward_sum", 2),
        (0, "v1", "staging", "class_labels", 2),
    )
    staging = figures(counted, "v1", "staging")
    assert staging.conversion is not None
    assert (staging.conversion.value, staging.conversion.observations) == (1, 2)
    assert (staging.rows, staging.labels) == (40, 2)
    assert staging.label_coverage is None


def test_labels_of_rows_that_were_answered_before_cover_no_more_than_all() -> None:
    assert figures(tallies((0, "v1", "", "rows", 1), (0, "v1", "a", "class_labels", 3)), "v1").label_coverage == 1


def test_a_proportion_comes_with_its_interval() -> None:
    conversion = figures(tallies((0, "v1", "a", "rewards", 8), (0, "v1", "a", "reward_sum", 2.5)), "v1").conversion
    assert conversion == Proportion(2.5 / 8, *wilson(2.5 / 8, 8), 8)


def test_minutes_can_weigh_less() -> None:
    counted = tallies((0, "v1", "a", "rewards", 8), (60, "v1", "a", "rewards", 3), (60, "v2", "", "rows", 5))
    sums = add_up(counted, weight=lambda minute: 1.0 if minute else 0.25)
    assert sums == {"v1": {Counted.REWARDS: 5}, "v2": {Counted.ROWS: 5}}
