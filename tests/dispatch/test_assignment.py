"""Assignment is pure, and gives every version exactly its share."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import Strategy
from shokado.dispatch.assignment import assign
from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import Assignment, Reason
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


UNITS = [f"user-{number}" for number in range(2000)]


@given(start=st.floats(0, 0.9), width=st.floats(0.01, 0.1), weights=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_units_inside_of_a_layer_are_dealt_as_ever_and_all_others_get_the_control(
    start: float, width: float, weights: tuple[int, int]
) -> None:
    layer = Layer("checkout", start, start + width, "v1")
    given_weights = {"v1": float(weights[0]), "v2": float(weights[1])}
    without = environment(given_weights, strategy=Strategy.HASH, salt="s")
    within = environment(given_weights, strategy=Strategy.HASH, salt="s", layer=layer)
    for unit in UNITS[:50]:
        dealt = assign(without, 0.0, unit)
        assert dealt.reason is Reason.STICKY
        assert assign(within, 0.0, unit) == (dealt if layer.has(unit) else Assignment("v1", Reason.OUTSIDE_LAYER))
        assert assign(within, 0.0, unit, pinned="v2") == ("v2", Reason.PINNED)
        assert assign(within, 0.0, unit, split=False) == ("v1", Reason.ACTIVE)


def test_where_a_shadow_is_compared_everybody_is_dealt_and_only_the_reason_says_who_is_outside() -> None:
    layer = Layer("checkout", 0.2, 0.6)
    without = environment({"v1": 1, "v2": 1}, strategy=Strategy.HASH)
    within = environment({"v1": 1, "v2": 1}, strategy=Strategy.HASH, layer=layer)
    for unit in UNITS:
        version, reason = assign(within, 0.0, unit)
        assert version == assign(without, 0.0, unit).version
        assert reason is (Reason.STICKY if layer.has(unit) else Reason.OUTSIDE_LAYER)


def test_two_experiments_of_a_layer_share_no_unit() -> None:
    """Of two models, whose servers know nothing of each other."""
    halves = {"v1": 1.0, "v2": 1.0}
    parts = (0.0, 0.5), (0.5, 1.0)
    counted = []
    for model, part in zip(("credit", "churn"), parts, strict=True):
        its = environment(halves, strategy=Strategy.HASH, salt=model, layer=Layer("checkout", *part, "v1"))
        found = {unit: assign(its, 0.0, unit) for unit in UNITS}
        counted.append({unit for unit, assigned in found.items() if assigned.reason is Reason.STICKY})
        exposed = {unit for unit, assigned in found.items() if assigned.version == "v2"}
        assert exposed < counted[-1]
        assert len(exposed) == pytest.approx(500, abs=90)
    assert counted[0].isdisjoint(counted[1])
    assert counted[0] | counted[1] == set(UNITS)
