"""How the versions of an environment did over time: the figures of the A/B test as curves with their intervals."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.control.http.headers import AskedEnvironment
from shokado.dispatch.change import find_environment
from shokado.experiments.quality_over_time import Pieces, QualityOverTime, quality_over_time
from shokado.worker.parts import known_routing

MAX_POINTS = 500
"""Points of a curve: more cannot be told apart on a screen."""

router = APIRouter(tags=["experiments"])


class Quality(BaseModel):
    """How the versions of an environment did, of all workers of all machines, in pieces of time of equal length."""

    environment: str
    length_s: int = Field(description="Of each piece of time.")
    at: list[int] = Field(description="When each piece ends, in Unix seconds, ascending; the last one goes on.")
    so_far: bool = Field(description="Whether each figure is of its piece and all before it.")
    versions: dict[str, QualityOverTime] = Field(
        description="Feedback counts when it arrives. Null where nothing was observed."
    )


@router.get("/ab-test/quality", summary="How the versions did over time", responses=errors(400, 404, 422, 503))
async def read_quality(
    parts: Parts,
    settings: Configuration,
    environment: AskedEnvironment,
    hours: Annotated[
        float | None,
        Query(gt=0, allow_inf_nan=False, description="How far back; at most, and by default, `feedback.window_hours`."),
    ] = None,
    points: Annotated[int, Query(ge=1, le=MAX_POINTS, description="About so many pieces, each of whole minutes.")] = 48,
    *,
    so_far: Annotated[
        bool, Query(description="Figures of all since the beginning, in place of those of each piece alone.")
    ] = False,
) -> Quality:
    """Accuracy, conversion, squared error and errors of each version as curves, with the interval of each point."""
    found = find_environment(known_routing(parts), environment)
    window_hours = settings.feedback.window_hours
    pieces = Pieces.until(parts.clock(), min(hours or window_hours, window_hours), points)
    tallies = await parts.follower.ask(parts.tally_sums.pieces_since, pieces.begin, pieces.length_s)
    versions = sorted({*found.weights, *found.named})
    # Takes a while for many minutes.
    told = await asyncio.to_thread(quality_over_time, tallies, found.name, versions, pieces, so_far=so_far)
    return Quality(environment=found.name, length_s=pieces.length_s, at=pieces.ends, so_far=so_far, versions=told)
