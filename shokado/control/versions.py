"""The versions as this server has them: listed, loaded, unloaded, and made the active one."""

import re
from collections.abc import Sequence
from operator import not_
from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from runners.artefacts.card import Card, ModelFile, Source, Task
from runners.inputs.rows import RowReader
from runners.inputs.schema import Feature
from runners.inputs.union import UnionRows
from runners.version_state import VersionState
from shokado.control.changing import MAX_WHY_CHARACTERS, Changer, Forced
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import Actor, AskedEnvironment, EnvironmentHeader, agreed_environment
from shokado.control.split import Split, answer_change
from shokado.dispatch.change import SplitChange, find_environment, with_split
from shokado.stores.store import Action, StoreUnavailable, WorkerReport
from shokado.worker.parts import WorkerParts, known_routing
from shokado.worker.readiness import known_versions, why_not_ready

MAX_URI_CHARACTERS = 1024
"""More than an address of the registry has."""

router = APIRouter(tags=["versions"], route_class=bodies.StrictRoute)


class Signature(BaseModel):
    """What a version takes and gives."""

    task: Task
    features: list[Feature]
    classes: list[int | str]
    outputs: list[str] = Field(
        default=[], exclude_if=not_, description="What each of several values, or labels, a row is called, in order."
    )


class Quantization(BaseModel):
    """What the weights became, and how near the version is to the one that it was made of, its parent.

    Differences are of a probability, or of a value in its own unit; of several values in standard deviations of each.
    """

    method: str
    parent: str = Field(description="The parent's tag in the BentoML model store.")
    parent_digest: str
    size_bytes: int
    parent_size_bytes: int
    times_faster: float = Field(description="Where it was measured: the median over sizes of batches.")
    rows: int = Field(description="How many rows were compared.")
    rows_from: str
    same_labels: float | None = Field(description="Share of the rows with the parent's label; null for values.")
    mean_abs_difference: float
    max_abs_difference: float


class Loading(BaseModel):
    """An artefact that is being made ready, aside, to become the version."""

    state: str
    failure: str | None
    tag: str
    source: str


class Version(BaseModel):
    """One version as this worker has it. What the artefact would tell is null where this machine has none.

    `name` and `ready` are what KServe's protocol, version 1, says of a model.
    """

    version: str
    name: str = Field(description="The same as `version`.")
    ready: bool = Field(description="Whether this worker can answer with it.")
    state: str = Field(description=f"One of {', '.join(VersionState)}.")
    failure: str | None = Field(default=None, description="Why it failed or is away, when it does.")
    loading: Loading | None = Field(default=None, description="What is to take its place.")
    active_in: list[str] = Field(description="The environments whose active version it is.")
    weights: dict[str, float] = Field(description="Share of each environment's traffic, between 0 and 1.")
    shadow_in: list[str] = Field(description="The environments that it gets a copy of the traffic of.")
    aliases: list[str]
    digest: str | None = Field(default=None, description="Of the artefact: the same on every machine.")
    last_used_at: float | None = Field(default=None, description="Unix seconds; null if never by this worker.")
    engine: str | None = None
    placement: str | None = None
    address: str | None = Field(default=None, description="Of a remote version: what is asked of which server.")
    model: str | None = None
    source: Source | None = None
    size_bytes: int | None = None
    signature: Signature | None = None
    metrics: dict[str, float] | None = Field(default=None, description="Measured on held-out rows when it was trained.")
    max_abs_difference: dict[str, float] | None = Field(
        default=None, description="Per model file, from the framework's own scores."
    )
    quantized: Quantization | None = Field(default=None, description="Null where the weights are the framework's own.")
    reference: ModelFile | None = Field(
        default=None,
        description="The artefact's `reference.json`, which says what rows and scores were like; null without one.",
    )


class WorkerState(BaseModel):
    """A worker of any machine, by its last report."""

    worker: str
    machine: str
    pid: int
    generation: int = Field(description="That it routes by; all are the same when a change has arrived everywhere.")
    age_s: float = Field(description="Of the report.")
    versions: dict[str, str] = Field(description="The state of each version in this worker.")


class OptionalFeature(BaseModel):
    """A feature that not every version takes."""

    name: str
    versions: list[str] = Field(description="Those that take it, and refuse rows without it.")


