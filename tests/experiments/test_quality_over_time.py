"""Quality over time: which minute counts in which piece, and how sure each figure is."""

import numpy as np
import pytest
from scipy import stats

from shokado.experiments.figures import Counted
from shokado.experiments.proportions import wilson
from shokado.experiments.quality_over_time import Pieces, mean_interval, quality_over_time
from shokado.stores.store import Tally

PIECES = Pieces(begin=600, length_s=120, number=3)


def labels(minute: int, right: float, of: float, environment: str = "production") -> dict[tuple[int, Tally], float]:
    return {
        (minute, Tally("v1", environment, Counted.CLASS_LABELS)): of,
        (minute, Tally("v1", environment, Counted.CORRECT)): right,
    }


@pytest.mark.parametrize(
    ("now", "hours", "about", "pieces"),
    [
        (86_400 * 10 + 61.5, 1, 60, Pieces(86_400 * 10 - 3540, 60, 61)),
        (86_400 * 10 + 61.5, 24, 48, Pieces(86_400 * 9, 1800, 49)),
        (86_400 * 10 - 1.0, 24, 48, Pieces(86_400 * 9 - 1800, 1800, 49)),
        (7200.0, 1.01, 3, Pieces(2520, 1260, 4)),
        (7200.0, 0.001, 500, Pieces(7140, 60, 2)),
    ],
)
def test_pieces_are_whole_minutes_and_the_same_for_who_asks_again(
    now: float, hours: float, about: int, pieces: Pieces
) -> None:
    found = Pieces.until(now, hours, about)
    assert found == pieces
    assert found.begin <= now - hours * 3600
    assert found.ends[-2] <= now < found.ends[-1]
    assert Pieces.until(now + 0.25, hours, about) == found


def test_each_minute_counts_in_its_piece_and_what_is_outside_in_none() -> None:
    counted = labels(540, 9, 9) | labels(600, 1, 2) | labels(660, 2, 2) | labels(840, 0, 4) | labels(960, 9, 9)
    found = quality_over_time(counted, "production", ["v1"], PIECES)["v1"].accuracy
    assert found is not None
    assert found.value == [0.75, None, 0.0]
    assert found.observations == [4, 0, 4]
    assert list(zip(found.low, found.high, strict=True)) == [wilson(0.75, 4), (None, None), wilson(0, 4)]


def test_figures_so_far_are_of_all_since_the_beginning() -> None:
    counted = labels(600, 3, 4) | labels(840, 0, 4)
    found = quality_over_time(counted, "production", ["v1"], PIECES, so_far=True)["v1"].accuracy
    assert found is not None
    assert (found.value, found.observations) == ([0.75, 0.75, 0.375], [4, 4, 8])


def test_feedback_is_of_the_environment_and_errors_are_of_all() -> None:
    counted = labels(600, 2, 2) | labels(600, 0, 2, "staging")
    counted |= {
        (720, Tally("v1", "", Counted.REQUESTS)): 15,
        (720, Tally("v1", "", Counted.FAILED)): 5,
        (720, Tally("v1", "production", Counted.REWARDS)): 4,
        (720, Tally("v1", "production", Counted.REWARD_SUM)): 1.0,
    }
    found = quality_over_time(counted, "production", ["v1", "v2"], PIECES)
    one = found["v1"]
    assert one.accuracy is not None
    assert one.accuracy.value == [1.0, None, None]
    assert one.conversion is not None
    assert (one.conversion.value, one.conversion.observations) == ([None, 0.25, None], [0, 4, 0])
    assert one.error_rate is not None
    assert (one.error_rate.value, one.error_rate.observations) == ([None, 0.25, None], [0, 20, 0])
    assert one.mean_squared_error is None
    other = found["v2"]
    assert other.accuracy is other.conversion is other.mean_squared_error is other.error_rate is None


def test_the_interval_of_a_mean_is_that_of_students_distribution() -> None:
    errors = np.random.default_rng(3).exponential(2, 40)
    mean, deviation = errors.mean(), errors.std(ddof=1)
    expected = stats.t.interval(0.95, 39, mean, deviation / np.sqrt(40))
    assert mean_interval(errors.sum(), (errors**2).sum(), 40) == pytest.approx(expected)
    assert mean_interval(3.0, 9.0, 1) is None
    assert mean_interval(8.0, 16.0, 4) == (2.0, 2.0)
    low, _ = mean_interval(10.0, 100.0, 2) or (None, None)
    assert low == 0.0, "squared errors are not negative"


def test_a_squared_error_of_one_label_has_no_interval() -> None:
    counted = {
        (600, Tally("v1", "production", Counted.VALUE_LABELS)): 1.0,
        (600, Tally("v1", "production", Counted.SQUARED_ERROR)): 4.0,
        (600, Tally("v1", "production", Counted.SQUARED_ERROR_SQUARED)): 16.0,
    }
    found = quality_over_time(counted, "production", ["v1"], PIECES)["v1"].mean_squared_error
    assert found is not None
    assert (found.value, found.low, found.observations) == ([4.0, None, None], [None, None, None], [1, 0, 0])
