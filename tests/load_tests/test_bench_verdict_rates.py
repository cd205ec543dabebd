"""The simulation of verdicts in its short form, which `make simulate` runs long."""

from pathlib import Path

import numpy as np
import pytest

from load_tests.bench.verdict_pictures import draw
from load_tests.bench.verdict_rates import (
    ALPHA,
    agreement_rates,
    curves,
    in_pairs,
    pairs_and_others,
    sample_ratios,
    wrong_verdicts,
)

EXPERIMENTS = 160


def test_equal_versions_are_decided_as_rarely_as_stated() -> None:
    """Of 160 experiments, more than 19 of 8 expected ones are one in 5,000 cases; of 80, more than 12."""
    for one in wrong_verdicts(np.random.default_rng(11), EXPERIMENTS, looks=150):
        assert one.number <= (19 if one.experiments == EXPERIMENTS else 12), one.case
        assert one.number / one.experiments <= one.at_most


def test_peeking_at_what_is_pooled_or_late_or_not_independent_is_wrong() -> None:
    found = {
        one.case: one.peeking / one.experiments for one in wrong_verdicts(np.random.default_rng(12), 80, looks=150)
    }
    assert found["shares and rates that change, by stage"] > 0.9
    assert found["labels that come late, of answers that are due"] > 0.9
    assert found["units that come again, as clusters"] > 0.5
    assert found["accuracy 0.9"] > 3 * ALPHA


def test_a_better_candidate_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    alike, better = (curves(random, 100, effect, looks=400) for effect in (0.0, 0.02))
    assert better.sequence[-1] > 0.9
    assert (np.diff(better.sequence) >= 0).all()
    assert better.fixed[150] > better.sequence[150]
    draw(tmp_path / "one.svg", alike, better)
    draw(tmp_path / "two.svg", alike, better)
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()


def test_units_that_are_lost_are_found_and_others_are_not() -> None:
    found = {(share, lost): rate for share, lost, rate, _ in sample_ratios(np.random.default_rng(14), 100, looks=400)}
    assert found[0.5, 0.0] == found[0.1, 0.0] == 0
    assert found[0.5, 0.1] == 1


def test_pairs_need_fewer_labels() -> None:
    for _, paired, apart in pairs_and_others(np.random.default_rng(15), 60, looks=500):
        assert int(paired.replace(",", "")) < 0.6 * int(apart.replace(",", ""))


def test_verdicts_in_pairs_are_as_rarely_wrong() -> None:
    """Of 300 experiments, more than 30 of 15 expected ones are one in 5,000 cases; of 150, more than 18."""
    found = list(in_pairs(np.random.default_rng(17), 300, looks=150))
    assert len(found) == 5
    for one in found:
        assert one.number <= (30 if one.experiments == 300 else 18), one.case
        assert one.peeking / one.experiments > 3 * ALPHA, one.case


def test_agreement_is_decided_by_the_side_of_the_bound() -> None:
    found = {
        apart: (promoted, back) for apart, promoted, back, _ in agreement_rates(np.random.default_rng(18), 100, 300)
    }
    assert found[0.0] == found[0.002] == (1, 0)
    assert found[0.05] == (0, 1)
    assert found[0.02][1] > 0.9
    assert sum(found[0.01]) <= 0.13, "more than 13 of 100 are one in 1,000 cases"


@pytest.mark.parametrize("lost", [0.02])
def test_small_losses_take_longer(lost: float) -> None:
    rates = {
        one_lost: rate
        for share, one_lost, rate, _ in sample_ratios(np.random.default_rng(16), 60, looks=200)
        if share == 0.5
    }
    assert rates[lost] <= rates[0.05] <= rates[0.1]
