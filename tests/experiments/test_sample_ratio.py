"""The sample-ratio check and that of labels' arrival: what they find, and how rarely they cry without a cause."""

import math

import numpy as np
import pytest

from shokado.experiments.sample_ratio import arrival_p_value, sample_ratio_p_value

EVEN = {"v1": 0.5, "v2": 0.5}
TENTH = {"v1": 0.9, "v2": 0.1}


def test_shares_that_are_kept_are_no_alarm() -> None:
    assert sample_ratio_p_value([(EVEN, {"v1": 50_100, "v2": 49_900})]) == 1
    assert sample_ratio_p_value([(TENTH, {"v1": 9_000, "v2": 1_000})]) == 1
    assert sample_ratio_p_value([(EVEN, {})]) == 1


def test_a_version_that_loses_every_twentieth_unit_is_found() -> None:
    assert sample_ratio_p_value([(EVEN, {"v1": 10_250, "v2": 9_750})]) < 0.05
    assert sample_ratio_p_value([(EVEN, {"v1": 51_250, "v2": 48_750})]) < 1e-9


def test_the_evidence_of_stages_is_multiplied() -> None:
    first, second = (EVEN, {"v1": 5_200.0, "v2": 4_800.0}), (TENTH, {"v1": 8_800.0, "v2": 1_200.0})
    parts = [sample_ratio_p_value([stage]) for stage in (first, second)]
    assert sample_ratio_p_value([first, second]) == pytest.approx(math.prod(parts))
    # Without stages, it would be a good split.
    mixed = {"v1": 0.7, "v2": 0.3}
    assert sample_ratio_p_value([(mixed, {"v1": 14_000, "v2": 6_000})]) == 1


def test_a_unit_of_a_version_without_a_share_is_impossible() -> None:
    assert sample_ratio_p_value([({"v1": 1.0, "v2": 0.0}, {"v1": 10, "v2": 1})]) == 0
    assert sample_ratio_p_value([({"v1": 1.0}, {"v1": 10, "v2": 1})]) == 0
    assert sample_ratio_p_value([({"v1": 1.0, "v2": 0.0}, {"v1": 10, "v2": 0})]) == 1


def test_labels_that_come_alike_are_no_alarm() -> None:
    assert arrival_p_value([(TENTH, {"v1": 4_500, "v2": 500}, {"v1": 4_500, "v2": 500})]) == 1
    assert arrival_p_value([(EVEN, {}, {})]) == 1


@pytest.mark.parametrize("coverage", [0.02, 0.5, 0.98])
def test_labels_that_a_version_lacks_are_found(coverage: float) -> None:
    """A quarter of those of one version, where few have one, and where nearly all have one."""
    due = 200_000.0
    full, less = due * coverage, due * coverage * 0.75
    assert arrival_p_value([(EVEN, {"v1": full, "v2": less}, {"v1": due - full, "v2": due - less})]) < 1e-6


def test_looking_all_the_time_rarely_alarms() -> None:
    """Of 400 experiments, with 1 % of alarms, more than 11 are one in 1,000 cases."""
    random = np.random.default_rng(9)
    alarms = {"ratio": 0, "arrival": 0}
    for _ in range(400):
        units = np.cumsum(random.multinomial(200, [0.9, 0.1], size=40), axis=0)
        labelled = np.cumsum(random.binomial(np.diff(units, axis=0, prepend=0), 0.3), axis=0)
        ratios = [sample_ratio_p_value([(TENTH, counted(one))]) for one in units]
        arrivals = [
            arrival_p_value([(TENTH, counted(having), counted(one - having))])
            for one, having in zip(units, labelled, strict=True)
        ]
        alarms["ratio"] += min(ratios) <= 0.01
        alarms["arrival"] += min(arrivals) <= 0.01
    assert max(alarms.values()) <= 11


@pytest.mark.slow
def test_units_that_get_their_label_when_they_come_again_are_no_alarm() -> None:
    """Of 300 experiments with as many looks as there are cohorts, with 10 % of alarms, more than 47 are one in 1,000
    cases.
    """
    random = np.random.default_rng(11)
    lacking, labelled = np.zeros((300, 2)), np.zeros((300, 2))
    alarms = np.zeros(300, dtype=bool)
    for _ in range(200):
        new = random.multinomial(100, [0.9, 0.1], size=300)
        at_once, later = random.binomial(new, 0.3), random.binomial(lacking.astype(int), 0.1)
        labelled += at_once + later
        lacking += new - at_once - later
        found = [
            arrival_p_value([(TENTH, counted(having), counted(without))])
            for having, without in zip(labelled, lacking, strict=True)
        ]
        alarms |= np.array(found) <= 0.1
    assert alarms.sum() <= 47


def counted(numbers: np.ndarray) -> dict[str, float]:
    return dict(zip(TENTH, numbers.tolist(), strict=True))
