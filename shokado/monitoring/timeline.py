"""The last minutes of every version and process as a line of points, so that charts are filled when they are opened.

    snapshot every 5 s --(difference to the one before)--> point, kept for `KEPT_S`
    somebody looks ----(difference to 5 s ago, or a little more)--> one more point, which is not kept

What is kept is bounded: a point of a version is ten numbers. Whoever looks shares what was found with all who look in
the same moment, so that many viewers cost no more than one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from shokado.monitoring.statistics import EVERY_S, Figures, Process, Snapshot, Statistics, figures, processes_of

KEPT_S = 900.0
"""How far the line reaches back: 180 points, some 2 MB for twenty versions."""
WINDOW_S = 60.0
"""What the latest figures are of: long enough for percentiles and a distribution of scores."""
SHARED_S = 0.5
"""How long a look is good enough for the next one: as often do processes count."""
_TOLERANCE_S = 0.25
"""A window may be so much shorter than `EVERY_S`: timers are never exact."""

logger = logging.getLogger("bentoml.shokado")


class VersionPoint(NamedTuple):
    """What a version did in the seconds before a moment; None where nothing was measured."""

    request_rate: float
    """Answered requests per second."""
    error_rates: Mapping[str, float]
    """Errors per second by their kind; only those that there were."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    batch_rows: float | None
    """Mean."""
    queue_wait_ms: float | None
    """95th percentile."""
    score: float | None
    """Mean; None as well where a row has several scores."""
    utilization: float
    """Engine seconds per second."""


class ProcessPoint(NamedTuple):
    """What a process takes at a moment."""

    memory_bytes: int
    cpu_utilization: float
    """CPU seconds per second; since it started, if it is newer than the window."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All versions and processes at `at`, in the clock of `Statistics`."""

    at: float
    versions: Mapping[str, VersionPoint]
    processes: Mapping[int, ProcessPoint]


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody who looks now sees: the latest point, and figures of the last `WINDOW_S`."""

    moment: Moment
    seconds: float
    """Real length of the figures' window."""
    figures: Mapping[str, Figures]
    processes: list[Process]


class Timeline:
    """Make one per worker, over its statistics, whose snapshots it takes. Methods belong to the event loop."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self._last: Snapshot | None = None
        self._moments: deque[Moment] = deque(maxlen=ceil(KEPT_S / EVERY_S))
        self._looked_at: deque[Snapshot] = deque(maxlen=ceil(EVERY_S / SHARED_S) + 2)
        self._looking = asyncio.Lock()
        self._look: Look | None = None

    async def run(self) -> None:
        """Take snapshots until cancelled."""
        while True:
            try:
                await self.observe()
            except Exception:
                logger.exception("the metrics were not read")
            await asyncio.sleep(EVERY_S)

    async def observe(self) -> None:
        """Take one snapshot; from the second one on, it makes a point."""
        before, now = self._last, await self.statistics.observe()
        self._last = now
        if before is not None and now.at > before.at:
            self._moments.append(await asyncio.to_thread(moment_between, before, now))

    def after(self, at: float) -> list[Moment]:
        """The points that are kept and later than `at`."""
        return [moment for moment in self._moments if moment.at > at]

    async def look(self) -> Look:
        """What there is to be seen now; before the first snapshot, since the server started. Raises `OSError`."""
        async with self._looking:
            if self._look is None or self.statistics.now() >= self._look.moment.at + SHARED_S:
                self._look = await self._look_anew()
            return self._look

    async def _look_anew(self) -> Look:
        now = await self.statistics.take()
        recent = [shot for shot in self._looked_at if shot.at <= now.at - EVERY_S + _TOLERANCE_S]
        before = self.statistics.before(now.at - EVERY_S + _TOLERANCE_S, now)
        long_before = self.statistics.before(now.at - WINDOW_S, now)
        base = max([before, *recent], key=lambda shot: shot.at)
        self._looked_at.append(now)
        return await asyncio.to_thread(_look_between, long_before, base, now)


def moment_between(before: Snapshot, now: Snapshot) -> Moment:
    """The point of the time between two snapshots."""
    seconds, counted = now.at - before.at, now.since(before)
    return Moment(
        now.at,
        {version: _point(figures(counted, version, seconds)) for version in _versions(now)},
        {one.pid: ProcessPoint(one.memory_bytes, _short(one.cpu_utilization)) for one in processes_of(now, before)},
    )


def _look_between(long_before: Snapshot, before: Snapshot, now: Snapshot) -> Look:
    seconds, counted = now.at - long_before.at, now.since(long_before)
    found = {version: figures(counted, version, seconds) for version in _versions(now)}
    return Look(moment_between(before, now), seconds, found, processes_of(now, before))


def _versions(snapshot: Snapshot) -> list[str]:
    return sorted({version for _, version, _ in snapshot.values})


def _point(found: Figures) -> VersionPoint:
    return VersionPoint(
        request_rate=_short(found.request_rate_per_s),
        error_rates={kind: _short(count / found.seconds) for kind, count in found.errors_by_kind.items()},
        p50_ms=_measured(found.latency_ms.p50),
        p95_ms=_measured(found.latency_ms.p95),
        p99_ms=_measured(found.latency_ms.p99),
        batch_rows=_measured(found.batch_rows.mean),
        queue_wait_ms=_measured(found.queue_wait_ms.p95),
        score=_measured(found.predictions.mean),
        utilization=_short(found.engine_utilization),
    )


def _measured(number: float | None) -> float | None:
    return _short(number) if number is not None else None


def _short(number: float) -> float:
    """To four digits: more cannot be seen in a chart, and would be most of what is sent."""
    return float(f"{number:.4g}")
