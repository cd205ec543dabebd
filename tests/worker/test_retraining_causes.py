"""Causes for retraining: what is one, of which versions, and for how long."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from configuration.drift_settings import DriftSettings
from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from configuration.retraining_settings import RetrainingSettings
from shokado.dispatch.experiment import Experiment, ExperimentConclusion, ExperimentStage, Result
from shokado.dispatch.state import RoutingState
from shokado.drift.divergence import DriftVerdict
from shokado.drift.version_drift import DriftWindow, VersionDrift, nothing_of
from shokado.monitoring.drift_watch import DriftWatch
from shokado.retraining.event import RetrainingCause
from shokado.worker.retraining_causes import RetrainingCauses
from tests.dispatch.test_change import STATE

NOON = 1_790_035_200.0 - 1_790_035_200.0 % 86_400 + 43_200
DAY_S = 86_400.0


@dataclass
class Watch:
    """What stands for the watch over drift: verdicts by version."""

    verdicts: dict[str, DriftVerdict] = field(default_factory=dict)
    windows: list[DriftWindow] = field(default_factory=list)

    @property
    def versions(self) -> list[str]:
        return list(self.verdicts)

    async def told(self, version: str, window: DriftWindow) -> VersionDrift:
        self.windows.append(window)
        nothing = nothing_of(version, "", window, DriftSettings())
        return nothing.model_copy(update={"verdict": self.verdicts[version], "drifted": ["age", "score"], "rows": 1234})


class Case:
    """Causes over a routing where v1 and v2 share the traffic."""

    def __init__(self, state: RoutingState = STATE, **changes: Any) -> None:
        self.state, self.watch = state, Watch()
        self.past: dict[str, dict[str, str]] = {}
        settings = RetrainingSettings(webhook="http://ci/", **changes)
        self._causes = RetrainingCauses(settings, lambda: self.state, cast(DriftWatch, self.watch), lambda: self.past)

    def at(self, at: float) -> list[RetrainingCause]:
        return asyncio.run(self._causes.now(at))


def concluded(at: float, broken: dict[str, str], result: Result = Result.ROLLBACK) -> RoutingState:
    plan = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.01)
    stages = (ExperimentStage(7, {"v1": 0.8, "v2": 0.2}, is_sticky=True),)
    conclusion = ExperimentConclusion(at, result, "because", broken=broken)
    ended = Experiment("e1", "v1", ("v2",), plan, NOON - 3600, stages, conclusion)
    name, environment = next(iter(STATE.environments.items()))
    return replace(STATE, environments={**STATE.environments, name: replace(environment, experiment=ended)})


def test_drift_must_hold_without_a_break() -> None:
    case = Case(drift_hold_s=900)
    case.watch.verdicts = {"v1": DriftVerdict.DRIFT}
    assert case.at(NOON) == []
    assert case.at(NOON + 899) == []
    case.watch.verdicts = {"v1": DriftVerdict.TOO_FEW_ROWS}
    assert case.at(NOON + 900) == []
    case.watch.verdicts = {"v1": DriftVerdict.DRIFT}
    assert case.at(NOON + 901) == []
    (found,) = case.at(NOON + 1801)
    assert (found.kind, found.version, found.environment) == ("drift", "v1", None)
    assert found.reason == "age, score drifted within the last day, by 1,234 rows"
    assert set(case.watch.windows) == {DriftWindow.DAY}


def test_drift_is_one_cause_a_day() -> None:
    case = Case(drift_hold_s=0, drift_window="hour")
    case.watch.verdicts = {"v1": DriftVerdict.DRIFT}
    keys = [case.at(NOON + hours * 3600)[0].key for hours in (0, 1, 11, 13)]
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]
    assert set(case.watch.windows) == {DriftWindow.HOUR}


def test_versions_without_traffic_are_no_cause() -> None:
    case = Case(drift_hold_s=0)
    served = {version for one in STATE.environments.values() for version, share in one.traffic.items() if share}
    case.watch.verdicts = dict.fromkeys([*served, "idle"], DriftVerdict.DRIFT)
    assert {found.version for found in case.at(NOON)} == served


@pytest.mark.parametrize("result", [Result.ROLLBACK, Result.PROMOTE])
def test_a_candidate_that_broke_a_guardrail_is_a_cause(result: Result) -> None:
    """Also where another one was promoted."""
    case = Case(concluded(NOON, {"v2": "error_rate 0.2 of 100 requests"}, result))
    (found,) = case.at(NOON + 10)
    assert (found.kind, found.version, found.environment) == ("guardrail", "v2", next(iter(STATE.environments)))
    assert found.reason.endswith("error_rate 0.2 of 100 requests")
    assert case.at(NOON + DAY_S - 1)[0].key == found.key
    assert case.at(NOON + DAY_S + 1) == []


def test_an_experiment_whose_guardrails_held_is_none() -> None:
    assert Case(concluded(NOON, {})).at(NOON + 10) == []


def test_a_version_of_a_weighted_split_that_is_past_a_limit_is_a_cause_a_day() -> None:
    case = Case()
    case.past = {"production": {"v2": "error_rate 0.3 of 50 requests (at most 0.1)"}}
    (found,) = case.at(NOON)
    assert (found.kind, found.version, found.environment) == ("guardrail", "v2", "production")
    assert case.at(NOON + 3600)[0].key == found.key
    assert case.at(NOON + DAY_S)[0].key != found.key


def test_only_what_is_asked_for_is_a_cause() -> None:
    state = concluded(NOON, {"v2": "x"})
    for causes, kinds in ((["drift"], ["drift"]), (["guardrail"], ["guardrail"])):
        case = Case(state, drift_hold_s=0, causes=causes)
        case.watch.verdicts = {"v1": DriftVerdict.DRIFT}
        assert [found.kind for found in case.at(NOON)] == kinds


def test_without_a_routing_there_is_nothing_to_say() -> None:
    case = Case()
    case.state = cast(RoutingState, None)
    assert case.at(NOON) == []
