"""The Open Inference Protocol's routes that are no predictions: what the server and its models are, and health.

A model is asked for by the configured model's name, which is ready when all that has traffic is, or by the name of a
version or alias; what is loaded and unloaded is a version. Sources: https://github.com/kserve/open-inference-protocol,
and for the repository Triton's "Model Repository Extension", whose clients do not say that their bodies are JSON.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, Field

from configuration.settings import Settings
from runners.version_state import VersionState
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http import bodies
from shokado.control.http.documentation import reference
from shokado.control.http.headers import Actor
from shokado.control.versions import MAX_URI_CHARACTERS
from shokado.dialects.error_codes import STATUS_DESCRIPTIONS
from shokado.dialects.open_inference import InferError
from shokado.dialects.problem import invalid
from shokado.dialects.served_models import OVER_REST, ModelMetadata, ServedModels, ServerMetadata
from shokado.worker.parts import WorkerParts
from shokado.worker.readiness import served_models

router = APIRouter(
    prefix="/v2", tags=["open inference"], route_class=bodies.StrictRoute, strict_content_type=False
)  # fmt: skip


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """Whether every version with traffic is ready."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model, or one version of it, can answer."""

    name: str
    ready: bool


class IndexBody(BaseModel):
    """Which versions are listed."""

    ready: bool = Field(default=False, description="Only those that are ready.")


class IndexEntry(BaseModel):
    """One version of the model."""

    name: str
    version: str
    state: str = Field(description="READY, LOADING, UNLOADING or UNAVAILABLE.")
    reason: str = Field(description="Why it is not ready.")


class LoadParameters(bodies.Body):
    """Where a version comes from. Files and configurations cannot be sent."""

    uri: str | None = Field(
        default=None,
        max_length=MAX_URI_CHARACTERS,
        description="`models:/name/3` or `models:/name@alias` of the MLflow registry, or a tag `name:version` of the "
        "BentoML model store. Without one, a version that was unloaded is brought back.",
    )


class RepositoryLoadBody(bodies.Body):
    """What is loaded as the version."""

    parameters: LoadParameters | None = None


class UnloadParameters(bodies.Body):
    """What Triton's clients send."""

    unload_dependents: bool = Field(default=False, description="Makes no difference: no version depends on another.")


class RepositoryUnloadBody(bodies.Body):
    """How a version is unloaded."""

    parameters: UnloadParameters | None = None


class Done(BaseModel):
    """It is done; the protocol says no more."""


def _models(parts: Parts, settings: Configuration) -> ServedModels:
    return served_models(settings, parts)


Models = Annotated[ServedModels, Depends(_models)]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": reference(InferError)}}
    return {status: {"description": STATUS_DESCRIPTIONS[status], "content": content} for status in statuses}


def _not_ready(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    shapes = {"anyOf": [reference(model), reference(InferError)]}
    return {503: {"description": "It cannot answer.", "content": {"application/json": {"schema": shapes}}}}


@router.get("", summary="What the server is")
async def server_metadata() -> ServerMetadata:
    return OVER_REST


@router.get("/health/live", summary="Is the process alive?")
async def live() -> Live:
    return Live(live=True)


@router.get("/health/ready", summary="Can it answer?", responses=_not_ready(Ready))
async def ready(models: Models, response: Response) -> Ready:
    is_ready = models.all_ready()
    response.status_code = 200 if is_ready else 503
    return Ready(ready=is_ready)


@router.get("/models/{model}", summary="What a model takes and gives", responses=_errors(404, 422, 503))
async def model_metadata(models: Models, model: str) -> ModelMetadata:
    return models.metadata(model)


@router.get(
    "/models/{model}/versions/{version}",
    summary="What a version takes and gives",
    responses=_errors(400, 404, 422, 503),
)
async def version_metadata(models: Models, model: str, version: str) -> ModelMetadata:
    return models.metadata(model, version)


@router.get(
    "/models/{model}/ready",
    summary="Can a model answer?",
    responses=_errors(404, 422) | _not_ready(ModelReady),
)
async def model_ready(models: Models, response: Response, model: str) -> ModelReady:
    return _readiness(models, response, model)


@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="Can a version answer?",
    responses=_errors(400, 404, 422) | _not_ready(ModelReady),
)
async def version_ready(models: Models, response: Response, model: str, version: str) -> ModelReady:
    return _readiness(models, response, model, version)


@router.post(
    "/repository/index",
    summary="The versions and whether they are ready",
    responses=_errors(400, 413, 415, 422, 503),
)
async def repository_index(
    parts: Parts,
    settings: Configuration,
    body: Annotated[IndexBody | None, Body(examples=[{"ready": True}])] = None,
) -> list[IndexEntry]:
    only_ready = body is not None and body.ready
    return [
        IndexEntry(name=settings.model, version=version, state=VersionState(own.state).word, reason=own.failure or "")
        for version, own in parts.fleet.versions().items()
        if own.state == VersionState.READY or not only_ready
    ]


@router.post(
    "/repository/models/{model}/load",
    summary="Load a version into every worker",
    responses=_errors(400, 404, 409, 413, 415, 422, 503),
)
async def load_model(
    parts: Parts,
    settings: Configuration,
    by: Actor,
    model: str,
    body: Annotated[RepositoryLoadBody | None, Body(examples=[{"parameters": {"uri": "models:/customers/3"}}])] = None,
) -> Done:
    """The same as `POST /v1/models/{version}/load`; `model` is the name of the version."""
    _refuse_model(parts, settings, model)
    parameters = body.parameters if body is not None else None
    await parts.loader.load(model, parameters.uri if parameters is not None else None, by=by)
    return Done()


@router.post(
    "/repository/models/{model}/unload",
    summary="Take a version out of the memory of every worker",
    responses=_errors(400, 404, 409, 413, 415, 422, 503),
)
async def unload_model(
    parts: Parts,
    settings: Configuration,
    by: Actor,
    model: str,
    body: Annotated[RepositoryUnloadBody | None, Body(examples=[{"parameters": {"unload_dependents": False}}])] = None,  # noqa: ARG001
) -> Done:
    """The same as `POST /v1/models/{version}/unload`; `model` is the name of the version."""
    _refuse_model(parts, settings, model)
    await parts.loader.unload(model, by=by)
    return Done()


def _refuse_model(parts: WorkerParts, settings: Settings, name: str) -> None:
    """A model has versions, and one of them is loaded. Raises `Problem` (422)."""
    known = parts.fleet.versions()
    if name == settings.model and name not in known:
        message = f"{name} is the model; name the version to load or unload: {', '.join(known)}, or a new one"
        raise invalid("model_not_version", message)


def _readiness(models: ServedModels, response: Response, name: str, version: str = "") -> ModelReady:
    is_ready = models.is_ready(name, version)
    response.status_code = 200 if is_ready else 503
    return ModelReady(name=name, ready=is_ready)
