"""The last rows of the request log, for who looks at what is going on."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from shokado.control.dependencies import Configuration, Parts
from shokado.control.http.errors import errors
from shokado.dialects.problem import Problem
from shokado.request_log.last_rows import FoundRows
from shokado.request_log.logged_rows import LoggedRow

MAX_ROWS = 500
"""Rows of one answer."""

router = APIRouter(tags=["experiments"])


class AnsweredRow(BaseModel):
    """One row that was answered."""

    time: str = Field(description="When it was answered: ISO 8601, UTC.")
    request_id: str
    prediction_id: str
    row: int = Field(description="Its position in the request.")
    unit: str | None = Field(description="As it was recorded; null where values are not told.")
    version: str
    environment: str
    generation: int
    reason: str
    propensity: float | None = Field(
        description="The chance with which the version was given the request; null where it was not dealt out."
    )
    latency_ms: float
    feature_names: list[str]
    features: dict[str, Any] | None = Field(
        description="Values by name: null where one was missing or is dropped, a hash where it is hashed. Null where "
        "values are not told."
    )
    scores: dict[str, float]
    prediction: int | str | None = Field(description="The class that was answered; null for values.")


class LastAnsweredRows(BaseModel):
    """The last rows that all workers of this machine have recorded."""

    share: float = Field(description="Part of the requests that is recorded; 0: none.")
    values_told: bool = Field(description="Whether log.show_values is set.")
    rows: list[AnsweredRow] = Field(description="Newest first; of a request with more than `limit` rows, the first.")
    damaged: list[str] = Field(description="Files that could not be read, and so may lack here.")


@router.get("/v1/log", summary="The last rows that were recorded", responses=errors(422, 503))
async def read_last_rows(
    parts: Parts, settings: Configuration, limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50
) -> LastAnsweredRows:
    """The rows of this machine are told as they are written, up to `log.flush_s` after they were answered."""
    found = FoundRows([], [])
    if parts.last_rows is not None:
        try:
            found = await parts.last_rows.find(limit)
        except OSError as error:
            raise Problem("log_unreadable", f"the request log cannot be read: {error.strerror or error}") from None
    told = settings.log.show_values
    return LastAnsweredRows(
        share=settings.log.share,
        values_told=told,
        rows=[_described(row, told=told) for row in found.rows],
        damaged=found.damaged,
    )


def _described(row: LoggedRow, *, told: bool) -> AnsweredRow:
    return AnsweredRow(
        time=datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds"),
        request_id=row.request_id,
        prediction_id=row.prediction_id,
        row=row.index,
        unit=row.unit if told else None,
        version=row.version,
        environment=row.environment,
        generation=row.generation,
        reason=row.reason,
        propensity=row.propensity,
        latency_ms=row.latency_ms,
        feature_names=list(row.features),
        features=row.features if told else None,
        scores=row.scores,
        prediction=row.label,
    )
