"""Layers: frozen, parts exact and without a gap, and independent of every hash that assigns, samples or counts."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import CountedStage, Experiment, ExperimentStage
from shokado.dispatch.layer import Layer
from shokado.dispatch.rendezvous import Rendezvous
from shokado.dispatch.state import default_salt
from shokado.stores.evidence import level_of

VECTORS = json.loads((Path(__file__).parent / "layer_vectors.json").read_text(encoding="utf-8"))
MANY = [f"u{number}" for number in range(20_000)]
CERTAIN = NormalDist().inv_cdf(1 - 1e-7)
HALF = Layer("checkout", 0.0, 0.5)
CRITICAL = {1: 23.9, 2: 27.6, 3: 30.7}
"""What chi-squared exceeds once in a million, by degrees of freedom."""

bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda ends: ends[0] < ends[1])


@pytest.mark.parametrize("name", VECTORS)
def test_nobody_moves_units_in_a_layer_by_accident(name: str) -> None:
    """Do not mend the vectors: servers of two releases would have units in both of two experiments."""
    layer = Layer(name, 0.0, 1.0)
    assert {unit: layer.position_of(unit) for unit in VECTORS[name]} == VECTORS[name]


@given(ends=st.lists(st.floats(0, 1), max_size=4), unit=st.text("ab\u00e9\u4e2d", max_size=9))
def test_parts_that_touch_share_nobody_and_leave_nobody_out(ends: list[float], unit: str) -> None:
    parts = [Layer("checkout", *part) for part in pairwise(sorted({0.0, *ends, 1.0}))]
    assert sum(part.has(unit) for part in parts) == 1


def test_a_part_ends_just_before_where_the_next_one_begins() -> None:
    at = HALF.position_of("ann")
    assert Layer("checkout", at, 1.0).has("ann")
    assert not Layer("checkout", 0.0, at).has("ann")


@given(part=bounds, wider=bounds, unit=st.sampled_from(MANY))
def test_a_wider_part_keeps_all_its_units(part: tuple[float, float], wider: tuple[float, float], unit: str) -> None:
    around = Layer("checkout", min(part[0], wider[0]), max(part[1], wider[1]))
    assert around.has(unit) or not Layer("checkout", *part).has(unit)


@pytest.mark.parametrize("name", ["checkout", "search", "a"])
@pytest.mark.parametrize("part", [(0.0, 0.5), (0.25, 0.35), (0.9, 1.0), (0.0, 0.01)])
def test_a_part_has_as_many_units_as_it_is_wide(name: str, part: tuple[float, float]) -> None:
    """Within what chance exceeds once in ten million tries; but these are fixed hashes, so it cannot flake."""
    share = part[1] - part[0]
    inside = sum(Layer(name, *part).has(unit) for unit in MANY)
    assert abs(inside - share * len(MANY)) < CERTAIN * sqrt(len(MANY) * share * (1 - share))


@given(one=bounds, other=bounds)
def test_parts_overlap_where_a_position_is_in_both(one: tuple[float, float], other: tuple[float, float]) -> None:
    first, second = Layer("checkout", *one), Layer("checkout", *other)
    # If any is in both, then one of them begins at such a position.
    shared = any(part.start <= start < part.end for part, start in ((first, other[0]), (second, one[0])))
    assert first.overlaps(second) == second.overlaps(first) == shared
    assert not first.overlaps(Layer("search", *other))


def chi_squared(pairs: Iterable[tuple[Hashable, Hashable]]) -> tuple[float, int]:
    """Pearson's statistic of a contingency table, and its degrees of freedom."""
    counts = Counter(pairs)
    rows, columns = Counter[Hashable](), Counter[Hashable]()
    for (row, column), count in counts.items():
        rows[row] += count
        columns[column] += count
    expected = {(row, column): rows[row] * columns[column] / counts.total() for row in rows for column in columns}
    statistic = sum((counts[cell] - number) ** 2 / number for cell, number in expected.items())
    return statistic, (len(rows) - 1) * (len(columns) - 1)


def arm(salt: str, weights: dict[str, float]) -> Callable[[str], str]:
    return Rendezvous(salt, weights).version_of


def counted(named: str) -> CountedStage:
    plan = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.1)
    return CountedStage(Experiment(named, "v1", ("v2",), plan, 0.0, (ExperimentStage(1, {"v1": 1.0}, is_sticky=True),)))


HALVES = {"v1": 1.0, "v2": 1.0}
OTHERS: dict[str, Callable[[str], Hashable]] = {
    "the arm of an experiment": arm(default_salt("credit", "production"), HALVES),
    "a small arm of three": arm(default_salt("credit", "staging"), {"v1": 1.0, "v2": 0.1, "v3": 0.5}),
    "the arm under a salt of the layer's name": arm("checkout", HALVES),
    "another layer": Layer("search", 0.0, 0.5).has,
    "a layer of a similar name": Layer("checkout2", 0.0, 0.5).has,
    "which units are kept": lambda unit: min(level_of(counted("e1").unit_bytes(unit)), 2),
    "which units a shadow samples": lambda unit: counted("e1").unit_bytes(unit)[-1] < 128,
    "which units are kept in one of its name": lambda unit: counted("checkout").unit_bytes(unit)[-1] < 128,
}


@pytest.mark.parametrize("other", OTHERS)
def test_who_is_inside_says_nothing_of(other: str) -> None:
    statistic, freedom = chi_squared((HALF.has(unit), OTHERS[other](unit)) for unit in MANY)
    assert statistic < CRITICAL[freedom]


def test_a_dependence_would_be_found() -> None:
    """A third of the units going by what they are told apart by is enough."""
    deal = arm("s", HALVES)
    told = [(HALF.has(unit), deal(unit) if number % 3 else HALF.has(unit)) for number, unit in enumerate(MANY)]
    statistic, freedom = chi_squared(told)
    assert statistic > 10 * CRITICAL[freedom]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("credit", "production"), ("churn", "production")),
        (("credit", "production"), ("credit", "staging")),
        (("credit", "staging"), ("churn", "production")),
    ],
)
@pytest.mark.parametrize("weights", [HALVES, {"v1": 1.0, "v2": 0.1}])
def test_experiments_on_two_models_or_in_two_environments_deal_units_independently(
    one: tuple[str, str], other: tuple[str, str], weights: dict[str, float]
) -> None:
    """Or an experiment on one would be an experiment on the other."""
    first, second = arm(default_salt(*one), weights), arm(default_salt(*other), HALVES)
    statistic, freedom = chi_squared((first(unit), second(unit)) for unit in MANY)
    assert statistic < CRITICAL[freedom]


def test_inside_of_a_part_experiments_are_as_independent_as_outside() -> None:
    first, second = arm(default_salt("credit", "production"), HALVES), arm(default_salt("churn", "production"), HALVES)
    for inside in (True, False):
        statistic, freedom = chi_squared((first(unit), second(unit)) for unit in MANY if HALF.has(unit) == inside)
        assert statistic < CRITICAL[freedom]
