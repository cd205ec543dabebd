"""The preview of a change of the split: who would move. In: a change, and units. Out: counts, shares, and some names.

It goes by `shokado.dispatch` alone, so that it tells what would happen, and changes nothing. `recent_preview` does the
same with the requests of the last minutes.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from configuration.settings import Strategy
from runners.version_state import VersionState
from shokado.control.dependencies import Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import EnvironmentHeader, agreed_environment
from shokado.control.split import SplitBody
from shokado.dialects.head import MAX_UNIT_CHARACTERS
from shokado.dispatch.assignment import assign
from shokado.dispatch.change import KnownVersions, find_environment, with_split
from shokado.dispatch.state import Environment
from shokado.worker.parts import WorkerParts, known_routing
from shokado.worker.readiness import known_versions

SAMPLE_UNITS = 1000
"""Made-up units, where none are given: a share of them is then known to 3 % at worst (two standard errors)."""

router = APIRouter(tags=["split"], route_class=bodies.StrictRoute)

Unit = Annotated[str, Field(min_length=1, max_length=MAX_UNIT_CHARACTERS)]


class PreviewBody(SplitBody):
    """A change as `POST /v1/traffic-split` takes it, and who is asked about."""

    max_examples: int = Field(default=5, ge=0, description="Units that are named of each way of moving.")
    units: list[Unit] | None = Field(
        default=None, min_length=1, description=f"As `X-Unit-ID` names them; without any, {SAMPLE_UNITS} are made up."
    )


class Move(BaseModel):
    """Units that would get another version."""

    before: str
    after: str
    units: int
    share: float = Field(description="Part of the units that were looked at.")
    examples: list[str] = Field(description="At most `max_examples` of them.")


class Preview(BaseModel):
    """What a change would do."""

    environment: str
    generation: int = Field(description="That it was compared with.")
    shares_before: dict[str, float]
    shares_after: dict[str, float]
    units: int = Field(description="That were looked at.")
    made_up: bool = Field(description="Whether the units are a sample of made-up ones.")
    moved: int | None = Field(
        description="How many would get another version; null where a unit does not decide, before or after, since "
        "each request is drawn by the shares then."
    )
    moves: list[Move]
    stay: dict[str, int] | None = Field(description="How many would stay with each version; null like `moved`.")


_EXAMPLES: Any = {
    "of a sample": {"value": {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"}},
    "of given units": {"value": {"weights": {"v1": 50, "v2": 50}, "units": ["user-17", "user-18"]}},
}


@router.post(
    "/v1/traffic-split/preview",
    summary="Who would move if the split were changed",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def preview(
    parts: Parts, environment: EnvironmentHeader, body: Annotated[PreviewBody, Body(openapi_examples=_EXAMPLES)]
) -> Preview:
    """The change is checked as it would be, but for versions that are not ready; nothing is changed."""
    before, after = before_and_after(parts, environment, body)
    units = body.units or [f"unit-{number}" for number in range(1, SAMPLE_UNITS + 1)]
    # Hashes of many units and versions take a while.
    moves, stay = await asyncio.to_thread(moves_of, before, after, units, body.max_examples)
    decided = is_decided(before) and is_decided(after)
    return Preview(
        environment=before.name,
        generation=parts.dispatcher.state.generation,
        shares_before=before.traffic,
        shares_after=after.traffic,
        units=len(units),
        made_up=body.units is None,
        moved=sum(move.units for move in moves) if decided else None,
        moves=moves if decided else [],
        stay=stay if decided else None,
    )


def before_and_after(parts: WorkerParts, header: str | None, body: SplitBody) -> tuple[Environment, Environment]:
    """The environment as it is, and as it would be. Raises what a change raises."""
    state, known = known_routing(parts), known_versions(parts)
    before = find_environment(state, agreed_environment(body.environment, header))
    allowing = KnownVersions(dict.fromkeys(known.states, VersionState.READY), known.aliases)
    return before, with_split(state, before.name, body.change, allowing).environments[before.name]


def moves_of(
    before: Environment, after: Environment, units: Sequence[str], max_examples: int
) -> tuple[list[Move], dict[str, int]]:
    """The ways that units move, most frequent first, and how many stay with each version."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for unit in units:
        way = assign(before, 0.0, unit).version, assign(after, 0.0, unit).version
        counts[way] += 1
        if len(examples[way]) < max_examples:
            examples[way].append(unit)
    moves = [
        Move(before=way[0], after=way[1], units=count, share=count / len(units), examples=examples[way])
        for way, count in counts.most_common()
        if way[0] != way[1]
    ]
    return moves, {version: count for (version, other), count in sorted(counts.items()) if version == other}


def is_decided(environment: Environment) -> bool:
    """Whether who asks says which version answers."""
    return not environment.enabled or environment.strategy is Strategy.HASH or len(environment.shares) == 1
