"""Metrics: of all versions for Prometheus, and of one version for people and programs that have no Prometheus."""

import asyncio
import contextlib
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from configuration.settings import Placement
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.experiments.figures import VersionFigures, figures
from shokado.monitoring.metrics.folder import exposition
from shokado.monitoring.statistics import MAX_WINDOW_S, VersionStatistics
from shokado.stores.store import StoreUnavailable
from shokado.worker.readiness import known_versions

router = APIRouter(tags=["metrics"])


class VersionName(BaseModel):
    """What is told first."""

    version: str
    generation: int


class VersionMetrics(VersionStatistics, VersionName):
    """How one version is served by this server, and how well it predicts."""

    shared: bool = Field(description="True when the version runs in the workers, beside the other embedded ones.")
    quality: VersionFigures | None = Field(
        description="Of all environments and machines, over the window of feedback; null while the store is away."
    )
    quality_hours: float = Field(description="Length of that window.")


@router.get(
    "/metrics",
    summary="Prometheus metrics of all workers",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **errors(503)},
)
async def read_exposition(parts: Parts) -> Response:
    content_type, text = await asyncio.to_thread(exposition, parts.metrics_folder)
    return Response(text, headers={"content-type": content_type})


@router.get(
    "/v1/metrics/{version}", summary="Rates, latencies and quality of a version", responses=errors(404, 422, 503)
)
async def read_metrics(
    parts: Parts,
    settings: Configuration,
    version: str,
    window_s: Annotated[float, Query(ge=1, le=MAX_WINDOW_S, description="Of the recent figures.")] = 60,
) -> VersionMetrics:
    """Since the server started, and over a recent window, whose real length is told: over all workers of this server.

    Percentiles are interpolated within the buckets of the histograms at `/metrics`.
    """
    name = known_versions(parts).resolve(version)
    found = await parts.timeline.statistics.of(name, window_s)
    since = parts.clock() - settings.feedback.window_hours * 3600
    quality: VersionFigures | None = None
    with contextlib.suppress(StoreUnavailable):
        quality = figures(await parts.follower.ask(parts.tally_sums.since, since), name)
    runner = parts.dispatcher.runners.get(name)
    return VersionMetrics(
        version=name,
        generation=parts.dispatcher.state.generation,
        shared=runner is not None and runner.placement is Placement.EMBEDDED,
        quality=quality,
        quality_hours=settings.feedback.window_hours,
        since_start=found.since_start,
        recent=found.recent,
        processes=found.processes,
        machine=found.machine,
    )
