"""Shapley values by scoring rows: exact ones are the definition's, sampled ones are as close as they say."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runners.explanations.shapley import SamplingPlan, TooManyFeatures
from tests.runners.explanations.driving import Function, base_of, explained


def by_definition(function: Function, row: NDArray[Any], background: NDArray[Any]) -> NDArray[np.float64]:
    """The average over all orders of the features, and over the background rows: (features, outputs)."""
    total: Any = 0.0
    orders = list(permutations(range(len(row))))
    for other in background:
        for order in orders:
            mixed, before = other.copy(), function(other[None])[0]
            found = np.zeros((len(row), len(before)))
            for feature in order:
                mixed[feature] = row[feature]
                after = function(mixed[None])[0]
                found[feature], before = after - before, after
            total = total + found
    return np.asarray(total / (len(orders) * len(background)))


def entangled(seed: int, features: int, outputs: int = 2) -> Function:
    """A function in which features depend on each other."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(features, 6)), random.normal(size=(6, outputs))
    return lambda rows: np.asarray(np.tanh(rows.astype(np.float64) @ first) @ second)


def drawn(seed: int, rows: int, features: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


@pytest.mark.parametrize("features", [1, 2, 3, 5])
def test_all_sets_give_what_the_definition_says(features: int) -> None:
    function, background, row = entangled(1, features), drawn(2, 7, features), drawn(3, 1, features)[0]
    plan = SamplingPlan.within(20_000, features, len(background))
    assert plan.is_exact
    found, scored = explained(function, row, background, plan)
    assert found.errors is None
    assert found.contributions == pytest.approx(by_definition(function, row, background), abs=1e-12)
    assert scored == len(background) * (2**features - 2)


@given(
    features=st.integers(1, 12),
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    max_scored_rows=st.integers(100, 3000),
)
def test_contributions_add_up_and_no_more_is_scored_than_may_be(
    features: int, rows: int, seed: int, max_scored_rows: int
) -> None:
    function, background, row = entangled(seed, features), drawn(seed, rows, features), drawn(seed + 1, 1, features)[0]
    try:
        plan = SamplingPlan.within(max_scored_rows, features, rows)
    except TooManyFeatures:
        assert 4 * (features - 1) * min(rows, 10) > max_scored_rows
        return
    found, scored = explained(function, row, background, plan)
    assert scored <= max_scored_rows
    total = base_of(function, background, plan) + found.contributions.sum(axis=0)
    assert total == pytest.approx(function(row[None])[0], rel=1e-9, abs=1e-9)


def test_sampled_values_of_a_line_are_exact() -> None:
    weights = np.random.default_rng(4).normal(size=(12, 1))
    background, row = drawn(5, 50, 12), drawn(6, 1, 12)[0]
    plan = SamplingPlan.within(4000, 12, 50)
    assert not plan.is_exact
    found, _ = explained(lambda rows: rows.astype(np.float64) @ weights, row, background, plan)
    assert found.errors is not None
    assert found.errors == pytest.approx(0, abs=1e-6)
    by_hand = weights * (row - background.astype(np.float64).mean(axis=0))[:, None]
    assert found.contributions == pytest.approx(by_hand, abs=1e-5)


def test_sampled_values_are_as_close_as_their_standard_errors_say() -> None:
    off = []
    for seed in range(40):
        function, background, row = entangled(seed, 8), drawn(seed + 100, 30, 8), drawn(seed + 200, 1, 8)[0]
        exact, _ = explained(function, row, background, SamplingPlan(8, 30, 0))
        sampled, _ = explained(function, row, background, SamplingPlan(8, 30, 3))
        assert sampled.errors is not None
        off.append((sampled.contributions - exact.contributions) / sampled.errors)
    # Of a normal distribution 95 % and 68 %; with two degrees of freedom in each of 30 variances, about that.
    assert np.mean(np.abs(off) < 1.96) == pytest.approx(0.95, abs=0.03)
    assert np.mean(np.abs(off) < 1) == pytest.approx(0.68, abs=0.05)


def test_four_times_as_many_rows_halve_the_standard_error() -> None:
    function, background, row = entangled(7, 9), drawn(8, 20, 9), drawn(9, 1, 9)[0]
    few, many = (explained(function, row, background, SamplingPlan(9, 20, pairs))[0].errors for pairs in (10, 40))
    assert few is not None
    assert many is not None
    assert few.mean() / many.mean() == pytest.approx(2, abs=0.2)


def test_a_feature_that_is_alike_everywhere_contributes_nothing() -> None:
    function, background, row = entangled(10, 7), drawn(11, 30, 7), drawn(12, 1, 7)[0]
    background[:, 3] = row[3]
    found, _ = explained(function, row, background, SamplingPlan(7, 30, 2))
    assert found.contributions[3] == pytest.approx(0, abs=1e-12)


def test_texts_and_missing_values_are_values() -> None:
    words = np.array(["no", "yes"], dtype=object)

    def function(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([[float(len(word)) * (1.0 if amount is None else amount)] for word, amount in rows.tolist()])

    row = np.array(["maybe", None], dtype=object)
    background = np.stack([words, np.array([2.0, 3.0], dtype=object)], axis=1)
    found, _ = explained(function, row, background, SamplingPlan.within(100, 2, 2))
    assert found.contributions == pytest.approx(by_definition(function, row, background))


def test_the_same_row_has_the_same_explanation() -> None:
    function, background, row = entangled(13, 9), drawn(14, 30, 9), drawn(15, 1, 9)[0]
    plan = SamplingPlan(9, 30, 2)
    one, other = (explained(function, row, background, plan)[0].contributions for _ in range(2))
    assert (one == other).all()


def test_features_that_are_too_many_are_told_with_what_they_need() -> None:
    assert SamplingPlan.within(4000, 101, 100).background_rows == 10
    with pytest.raises(TooManyFeatures, match=r"102 features need 4040 .*max_scored_rows is 4000"):
        SamplingPlan.within(4000, 102, 100)
