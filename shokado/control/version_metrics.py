"""Metrics: of all versions for Prometheus, and of one version for people and programs that have no Prometheus."""

import asyncio
import contextlib
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from configuration.settings import Placement, Settings
from runners.inputs.wording import legible
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.dialects.problem import Problem
from shokado.experiments.figures import VersionFigures, figures
from shokado.experiments.row_levels import levels_of
from shokado.experiments.segment_figures import SegmentReport, segment_report
from shokado.monitoring.metrics.folder import exposition
from shokado.monitoring.statistics import MAX_WINDOW_S, VersionStatistics
from shokado.stores.store import StoreUnavailable
from shokado.worker.parts import WorkerParts
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
    segments: SegmentReport | None = Field(
        default=None,
        description="How well it predicts on each level of the feature that `by` names, over that window and the rest "
        "of the hour that it begins in; null without `by`.",
    )


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
    by: Annotated[str | None, Query(max_length=200, description="A feature of `segments.features`.")] = None,
    limit: Annotated[
        float, Query(gt=0, allow_inf_nan=False, description="Up to which difference levels are said to be alike.")
    ] = 0.1,
) -> VersionMetrics:
    """Since the server started, and over a recent window, whose real length is told: over all workers of this server.

    Percentiles are interpolated within the buckets of the histograms at `/metrics`.
    """
    name = known_versions(parts).resolve(version)
    since = parts.clock() - settings.feedback.window_hours * 3600
    segments = await _segments(parts, settings, name, by, since, limit) if by is not None else None
    found = await parts.timeline.statistics.of(name, window_s)
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
        segments=segments,
        since_start=found.since_start,
        recent=found.recent,
        processes=found.processes,
        machine=found.machine,
    )


async def _segments(
    parts: WorkerParts, settings: Settings, version: str, by: str, since: float, limit: float
) -> SegmentReport:
    """Raises `Problem` (422) for a feature that is not set up, and `StoreUnavailable`."""
    features = settings.segments.features
    if by not in features:
        known = f"segments.features has {', '.join(features)}" if features else "segments.features is empty"
        message = f"figures are not told apart by {legible(by)!r}: {known}; name it there and start the server again"
        raise Problem("unknown_segment", message, {"known": list(features)})
    artefact = parts.fleet.artefacts.get(version)
    if artefact is None:
        raise Problem("unknown_segment", f"version {version} is not in memory, so its levels of {by!r} are not known")
    levels = levels_of(settings.segments, artefact.card, by)
    if levels is None:
        message = (
            f"version {version} has no levels of {by!r}: in segments.features, a number needs cuts or levels, and what "
            "comes with feedback levels"
        )
        raise Problem("unknown_segment", message, {"known": list(features)})
    sums = await parts.follower.ask(parts.follower.store.level_sums, version, levels.key, since)
    return await asyncio.to_thread(segment_report, artefact.card, levels, sums, limit)
