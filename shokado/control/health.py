"""Health: is the process alive, and can it answer?"""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from shokado.control.dependencies import FrontGate, Parts
from shokado.control.split import iso
from shokado.worker.parts import WorkerParts
from shokado.worker.readiness import why_not_ready

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


class Healthy(Health):
    """The same in the words of those who ask at `/health`."""

    status: str = Field(description="healthy or unhealthy")
    model_loaded: bool = Field(description="Whether the active version of the default environment is ready.")
    model_version: str | None = Field(description="That version; null while the routing is not known.")
    timestamp: str = Field(description="When this was answered: ISO 8601, UTC.")


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


async def health(parts: Parts, response: Response, gate: FrontGate) -> Healthy:
    """200 and 503 as at `/readyz`."""
    found = await readyz(parts, response, gate)
    state = parts.dispatcher.state
    environment = state.environments.get(state.default_environment)
    active = environment.active if environment is not None else None
    runner = parts.dispatcher.runners.get(active) if active is not None else None
    return Healthy(
        **found.model_dump(exclude={"status"}),
        status="unhealthy" if found.reason else "healthy",
        model_loaded=runner is not None and runner.ready,
        model_version=active,
        timestamp=iso(parts.clock()),
    )


def _not_ready(shape: type[Health]) -> dict[int | str, dict[str, Any]]:
    return {503: {"model": shape, "description": "It cannot answer, and says why."}}


for path, answer, shape in (
    ("/readyz", readyz, Health),
    ("/ready", readyz, Health),
    ("/ping", readyz, Health),
    ("/health", health, Healthy),
):
    router.get(
        path,
        summary="Can it answer?",
        operation_id=f"ready_{path[1:]}",
        responses=_not_ready(shape),
        response_model_exclude_none=True,
    )(answer)


def _store(parts: WorkerParts) -> StoreHealth:
    store, failure = parts.follower.store, parts.follower.failure
    return StoreHealth(
        name=store.name,
        status="ok" if failure is None else "unavailable",
        failure=failure,
        durability=store.durability or None,
    )
