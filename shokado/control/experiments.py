"""Experiments: begun, looked at and stopped. What ends by itself, `shokado.experiments.experiment_judge` ends."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from runners.artefacts.card import Card
from shokado.control.changing import MAX_WHY_CHARACTERS, Changer
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import EnvironmentHeader, agreed_environment, etag
from shokado.control.split import iso
from shokado.dialects.problem import Problem
from shokado.dispatch.change import ConflictingChange, KnownVersions, find_environment
from shokado.dispatch.experiment import Experiment, ExperimentConclusion, Result, VersionResult
from shokado.dispatch.experiment_change import ExperimentOrder, find_experiment, with_conclusion, with_experiment
from shokado.dispatch.state import RoutingState
from shokado.experiments.experiment_judge import ExperimentLook, look_at, results_of
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.segment_guardrails import with_segments
from shokado.stores.store import Action
from shokado.worker.parts import WorkerParts

router = APIRouter(tags=["experiments"], route_class=bodies.StrictRoute)


class StageAnswer(BaseModel):
    """A time in which the versions had the same shares, units and models."""

    generation: int = Field(description="The first one of it.")
    shares: dict[str, float] = Field(description="Of the experiment's versions; empty where the split was off.")
    sticky: bool = Field(description="Whether units kept their version.")
    artefacts: dict[str, str] = Field(
        description="The digest of what each version is; empty where workers differ, and nothing is compared."
    )


class GuardrailAnswer(BaseModel):
    """What is said of a guardrail."""

    metric: ExperimentMetric
    by: str | None = Field(default=None, description="The feature, where it is about rows of one of its levels.")
    level: str | None = Field(default=None, description="Which level.")
    state: GuardrailState = Field(
        description="kept or broken, for sure; beyond where it was seen beyond it, which may be chance; unknown where "
        "it was not, which may be chance as well, or nothing was seen yet. It is promoted where all are kept."
    )
    reason: str


class ExperimentVersion(BaseModel):
    """What was seen of a version."""

    assigned: int = Field(
        description="Units or requests that it got; of a sample, where there are many units, or a shadow is compared."
    )
    observations: int = Field(description="Of the metric.")
    mean: float | None
    effect: float | None = Field(description="Its mean less the control's.")
    low: float | None = Field(description="Of the confidence sequence of the effect; null where nothing can be said.")
    high: float | None
    reason: str | None = Field(default=None, description="What is said of it while the experiment is under way.")
    guardrails: list[GuardrailAnswer] | None = Field(default=None, description="Of a candidate, meanwhile.")


class ExperimentAnswer(BaseModel):
    """An experiment, under way or ended."""

    id: str
    environment: str
    control: str
    candidates: list[str]
    plan: ExperimentPlan
    started_at: str = Field(description="ISO 8601, UTC.")
    ends_at: str = Field(description="At the latest.")
    ended_at: str | None
    running: bool
    verdict: str = Field(description="RUNNING, PROMOTE, HOLD, ROLLBACK or INVALID; STOPPED where somebody ended it.")
    reason: str
    winner: str | None
    sample_ratio_p_value: float | None = Field(description="That units came by the shares; null after the end.")
    arrival_p_value: float | None = Field(description="That labels came alike for all versions; null after the end.")
    fallbacks: dict[str, int] = Field(description="Requests of each version that another one answered.")
    pairs: dict[str, int] = Field(
        description="Requests that a shadow is compared on (sampled), those that it scored, or failed on, and those of "
        "them that the store had no room for (no_room); labels, those that its scores were there for (joined), and "
        "those that waited for scores until newer labels took their place (let_go). Empty for other experiments, and "
        "after the end."
    )
    stages: list[StageAnswer]
    versions: dict[str, ExperimentVersion]


class ExperimentList(BaseModel):
    """Those under way first, then those that ended, the last one first."""

    experiments: list[ExperimentAnswer]


class ExperimentBody(ExperimentPlan):
    """What is compared, and by what it is judged."""

    model_config = ConfigDict(title="ExperimentBody")

    environment: str | None = None
    control: str | None = Field(default=None, description="A version or alias; by default the active one.")
    candidates: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="By default all others that share the traffic, or the shadow.",
    )
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)

    @property
    def order(self) -> ExperimentOrder:
        content = self.model_dump(include=set(ExperimentPlan.model_fields))
        return ExperimentOrder(ExperimentPlan.model_validate(content), self.control, self.candidates)


class StopBody(bodies.Body):
    """Why an experiment is stopped."""

    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


_EXAMPLE: Any = {"metric": "accuracy", "smallest_effect": 0.01, "candidates": ["v2"], "at_end": "promote"}


@router.get("/v1/experiments", summary="All experiments", responses=errors(503))
async def read_experiments(parts: Parts) -> ExperimentList:
    """Those under way, and the last that ended, whichever worker began or ended them."""
    state = (await parts.follower.newest()).state
    running = [
        await describe_experiment(parts, name, environment.running)
        for name, environment in state.environments.items()
        if environment.running is not None
    ]
    ended = [await _ended(parts, name, generation) for name, generation in reversed([*state.concluded.items()])]
    told = [await describe_experiment(parts, *one) for one in ended if one is not None]
    return ExperimentList(experiments=[*running, *told])


@router.post(
    "/v1/experiments",
    summary="Begin an experiment",
    status_code=201,
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def start_experiment(
    changer: Changer,
    settings: Configuration,
    response: Response,
    environment: EnvironmentHeader,
    body: Annotated[ExperimentBody, Body(examples=[_EXAMPLE])],
) -> ExperimentAnswer:
    """Begin to compare the versions that share the traffic of an environment, or one with its shadow. The split stays
    until the end.
    """
    parts, name = changer.parts, agreed_environment(body.environment, environment)
    cards = {version: artefact.card for version, artefact in parts.fleet.artefacts.items()}
    _refuse_unfit(body, cards)
    make = partial(
        _begun,
        name=name,
        order=body.order,
        named=secrets.token_hex(6),
        now=parts.clock(),
        segmented=partial(with_segments, settings=settings.segments, cards=cards),
    )
    entry = await changer.change(make, Action.EXPERIMENT, body.why, force=True)
    found = find_environment(entry.state, name)
    assert found.running is not None
    response.headers["ETag"] = etag(entry.generation)
    response.headers["Location"] = f"/v1/experiments/{found.running.id}"
    return await describe_experiment(parts, found.name, found.running)


@router.get("/v1/experiments/{experiment}", summary="One experiment", responses=errors(404, 422, 503))
async def read_experiment(parts: Parts, experiment: str) -> ExperimentAnswer:
    """How it stands, or how it ended."""
    return await _find(parts, experiment)


@router.post(
    "/v1/experiments/{experiment}/stop",
    summary="Stop an experiment",
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def stop_experiment(
    changer: Changer, response: Response, experiment: str, body: Annotated[StopBody, Body(examples=[{"why": "enough"}])]
) -> ExperimentAnswer:
    """End an experiment as it stands. The split stays as it is."""
    parts = changer.parts
    now, found = parts.clock(), await _find(parts, experiment)
    results = {
        version: VersionResult(one.assigned, one.observations, one.mean, one.effect, one.low, one.high)
        for version, one in found.versions.items()
    }

    def make(state: RoutingState, versions: KnownVersions) -> RoutingState:  # noqa: ARG001  # needs none to be ready
        environment = find_experiment(state, experiment)
        running = environment.running if environment is not None else None
        if environment is None or running is None:
            raise ConflictingChange("experiment_over", f"the experiment {experiment[:100]!r} is over")
        conclusion = ExperimentConclusion(now, Result.STOPPED, body.why, versions=results)
        return with_conclusion(state, environment.name, running, conclusion)

    entry = await changer.change(make, Action.CONCLUDE, body.why)
    response.headers["ETag"] = etag(entry.generation)
    stopped = find_experiment(entry.state, experiment)
    assert stopped is not None
    assert stopped.experiment is not None
    return await describe_experiment(parts, stopped.name, stopped.experiment)


def _begun(
    state: RoutingState,
    versions: KnownVersions,
    name: str | None,
    order: ExperimentOrder,
    named: str,
    now: float,
    segmented: Callable[[Experiment], Experiment],
) -> RoutingState:
    begun = with_experiment(state, name, order, versions, experiment_id=named, now=now)
    environment = find_environment(begun, name)
    assert environment.experiment is not None
    whole = replace(environment, experiment=segmented(environment.experiment))
    return replace(begun, environments={**begun.environments, environment.name: whole})


def _refuse_unfit(plan: ExperimentPlan, cards: Mapping[str, Card]) -> None:
    """Raise `Problem` (422) for a metric that the model's answers cannot have."""
    is_classifier = any(card.classes for card in cards.values())
    unfit = (
        {ExperimentMetric.SQUARED_ERROR, ExperimentMetric.ABSOLUTE_ERROR}
        if is_classifier
        else {ExperimentMetric.ACCURACY}
    )
    for field, metrics in (("metric", [plan.metric]), ("guardrails", [one.metric for one in plan.guardrails])):
        for metric in unfit.intersection(metrics):
            what = "classes" if is_classifier else "values"
            raise Problem(
                "invalid", f"{field}: {metric} cannot be had of a model that answers {what}", {"field": field}
            )


