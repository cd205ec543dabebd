"""The routing state: its thresholds are sound for any weights, and nobody can change it."""

import dataclasses
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from configuration.settings import Settings, Strategy
from shokado.dispatch.change import KnownVersions, SplitChange, with_split
from shokado.dispatch.rendezvous import Rendezvous
from shokado.dispatch.state import Load, RoutingState, decode_state, encode_state, fit, initial_state
from tests.dispatch.shares import environment, weights


@given(weights=weights)
def test_thresholds_ascend_and_end_at_exactly_one(weights: dict[str, float]) -> None:
    ends = [end for end, _ in environment(weights).thresholds]
    assert ends == sorted(ends)
    assert ends[0] >= 0
    assert ends[-1] == 1.0


@given(weights=weights)
def test_thresholds_name_the_versions_that_have_weight(weights: dict[str, float]) -> None:
    named = [version for _, version in environment(weights).thresholds]
    assert named == [version for version, weight in weights.items() if weight > 0]


@given(weights=weights)
def test_thresholds_depend_on_the_proportions_alone(weights: dict[str, float]) -> None:
    scaled = {version: weight / max(weights.values()) for version, weight in weights.items()}
    ends = {version: end for end, version in environment(weights).thresholds}
    for end, version in environment(scaled).thresholds:
        assert end == pytest.approx(ends[version], abs=1e-12)


def test_two_huge_weights_share_the_traffic() -> None:
    assert environment({"v1": 1.7e308, "v2": 1.7e308}).thresholds == ((0.5, "v1"), (1.0, "v2"))


