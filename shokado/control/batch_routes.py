"""Batches: tables are scored beside the server, where that is allowed; started, looked at, and cancelled."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from configuration.settings import Settings
from shokado.batches.allowed_addresses import AddressRefused, allowed
from shokado.batches.batch_jobs import AskedBatch, BatchJob, BatchJobs, CannotStart, TooManyBatches
from shokado.batches.batch_report import BatchState
from shokado.control.changing import MAX_WHY_CHARACTERS
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import Actor
from shokado.control.split import describe, iso
from shokado.dialects.problem import Problem, invalid
from shokado.worker.parts import WorkerParts, known_routing

MAX_ADDRESS_CHARACTERS = 1024
MAX_KEPT_COLUMNS = 100

router = APIRouter(tags=["batches"], route_class=bodies.StrictRoute)
Result = TypeVar("Result")
Column = Annotated[str, Field(min_length=1, max_length=256)]


class NewBatch(bodies.Body):
    """What to score, and by what: a `version`, or with `split` each row by the traffic split as it is now."""

    input: str = Field(min_length=1, max_length=MAX_ADDRESS_CHARACTERS, description="A table, or a folder of tables.")
    output: str = Field(
        min_length=1, max_length=MAX_ADDRESS_CHARACTERS, description="A folder that is empty, or of the same batch."
    )
    version: str | None = None
    split: bool = False
    environment: str | None = Field(default=None, description="Whose split it is; by default the default one.")
    unit: Column | None = Field(default=None, description="With `split`: the column of units, as `X-Unit-ID` has them.")
    keep: list[Column] = Field(default=[], max_length=MAX_KEPT_COLUMNS, description="Columns that are carried over.")


class CancelBody(bodies.Body):
    """Why a batch is cancelled."""

    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


class BatchNow(BaseModel):
    """A batch as it is now."""

    id: str
    state: BatchState
    error: str | None = Field(description="Why it failed.")
    rows: int = Field(description="Of the input; 0 while it is planned.")
    done: int = Field(description="Rows that are in the output.")
    scored: dict[str, int] = Field(description="Of these the ones with scores, by version.")
    rejected: dict[str, int] = Field(description="The others, by the code of why.")
    rows_per_s: float | None
    input: str
    output: str
    version: str | None = Field(description="Null: the split says.")
    environment: str | None
    unit: str | None
    keep: list[str]
    by: str
    started_at: str = Field(description="ISO 8601, UTC.")


class BatchList(BaseModel):
    """The batches of this machine."""

    batches: list[BatchNow] = Field(description="The newest first.")


_EXAMPLES: Any = {
    "by a version": {"value": {"input": "/data/customers.parquet", "output": "/data/scored", "version": "v2"}},
    "by the split": {
        "value": {"input": "s3://bucket/rows", "output": "s3://bucket/scored", "split": True, "unit": "user"}
    },
}


@router.post("/v1/batches", status_code=202, summary="Score a table", responses=errors(404, 409, 503, *BODY_ERRORS))
async def start_batch(
    parts: Parts, settings: Configuration, actor: Actor, body: Annotated[NewBatch, Body(openapi_examples=_EXAMPLES)]
) -> BatchNow:
    """A process beside the server begins with it, and goes on whatever becomes of the server. It is of this machine."""
    jobs = _jobs(parts)
    if body.split == (body.version is not None):
        raise invalid("invalid", "a batch is scored by a `version` or by the `split`: name one of the two")
    if not body.split and (body.unit is not None or body.environment is not None):
        raise invalid("invalid", "`unit` and `environment` go with `split`")
    version, split = None, None
    if body.version is not None:
        version = _stored(parts, settings, parts.dispatcher.resolve(body.version))
    else:
        known_routing(parts)
        entry = parts.follower.entry
        assert entry is not None, "a known routing comes from an entry"
        split = describe(entry, body.environment).model_dump_json(by_alias=True).encode()
    try:
        addresses = allowed(body.input, settings.batches.input), allowed(body.output, settings.batches.output)
    except AddressRefused as error:
        raise invalid("address_not_allowed", str(error)) from None
    order = AskedBatch(
        settings.model, *addresses, version, body.environment, body.unit, body.keep, actor, parts.clock()
    )
    try:
        return _described(await _asked(jobs.start, order, split))
    except TooManyBatches:
        limit = settings.batches.max_running
        raise Problem("too_many_batches", f"{limit} run already, as many as batches.max_running allows") from None
    except CannotStart as error:
        raise Problem("batches_off", str(error)) from None


@router.get("/v1/batches", summary="All batches", responses=errors(409, 503))
async def read_batches(parts: Parts) -> BatchList:
    """Those of this machine that run, and the last ones that ended."""
    return BatchList(batches=[_described(job) for job in await _asked(_jobs(parts).all)])


@router.get("/v1/batches/{batch}", summary="A batch", responses=errors(404, 409, 422, 503))
async def read_batch(parts: Parts, batch: str) -> BatchNow:
    """How far it is."""
    return _described(await _find(_jobs(parts), batch))


@router.post("/v1/batches/{batch}/cancel", summary="Cancel a batch", responses=errors(404, 409, 503, *BODY_ERRORS))
async def cancel_batch(
    parts: Parts,
    batch: str,
    body: Annotated[CancelBody, Body(examples=[{"why": "of yesterday"}])],  # noqa: ARG001
) -> BatchNow:
    """End it. What was scored stays; the same batch, started again, goes on with it."""
    jobs = _jobs(parts)
    found = await _find(jobs, batch)
    await _asked(jobs.cancel, found.id)
    return _described(await _find(jobs, batch))


def _jobs(parts: WorkerParts) -> BatchJobs:
    """Raises `Problem` (409) where batches are off."""
    if parts.batches is None:
        raise Problem(
            "batches_off", "no address is allowed: batches.input and batches.output in serving.yaml name some"
        )
    return parts.batches


def _stored(parts: WorkerParts, settings: Settings, version: str) -> str:
    """The version, whose artefact has its name. Raises `Problem` (409) for one that another process cannot score."""
    runner = parts.dispatcher.runners.get(version)
    load = parts.dispatcher.state.loads.get(version)
    configured = settings.tag_of(version) if version in settings.versions else None
    tag = load.tag if load is not None else configured
    if tag != f"{settings.model}:{version}" or (runner is not None and runner.card.needs_python):
        raise Problem("batches_off", f"version {version} is not in the model store under its name, or is remote")
    return version


async def _find(jobs: BatchJobs, batch: str) -> BatchJob:
    found = await _asked(jobs.find, batch)
    if found is None:
        raise Problem("unknown_batch", f"there is no batch {batch[:100]!r} on this machine, or not any more")
    return found


async def _asked(what: Callable[..., Result], *arguments: object) -> Result:
    """What it gives, off the event loop. Raises `Problem` where the disk fails."""
    try:
        return await asyncio.to_thread(what, *arguments)
    except OSError as error:
        raise Problem("batches_off", f"the folder of batches cannot be used: {error.strerror or error}") from None


def _described(job: BatchJob) -> BatchNow:
    order, report = job.order, job.report
    said: Mapping[str, Any] = {
        name: getattr(report, name) for name in ("state", "error", "rows", "done", "scored", "rejected", "rows_per_s")
    }
    asked: Mapping[str, Any] = {
        name: getattr(order, name) for name in ("input", "output", "version", "environment", "unit", "keep", "by")
    }
    return BatchNow(id=job.id, started_at=iso(order.at), **said, **asked)
