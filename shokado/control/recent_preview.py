"""The preview of a change by recent traffic: which part of the requests of the last minutes would get another version.

In: a change, and samples of what all workers of this server have answered. Out: shares of the requests, not of the
units: whoever asks a hundred times as often as others counts a hundred times.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from configuration.settings import Strategy
from shokado.control.dependencies import Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import EnvironmentHeader
from shokado.control.split import SplitBody
from shokado.control.split_preview import before_and_after, is_decided
from shokado.dialects.problem import Problem
from shokado.dispatch.state import Environment
from shokado.experiments.proportions import wilson
from shokado.monitoring.process_identity import machine_seconds
from shokado.monitoring.recent_units import DecidedBy, RecentRequests

router = APIRouter(tags=["split"], route_class=bodies.StrictRoute)

Shares = dict[str, float]
"""Parts of the requests, by version."""


class RecentMove(BaseModel):
    """Requests that would get another version."""

    before: str
    after: str
    share: float = Field(description="Part of the requests.")
    units: int = Field(description="Different units of these requests, in the sample.")


class MovedShare(BaseModel):
    """Which part of the requests would get another version."""

    value: float
    low: float = Field(description="With `high`, the interval that has the true part in 95 of 100 samples.")
    high: float


class RecentPreview(BaseModel):
    """What a change would have done to the requests of the last minutes."""

    environment: str
    generation: int = Field(description="That it was compared with.")
    shares_before: Shares
    shares_after: Shares
    seconds: float = Field(description="How far back the requests reach that were looked at.")
    requests: int = Field(description="Answered in the environment in that time, by all workers of this server.")
    sampled: int = Field(description="Requests that were drawn of them.")
    units: int = Field(description="Different units in the sample.")
    workers: int = Field(description="That answered any.")
    pinned: float = Field(description="Part of the requests that named a version, which no change moves.")
    dealt_anew: bool = Field(
        description="The change is one of the salt, which deals all units out anew: who moves is an example of it."
    )
    traffic_before: Shares = Field(description="Part of the requests that each version gets by the split as it is.")
    traffic_after: Shares = Field(description="Part of them that it would get.")
    moved: MovedShare | None = Field(
        description="Null where nothing was answered, or a unit does not decide, before or after: then each request is "
        "drawn by the shares."
    )
    moves: list[RecentMove] = Field(description="Most frequent first.")


_EXAMPLES: Any = {"more for v2": {"value": {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"}}}


@router.post(
    "/v1/traffic-split/preview/recent",
    summary="What a change of the split would move of recent traffic",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def preview_recent(
    parts: Parts, environment: EnvironmentHeader, body: Annotated[SplitBody, Body(openapi_examples=_EXAMPLES)]
) -> RecentPreview:
    """The change is checked like that of a preview, and nothing is changed.

    It goes by a sample of the requests of the last five to ten minutes, in which units are hashes.
    """
    before, after = before_and_after(parts, environment, body)
    assert parts.recent_units is not None, "every worker samples"
    try:
        drawn = await parts.recent_units.recent(before)
    except OSError as error:
        raise Problem("not_ready", f"what was asked lately cannot be read: {error.strerror or error}") from None
    return await asyncio.to_thread(preview_of, before, after, drawn, parts.dispatcher.state.generation)


def preview_of(
    before: Environment, after: Environment, drawn: Sequence[Sequence[RecentRequests]], generation: int
) -> RecentPreview:
    """What the change does to the requests that were drawn; of each worker, one sample or more."""
    samples = [sample for of_worker in drawn for sample in of_worker]
    counted = _Counted(before, after)
    for sample in samples:
        counted.add(sample)
    decided = is_decided(before) and is_decided(after) and counted.total > 0
    return RecentPreview(
        environment=before.name,
        generation=generation,
        shares_before=before.traffic,
        shares_after=after.traffic,
        seconds=round(machine_seconds() - min(sample.begun_at for sample in samples), 1) if samples else 0.0,
        requests=sum(sample.answered for sample in samples),
        sampled=sum(len(sample.decided) for sample in samples),
        units=len({number for sample in samples for number in sample.units.tolist()}),
        workers=len(drawn),
        pinned=counted.share(counted.pinned),
        dealt_anew=before.salt != after.salt,
        traffic_before=counted.traffic(0),
        traffic_after=counted.traffic(1),
        moved=counted.moved() if decided else None,
        moves=counted.moves() if decided else [],
    )


class _Counted:
    """Requests by the version that they get before and after, each with its weight: how many it was drawn of."""

    def __init__(self, before: Environment, after: Environment) -> None:
        self.total = self.pinned = self._squares = 0.0
        self._active = before.active, after.active
        anew = before.salt != after.salt
        self._inside = _dealing(before), _dealing(after, anew=anew)
        self._outside = _dealing(before, outside=True), _dealing(after, anew=anew, outside=True)
        self._weights: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._units: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

    def add(self, sample: RecentRequests) -> None:
        weight = sample.answered / len(sample.decided)
        for number, decided in zip(sample.units.tolist(), sample.decided, strict=True):
            self.total += weight
            self._squares += weight**2
            if decided == DecidedBy.CLIENT:
                self.pinned += weight
                continue
            for way, part in self._ways(number, decided):
                self._weights[way] += part * weight
                self._units[way].add(number)

    def share(self, weight: float) -> float:
        """Part of all requests."""
        return weight / self.total if self.total else 0.0

    def traffic(self, side: int) -> Shares:
        """What each version gets of the requests that name none, before (0) and after (1)."""
        found: defaultdict[str, float] = defaultdict(float)
        for way, weight in self._weights.items():
            found[way[side]] += weight
        return {version: self.share(weight) for version, weight in sorted(found.items())}

    def moves(self) -> list[RecentMove]:
        moving = [(weight, way) for way, weight in self._weights.items() if way[0] != way[1]]
        return [
            RecentMove(before=way[0], after=way[1], share=self.share(weight), units=len(self._units[way]))
            for weight, way in sorted(moving, reverse=True)
        ]

    def moved(self) -> MovedShare:
        """The part that moves, with the interval of as many requests of equal weight as tell as much.

        Their number is that of L. Kish, Survey Sampling, 1965.
        """
        value = min(sum(move.share for move in self.moves()), 1.0)
        low, high = wilson(value, max(1, math.floor(self.total**2 / self._squares)))
        return MovedShare(value=value, low=low, high=high)

    def _ways(self, number: int, decided: int) -> Iterator[tuple[tuple[str, str], float]]:
        """The versions that a unit gets before and after, and with which probability."""
        if decided == DecidedBy.ROUTE:
            yield self._active, 1.0
            return
        before, after = self._outside if decided == DecidedBy.LAYER else self._inside
        for first, one in before(number).items():
            for second, other in after(number).items():
                yield (first, second), one * other


def _dealing(
    environment: Environment, *, anew: bool = False, outside: bool = False
) -> Callable[[int], Mapping[str, float]]:
    """Which versions a unit gets with which probability; `outside` of the layer, where there is one."""
    if not environment.enabled or environment.strategy is not Strategy.HASH:
        everybody = environment.traffic
        return lambda _: everybody
    if outside and environment.layer is not None and environment.layer.outside is not None:
        its = {environment.layer.outside: 1.0}
        return lambda _: its
    rendezvous = environment.rendezvous
    if anew:
        # What the unit is called is not known any more; by another salt, any other name is as good.
        return lambda number: {rendezvous.version_of(f"{number:016x}"): 1.0}
    return lambda number: {rendezvous.version_of_number(number): 1.0}
