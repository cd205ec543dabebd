"""The divergences are those that scipy computes, their intervals have the true values, and a few rows alarm nobody."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import ncx2

from shokado.drift.divergence import (
    MIN_ROWS,
    Divergence,
    DriftVerdict,
    Measured,
    _deviation,
    _jensen_shannon_slopes,
    _psi_slopes,
    compared,
    verdict_of,
)

LEVELS = slice(0, 0)
"""No cells stand beside each other."""
REFERENCE = np.array([5_000, 3_000, 1_500, 500])
counted = st.lists(st.integers(0, 10_000), min_size=4, max_size=4).map(np.array)


def of(reference: np.ndarray, served: np.ndarray, error_rate: float = 0.01, ordered: slice = LEVELS) -> Divergence:
    found = compared(reference, served, ordered, error_rate)
    assert found is not None
    return found


def test_both_are_what_scipy_computes() -> None:
    served = np.array([400, 350, 150, 100])
    p, q = served / served.sum(), REFERENCE / REFERENCE.sum()
    found = of(REFERENCE, served)
    assert found.groups == 4
    assert found.psi.value == pytest.approx((rel_entr(p, q) + rel_entr(q, p)).sum())
    assert found.jensen_shannon.value == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    one_by_hand = [(0.4, 0.5), (0.35, 0.3), (0.15, 0.15), (0.1, 0.05)]
    assert found.psi.value == pytest.approx(sum((p - q) * math.log(p / q) for p, q in one_by_hand))


def test_by_chance_they_are_what_both_numbers_of_rows_make_them() -> None:
    found = of(REFERENCE, np.array([500, 300, 150, 50]))
    assert found.psi.by_chance == pytest.approx(3 * (1 / 10_000 + 1 / 1_000))
    assert found.jensen_shannon.by_chance == pytest.approx(3 * (1 / 10_000 + 1 / 1_000) / (8 * math.log(2)))
    assert found.psi.value == found.psi.low == found.jensen_shannon.low == 0


@settings(max_examples=40)
@given(served=counted.filter(lambda counts: counts.sum() >= MIN_ROWS))
def test_the_interval_has_no_value_that_makes_the_observed_one_improbable(served: np.ndarray) -> None:
    """By the noncentral distribution of `scipy.stats`, at each end, where it is not the normal one's."""
    found, error_rate = of(REFERENCE, served), 0.01
    c = served.sum() * REFERENCE.sum() / (served.sum() + REFERENCE.sum())
    for measured, scale in ((found.psi, c), (found.jensen_shannon, 8 * math.log(2) * c)):
        assert 0 <= measured.low <= measured.high
        observed = measured.value * scale
        if measured.low > 0:
            assert ncx2.sf(observed, found.groups - 1, measured.low * scale) <= error_rate * 1.001
        if measured.high > 0:
            assert ncx2.cdf(observed, found.groups - 1, measured.high * scale) <= error_rate * 1.001


def test_far_apart_the_deviation_is_the_one_that_draws_have() -> None:
    """The delta method beside 1,500 draws of both sides."""
    random = np.random.default_rng(3)
    q, p, rows = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5]), (5_000, 2_000)
    drawn = [of(random.multinomial(rows[0], q), random.multinomial(rows[1], p)) for _ in range(1_500)]
    for name, slopes in (("psi", _psi_slopes(p, q)), ("jensen_shannon", _jensen_shannon_slopes(p, q))):
        deviation = np.std([getattr(one, name).value for one in drawn])
        assert _deviation(slopes, (q, p), rows) == pytest.approx(deviation, rel=0.07)


@settings(max_examples=40)
@given(counts=counted)
def test_what_is_alike_has_not_drifted(counts: np.ndarray) -> None:
    found = compared(counts, counts, LEVELS, 0.01)
    assert (found is None) == (counts.sum() < MIN_ROWS)
    if found is not None:
        assert found.psi.value == pytest.approx(0)
        assert found.psi.low == found.jensen_shannon.low == 0


@pytest.mark.parametrize("served", [[50, 0, 0, 0], [0, 0, 0, 50], [0, 0, 0, MIN_ROWS - 1]])
def test_a_few_rows_are_too_few_whatever_they_are(served: list[int]) -> None:
    for reference, rows in ((REFERENCE, np.array(served)), (np.array(served), REFERENCE)):
        found = compared(reference, rows, LEVELS, 0.01)
        assert verdict_of(found, 0.1) is DriftVerdict.TOO_FEW_ROWS


def test_the_verdict_is_where_the_interval_lies() -> None:
    def verdict(low: float, high: float) -> DriftVerdict:
        measured = Measured(0.1, low, high, 0)
        return verdict_of(Divergence(measured, measured, 4), 0.1)

    assert verdict(0, 0.1) is DriftVerdict.NONE
    assert verdict(0.1, 0.2) is DriftVerdict.TOO_FEW_ROWS
    assert verdict(0, 0.5) is DriftVerdict.TOO_FEW_ROWS
    assert verdict(0.11, 0.5) is DriftVerdict.DRIFT


@pytest.mark.parametrize(
    ("reference", "served", "ordered"),
    [
        # below | bins | above | infinite | missing
        ([0, 10_000, 0, 0, 0], [0, 0, 1_000, 0, 0], slice(1, 2)),
        ([0, 10_000, 0, 0, 0], [0, 900, 0, 0, 100], slice(1, 2)),
        ([0, 7_000, 1_500, 1_500, 0, 0, 0], [0, 100, 150, 150, 0, 0, 600], slice(1, 4)),
        ([0, 0, 0, 0, 10_000], [0, 1_000, 0, 0, 0], slice(1, 2)),
        # levels | other | missing
        ([9_000, 1_000, 0, 0], [800, 100, 100, 0], LEVELS),
        ([9_990, 10, 0, 0], [800, 200, 0, 0], LEVELS),
    ],
    ids=["constant", "gaps", "a value became missing", "a value came", "new level", "rare level"],
)
def test_what_the_reference_never_had_is_drift(reference: list[int], served: list[int], ordered: slice) -> None:
    found = of(np.array(reference), np.array(served), ordered=ordered)
    assert verdict_of(found, 0.1) is DriftVerdict.DRIFT


def test_bins_with_too_few_rows_are_put_together_with_those_beside_them() -> None:
    """Of 400 rows, 32 bins have 12 each; of 200, 6; what the reference has rarely is one group."""
    reference = np.array([0, *[1_000] * 32, 0, 0, 3])
    ordered = slice(1, 33)
    served = np.array([0, *[10] * 32, 0, 0, 0])
    assert of(reference, served, ordered=ordered).groups == 33
    assert of(np.array([0, *[8] * 32, 0, 0, 0]), served, ordered=ordered).groups == 32
    assert of(np.array([0, *[7] * 32, 0, 0, 1]), served * 10, ordered=ordered).groups == 33
    assert (
        of(np.array([0, *[3] * 100, 0, 0, 0]), np.array([0, *[10] * 100, 0, 0, 0]), ordered=slice(1, 101)).groups == 50
    )


def test_all_rows_in_one_group_tell_nothing() -> None:
    found = of(np.array([500, 0]), np.array([300, 0]))
    assert (found.groups, found.psi) == (1, Measured(0, 0, 0, 0))
    assert verdict_of(found, 0.1) is DriftVerdict.NONE