@pytest.mark.parametrize("field", ["active", "weights", "enabled", "thresholds", "name", "strategy", "salt"])
def test_an_environment_cannot_be_changed(field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(environment({"v1": 1}), field, None)


def test_a_routing_state_cannot_be_changed() -> None:
    state = RoutingState(1, {}, "production")
    for field in ("generation", "environments", "default_environment"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(state, field, None)


def test_thresholds_are_made_once_and_do_not_follow_the_mapping_they_came_from() -> None:
    given_weights = {"v1": 1.0, "v2": 1.0}
    made = environment(given_weights)
    given_weights["v2"] = 9.0
    assert made.thresholds == ((0.5, "v1"), (1.0, "v2"))
    assert isinstance(made.thresholds, tuple)


def test_nobody_can_reach_into_a_state() -> None:
    state = RoutingState(1, {"production": environment({"v1": 1})}, "production")
    for mapping in (state.environments, state.loads, state.environments["production"].weights):
        with pytest.raises(TypeError):
            mapping["v9"] = 1  # type: ignore[index]


USERS = [f"user-{number}" for number in range(4_000)]
CONTENT: dict[str, Any] = {
    "model": "paper",
    "versions": {"v1": {}, "v2": {}},
    "default_environment": "production",
    "environments": {
        "production": {"active": "v1", "weights": {"v1": 80, "v2": 20}, "salt": "autumn", "shadow": "v2"},
        "staging": {"active": "v2", "weights": {"v2": 1}},
    },
}


def test_a_state_reads_back_as_it_was_written() -> None:
    load = Load("paper:v3", "d" * 64, "models:/paper/3", in_memory=False)
    written = replace(
        initial_state(Settings.model_validate(CONTENT)),
        generation=12,
        loads={"v3": load},
        candidates={"v4": replace(load, in_memory=True, expires_at=1.5)},
    )
    read = decode_state(encode_state(written))
    assert read == written
    assert read.environments["production"].thresholds == written.environments["production"].thresholds


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"generation": "x"}', b"\xff"])
def test_what_is_not_a_state_is_refused(content: bytes | str) -> None:
    with pytest.raises(ValueError):
        decode_state(content)


def test_a_salt_names_model_and_environment_unless_it_is_set() -> None:
    environments = initial_state(Settings.model_validate(CONTENT)).environments
    assert (environments["production"].salt, environments["staging"].salt) == ("autumn", "paper/staging")


def test_two_models_deal_the_same_users_independently() -> None:
    """Or an experiment on one would be an experiment on the other. The hashes are fixed, so this cannot flake."""

    def arms(model: str) -> list[str]:
        split = {"active": "v1", "weights": {"v1": 50, "v2": 50}, "strategy": "hash"}
        content = CONTENT | {"model": model, "environments": {"production": split}}
        rendezvous = initial_state(Settings.model_validate(content)).environments["production"].rendezvous
        return [rendezvous.version_of(unit) for unit in USERS]

    pairs = Counter(zip(arms("paper"), arms("scissors"), strict=True))
    expected = len(USERS) / 4
    assert len(pairs) == 4
    chi_squared = sum((count - expected) ** 2 / expected for count in pairs.values())
    assert chi_squared < 30.7, "chi-squared with 3 degrees of freedom exceeds this once in a million"


@pytest.mark.parametrize("salt", ["production", ""])
def test_users_of_a_running_experiment_keep_their_arm(salt: str) -> None:
    """A store from before the default named the model has the environment's name, written out."""
    settings = Settings.model_validate(CONTENT)
    fresh = initial_state(settings)
    old = replace(fresh.environments["production"], salt=salt, strategy=Strategy.HASH)
    stored = decode_state(encode_state(replace(fresh, environments={**fresh.environments, "production": old})))
    fitted = fit(stored, settings).environments["production"]
    versions = KnownVersions({"v1": "ready", "v2": "ready"}, {})
    raised = with_split(fit(stored, settings), "production", SplitChange(weights={"v1": 50, "v2": 50}), versions)
    assert fitted.salt == raised.environments["production"].salt == salt
    frozen = Rendezvous(salt, {"v1": 1.0, "v2": 0.25})
    assert [fitted.rendezvous.version_of(unit) for unit in USERS] == [frozen.version_of(unit) for unit in USERS]


def test_a_stored_state_keeps_its_splits_and_gets_the_configured_environments() -> None:
    stored = initial_state(Settings.model_validate(CONTENT))
    production = replace(stored.environments["production"], weights={"v2": 1.0})
    gone = replace(production, name="gone")
    stored = replace(stored, generation=9, environments={"production": production, "gone": gone})
    fitted = fit(stored, Settings.model_validate(CONTENT | {"default_environment": "staging"}))
    assert (fitted.generation, fitted.default_environment) == (9, "staging")
    assert list(fitted.environments) == ["production", "staging"]
    assert fitted.environments["production"] == production
    assert dict(fitted.environments["staging"].weights) == {"v2": 1.0}


def test_needed_are_active_versions_those_with_traffic_and_shadows() -> None:
    production = environment({"v1": 1, "v2": 0, "v3": 1}, active="v4", shadow="v5")
    assert production.named == {"v1", "v3", "v4", "v5"}
    staging = environment({"v2": 1}, active="v2")
    assert RoutingState(1, {"p": production, "s": staging}, "p").needed == {"v1", "v2", "v3", "v4", "v5"}


def test_the_first_generation_is_what_the_configuration_says() -> None:
    content: dict[str, Any] = {
        "model": "paper",
        "versions": {"v1": {}, "v2": {}},
        "default_environment": "staging",
        "environments": {
            "production": {"active": "v1", "weights": {"v1": 80, "v2": 20}},
            "staging": {"active": "v2", "weights": {"v2": 1}, "enabled": False},
        },
    }
    state = initial_state(Settings.model_validate(content))
    assert (state.generation, state.default_environment) == (1, "staging")
    production, staging = state.environments["production"], state.environments["staging"]
    assert (production.name, production.active, production.enabled) == ("production", "v1", True)
    assert (production.weights, production.strategy) == ({"v1": 80, "v2": 20}, Strategy.RANDOM)
    assert (staging.name, staging.active, staging.enabled) == ("staging", "v2", False)