async def _find(parts: WorkerParts, experiment: str) -> ExperimentAnswer:
    """Raises `Problem` (404)."""
    return await describe_experiment(parts, *await known_experiment(parts, experiment))


async def known_experiment(parts: WorkerParts, experiment: str) -> tuple[str, Experiment]:
    """The experiment of that id and its environment, under way or ended. Raises `Problem` (404), `StoreUnavailable`."""
    state = (await parts.follower.newest()).state
    environment = find_experiment(state, experiment)
    if environment is not None and environment.experiment is not None:
        return environment.name, environment.experiment
    generation = state.concluded.get(experiment)
    found = await _ended(parts, experiment, generation) if generation is not None else None
    if found is None:
        raise Problem("unknown_experiment", f"there is no experiment {experiment[:100]!r}, or not any more")
    return found


async def _ended(parts: WorkerParts, experiment: str, generation: int) -> tuple[str, Experiment] | None:
    """What the history has of an experiment's end; None where the store has lost it."""
    entry = await parts.follower.ask(parts.follower.store.entry, generation)
    environment = find_experiment(entry.state, experiment) if entry is not None else None
    if environment is None or environment.experiment is None:
        return None
    return environment.name, environment.experiment


async def describe_experiment(parts: WorkerParts, environment: str, experiment: Experiment) -> ExperimentAnswer:
    """How it stands, or how it ended. Raises `StoreUnavailable`."""
    ended = experiment.conclusion
    look = await look_at(experiment, parts.follower, parts.clock()) if ended is None else None
    if ended is not None:
        verdict, reason, winner, results = ended.result.value, ended.reason, ended.winner, ended.versions
    else:
        assert look is not None
        verdict, reason, winner = look.judgement.verdict.value, look.reason, look.judgement.winner
        results = results_of(experiment, look)
    return ExperimentAnswer(
        id=experiment.id,
        environment=environment,
        control=experiment.control,
        candidates=list(experiment.candidates),
        plan=experiment.plan,
        started_at=iso(experiment.started_at),
        ends_at=iso(experiment.ends_at),
        ended_at=iso(ended.at) if ended is not None else None,
        running=experiment.is_running,
        verdict=verdict,
        reason=reason,
        winner=winner,
        sample_ratio_p_value=look.judgement.sample_ratio_p_value if look is not None else None,
        arrival_p_value=look.judgement.arrival_p_value if look is not None else None,
        fallbacks=dict(look.fallbacks) if look is not None else {},
        pairs=dict(look.pairs) if look is not None else {},
        stages=[
            StageAnswer(
                generation=stage.generation,
                shares=dict(stage.shares),
                sticky=stage.is_sticky,
                artefacts=dict(stage.artefacts),
            )
            for stage in experiment.stages
        ],
        versions={
            version: ExperimentVersion(
                assigned=found.assigned,
                observations=found.observations,
                mean=found.mean,
                effect=found.effect,
                low=found.low,
                high=found.high,
                **_said_of(look, version),
            )
            for version, found in results.items()
        },
    )


def _said_of(look: ExperimentLook | None, version: str) -> dict[str, Any]:
    candidate = look.judgement.candidates.get(version) if look is not None else None
    if candidate is None:
        return {}
    guardrails = [
        GuardrailAnswer(metric=one.metric, by=one.by, level=one.level, state=one.state, reason=one.text)
        for one in candidate.guardrails
    ]
    return {"reason": candidate.reason, "guardrails": guardrails}
