"""The data of the dashboard, `GET /v1/dashboard`: all versions of this server in one answer, once a second.

In: the timeline that this worker keeps of all workers of the server. Out: the latest figures, and the points since the
one that the client has seen last, as columns. What changes seldom (signatures, the split, the history) has routes of
its own, which the page asks when the generation or a state here is another one.
"""

import asyncio
import socket
from collections.abc import Sequence
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from configuration.settings import Settings
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.control.model_form import ModelForm, form_of
from shokado.monitoring.metrics.metric_registry import NO_VERSION
from shokado.monitoring.statistics import Figures, Process
from shokado.monitoring.timeline import Moment, VersionPoint
from shokado.worker.parts import WorkerParts
from shokado.worker.readiness import why_not_ready

router = APIRouter(tags=["metrics"])


class VersionSeries(BaseModel):
    """A version at each time; null where nothing was measured."""

    request_rate_per_s: list[float]
    error_rates_per_s: dict[str, list[float]] = Field(description="By kind.")
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    p99_ms: list[float | None]
    batch_rows: list[float | None] = Field(description="Mean.")
    queue_wait_ms: list[float | None] = Field(description="95th percentile.")
    score: list[float | None] = Field(description="Mean.")
    engine_utilization: list[float] = Field(description="Engine seconds per second, over all workers.")


class ProcessSeries(BaseModel):
    """A worker process at each time; null where it was not there."""

    memory_bytes: list[int | None]
    cpu_utilization: list[float | None]


class Series(BaseModel):
    """Points of the last minutes. The last one is of now; each of those before is of the 5 s up to its time."""

    at: list[float] = Field(description="Unix seconds, ascending.")
    versions: dict[str, VersionSeries]
    other_error_rates_per_s: dict[str, list[float]] = Field(
        description="By kind, of requests that were refused before a version was assigned, or by the client's fault."
    )
    processes: dict[str, ProcessSeries] = Field(description="By process id.")


class VersionNow(BaseModel):
    """A version as it is now."""

    version: str
    state: str
    failure: str | None
    figures: Figures | None = Field(description="Of the last minute; null when nothing was ever counted.")


class Dashboard(BaseModel):
    """All versions of this server at one moment."""

    server: str = Field(description="Which server these figures are of: all of its workers.")
    model: str
    at: float = Field(description="Unix seconds.")
    generation: int
    not_ready: str | None = Field(description="Why the server cannot answer.")
    window_s: float = Field(description="Real length of the figures' window.")
    keys: bool = Field(description="Whether the server asks for keys.")
    offers: list[str] = Field(description="What not every server has: `drift`, `explanations`, `log`.")
    versions: list[VersionNow]
    processes: list[Process]
    series: Series
    form: ModelForm | None = Field(description="Where all points were asked for.")


@router.get(
    "/v1/dashboard",
    summary="All versions at one moment, and their last minutes",
    responses=errors(422, 503),
    response_model=Dashboard,
)
async def read_dashboard(
    parts: Parts,
    settings: Configuration,
    after: Annotated[
        float | None,
        Query(allow_inf_nan=False, description="Unix seconds of the newest point that is known; without it, all come."),
    ] = None,
) -> Response:
    """What `/dashboard` shows: rates, latencies, errors, batches, scores and workers, of all workers of this server."""
    look = await parts.timeline.look()
    offset = parts.clock() - parts.timeline.statistics.now()
    moments = parts.timeline.after(after - offset if after is not None else -inf)
    moments.append(look.moment)
    reports = parts.fleet.versions()
    dashboard = Dashboard(
        server=f"{socket.gethostname()}-{parts.metrics_folder.name.split('-')[-2]}",
        model=settings.model,
        at=parts.clock(),
        generation=parts.dispatcher.state.generation,
        not_ready=why_not_ready(parts),
        window_s=look.seconds,
        keys=settings.access.keys_file is not None,
        offers=_offers(parts, settings),
        versions=[
            VersionNow(version=name, state=found.state, failure=found.failure, figures=look.figures.get(name))
            for name, found in reports.items()
        ],
        processes=look.processes,
        series=series_of([], [], 0.0),
        form=None,
    )
    body = await asyncio.to_thread(_encoded, dashboard, moments, offset, parts, whole=after is None)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def _offers(parts: WorkerParts, settings: Settings) -> list[str]:
    found = {
        "drift": parts.drift is not None,
        "explanations": settings.explanations.share > 0,
        "log": settings.log.share > 0,
    }
    return [name for name, offered in found.items() if offered]


def _encoded(dashboard: Dashboard, moments: Sequence[Moment], offset: float, parts: WorkerParts, *, whole: bool) -> str:
    """The answer's body; in a thread, as many points take a while."""
    series = series_of(moments, [version.version for version in dashboard.versions], offset)
    form = form_of(parts) if whole else None
    return dashboard.model_copy(update={"series": series, "form": form}).model_dump_json()


def series_of(moments: Sequence[Moment], versions: Sequence[str], offset: float) -> Series:
    """The moments as columns, for these versions; `offset` makes Unix seconds of their times."""
    pids = sorted({pid for moment in moments for pid in moment.processes})
    return Series(
        at=[round(moment.at + offset, 3) for moment in moments],
        versions={
            version: _version_series([moment.versions.get(version) for moment in moments]) for version in versions
        },
        other_error_rates_per_s=_error_rates([moment.versions.get(NO_VERSION) for moment in moments]),
        processes={
            str(pid): ProcessSeries(
                memory_bytes=[_of(moment.processes.get(pid), "memory_bytes") for moment in moments],
                cpu_utilization=[_of(moment.processes.get(pid), "cpu_utilization") for moment in moments],
            )
            for pid in pids
        },
    )


def _version_series(points: Sequence[VersionPoint | None]) -> VersionSeries:
    measured = ("p50_ms", "p95_ms", "p99_ms", "batch_rows", "queue_wait_ms", "score")
    columns: dict[str, Any] = {name: [_of(point, name) for point in points] for name in measured}
    return VersionSeries(
        request_rate_per_s=[point.request_rate if point is not None else 0.0 for point in points],
        error_rates_per_s=_error_rates(points),
        engine_utilization=[point.utilization if point is not None else 0.0 for point in points],
        **columns,
    )


def _error_rates(points: Sequence[VersionPoint | None]) -> dict[str, list[float]]:
    kinds = sorted({kind for point in points if point is not None for kind in point.error_rates})
    return {
        kind: [point.error_rates.get(kind, 0.0) if point is not None else 0.0 for point in points] for kind in kinds
    }


def _of(point: object, name: str) -> Any:
    return getattr(point, name) if point is not None else None
