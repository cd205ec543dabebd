"""Assignment is pure, and gives every version exactly its share."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.dispatch.assignment import Assignment, Reason, assign
from tests.dispatch.shares import BELOW_ONE, VERSIONS, environment, random_numbers, shares, weights


@given(weights=weights)
def test_every_version_gets_its_share_of_the_random_numbers(weights: dict[str, float]) -> None:
    largest = max(weights.values())
    total = sum(weight / largest for weight in weights.values())
    found = shares(environment(weights))
    for version, weight in weights.items():
        assert found.get(version, 0.0) == pytest.approx(weight / largest / total, abs=1e-12)


@given(weights=weights, random_number=random_numbers)
def test_a_version_without_weight_gets_no_traffic(weights: dict[str, float], random_number: float) -> None:
    assignment = assign(environment(weights), random_number)
    assert weights[assignment.version] > 0
    assert assignment.reason is Reason.SPLIT


@given(weights=weights, random_number=random_numbers)
def test_the_same_arguments_give_the_same_assignment(weights: dict[str, float], random_number: float) -> None:
    assert assign(environment(weights), random_number) == assign(environment(dict(weights)), random_number)


def test_seeded_traffic_is_split_by_weight() -> None:
    draw = random.Random(20).random
    split = environment({"v1": 70, "v2": 0, "v3": 30})
    counts = dict.fromkeys(VERSIONS, 0)
    for _ in range(20_000):
        counts[assign(split, draw()).version] += 1
    assert counts["v1"] + counts["v3"] == 20_000
    assert counts["v1"] / 20_000 == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(
    ("random_number", "version"),
    [(0.0, "v1"), (0.2499, "v1"), (0.25, "v2"), (0.7499, "v2"), (0.75, "v3"), (0.99, "v3")],
)
def test_versions_lie_side_by_side_in_the_order_of_their_weights(random_number: float, version: str) -> None:
    assert assign(environment({"v1": 1, "v2": 2, "v3": 1}), random_number) == Assignment(version, Reason.SPLIT)


def test_a_version_with_all_the_weight_gets_every_number() -> None:
    split = environment({"v1": 0, "v2": 3, "v3": 0})
    assert {assign(split, number).version for number in (0.0, 0.5, BELOW_ONE)} == {"v2"}


@given(weights=weights, random_number=random_numbers, split=st.booleans(), enabled=st.booleans())
def test_a_pinned_version_wins_over_all_else(
    weights: dict[str, float], random_number: float, split: bool, enabled: bool
) -> None:
    pinned = assign(environment(weights, enabled=enabled), random_number, pinned="v9", split=split)
    assert pinned == Assignment("v9", Reason.PINNED)


@given(weights=weights, random_number=random_numbers)
def test_the_active_version_answers_where_nothing_is_split(weights: dict[str, float], random_number: float) -> None:
    active = Assignment("v5", Reason.ACTIVE)
    assert assign(environment(weights, active="v5"), random_number, split=False) == active
    assert assign(environment(weights, active="v5", enabled=False), random_number) == active
    assert assign(environment(weights, active="v5", enabled=False), random_number, split=False) == active
