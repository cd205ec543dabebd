"""Experiments in the routing state: how they begin, go through stages, and end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from configuration.experiment_plan import AtEnd, ExperimentPlan, LayerPart
from configuration.experiment_policy import ExperimentDesign, ExperimentMetric, Guardrail
from configuration.settings import Strategy
from shokado.dispatch.change import (
    ChangeRefused,
    SplitChange,
    rolled_back,
    with_candidate,
    with_load,
    with_split,
)
from shokado.dispatch.experiment import MAX_STAGES, Experiment, ExperimentConclusion, Result, VersionResult
from shokado.dispatch.experiment_change import (
    MAX_CONCLUDED,
    ExperimentOrder,
    find_experiment,
    with_conclusion,
    with_experiment,
    with_stages,
)
from shokado.dispatch.layer import Layer
from shokado.dispatch.request import UnknownVersion
from shokado.dispatch.state import RoutingState, decode_state, encode_state
from tests.dispatch.test_change import LOAD, STATE, VERSIONS

NOW = 1_790_000_000.0
PLAN = ExperimentPlan(
    metric=ExperimentMetric.REWARD,
    smallest_effect=0.1,
    guardrails=(Guardrail(metric=ExperimentMetric.LATENCY, margin=5.0),),
    max_duration_s=600,
    label_delay_s=2,
    at_end=AtEnd.PROMOTE,
)


def begun(state: RoutingState = STATE, named: str = "e1", name: str | None = None, **order: Any) -> RoutingState:
    return with_experiment(state, name, ExperimentOrder(PLAN, **order), VERSIONS, experiment_id=named, now=NOW)


def running(state: RoutingState) -> Experiment:
    found = state.environments["production"].running
    assert found is not None
    return found


def next_state(state: RoutingState, make: Callable[[RoutingState], RoutingState]) -> RoutingState:
    """As the follower makes it."""
    return with_stages(state, make(state))


def split(state: RoutingState, name: str = "production", **change: Any) -> RoutingState:
    return next_state(state, lambda old: with_split(old, name, SplitChange(**change), VERSIONS))


def test_an_experiment_begins_between_the_versions_that_share_the_traffic() -> None:
    state = begun()
    experiment = running(state)
    assert (state.generation, experiment.control, experiment.candidates) == (8, "v1", ("v2",))
    (stage,) = experiment.stages
    assert (stage.generation, dict(stage.shares), stage.is_sticky) == (8, {"v1": 0.8, "v2": 0.2}, False)
    assert replace(state.environments["production"], experiment=None) == STATE.environments["production"]
    assert running(begun(control="b", candidates=["a"])).versions == ("v2", "v1"), "aliases"


@pytest.mark.parametrize(
    ("state", "order", "code"),
    [
        (begun(), {}, "experiment_running"),
        (split(STATE, strategy=Strategy.WEIGHTED), {}, "split_moves"),
        (STATE, {"candidates": ["v2", "b"]}, "repeated_version"),
        (STATE, {"candidates": ["v1"]}, "repeated_version"),
        (STATE, {"candidates": ["v3"]}, "not_in_split"),
        (STATE, {"candidates": []}, "not_in_split"),
        (STATE, {"name": "staging"}, "not_in_split"),
        (split(STATE, enabled=False), {}, "not_in_split"),
        (split(STATE, weights={"v1": 1, "v2": 1, "v3": 1}), {"candidates": ["v2"]}, "not_in_split"),
    ],
)
def test_what_cannot_be_compared_is_refused(state: RoutingState, order: dict[str, Any], code: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        begun(state, **order)
    assert refused.value.code == code


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnknownVersion):
        begun(candidates=["v9"])


def test_a_stage_begins_with_each_change_of_what_versions_get_and_with_no_other() -> None:
    state = begun()
    changes: list[tuple[Callable[[RoutingState], RoutingState], bool]] = [
        (lambda old: split(old, weights={"v1": 50, "v2": 50}), True),
        (lambda old: split(old, weights={"v1": 1, "v2": 1}), False),
        (lambda old: split(old, "staging", weights={"v2": 1, "v3": 1}), False),
        (lambda old: split(old, shadow="v3"), False),
        (lambda old: split(old, active="v2"), False),
        (lambda old: split(old, salt="autumn"), True),
        (lambda old: split(old, strategy=Strategy.HASH), True),
        (lambda old: next_state(old, lambda one: with_candidate(one, "v2", LOAD)), False),
        (lambda old: next_state(old, lambda one: with_load(one, "v2")), True),
        (lambda old: split(old, enabled=False), True),
        (lambda old: split(old, enabled=True), True),
        (lambda old: next_state(old, lambda one: rolled_back(one, STATE, VERSIONS)), True),
    ]
    for number, (change, is_staged) in enumerate(changes):
        before, state = state, change(state)
        stages = running(state).stages
        assert (stages != running(before).stages) == is_staged, number
        assert stages[-1].generation == (state.generation if is_staged else running(before).stages[-1].generation)
    shares = [dict(stage.shares) for stage in running(state).stages[-3:]]
    assert shares == [{}, {"v1": 0.5, "v2": 0.5}, {"v1": 0.8, "v2": 0.2}]
    assert [stage.is_sticky for stage in running(state).stages] == [False, False, False, True, True, True, True, False]


def test_a_generation_is_of_the_stage_it_lies_in() -> None:
    state = split(split(begun(), "staging", active="v3"), weights={"v1": 1, "v2": 1})
    found = [running(state).stage_of(generation) for generation in (7, 8, 9, 10, 11)]
    assert [stage.generation if stage else None for stage in found] == [None, 8, 8, 10, 10]


def test_old_stages_are_let_go_of() -> None:
    state = begun()
    for number in range(MAX_STAGES + 5):
        state = split(state, weights={"v1": number + 1, "v2": 1})
    stages = running(state).stages
    assert len(stages) == MAX_STAGES
    assert stages[-1].generation == state.generation


CONCLUSION = ExperimentConclusion(
    NOW + 9, Result.PROMOTE, "v2 is better", "v2", {"v2": VersionResult(9, 7, 0.5, 0.1, 0.05, 0.2)}
)


def test_the_end_moves_the_split_in_the_same_generation_and_comes_once() -> None:
    state = begun()
    change = SplitChange(weights={"v1": 0, "v2": 1}, active="v2")
    ended = next_state(
        state, lambda old: with_conclusion(old, "production", running(state), CONCLUSION, change, VERSIONS)
    )
    production = ended.environments["production"]
    assert (ended.generation, dict(production.shares), production.active) == (9, {"v2": 1.0}, "v2")
    assert (production.running, production.experiment) == (None, replace(running(state), conclusion=CONCLUSION))
    assert dict(ended.concluded) == {"e1": 9}
    with pytest.raises(ChangeRefused) as refused:
        with_conclusion(ended, "production", running(state), CONCLUSION)
    assert refused.value.code == "experiment_over"
    later = begun(split(ended, weights={"v1": 1, "v2": 1}), named="e2")
    with pytest.raises(ChangeRefused):
        with_conclusion(later, "production", running(state), CONCLUSION)
    assert find_experiment(later, "e1") is None
    found = find_experiment(later, "e2")
    assert found is not None
    assert found.name == "production"


def test_a_split_that_somebody_has_changed_is_not_moved() -> None:
    state = begun()
    later, change = split(state, weights={"v1": 1, "v2": 1}), SplitChange(weights={"v1": 1, "v2": 0})
    with pytest.raises(ChangeRefused) as refused:
        with_conclusion(later, "production", running(state), CONCLUSION, change, VERSIONS)
    assert refused.value.code == "experiment_changed"
    assert with_conclusion(later, "production", running(later), CONCLUSION, change, VERSIONS).concluded == {"e1": 10}
    assert with_conclusion(later, "production", running(state), CONCLUSION).concluded == {"e1": 10}


def test_a_rollback_brings_no_experiment_back_and_ends_none() -> None:
    state = begun()
    ended = with_conclusion(state, "production", running(state), CONCLUSION)
    assert rolled_back(ended, state, VERSIONS).environments["production"].running is None
    assert running(rolled_back(state, STATE, VERSIONS)) == running(state)


def test_only_the_last_ends_are_remembered() -> None:
    state = STATE
    for number in range(MAX_CONCLUDED + 3):
        begins = begun(state, named=f"e{number}")
        state = with_conclusion(begins, "production", running(begins), CONCLUSION)
    assert list(state.concluded) == [f"e{number}" for number in range(3, MAX_CONCLUDED + 3)]
    assert list(state.concluded.values())[-1] == state.generation


def test_a_state_with_an_experiment_is_stored_and_read() -> None:
    state = split(begun(), weights={"v1": 1, "v2": 1}, strategy=Strategy.HASH)
    assert decode_state(encode_state(state)) == state
    ended = with_conclusion(state, "production", running(state), CONCLUSION)
    assert decode_state(encode_state(ended)) == ended


def test_a_state_of_an_older_release_is_read() -> None:
    older = encode_state(STATE).replace(b',"experiment":null', b"").replace(b',"concluded":{}', b"")
    assert b"experiment" not in older
    assert b"concluded" not in older
    assert decode_state(older) == STATE


def test_a_plan_of_an_older_release_is_read_although_it_would_be_refused_now() -> None:
    state = begun()
    content = encode_state(state).replace(b'"design":"split",', b"").replace(b',"sample":1.0', b"")
    older = content.replace(b'"label_delay_s":2.0', b'"label_delay_s":0.0')
    assert b"design" not in older
    assert b"sample" not in older
    assert b'"label_delay_s":0.0' in older
    assert running(decode_state(older)).plan == running(state).plan.model_copy(update={"label_delay_s": 0.0})


def test_a_policy_of_a_newer_release_is_read_as_far_as_it_is_known() -> None:
    newer = encode_state(begun()).replace(b'"metric":"reward"', b'"novelty":1,"metric":"reward"')
    assert b"novelty" in newer
    assert decode_state(newer) == begun()


SHADOWED = split(STATE, shadow="v3")
"""80 % of the traffic go to v1, 20 % to v2, and v3 is the shadow."""
OF_SHADOW = ExperimentPlan(metric=ExperimentMetric.AGREEMENT, design=ExperimentDesign.SHADOW, smallest_effect=0.1)


def shadowed(state: RoutingState = SHADOWED, **order: Any) -> RoutingState:
    told = ExperimentOrder(OF_SHADOW, **order)
    return with_experiment(state, None, told, VERSIONS, experiment_id="e1", now=NOW)


def test_a_shadow_is_compared_with_one_that_answers_whatever_others_do() -> None:
    experiment = running(shadowed())
    assert (experiment.control, experiment.candidates, experiment.is_shadowed) == ("v1", ("v3",), True)
    (stage,) = experiment.stages
    assert dict(stage.shares) == {"v1": 1.0}
    assert running(shadowed(control="b", candidates=["v3"])).versions == ("v2", "v3")
    both = split(STATE, shadow="v2")
    assert running(shadowed(both)).versions == ("v1", "v2"), "it may have traffic of its own"


@pytest.mark.parametrize(
    ("state", "order", "code"),
    [
        (STATE, {}, "not_the_shadow"),
        (SHADOWED, {"candidates": ["v2"]}, "not_the_shadow"),
        (SHADOWED, {"candidates": ["v2", "v3"]}, "not_the_shadow"),
        (SHADOWED, {"control": "v3"}, "repeated_version"),
        (split(SHADOWED, enabled=False), {}, "not_the_shadow"),
        (split(SHADOWED, weights={"v1": 0, "v2": 1}), {"control": "v1"}, "not_the_shadow"),
        (split(SHADOWED, strategy=Strategy.WEIGHTED), {}, "split_moves"),
    ],
)
def test_what_is_no_shadow_is_not_compared_as_one(state: RoutingState, order: dict[str, Any], code: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        shadowed(state, **order)
    assert refused.value.code == code


def test_a_stage_of_a_shadow_begins_with_another_one_and_has_nobody_while_it_is_none() -> None:
    state = shadowed()
    for change in (
        {"shadow": None},
        {"shadow": "v3"},
        {"weights": {"v1": 0, "v2": 1}},
        {"weights": {"v1": 1, "v2": 1}},
    ):
        state = split(state, **change)
    assert [dict(stage.shares) for stage in running(state).stages] == [{"v1": 1.0}, {}, {"v1": 1.0}, {}, {"v1": 1.0}]
    assert len(running(split(begun(), shadow="v3")).stages) == 1, "to others it does not matter"


def test_an_experiment_of_a_shadow_is_stored_and_read() -> None:
    state = shadowed()
    assert decode_state(encode_state(state)) == state


HASHED = split(split(STATE, strategy=Strategy.HASH), "staging", strategy=Strategy.HASH, weights={"v2": 1, "v3": 1})
"""Both environments know units, and have two versions that share the traffic."""


def layered(
    state: RoutingState = HASHED,
    part: tuple[float, float] = (0.0, 0.5),
    name: str | None = None,
    layer: str = "checkout",
    plan: ExperimentPlan = PLAN,
    **order: Any,
) -> RoutingState:
    its = LayerPart.model_validate({"name": layer, "from": part[0], "to": part[1]})
    told = ExperimentOrder(plan.model_copy(update={"layer": its}), **order)
    return with_experiment(state, name, told, VERSIONS, experiment_id=f"e-{name}", now=NOW)


def layer_in(state: RoutingState, name: str = "production") -> Layer | None:
    return state.environments[name].layer


def test_an_experiment_in_a_layer_leaves_the_units_outside_to_the_control() -> None:
    state = layered()
    assert layer_in(state) == Layer("checkout", 0.0, 0.5, "v1")
    assert dict(running(state).stages[0].shares) == {"v1": 0.8, "v2": 0.2}, "of the units inside"
    assert state.environments["production"].traffic == {"v1": pytest.approx(0.9), "v2": pytest.approx(0.1)}
    assert layer_in(layered(control="v2")) == Layer("checkout", 0.0, 0.5, "v2")
    assert layer_in(begun(HASHED)) is None


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.WEIGHTED])
def test_without_units_there_is_no_layer(strategy: Strategy) -> None:
    drawn = split(STATE, strategy=strategy)
    with pytest.raises(ChangeRefused) as refused:
        layered(drawn)
    assert refused.value.code == ("split_moves" if strategy is Strategy.WEIGHTED else "layer_without_units")
    state = layered()
    changes: list[Callable[[], RoutingState]] = [
        lambda: split(state, strategy=strategy),
        lambda: next_state(state, lambda one: rolled_back(one, drawn, VERSIONS)),
    ]
    for change in changes:
        with pytest.raises(ChangeRefused, match=f"checkout is of units.* {strategy} of production") as refused:
            change()
        assert refused.value.code == "layer_without_units"
    assert split(begun(HASHED), strategy=strategy).environments["production"].strategy is strategy


@pytest.mark.parametrize("part", [(0.0, 1.0), (0.4, 0.6), (0.1, 0.2), (0.0, 0.5), (0.49, 0.5)])
def test_two_experiments_under_way_do_not_have_the_same_units(part: tuple[float, float]) -> None:
    first = layered()
    with pytest.raises(ChangeRefused) as refused:
        layered(first, part, "staging")
    assert refused.value.code == "layer_overlap"
    assert "e-None of production has the part from 0 to 0.5 of the layer checkout" in str(refused.value)
    assert refused.value.detail == {"experiment": "e-None", "environment": "production", "field": "layer"}


def test_what_does_not_overlap_may_run_side_by_side() -> None:
    first = layered()
    assert layer_in(layered(first, (0.5, 1.0), "staging"), "staging") == Layer("checkout", 0.5, 1.0, "v2")
    assert layer_in(layered(first, (0.0, 1.0), "staging", layer="search"), "staging") is not None
    ended = with_conclusion(first, "production", running(first), CONCLUSION)
    assert layer_in(layered(ended, (0.0, 1.0), "staging"), "staging") is not None, "an end makes room"


def test_everybody_gets_the_winner_and_the_layer_is_gone() -> None:
    state = layered()
    change = SplitChange(weights={"v1": 0, "v2": 1}, active="v2")
    ended = with_conclusion(state, "production", running(state), CONCLUSION, change, VERSIONS)
    assert layer_in(ended) is None
    assert ended.environments["production"].traffic == {"v2": 1.0}


def test_an_end_that_leaves_the_split_hands_the_candidate_to_nobody_outside() -> None:
    state = layered()
    ended = with_conclusion(state, "production", running(state), CONCLUSION)
    assert layer_in(ended) == layer_in(state)
    for leaves in ({"shadow": "v3"}, {"active": "v2"}):
        assert layer_in(split(ended, **leaves)) == layer_in(state)
    for deals in ({"weights": {"v1": 1, "v2": 1}}, {"strategy": Strategy.RANDOM}, {"salt": "x"}, {"enabled": False}):
        assert layer_in(split(ended, **deals)) is None
        assert layer_in(split(state, **deals)) == layer_in(state) if "strategy" not in deals else True
    assert layer_in(begun(ended, named="e2")) is None
    released = split(ended, weights={"v1": 1, "v2": 1})
    assert layer_in(rolled_back(released, ended, VERSIONS)) == layer_in(state), "as it brings back the weights"
    assert layer_in(rolled_back(begun(ended, named="e2"), ended, VERSIONS)) is None, "the one under way has none"
    assert layer_in(rolled_back(state, HASHED, VERSIONS)) == layer_in(state)


def test_the_control_stays_in_memory_for_the_units_outside() -> None:
    state = split(split(layered(), active="v2"), weights={"v2": 1, "v1": 0})
    production = state.environments["production"]
    assert production.answering == {"v1", "v2"} == production.named
    assert production.traffic == {"v1": 0.5, "v2": 0.5}


def test_a_shadow_is_compared_on_units_of_a_layer_and_nobody_moves() -> None:
    before = split(HASHED, shadow="v3")
    state = layered(before, plan=OF_SHADOW)
    assert layer_in(state) == Layer("checkout", 0.0, 0.5, None)
    assert state.environments["production"].traffic == before.environments["production"].traffic
    ended = with_conclusion(state, "production", running(state), CONCLUSION)
    assert layer_in(ended) is None, "nothing is left of it"
    with pytest.raises(ChangeRefused):
        layered(split(STATE, shadow="v3"), plan=OF_SHADOW)


def test_a_layer_is_stored_and_read() -> None:
    state = layered()
    content = encode_state(state)
    assert b'"layer":{"name":"checkout","from":0.0,"to":0.5}' in content, "the plan, as it is written"
    read = decode_state(content)
    assert read == state
    deal = read.environments["production"].deal
    assert deal is not None
    assert {deal(f"user-{number}").reason for number in range(50)} == {"STICKY", "OUTSIDE_LAYER"}
    older = encode_state(begun(HASHED)).replace(b',"layer":null', b"")
    assert b"layer" not in older
    assert decode_state(older) == begun(HASHED)
