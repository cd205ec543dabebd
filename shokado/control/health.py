"""Health: is the process alive, and can it answer?"""

import logging
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from configuration.settings import Placement
from runners.runner import Runner, RunnerState
from shokado.worker.started import FrontGate, Parts, Started

logger = logging.getLogger("bentoml.shokado")
router = APIRouter(tags=["health"])


class StoreHealth(BaseModel):
    """The store of the routing. While it is away, serving goes on and changes are refused."""

    name: str
    status: str = Field(description="ok or unavailable")
    failure: str | None = None
    durability: str | None = Field(default=None, description="What may be lost in a crash of the store, if anything.")


class Health(BaseModel):
    """Whether this worker can answer, and what that rests on."""

    status: str = Field(description="ok or unavailable")
    reason: str | None = Field(default=None, description="Why it cannot.")
    generation: int
    versions: dict[str, str] = Field(description="The state of each version.")
    failures: dict[str, str] | None = Field(default=None, description="Why versions failed or are away.")
    store: StoreHealth
    keys: str | None = Field(default=None, description="Why the keys file cannot be used: the keys of before hold on.")


class Alive(BaseModel):
    """The process answers."""

    status: str


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Alive:
    return Alive(status="ok")


async def readyz(parts: Parts, response: Response, gate: FrontGate) -> Health:
    """200 when the routing is known and every version that is active or has traffic is ready, else 503.

    503 from the moment the server is told to stop, though it may go on to answer for a while.
    A shadow may be missing, as nobody sees its answers, and so may the store. A version that is not in this process
    may be away or have failed, as the active version answers for it, unless it is that of the default environment
    itself.
    """
    reason = why_not_ready(parts)
    reports = parts.fleet.versions()
    response.status_code = 503 if reason else 200
    return Health(
        status="unavailable" if reason else "ok",
        reason=reason,
        generation=parts.dispatcher.state.generation,
        versions={version: found.state for version, found in reports.items()},
        failures={version: found.failure for version, found in reports.items() if found.failure} or None,
        store=_store(parts),
        keys=gate.watch.failure if gate is not None and gate.watch is not None else None,
    )


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "It cannot answer, and says why."}}
for path in ("/readyz", "/ready", "/health", "/ping"):
    router.get(
        path,
        summary="Can it answer?",
        operation_id=f"ready_{path[1:]}",
        responses=_NOT_READY,
        response_model_exclude_none=True,
    )(readyz)


def why_not_ready(parts: Started) -> str | None:
    """Why this worker cannot answer; none when it can."""
    if parts.stopping.begun:
        return "the server is stopping"
    state, runners = parts.dispatcher.state, parts.dispatcher.runners
    if not state.environments:
        return "the routing is not known yet"
    needed = {
        version for environment in state.environments.values() for version in (environment.active, *environment.shares)
    }
    missing = {version for version in needed if version not in runners or not runners[version].ready}
    # One canary elsewhere must not take every gateway out of its load balancer.
    excused = {version for version in missing if version in runners and _is_excused(runners[version])}
    excused.discard(state.environments[state.default_environment].active)
    return f"not ready: {', '.join(sorted(missing - excused))}" if missing - excused else None


def _is_excused(runner: Runner) -> bool:
    has_failed_elsewhere = runner.state is RunnerState.FAILED and runner.placement is not Placement.EMBEDDED
    return runner.state is RunnerState.AWAY or has_failed_elsewhere


class ReadinessLog:
    """Tells the log why this worker cannot answer, once for each reason that two looks find, and when that is over.

    Where no probe's answer is kept, as in Kubernetes, a pod that is not ready says so in its log.
    """

    def __init__(self) -> None:
        self._seen: str | None = None
        self._told: str | None = None

    def look(self, parts: Started) -> None:
        """To be called once in a while."""
        if parts.stopping.begun:
            return
        reason = why_not_ready(parts)
        lasts, self._seen = reason == self._seen, reason
        if not lasts or reason == self._told:
            return
        self._told = reason
        if reason is None:
            logger.info("ready again")
            return
        found = {version: report.failure for version, report in parts.fleet.versions().items() if report.failure}
        failures = "".join(f"; {version}: {failure}" for version, failure in found.items())
        logger.warning("not ready: %s%s", reason.removeprefix("not ready: "), failures)


def _store(parts: Started) -> StoreHealth:
    store, failure = parts.follower.store, parts.follower.failure
    return StoreHealth(
        name=store.name,
        status="ok" if failure is None else "unavailable",
        failure=failure,
        durability=store.durability or None,
    )
