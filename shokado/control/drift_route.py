"""Drift: whether what a version is asked, and what it answers, is still like what it was made of."""

from typing import Annotated

from fastapi import APIRouter, Query

from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.drift.version_drift import DriftWindow, VersionDrift, nothing_of
from shokado.worker.readiness import known_versions

router = APIRouter(tags=["metrics"])
_OFF = "drift.enabled is false"


@router.get("/v1/drift/{version}", summary="How far rows and scores have drifted", responses=errors(404, 422, 503))
async def read_drift(
    parts: Parts,
    settings: Configuration,
    version: str,
    window: Annotated[DriftWindow, Query(description="How far back is looked.")] = DriftWindow.HOUR,
) -> VersionDrift:
    """Each feature and score beside the version's reference: distances with their intervals, and shares.

    It is of all workers of all machines that share the store, as they last added to it.
    """
    name = known_versions(parts).resolve(version)
    if parts.drift is None:
        return nothing_of(name, _OFF, window, settings.drift)
    return await parts.drift.told(name, window)
