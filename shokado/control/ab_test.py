"""A/B tests as their other dialect knows them: how the versions of an environment do, and a split of two by ratio."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from configuration.settings import Strategy, WeightedSettings
from shokado.control.changing import MAX_WHY_CHARACTERS, Changer, Forced
from shokado.control.dependencies import Configuration, Parts
from shokado.control.experiments import ExperimentAnswer, describe_experiment
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import AskedEnvironment, EnvironmentHeader, agreed_environment
from shokado.control.split import Split, StrategyName, answer_change, iso, some_change
from shokado.dispatch.change import InvalidChange, KnownVersions, SplitChange, find_environment, with_split
from shokado.dispatch.state import Environment, RoutingState
from shokado.experiments.feedback_collector import FeedbackStatus, refused
from shokado.experiments.figures import Counts, Proportion, Tallies, add_up, figures
from shokado.experiments.weighted_guardrails import LimitStanding, findings, lookback_s
from shokado.retraining.event import EventStatus, newest
from shokado.stores.store import Action
from shokado.worker.parts import WorkerParts, known_routing

router = APIRouter(tags=["experiments"], route_class=bodies.StrictRoute)


MAX_SHOWN_EVENTS = 20
"""More of retraining are of no interest to who looks at a split."""


class ShadowComparison(BaseModel):
    """The shadow's answers beside those that were given for the same rows."""

    rows: int = Field(description="Compared.")
    agreement: float | None = Field(description="Part of the rows on which both agree.")
    mean_difference: float | None = Field(description="Of the scores, absolute.")
    dropped_rows: int = Field(description="Not compared, as the shadow must not take more time.")
    skipped_rows: int = Field(description="Not compared, as they lack a feature that the shadow needs.")


class LimitStatus(BaseModel):
    """A version and one of `weighted.guardrails`, of its requests in all environments together."""

    metric: str
    limit: float
    past_since: str | None = Field(
        description="ISO 8601, UTC: when it was found past the limit for sure, for which it has `weighted.min_share` "
        "now; null where it was not, or has kept the limit since."
    )
    observed: float | None = Field(
        description="By which it was found past the limit, else of the last `weighted.guardrail_hold_s`."
    )
    requests: int = Field(description="Of which that is the share.")


class VersionStatus(BaseModel):
    """How one version does."""

    share: float = Field(description="Part of the environment's traffic that the routing gives it.")
    requests: int = Field(description="Answered, like `rows`, `errors` and `on_time` in all environments together.")
    traffic: float | None = Field(description="Observed: its part of the requests of all versions here.")
    rows: int
    errors: int
    on_time: int = Field(description="Requests that were answered within `weighted.latency_target_ms`.")
    feedback: int = Field(description="Pieces of feedback in this environment, as everything below.")
    labels: int
    accuracy: Proportion | None
    conversion: Proportion | None = Field(description="Mean reward.")
    mean_squared_error: float | None
    mean_delay_s: float | None = Field(description="From a prediction to its feedback.")
    label_coverage: float | None = Field(description="Labels per row, in all environments together.")
    shadow: ShadowComparison | None = Field(description="Null unless it was a shadow here.")
    guardrails: list[LimitStatus] = Field(description="Where the strategy is `weighted` and there are any.")


class RetrainingStatus(BaseModel):
    """An event of retraining: somebody is told once that a version should be trained anew."""

    id: str = Field(description="As whoever is called is told it.")
    version: str
    cause: str = Field(description="drift, or guardrail.")
    environment: str | None
    reason: str
    at: str = Field(description="ISO 8601, UTC: when it was noticed.")
    status: EventStatus
    attempts: int
    note: str = Field(description="What came of the last attempt.")


class Status(BaseModel):
    """How the versions of an environment do, over a window of time and all workers of all machines."""

    environment: str
    generation: int
    enabled: bool
    strategy: Strategy
    active: str
    shadow: str | None
    window_hours: float
    versions: dict[str, VersionStatus]
    experiment: ExperimentAnswer | None = Field(description="The last one of the environment: as of `/v1/experiments`.")
    refused_feedback: dict[FeedbackStatus, int] = Field(
        description="Entries that were not counted, of all environments: by what was wrong with them."
    )
    retraining: list[RetrainingStatus] = Field(
        description="The last events, of all environments, newest first, where `retraining` is set up."
    )


class ConfigureBody(bodies.Body):
    """A split of two versions by ratio; what is left out stays as it is."""

    environment: str | None = None
    enabled: bool | None = None
    split_ratio: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="Part of the traffic that the first model gets."
    )
    models: list[str] | None = Field(
        default=None, min_length=2, max_length=2, description="Versions or aliases; without them, those of the split."
    )
    strategy: StrategyName = None
    force: Forced = False
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)

    def applied(self, state: RoutingState, name: str | None, versions: KnownVersions) -> RoutingState:
        """Raises like `with_split`."""
        weights = None
        if self.models is not None or self.split_ratio is not None:
            first, second = self.models or _two_of(find_environment(state, name))
            if versions.resolve(first) == versions.resolve(second):
                message = f"{first[:100]!r} and {second[:100]!r} are the same version; a split needs two"
                raise InvalidChange("repeated_version", message)
            ratio = 0.5 if self.split_ratio is None else self.split_ratio
            weights = {first: ratio, second: 1 - ratio}
        change = some_change(SplitChange(weights, self.strategy, self.enabled))
        return with_split(state, name, change, versions)


