"""The dispatcher: which runner gets a request, and what the client is told when there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from configuration.settings import BatchingSettings, Strategy, VersionSettings
from runners.batching.job import Job
from runners.errors import NotReady, Overloaded, Unreachable
from runners.runner import Runner
from runners.version_state import VersionState
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.dispatch.fault import FELL_BACK
from shokado.dispatch.layer import Layer
from shokado.dispatch.observers import Observers
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Prediction, PredictionRequest, UnknownVersion
from shokado.dispatch.state import RoutingState
from tests.dispatch.shares import environment
from tests.support.cards import make_card
from tests.support.predictions import Listener

ROW = b"\0" * 8


class KeepsJobs(Runner):
    """A runner in a given state that keeps its jobs instead of scoring them."""

    def __init__(self, version: str, **card: Any) -> None:
        """`card` is what its card has otherwise."""
        described = make_card(version=version, **card)
        super().__init__(version, described, Path("nowhere"), VersionSettings(), BatchingSettings())
        self.state = VersionState.READY
        self.kept: list[Job] = []
        self.wait_s = 0.0

    @property
    def full(self) -> bool:
        return self.wait_s > 0

    def submit(self, job: Job) -> None:
        if self.wait_s:
            raise Overloaded(self.wait_s, 2 * self.wait_s)
        if not self.ready:
            raise NotReady(f"version {self.version} is {self.state}")
        self.kept.append(job)


class Restaurant:
    """A dispatcher over three versions, and the random number that it draws next."""

    def __init__(self) -> None:
        self.number = 0.0
        self.runners = {version: KeepsJobs(version) for version in ("v1", "v2", "v3")}
        production = environment({"v1": 50, "v2": 50}, active="v3")
        staging = replace(production, name="staging", weights={"v2": 1}, active="v2")
        state = RoutingState(7, {"production": production, "staging": staging}, "production")
        self.observers, self.listener = Observers(lambda *_: None), Listener()
        self.observers.subscribe([self.listener])
        self.dispatcher = Dispatcher(
            self.runners,
            {"a": "v1", "b": "v2"},
            state,
            observers=self.observers,
            draw=lambda: self.number,
            clock=lambda: 50,
        )

    def dispatch(
        self, *, version: str | None = None, environment: str | None = None, split: bool = True
    ) -> tuple[str, Reason]:
        """Version and reason of a request, which its runner must have got."""
        request = PredictionRequest(ROW, 1, version, environment, split)
        prediction = self.dispatcher.dispatch(request, lambda job: None)
        assert self.runners[prediction.version].kept[-1] is prediction
        return prediction.version, prediction.reason

    def stop(self, *versions: str) -> None:
        for version in versions:
            self.runners[version].state = VersionState.DRAINING


@pytest.fixture
def restaurant() -> Restaurant:
    return Restaurant()


def test_a_request_goes_where_the_random_number_says(restaurant: Restaurant) -> None:
    assert restaurant.dispatch() == ("v1", Reason.SPLIT)
    restaurant.number = 0.5
    assert restaurant.dispatch() == ("v2", Reason.SPLIT)


def test_a_request_may_name_its_environment(restaurant: Restaurant) -> None:
    assert restaurant.dispatch(environment="staging") == ("v2", Reason.SPLIT)
    assert restaurant.dispatch(environment="staging", split=False) == ("v2", Reason.ACTIVE)


def test_a_refusal_that_every_version_would_give_is_remembered_for_a_moment(restaurant: Restaurant) -> None:
    restaurant.runners["v3"].state = VersionState.FAILED
    for version in ("v1", "v2"):
        restaurant.runners[version].wait_s = 4
    with pytest.raises(Overloaded):
        restaurant.dispatch()
    assert 50 < restaurant.dispatcher.full_until < 50.01
    assert (restaurant.dispatcher.overload.expected_wait_s, restaurant.dispatcher.overload.retry_after_s) == (4, 8)


def test_a_refusal_is_not_remembered_while_any_version_could_be_asked_for(restaurant: Restaurant) -> None:
    for version in ("v1", "v2"):
        restaurant.runners[version].wait_s = 4
    with pytest.raises(Overloaded):
        restaurant.dispatch()
    assert restaurant.dispatcher.full_until < 50
    assert restaurant.dispatch(version="v3") == ("v3", Reason.PINNED)


def test_a_request_that_is_not_split_gets_the_active_version(restaurant: Restaurant) -> None:
    assert restaurant.dispatch(split=False) == ("v3", Reason.ACTIVE)


@pytest.mark.parametrize(("name", "version"), [("v1", "v1"), ("v3", "v3"), ("a", "v1"), ("b", "v2")])
def test_a_request_may_pin_a_version_by_name_or_alias(name: str, version: str, restaurant: Restaurant) -> None:
    restaurant.number = 0.9
    assert restaurant.dispatch(version=name) == (version, Reason.PINNED)


def test_an_alias_never_hides_a_version() -> None:
    runners = {"v1": KeepsJobs("v1"), "v2": KeepsJobs("v2")}
    state = RoutingState(1, {"production": environment({"v1": 1})}, "production")
    assert Dispatcher(runners, {"v2": "v1"}, state).resolve("v2") == "v2"


@pytest.mark.parametrize("state", [state for state in VersionState if state is not VersionState.READY])
def test_the_active_version_stands_in_for_one_that_is_not_ready(state: VersionState, restaurant: Restaurant) -> None:
    restaurant.runners["v1"].state = state
    assert restaurant.dispatch() == ("v3", Reason.FALLBACK)
    restaurant.number = 0.5
    assert restaurant.dispatch() == ("v2", Reason.SPLIT)


def test_requests_that_a_version_did_not_get_are_counted_against_it(restaurant: Restaurant) -> None:
    restaurant.runners["v1"].state = VersionState.FAILED
    for _ in range(3):
        assert restaurant.dispatch() == ("v3", Reason.FALLBACK)
    with pytest.raises(NotReady):
        restaurant.dispatch(version="v1")
    restaurant.observers.tell()
    passed_over = [(failure.version, failure.kind, failure.prediction) for failure in restaurant.listener.failures]
    assert passed_over == [("v1", FELL_BACK, None)] * 3, "what is pinned falls back to nobody"


def test_nothing_stands_in_for_a_pinned_version(restaurant: Restaurant) -> None:
    restaurant.stop("v1")
    with pytest.raises(NotReady, match="v1 is draining"):
        restaurant.dispatch(version="v1")


def test_nothing_stands_in_for_the_active_version(restaurant: Restaurant) -> None:
    restaurant.stop("v3")
    with pytest.raises(NotReady, match="v3 is draining"):
        restaurant.dispatch(split=False)


def test_a_request_is_refused_in_the_name_of_its_version_when_the_active_one_is_not_ready_either(
    restaurant: Restaurant,
) -> None:
    restaurant.stop("v1", "v3")
    with pytest.raises(NotReady, match="v1 is draining"):
        restaurant.dispatch()


def test_an_unknown_version_is_refused_with_the_names_that_are_known(restaurant: Restaurant) -> None:
    with pytest.raises(UnknownVersion) as refused:
        restaurant.dispatch(version="v9")
    assert str(refused.value) == "unknown version 'v9'; served are a, b, v1, v2, v3"
    assert refused.value.what == "version"
    assert not any(runner.kept for runner in restaurant.runners.values())


def test_an_empty_version_is_refused_like_an_unknown_one(restaurant: Restaurant) -> None:
    with pytest.raises(UnknownVersion):
        restaurant.dispatch(version="")


def test_an_unknown_environment_is_refused_with_the_names_that_are_known(restaurant: Restaurant) -> None:
    with pytest.raises(UnknownVersion) as refused:
        restaurant.dispatch(environment="canary", version="v1")
    assert str(refused.value) == "unknown environment 'canary'; served are production, staging"
    assert refused.value.what == "environment"


def test_a_prediction_carries_what_it_was_assigned_and_asked(restaurant: Restaurant) -> None:
    answered: list[Job] = []
    request = PredictionRequest(ROW * 3, 3, deadline=12.5)
    prediction = restaurant.dispatcher.dispatch(request, answered.append)
    assert isinstance(prediction, Prediction)
    assert (prediction.version, prediction.reason, prediction.origin.generation) == ("v1", Reason.SPLIT, 7)
    assert prediction.origin.shares == {"v1": 0.5, "v2": 0.5}
    assert (prediction.rows, prediction.row_count, prediction.deadline) == (ROW * 3, 3, 12.5)
    assert prediction.card.version == "v1"
    prediction.done(prediction)
    assert answered == [prediction]


def test_a_new_state_counts_from_the_next_request_on(restaurant: Restaurant) -> None:
    before = restaurant.dispatcher.dispatch(PredictionRequest(ROW, 1), lambda job: None)
    changed = RoutingState(8, {"production": environment({"v3": 1})}, "production")
    restaurant.dispatcher.adopt(changed, restaurant.runners)
    after = restaurant.dispatcher.dispatch(PredictionRequest(ROW, 1), lambda job: None)
    assert [(p.version, p.origin.generation) for p in (before, after)] == [("v1", 7), ("v3", 8)]


def test_a_version_stands_under_the_card_that_scores_it(restaurant: Restaurant) -> None:
    restaurant.stop("v1")
    prediction = restaurant.dispatcher.dispatch(PredictionRequest(ROW, 1), lambda job: None)
    assert prediction.card.version == prediction.version == "v3"


def test_a_version_that_is_known_but_not_in_memory_is_not_unknown(restaurant: Restaurant) -> None:
    """And where nobody pinned it, the active one stands in."""
    runners = {version: runner for version, runner in restaurant.runners.items() if version != "v1"}
    restaurant.dispatcher.adopt(restaurant.dispatcher.state, runners, ["v1", "v2", "v3"])
    with pytest.raises(NotReady, match="v1 is not in memory"):
        restaurant.dispatch(version="a")
    assert restaurant.dispatch() == ("v3", Reason.FALLBACK)


def test_nothing_is_answered_while_the_routing_is_not_known(restaurant: Restaurant) -> None:
    restaurant.dispatcher.adopt(RoutingState(0, {}, "production"), restaurant.runners)
    for version in (None, "v1"):
        with pytest.raises(NotReady, match="not known yet"):
            restaurant.dispatch(version=version)


def test_under_the_hash_strategy_a_unit_decides(restaurant: Restaurant) -> None:
    sticky = replace(restaurant.dispatcher.state.environments["production"], strategy=Strategy.HASH)
    restaurant.dispatcher.adopt(RoutingState(8, {"production": sticky}, "production"), restaurant.runners)
    for number, unit in enumerate(["alice", "bob", "carol", "dave"]):
        restaurant.number = number / 4
        prediction = restaurant.dispatcher.dispatch(PredictionRequest(ROW, 1, unit=unit), lambda job: None)
        assert (prediction.version, prediction.reason) == (sticky.rendezvous.version_of(unit), Reason.STICKY)


def failed(restaurant: Restaurant, error: Exception | None = None, **asked: Any) -> Prediction:
    """A prediction that its version could not answer."""
    request = PredictionRequest(ROW * 2, 2, deadline=60.0, **asked)
    prediction = restaurant.dispatcher.dispatch(request, lambda job: None)
    prediction.error = Unreachable(ConnectionResetError()) if error is None else error  # type: ignore[assignment]
    return prediction


def test_a_prediction_that_its_version_failed_goes_to_the_active_one_of_its_environment(
    restaurant: Restaurant,
) -> None:
    heard: list[Job] = []
    lost = failed(restaurant)
    other = restaurant.dispatcher.fall_back(lost, heard.append)
    assert other is not None
    assert restaurant.runners["v3"].kept == [other]
    assert (other.version, other.reason, other.origin.environment) == ("v3", Reason.FALLBACK, "production")
    assert (other.rows, other.row_count, other.deadline, other.error) == (lost.rows, 2, 60.0, None)
    other.done(other)
    assert heard == [other]


def test_it_goes_by_the_routing_of_now(restaurant: Restaurant) -> None:
    lost = failed(restaurant)
    changed = RoutingState(8, {"production": environment({"v1": 1}, active="v2")}, "production")
    restaurant.dispatcher.adopt(changed, restaurant.runners)
    other = restaurant.dispatcher.fall_back(lost, lambda job: None)
    assert other is not None
    assert (other.version, other.origin.generation) == ("v2", 8)
    restaurant.dispatcher.adopt(RoutingState(9, {"staging": changed.environments["production"]}, "staging"), {})
    assert restaurant.dispatcher.fall_back(lost, lambda job: None) is None


def test_a_prediction_is_not_handed_on_where_its_error_stands(restaurant: Restaurant) -> None:
    dispatcher = restaurant.dispatcher
    assert dispatcher.fall_back(failed(restaurant, version="v1"), print) is None
    assert dispatcher.fall_back(failed(restaurant, split=False), print) is None
    assert dispatcher.fall_back(failed(restaurant, NotReady("closing")), print) is None
    assert dispatcher.fall_back(failed(restaurant, Overloaded(1)), print) is None
    lost = failed(restaurant)
    restaurant.stop("v3")
    assert dispatcher.fall_back(lost, print) is None


def test_nothing_of_a_unit_outside_of_a_layer_is_evidence_whoever_answers_it(restaurant: Restaurant) -> None:
    plan = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.1)
    stage = ExperimentStage(8, {"v1": 0.5, "v2": 0.5}, is_sticky=True)
    experiment = Experiment("e1", "v1", ("v2",), plan, 0.0, (stage,))
    layer = Layer("checkout", 0.0, 0.5, "v1")
    production = environment(
        {"v1": 1, "v2": 1}, active="v3", strategy=Strategy.HASH, experiment=experiment, layer=layer
    )
    restaurant.dispatcher.adopt(RoutingState(8, {"production": production}, "production"), restaurant.runners)
    outside = next(unit for unit in map(str, range(99)) if not layer.has(unit))
    inside = next(unit for unit in map(str, range(99)) if layer.has(unit))

    def dispatched(unit: str) -> Prediction:
        return restaurant.dispatcher.dispatch(PredictionRequest(ROW, 1, unit=unit), lambda job: None)

    found = dispatched(outside)
    assert (found.version, found.reason) == ("v1", Reason.OUTSIDE_LAYER)
    found.error = Unreachable(ConnectionResetError())
    other = restaurant.dispatcher.fall_back(found, lambda job: None)
    restaurant.stop("v1", "v2")
    for answered, unit in ((other, outside), (dispatched(outside), outside), (dispatched(inside), inside)):
        assert answered is not None
        assert (answered.version, answered.reason, answered.origin.generation) == ("v3", Reason.FALLBACK, 8)
        assert (answered.origin.stage is None) == (unit == outside), "by which evidence is counted"
    assert restaurant.dispatcher._uncounted.keys() == {"production"}