class Versions(BaseModel):
    """All versions, the generation of the routing they were read at, and the workers that live."""

    generation: int
    optional_features: list[OptionalFeature] = Field(
        description="The features that not every version takes. A row may have all of them: each version reads its own."
    )
    versions: list[Version]
    workers: list[WorkerState] | None = Field(description="Null while the store, which knows them, is away.")


class LoadBody(bodies.Body):
    """Where to load a version from."""

    uri: str | None = Field(
        default=None,
        max_length=MAX_URI_CHARACTERS,
        description="`models:/name/3` or `models:/name@alias` of the MLflow registry, or a tag `name:version` of the "
        "BentoML model store. Without one, a version that was unloaded is brought back.",
    )
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


class LoadByUriBody(bodies.Body):
    """What to load, and as which version."""

    uri: str = Field(
        max_length=MAX_URI_CHARACTERS,
        description="`models:/name/3` or `models:/name@alias` of the MLflow registry, or a tag `name:version` of the "
        "BentoML model store.",
    )
    version: str | None = Field(
        default=None,
        description="The version's name. Without one, the address says it: `v3`, `alias`, `version` above.",
    )
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


class UnloadBody(bodies.Body):
    """Why a version is unloaded."""

    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


class ActivateBody(bodies.Body):
    """Where a version is to be the active one."""

    environment: str | None = None
    force: Forced = False
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)


class ServedModel(BaseModel):
    """The model by its own name, as KServe's clients ask for it."""

    name: str
    ready: bool = Field(description="Whether every version is that is active or has traffic.")


class LoadedVersion(BaseModel):
    """A version after it was loaded or unloaded, and the generation since when."""

    generation: int
    version: Version


@router.get("/v1/models", summary="All versions", responses=errors(503))
@router.get("/models", summary="All versions", operation_id="list_models", responses=errors(503))
async def list_versions(parts: Parts) -> Versions:
    """Every version that is known, in memory or not, and how far each worker of each machine is."""
    try:
        reports = await parts.follower.ask(parts.follower.store.reports, parts.clock())
        workers = _workers(reports, parts.clock())
    except StoreUnavailable:
        workers = None
    return Versions(
        generation=parts.dispatcher.state.generation,
        optional_features=_optional_features(parts.dispatcher.row_format),
        versions=all_versions(parts),
        workers=workers,
    )


@router.get("/v1/models/{version}", summary="One version, by name or alias", responses=errors(404, 422, 503))
async def read_version(parts: Parts, settings: Configuration, version: str) -> Version | ServedModel:
    """The model's own name gets the answer of KServe's protocol, version 1."""
    if version == settings.model:
        return ServedModel(name=version, ready=why_not_ready(parts) is None)
    return describe_version(parts, find_version(parts, version))


@router.get("/model/info", summary="The active version", responses=errors(400, 404, 422, 503))
async def read_active_version(parts: Parts, environment: AskedEnvironment) -> Version:
    return describe_version(parts, find_environment(known_routing(parts), environment).active)


