"""Rows of a request for versions that differ: packed for the one that is assigned, and for no other in its place."""

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from configuration.settings import LimitSettings
from runners.errors import Unreachable
from runners.inputs.faults import InputFault
from runners.inputs.union import OpenRows, UnionRows
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.dispatch.seen_rows import shortfalls_of
from shokado.dispatch.state import RoutingState
from tests.dispatch.shares import environment
from tests.dispatch.test_dispatcher import KeepsJobs
from tests.support.garbage import of_kinds, uncollected
from tests.support.problems import refused_input

PAIR = [{"name": "width"}, {"name": "count"}]
FEATURES = {"v1": PAIR, "v2": [{"name": "depth"}, *PAIR], "v3": [*PAIR, {"name": "height"}], "v4": PAIR[::-1]}
WHOLE = {"width": 1, "count": 2, "depth": 3, "height": 4}


class Sides:
    """A dispatcher over four versions of different features; v1 is active, v2 gets what the split deals out."""

    def __init__(self, **production: Any) -> None:
        self.runners = {
            version: KeepsJobs(version, features=features, examples={"rows": [[0.0] * len(features)], "scores": [0.5]})
            for version, features in FEATURES.items()
        }
        state = RoutingState(1, {"production": environment({"v2": 1}, **production)}, "production")
        self.dispatcher = Dispatcher(self.runners, {}, state)
        features = {version: runner.card.features for version, runner in self.runners.items()}
        self.union = UnionRows(features["v1"], features, LimitSettings())

    def dispatch(self, *rows: Any, version: str | None = None) -> Prediction:
        request = PredictionRequest(self.union.pack(rows), len(rows), version)
        return self.dispatcher.dispatch(request, lambda _: None)


def numbers(packed: Any) -> list[float]:
    found: list[float] = np.frombuffer(packed, "<f4").tolist()
    return found


@pytest.mark.parametrize(
    ("version", "expected"), [(None, [3, 1, 2]), ("v1", [1, 2]), ("v3", [1, 2, 4]), ("v4", [2, 1])]
)
def test_the_runner_gets_its_own_columns(version: str | None, expected: list[float]) -> None:
    sides = Sides()
    prediction = sides.dispatch(WHOLE, version=version)
    assert sides.runners[prediction.version].kept == [prediction]
    assert numbers(prediction.rows) == expected
    assert prediction.row_count == 1


def test_what_the_assigned_version_refuses_goes_nowhere() -> None:
    sides = Sides()
    with refused_input("version v2: row 0 lacks the feature 'depth'"):
        sides.dispatch({"width": 1, "count": 2})
    assert not any(runner.kept for runner in sides.runners.values())


def test_packed_rows_are_counted_by_the_version_that_reads_them() -> None:
    sides = Sides()
    rows, count = sides.union.pack_bytes(np.zeros(6, "<f4").tobytes())
    request = PredictionRequest(rows, count, "v2")
    assert (count, sides.dispatcher.dispatch(request, lambda _: None).row_count) == (3, 2)


def lost(prediction: Prediction) -> Prediction:
    prediction.error = Unreachable(ConnectionResetError())
    return prediction


def test_the_active_version_stands_in_with_its_own_columns() -> None:
    sides = Sides()
    other = sides.dispatcher.fall_back(lost(sides.dispatch(WHOLE, WHOLE)), lambda _: None)
    assert other is not None
    assert (other.version, other.reason, other.row_count) == ("v1", Reason.FALLBACK, 2)
    assert numbers(other.rows) == [1, 2, 1, 2]


def test_it_does_not_for_rows_that_are_not_its_own() -> None:
    sides = Sides(active="v3")
    row = {name: value for name, value in WHOLE.items() if name != "height"}
    assert sides.dispatcher.fall_back(lost(sides.dispatch(row)), lambda _: None) is None


def test_nor_does_one_that_became_the_active_one_meanwhile_and_takes_other_features() -> None:
    sides = Sides()
    under_way = lost(sides.dispatch(WHOLE))
    turned = RoutingState(2, {"production": environment({"v2": 1}, active="v4")}, "production")
    sides.dispatcher.adopt(turned, sides.runners)
    assert sides.dispatcher.fall_back(under_way, lambda _: None) is None


def test_nor_is_it_given_rows_of_before_versions_differed() -> None:
    sides = Sides(active="v4")
    plain = PredictionRequest(np.zeros(3, "<f4").tobytes(), 1)
    assert sides.dispatcher.fall_back(lost(sides.dispatcher.dispatch(plain, lambda _: None)), lambda _: None) is None


def test_a_fallback_is_packed_for_the_active_version_where_the_assigned_one_is_not_ready() -> None:
    sides = Sides()
    del sides.runners["v2"]
    sides.dispatcher.adopt(sides.dispatcher.state, sides.runners)
    prediction = sides.dispatch(WHOLE)
    assert (prediction.version, prediction.reason) == ("v1", Reason.FALLBACK)
    assert numbers(prediction.rows) == [1, 2]


def test_the_rows_of_a_shadow_are_its_own_columns() -> None:
    sides = Sides(shadow="v3")
    shadow = sides.runners["v3"].row_format
    assert numbers(sides.dispatch(WHOLE).rows_as(shadow)) == [1, 2, 4]
    lacking = sides.dispatch({name: value for name, value in WHOLE.items() if name != "height"})
    assert lacking.rows_as(shadow) is None
    of_v2 = sides.dispatch([3, 1, 2], version="v2")
    assert of_v2.rows_as(sides.runners["v1"].row_format) is None, "in the order of v2, not of v1"


def test_what_is_lacking_is_counted_by_feature_and_environment() -> None:
    sides = Sides(active="v3")
    sides.dispatch(WHOLE, {name: value for name, value in WHOLE.items() if name != "height"})
    for row in ([1, 2], {"width": 1, "count": 2}):
        with pytest.raises(InputFault):
            sides.dispatch(row)
    sides.dispatch({"width": 1, "count": 2}, version="v1")
    found = shortfalls_of(sides.dispatcher.seen.flush(), sides.union)
    assert {key: (one.feature, one.lacking, one.rows) for key, one in found.items()} == {
        ("production", "v2"): ("depth", 2, 4),
        ("production", "v3"): ("height", 3, 4),
        ("production", "v4"): (None, 1, 4),
    }
    assert sides.dispatcher.seen.flush() == {}


@pytest.mark.slow
@pytest.mark.parametrize("row", [WHOLE, {"width": 1, "count": 2, "depth": 3}, {"width": 1, "count": 2}, [1, 2]])
def test_nothing_is_left_to_the_garbage_collector(row: Any) -> None:
    """Whether rows fit all versions, not the active one, or not the assigned one."""
    sides = Sides(active="v3")
    with uncollected():
        for _ in range(20):
            with contextlib.suppress(InputFault):
                sides.dispatch(row)
        for runner in sides.runners.values():
            runner.kept.clear()
        assert of_kinds(OpenRows, PredictionRequest, Prediction, InputFault) == []


def test_staging_has_counts_of_its_own() -> None:
    sides = Sides()
    production = sides.dispatcher.state.environments["production"]
    staging = replace(production, name="staging", weights={"v1": 1})
    state = RoutingState(2, {"production": production, "staging": staging}, "production")
    sides.dispatcher.adopt(state, sides.runners)
    request = PredictionRequest(sides.union.pack([{"width": 1, "count": 2}]), 1, environment="staging")
    sides.dispatcher.dispatch(request, lambda _: None)
    found = shortfalls_of(sides.dispatcher.seen.flush(), sides.union)
    assert found.keys() == {("staging", "v2"), ("staging", "v3")}