_CONFIGURE_EXAMPLE: Any = {"enabled": True, "split_ratio": 0.8, "models": ["v1", "v2"], "strategy": "hash"}


@router.get("/ab-test/status", summary="How the versions do", responses=errors(400, 404, 422, 503))
async def read_status(parts: Parts, settings: Configuration, environment: AskedEnvironment) -> Status:
    """Traffic, feedback and comparisons with a shadow, per version of an environment."""
    state = known_routing(parts)
    found = find_environment(state, environment)
    since = parts.clock() - settings.feedback.window_hours * 3600
    tallies = await parts.follower.ask(parts.tally_sums.since, since)
    limits = await _limits_of(parts, settings.weighted, found)
    return Status(
        environment=found.name,
        generation=state.generation,
        enabled=found.enabled,
        strategy=found.strategy,
        active=found.active,
        shadow=found.shadow,
        window_hours=settings.feedback.window_hours,
        # Takes a while for many versions.
        versions=await asyncio.to_thread(_statuses, found, tallies, limits),
        experiment=await describe_experiment(parts, found.name, found.experiment) if found.experiment else None,
        refused_feedback=refused(tallies),
        retraining=await _retraining(parts),
    )


@router.post(
    "/ab-test/configure",
    summary="Split two versions by ratio",
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def configure(
    changer: Changer,
    response: Response,
    environment: EnvironmentHeader,
    body: Annotated[ConfigureBody, Body(examples=[_CONFIGURE_EXAMPLE])],
) -> Split:
    """The same as a change of the traffic split, in other words. The answer is the new split."""
    name = agreed_environment(body.environment, environment)
    entry = await changer.change(
        lambda state, versions: body.applied(state, name, versions), Action.SPLIT, body.why, force=body.force
    )
    return answer_change(entry, name, response)


async def _retraining(parts: WorkerParts) -> list[RetrainingStatus]:
    """Raises `StoreUnavailable`."""
    log = await parts.retraining.log() if parts.retraining is not None else ()
    return [
        RetrainingStatus(
            id=one.id,
            version=one.version,
            cause=one.cause,
            environment=one.environment,
            reason=one.reason,
            at=iso(one.at),
            status=one.status,
            attempts=one.attempts,
            note=one.note,
        )
        for one in newest(log, MAX_SHOWN_EVENTS)
    ]


def _two_of(environment: Environment) -> tuple[str, str]:
    """The versions of a split that has two. Raises `InvalidChange`."""
    versions = tuple(environment.weights)
    if len(versions) != 2:
        message = f"the split of {environment.name} has {len(versions)} versions; say in models which two are meant"
        raise InvalidChange("models_missing", message)
    return versions[0], versions[1]


async def _limits_of(
    parts: WorkerParts, settings: WeightedSettings, environment: Environment
) -> Mapping[str, list[LimitStanding]]:
    """What the split is held to that moves by itself, by version. Raises `StoreUnavailable`."""
    if environment.strategy is not Strategy.WEIGHTED or not settings.guardrails:
        return {}
    now = parts.clock()
    # Minute by minute, as sums do not tell when a version began to fail.
    tallies = await parts.follower.ask(parts.follower.store.tallies, now - lookback_s(settings))
    return await asyncio.to_thread(findings, tallies, list(environment.shares), settings, now)


def _statuses(
    environment: Environment, tallies: Tallies, limits: Mapping[str, list[LimitStanding]]
) -> dict[str, VersionStatus]:
    versions = sorted({*environment.weights, *environment.named})
    here = {version: figures(tallies, version, environment.name) for version in versions}
    everywhere = {version: figures(tallies, version) for version in versions}
    counts = add_up(tallies, environment.name)
    total = sum(found.requests for found in here.values())
    shares = environment.traffic
    return {
        version: VersionStatus(
            share=shares.get(version, 0.0),
            requests=found.requests,
            traffic=found.requests / total if total else None,
            rows=found.rows,
            errors=found.failed,
            on_time=found.on_time,
            feedback=found.feedback,
            labels=found.labels,
            accuracy=found.accuracy,
            conversion=found.conversion,
            mean_squared_error=found.mean_squared_error,
            mean_delay_s=found.mean_delay_s,
            label_coverage=everywhere[version].label_coverage,
            shadow=_comparison(counts.get(version, {})),
            guardrails=[_limit(one) for one in limits.get(version, ())],
        )
        for version, found in here.items()
    }


def _limit(found: LimitStanding) -> LimitStatus:
    since = iso(found.past_since) if found.past_since is not None else None
    return LimitStatus(
        metric=found.metric, limit=found.limit, past_since=since, observed=found.observed, requests=found.requests
    )


def _comparison(counts: Counts) -> ShadowComparison | None:
    rows, dropped = counts.get("shadow_rows", 0.0), counts.get("shadow_dropped_rows", 0.0)
    skipped = counts.get("shadow_skipped_rows", 0.0)
    if not rows + dropped + skipped:
        return None
    return ShadowComparison(
        rows=round(rows),
        agreement=1 - counts.get("shadow_disagreements", 0.0) / rows if rows else None,
        mean_difference=counts.get("shadow_difference_sum", 0.0) / rows if rows else None,
        dropped_rows=round(dropped),
        skipped_rows=round(skipped),
    )