@router.post(
    "/model/load",
    summary="Load a version by its address into every worker",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def load_by_uri(
    parts: Parts, by: Actor, body: Annotated[LoadByUriBody, Body(examples=[{"uri": "models:/customers/3"}])]
) -> LoadedVersion:
    """The same as `POST /v1/models/{version}/load`."""
    version = body.version or version_of(body.uri)
    entry = await parts.loader.load(version, body.uri, by=by, why=body.why)
    return LoadedVersion(generation=entry.generation, version=describe_version(parts, version))


@router.post(
    "/v1/models/{version}/load",
    summary="Load a version into every worker",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def load_version(
    parts: Parts,
    by: Actor,
    version: str,
    body: Annotated[LoadBody | None, Body(examples=[{"uri": "models:/customers/3", "why": "retrained"}])] = None,
) -> LoadedVersion:
    """Answered when every worker has the version ready, or with the reason why not: then no traffic was touched."""
    wanted = body or LoadBody()
    entry = await parts.loader.load(version, wanted.uri, by=by, why=wanted.why)
    return LoadedVersion(generation=entry.generation, version=describe_version(parts, version))


@router.post(
    "/v1/models/{version}/unload",
    summary="Take a version out of the memory of every worker",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def unload_version(
    parts: Parts,
    by: Actor,
    version: str,
    body: Annotated[UnloadBody | None, Body(examples=[{"why": "replaced by v3"}])] = None,
) -> LoadedVersion:
    """Answered when every worker has finished what it had for the version. It stays known, and can be loaded again."""
    entry = await parts.loader.unload(version, by=by, why=body.why if body is not None else "")
    return LoadedVersion(generation=entry.generation, version=describe_version(parts, version))


@router.post(
    "/models/{version}/activate",
    summary="Make a version the active one",
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def activate(
    changer: Changer,
    response: Response,
    environment: EnvironmentHeader,
    version: str,
    body: Annotated[ActivateBody | None, Body(examples=[{"environment": "staging"}])] = None,
) -> Split:
    """It answers when the split is off, on routes that do not split, and where the assigned version is not ready."""
    wanted = body or ActivateBody()
    name = agreed_environment(wanted.environment, environment)
    entry = await changer.change(
        lambda state, versions: with_split(state, name, SplitChange(active=version), versions),
        Action.ACTIVATE,
        wanted.why,
        force=wanted.force,
    )
    return answer_change(entry, name, response)


def version_of(uri: str) -> str:
    """The version that an address names: `v3` of `models:/name/3`, else what follows its last `/`, `@` or `:`."""
    name = re.split(r"[/@:]", uri)[-1]
    return f"v{name}" if name.isdecimal() else name


def find_version(parts: WorkerParts, name: str) -> str:
    """The version, perhaps one on its way, behind a name or alias. Raises `UnknownVersion`."""
    candidates = parts.fleet.candidates()
    return name if name in candidates else known_versions(parts).resolve(name)


def all_versions(parts: WorkerParts) -> list[Version]:
    """Every version that this worker knows, and then those that are on their way."""
    names = dict.fromkeys((*parts.fleet.versions(), *parts.fleet.candidates()))
    return [describe_version(parts, name) for name in names]


def describe_version(parts: WorkerParts, version: str) -> Version:
    state = parts.dispatcher.state
    environments = state.environments.items()
    found, artefact = parts.fleet.versions().get(version), parts.fleet.artefacts.get(version)
    runner = parts.dispatcher.runners.get(version)
    described = Version(
        version=version,
        name=version,
        ready=runner is not None and runner.ready,
        state=found.state if found is not None else VersionState.LOADING,
        failure=found.failure if found is not None else None,
        active_in=[name for name, environment in environments if environment.active == version],
        weights={name: environment.shares.get(version, 0.0) for name, environment in environments},
        shadow_in=[name for name, environment in environments if environment.shadow == version],
        aliases=[alias for alias, of in parts.dispatcher.aliases.items() if of == version],
        digest=found.digest if found is not None else None,
        last_used_at=found.last_used_at or None if found is not None else None,
        engine=runner.engine if runner is not None else None,
        placement=runner.placement if runner is not None else None,
        address=runner.address if runner is not None else None,
    )
    candidate, load = parts.fleet.candidates().get(version), state.candidates.get(version)
    if candidate is not None and load is not None:
        described.loading = Loading(state=candidate.state, failure=candidate.failure, tag=load.tag, source=load.source)
    return described.model_copy(update=_of_card(artefact.card) if artefact is not None else None)


def _optional_features(row_format: RowReader | None) -> list[OptionalFeature]:
    if not isinstance(row_format, UnionRows):
        return []
    names = [name for name in row_format.feature_names if name in row_format.optional]
    return [OptionalFeature(name=name, versions=list(row_format.takers[name])) for name in names]


def _of_card(card: Card) -> dict[str, object]:
    return {
        "model": card.model,
        "source": card.source,
        "size_bytes": card.size_bytes or None,
        "signature": Signature(
            task=card.task, features=list(card.features), classes=list(card.classes), outputs=list(card.outputs)
        ),
        "metrics": card.metrics,
        "max_abs_difference": {kind: receipt.max_abs_difference for kind, receipt in card.verification.items()},
        "quantized": _quantized(card),
        "reference": card.reference,
    }


def _quantized(card: Card) -> Quantization | None:
    receipt = card.quantized
    if receipt is None:
        return None
    told = {name: getattr(receipt, name) for name in Quantization.model_fields if name != "method"}
    return Quantization(method=card.quantization or "", **told)


def _workers(reports: Sequence[WorkerReport], now: float) -> list[WorkerState]:
    return [
        WorkerState(
            worker=report.worker,
            machine=report.machine,
            pid=report.pid,
            generation=report.generation,
            age_s=round(max(now - report.at, 0.0), 3),
            versions={version: found.state for version, found in report.versions.items()},
        )
        for report in reports
    ]
