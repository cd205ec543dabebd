"""Turns fold into medians; errors add up."""

import pytest

from load_tests.bench.load import LoadResult
from load_tests.bench.measurements import Measurements, fold


def load(requests_per_second: float, p50_ms: float = 1.0, refused: int = 0) -> LoadResult:
    return LoadResult(64, 1, 100, requests_per_second, p50_ms, 2 * p50_ms, refused, 0)


def test_the_median_turn_counts_and_refusals_add_up() -> None:
    turns = [
        Measurements((load(100, 3, 1),), (), load(50), 10),
        Measurements((load(900, 1, 2),), (), load(450), 30),
        Measurements((load(200, 2, 0),), (), load(100), 20),
    ]

    folded = fold(turns)

    assert folded.one_row == (LoadResult(64, 1, 300, 200, 2, 4, 3, 0),)
    assert folded.paced is not None
    assert folded.paced.requests_per_second == 100
    assert folded.pss_megabytes == 20


def test_what_no_turn_measured_stays_unmeasured() -> None:
    folded = fold([Measurements(many_rows=(load(1),))])

    assert folded.paced is None
    assert folded.pss_megabytes is None
    assert folded.at(64) is None
    assert folded.rows(1) == load(1)


def test_turns_that_took_different_steps_do_not_fold() -> None:
    with pytest.raises(ValueError, match="shorter"):
        fold([Measurements((load(1), load(2))), Measurements((load(1),))])
