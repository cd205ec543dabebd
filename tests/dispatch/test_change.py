"""Changes of the routing state: what they make, and what they refuse, by name."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import Strategy
from shokado.dispatch.change import (
    ChangeRefused,
    ConflictingChange,
    InvalidChange,
    KnownVersions,
    SplitChange,
    find_environment,
    rolled_back,
    with_candidate,
    with_load,
    with_split,
    with_unloaded,
    without_candidate,
)
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.seen_rows import Shortfall
from shokado.dispatch.state import Load, RoutingState, decode_state, encode_state
from tests.dispatch.shares import environment

VERSIONS = KnownVersions(
    {"v1": "ready", "v2": "ready", "v3": "ready", "v4": "starting", "v5": "unloaded"}, {"a": "v1", "b": "v2"}
)
STATE = RoutingState(
    7,
    {
        "production": environment({"v1": 80.0, "v2": 20.0}),
        "staging": replace(environment({"v2": 1.0}, active="v2"), name="staging"),
    },
    "production",
)
LOAD = Load("toy:v3", "d" * 64, "models:/toy/3")


def changed(**change: Any) -> RoutingState:
    return with_split(STATE, None, SplitChange(**change), VERSIONS)


def test_a_split_replaces_the_weights_and_leaves_the_rest() -> None:
    state = changed(weights={"v1": 50, "v3": 50})
    production = state.environments["production"]
    assert (state.generation, dict(production.weights)) == (8, {"v1": 50.0, "v3": 50.0})
    assert (production.active, production.strategy, production.enabled) == ("v1", Strategy.RANDOM, True)
    assert state.environments["staging"] is STATE.environments["staging"]
    assert dict(STATE.environments["production"].weights) == {"v1": 80.0, "v2": 20.0}


NEEDY = replace(
    VERSIONS, shortfalls={("production", "v2"): Shortfall("fare", 3, 4), ("production", "v1"): Shortfall(None, 1, 4)}
)
"""Versions that lately seen rows of production would not all be for."""


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"v1": 80.0, "v2": 20.0}, {"weights": {"v1": 79, "v2": 21}}),
        ({"v1": 1.0}, {"weights": {"b": 1, "v1": 1}}),
        ({"v1": 1.0}, {"active": "v2"}),
        (None, {"enabled": True}),
    ],
)
def test_a_version_gets_no_more_traffic_that_lacks_what_it_needs(before: Any, change: dict[str, Any]) -> None:
    production = environment(before or {"v1": 80.0, "v2": 20.0})
    production = replace(production, enabled=before is not None)
    state = replace(STATE, environments={**STATE.environments, "production": production})
    with pytest.raises(ConflictingChange, match="it needs the feature 'fare', and 1 of 4 rows seen in the last 10 min"):
        with_split(state, None, SplitChange(**change), NEEDY)
    assert with_split(state, None, SplitChange(**change), VERSIONS)


@pytest.mark.parametrize(
    "change", [{"weights": {"v1": 1}}, {"weights": {"v1": 85, "v2": 15}}, {"enabled": False}, {"shadow": "v2"}]
)
def test_less_traffic_and_the_way_back_to_the_active_version_are_never_refused(change: dict[str, Any]) -> None:
    assert with_split(STATE, None, SplitChange(**change), NEEDY)


def test_aliases_stand_for_their_versions() -> None:
    state = with_split(STATE, None, SplitChange(weights={"a": 1, "b": 3}, active="b", shadow="v3"), VERSIONS)
    production = state.environments["production"]
    assert (dict(production.weights), production.active, production.shadow) == ({"v1": 1.0, "v2": 3.0}, "v2", "v3")


def test_each_field_changes_alone() -> None:
    assert changed(strategy=Strategy.HASH).environments["production"].strategy is Strategy.HASH
    assert changed(enabled=False).environments["production"].enabled is False
    assert changed(salt="new").environments["production"].salt == "new"
    shadowed = changed(shadow="v3")
    assert shadowed.environments["production"].shadow == "v3"
    kept = with_split(shadowed, None, SplitChange(weights={"v1": 1}), VERSIONS)
    assert kept.environments["production"].shadow == "v3"
    assert with_split(shadowed, None, SplitChange(shadow=None), VERSIONS).environments["production"].shadow is None


@pytest.mark.parametrize(
    ("weights", "kind", "code", "says"),
    [
        ({"v1": -1, "v2": 2}, InvalidChange, "invalid_weight", "weight of v1 is -1"),
        ({"v1": math.nan}, InvalidChange, "invalid_weight", "nan"),
        ({"v1": math.inf}, InvalidChange, "invalid_weight", "inf"),
        ({"v1": 0, "v2": 0}, InvalidChange, "no_weight", "above 0"),
        ({}, InvalidChange, "no_weight", "above 0"),
        ({"v1": 1, "a": 1}, InvalidChange, "repeated_version", "v1"),
        ({"v1": 1, "v4": 1}, ConflictingChange, "version_not_ready", "v4 is starting"),
        ({"v5": 1}, ConflictingChange, "version_not_ready", "v5 is unloaded"),
        ({"v2": 20}, InvalidChange, "lone_weight", '{"v1": 80, "v2": 20} for 20 %, {"v2": 100} for all'),
        ({"v2": 0.2}, InvalidChange, "lone_weight", '{"v1": 0.8, "v2": 0.2} for 20 %, {"v2": 100} for all'),
        ({"v1": 90}, InvalidChange, "lone_weight", '{"v2": 10, "v1": 90} for 90 %, {"v1": 100} for all'),
        ({"v2": 200}, InvalidChange, "lone_weight", 'not 200: write {"v2": 100} for all'),
    ],
)
def test_weights_that_cannot_be_are_refused_by_name(
    weights: dict[str, float], kind: type[ChangeRefused], code: str, says: str
) -> None:
    with pytest.raises(kind, match=re.escape(says)) as refused:
        changed(weights=weights)
    assert refused.value.code == code


@pytest.mark.parametrize("weights", [{"v2": 1}, {"v2": 100}, {"v1": 0, "v2": 20}])
def test_a_weight_that_is_meant_to_be_all_is(weights: dict[str, float]) -> None:
    assert changed(weights=weights).environments["production"].shares == {"v2": 1.0}


def test_a_version_that_is_not_ready_may_have_no_weight() -> None:
    assert "v4" in changed(weights={"v1": 1, "v4": 0}).environments["production"].weights


@pytest.mark.parametrize("change", [{"weights": {"v9": 1}}, {"active": "v9"}, {"shadow": "v9"}])
def test_an_unknown_version_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnknownVersion, match="'v9'"):
        changed(**change)


@pytest.mark.parametrize("change", [{"active": "v4"}, {"shadow": "v5"}])
def test_active_and_shadow_must_be_ready(change: dict[str, Any]) -> None:
    with pytest.raises(ConflictingChange, match="cannot be given traffic"):
        changed(**change)


def test_an_unknown_environment_and_a_long_salt_are_refused() -> None:
    with pytest.raises(UnknownVersion, match="'moon'"):
        with_split(STATE, "moon", SplitChange(enabled=False), VERSIONS)
    with pytest.raises(InvalidChange, match="129 characters"):
        changed(salt="s" * 129)
    assert find_environment(STATE, None).name == "production"


def test_a_rollback_is_a_new_generation_with_the_old_environments() -> None:
    later = with_split(changed(weights={"v3": 1}), "staging", SplitChange(strategy=Strategy.HASH), VERSIONS)
    restored = rolled_back(later, STATE, VERSIONS)
    assert restored.generation == 10
    assert restored.environments == STATE.environments


def test_a_rollback_keeps_what_is_loaded() -> None:
    loaded = with_load(with_candidate(STATE, "v3", LOAD), "v3")
    assert rolled_back(loaded, STATE, VERSIONS).loads == loaded.loads


@pytest.mark.parametrize(("state", "says"), [("unloaded", "unloaded"), (None, "unknown")])
def test_a_rollback_to_a_version_that_is_not_there_says_which_and_where_from(state: str | None, says: str) -> None:
    old = with_split(with_load(with_candidate(STATE, "v3", LOAD), "v3"), None, SplitChange(weights={"v3": 1}), VERSIONS)
    states = {"v1": "ready", "v2": "ready"} | ({"v3": state} if state else {})
    with pytest.raises(ConflictingChange, match=f"v3, which is {says}; it was loaded from models:/toy/3"):
        rolled_back(STATE, old, KnownVersions(states, {}))


def test_a_rollback_does_not_ask_for_versions_of_environments_that_stay_as_they_are() -> None:
    later = changed(weights={"v1": 1})
    rolled_back(later, STATE, KnownVersions({"v1": "ready", "v2": "ready"}, {}))
    with pytest.raises(ConflictingChange):
        rolled_back(later, STATE, KnownVersions({"v1": "failed", "v2": "ready"}, {}))


def test_a_load_goes_by_way_of_a_candidate() -> None:
    candidate = with_candidate(STATE, "v3", LOAD)
    assert dict(candidate.candidates) == {"v3": LOAD}
    assert not candidate.loads
    loaded = with_load(candidate, "v3")
    assert (dict(loaded.loads), dict(loaded.candidates), loaded.generation) == ({"v3": LOAD}, {}, 9)
    assert dict(without_candidate(candidate, "v3").candidates) == {}


def test_a_load_is_refused_while_another_is_under_way_and_after_it_was_given_up() -> None:
    candidate = with_candidate(STATE, "v3", LOAD)
    with pytest.raises(ConflictingChange, match="being loaded"):
        with_candidate(candidate, "v3", LOAD)
    with pytest.raises(ConflictingChange, match="given up"):
        with_load(without_candidate(candidate, "v3"), "v3")


@pytest.mark.parametrize(("version", "says"), [("v1", "production: it is its active"), ("v2", "has traffic")])
def test_a_version_that_is_needed_is_not_unloaded(version: str, says: str) -> None:
    with pytest.raises(ConflictingChange, match=says):
        with_unloaded(STATE, version, LOAD)


def test_an_unloaded_version_is_remembered_with_its_artefact() -> None:
    load = with_unloaded(STATE, "v3", LOAD).loads["v3"]
    assert (load.tag, load.in_memory) == ("toy:v3", False)


def test_a_version_that_was_unloaded_in_the_meantime_gets_no_traffic() -> None:
    """Reports said that it is ready; the state knows better."""
    unloaded = with_unloaded(STATE, "v3", LOAD)
    for change in (SplitChange(weights={"v3": 1}), SplitChange(active="v3"), SplitChange(shadow="v3")):
        with pytest.raises(ConflictingChange, match="v3 is unloaded"):
            with_split(unloaded, None, change, VERSIONS)
    with pytest.raises(ConflictingChange, match="v3 is unloaded"):
        rolled_back(unloaded, changed(weights={"v3": 1}), VERSIONS)


Change = Callable[[RoutingState], RoutingState]
weight = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))
changes: st.SearchStrategy[Change] = st.one_of(
    st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), weight, min_size=2)
    .filter(lambda weights: any(weights.values()))
    .map(lambda weights: lambda state: with_split(state, None, SplitChange(weights=weights), VERSIONS)),
    st.sampled_from(list(Strategy)).map(
        lambda strategy: lambda state: with_split(state, "staging", SplitChange(strategy=strategy), VERSIONS)
    ),
    st.just(lambda state: with_unloaded(state, "v5", LOAD)),
    st.just(lambda state: rolled_back(state, STATE, VERSIONS)),
)


@given(steps=st.lists(changes, max_size=12))
def test_history_replays_to_the_current_state(steps: list[Change]) -> None:
    """What is written down for each generation reads back as that generation, one after the other."""
    state, history = STATE, [encode_state(STATE)]
    for step in steps:
        state = step(state)
        history.append(encode_state(state))
    replayed = [decode_state(content) for content in history]
    assert replayed[-1] == state
    assert [entry.generation for entry in replayed] == list(range(7, 8 + len(steps)))
