"""The history of the routing: who changed what, when and why, and the way back."""

import asyncio
from itertools import zip_longest
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, Field

from shokado.control.changing import MAX_GENERATION, MAX_WHY_CHARACTERS, Changer
from shokado.control.dependencies import Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import AskedEnvironment, EnvironmentHeader
from shokado.control.split import EnvironmentContent, Split, answer_change, content_of, iso
from shokado.dialects.problem import Problem
from shokado.dispatch.change import find_environment, rolled_back
from shokado.dispatch.state import RoutingState
from shokado.stores.store import Action, Entry
from shokado.worker.parts import WorkerParts, known_routing

MAX_ENTRIES = 500
"""Entries of one page; `before` asks for the next one."""
_SLICE = 20
"""Entries that are described in one go: a long page must not hold up predictions."""

router = APIRouter(tags=["split"], route_class=bodies.StrictRoute)


class Change(BaseModel):
    """A field as it was, and as it became."""

    before: Any
    after: Any


class HistoryEntry(BaseModel):
    """One generation of the routing."""

    generation: int
    at: str = Field(description="ISO 8601, UTC.")
    by: str
    action: Action
    why: str
    environments: dict[str, EnvironmentContent]
    changed: dict[str, dict[str, Change]] | None = Field(
        description="By environment and field, against the generation before; none where that is not known."
    )
    versions: list[str] | None = Field(description="Loaded, unloaded, or on their way since the generation before.")


class History(BaseModel):
    """Newest first."""

    entries: list[HistoryEntry]


class RollbackBody(bodies.Body):
    """Which generation to go back to."""

    generation: int = Field(ge=1, le=MAX_GENERATION)
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


@router.get("/v1/traffic-split/history", summary="Who changed what and when", responses=errors(400, 404, 422, 503))
async def read_history(
    parts: Parts,
    environment: AskedEnvironment,
    limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 20,
    before: Annotated[int | None, Query(ge=1, le=MAX_GENERATION, description="Only older generations.")] = None,
) -> History:
    """Generations of the routing, newest first. With an environment, only its content is told."""
    if environment is not None:
        environment = find_environment(known_routing(parts), environment).name
    # One more, for the last one to be compared with.
    found = await parts.follower.ask(parts.follower.store.history, limit + 1, before)
    pairs = list(zip_longest(found, found[1:]))[:limit]
    entries: list[HistoryEntry] = []
    for start in range(0, len(pairs), _SLICE):
        entries += [_describe(entry, older, environment) for entry, older in pairs[start : start + _SLICE]]
        await asyncio.sleep(0)
    return History(entries=entries)


@router.post(
    "/v1/traffic-split/rollback",
    summary="Go back to an earlier generation",
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def roll_back(
    changer: Changer,
    response: Response,
    environment: EnvironmentHeader,
    body: Annotated[RollbackBody, Body(examples=[{"generation": 7, "why": "v2 is worse"}])],
) -> Split:
    """Make a new generation with what an earlier one says of all environments. `X-Environment` picks what is told."""
    old = await _find(changer.parts, body.generation)
    entry = await changer.change(lambda state, versions: rolled_back(state, old, versions), Action.ROLLBACK, body.why)
    return answer_change(entry, environment, response)


async def _find(parts: WorkerParts, generation: int) -> RoutingState:
    entry = await parts.follower.ask(parts.follower.store.entry, generation)
    if entry is None:
        message = f"generation {generation} is not in the history"
        raise Problem("unknown_generation", message, {"generation": generation})
    return entry.state


def _describe(entry: Entry, older: Entry | None, environment: str | None) -> HistoryEntry:
    now = _contents(entry.state, environment)
    changed = versions = None
    if older is not None:
        changed = _changed(_contents(older.state, environment), now)
        versions = _loaded_otherwise(older.state, entry.state)
    return HistoryEntry(
        generation=entry.generation,
        at=iso(entry.at),
        by=entry.by,
        action=entry.action,
        why=entry.why,
        environments=now,
        changed=changed,
        versions=versions,
    )


def _contents(state: RoutingState, environment: str | None) -> dict[str, EnvironmentContent]:
    return {
        name: content_of(value)
        for name, value in state.environments.items()
        if environment is None or name == environment
    }


def _changed(old: dict[str, EnvironmentContent], new: dict[str, EnvironmentContent]) -> dict[str, dict[str, Change]]:
    """What is different, by environment; an environment that is new, or gone, is not compared."""
    changed: dict[str, dict[str, Change]] = {}
    for name in old.keys() & new.keys():
        before, after = old[name].model_dump(exclude={"shares"}), new[name].model_dump(exclude={"shares"})
        fields = {
            field: Change(before=before[field], after=after[field]) for field in after if before[field] != after[field]
        }
        if fields:
            changed[name] = fields
    return changed


def _loaded_otherwise(old: RoutingState, new: RoutingState) -> list[str]:
    loads = [{**state.loads, **{f"{name} ": load for name, load in state.candidates.items()}} for state in (old, new)]
    return sorted(
        {name.strip() for name in loads[0].keys() | loads[1].keys() if loads[0].get(name) != loads[1].get(name)}
    )
