"""The split: who gets which share of an environment's traffic, read and changed."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from configuration.settings import Settings, Strategy
from shokado.control.changing import MAX_WHY_CHARACTERS, Changer, Forced
from shokado.control.dependencies import Configuration, Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import AskedEnvironment, EnvironmentHeader, agreed_environment, etag, is_known
from shokado.dispatch.change import UNCHANGED, InvalidChange, SplitChange, find_environment, with_split
from shokado.dispatch.layer import Layer
from shokado.dispatch.state import Environment, fit
from shokado.stores.store import Action, Entry, StoreUnavailable
from shokado.worker.parts import WorkerParts, known_routing

OTHER_SPELLINGS = {"hash-based": Strategy.HASH}

router = APIRouter(tags=["split"], route_class=bodies.StrictRoute)


class LayerContent(BaseModel):
    """The part of a layer that a split is for; see `docs/experiments.md`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    outside: str | None = Field(
        description="The version that answers units outside of the part; null where the split deals them as well, and "
        "a shadow is compared on what is inside."
    )


class EnvironmentContent(BaseModel):
    """The routing of one environment."""

    active: str = Field(description="Answers when the split is off, or the assigned version is not ready.")
    weights: dict[str, float] = Field(description="As they were set; versions of weight 0 get no traffic.")
    shares: dict[str, float] = Field(
        description="Part of the traffic, between 0 and 1, of each version that gets any; of the units inside where "
        "there is a `layer`."
    )
    strategy: Strategy
    enabled: bool
    salt: str = Field(
        description="What the hash strategy mixes units with: another salt deals all of them out anew. Environments "
        "and models of different salts do so independently."
    )
    shadow: str | None = Field(description="Gets a copy of the traffic; nobody sees its answers.")
    experiment: str | None = Field(default=None, description="The one under way: see `/v1/experiments`.")
    layer: LayerContent | None = Field(
        default=None,
        description="The units that the split is for, of an experiment: until its end, or where that leaves the split "
        "as it is, until somebody changes it. Null: all.",
    )


class EnvironmentName(BaseModel):
    """What is told first."""

    environment: str
    generation: int


class Split(EnvironmentContent, EnvironmentName):
    """The routing of one environment, and the generation it is of."""

    percent: dict[str, float] = Field(
        description="The shares once more, in per cent; with a layer, those of the units inside of it."
    )
    updated_at: str = Field(description="When the generation was made: ISO 8601, UTC.")
    by: str = Field(description="Who made the generation, which may concern another environment.")
    action: Action
    why: str


StrategyName = Annotated[
    Annotated[Strategy, Field(strict=False)] | None,
    # One may come in spelling of another dialect.
    BeforeValidator(lambda name: OTHER_SPELLINGS.get(name, name) if isinstance(name, str) else name),
    Field(description="`hash-based` also means `hash`."),
]


class SplitBody(bodies.Body):
    """What to change; what is left out stays as it is.

    An object without any of these fields is the weights themselves: `{"v1": 90, "v2": 10}`. A version that has the
    name of a field can therefore be given a weight only within `weights`.
    """

    environment: str | None = None
    weights: dict[str, float] | None = Field(default=None, description="By version or alias, relative to their sum.")
    strategy: StrategyName = None
    enabled: bool | None = Field(default=None, description="False: the active version answers.")
    salt: str | None = None
    shadow: str | None = Field(default=None, description="Null switches it off.")
    active: str | None = None
    force: Forced = False
    why: str = Field(default="", max_length=MAX_WHY_CHARACTERS)

    @model_validator(mode="before")
    @classmethod
    def _weights_alone(cls, content: Any) -> Any:
        if isinstance(content, dict) and content and not content.keys() & cls.model_fields.keys():
            return {"weights": content}
        return content

    @property
    def change(self) -> SplitChange:
        """Raises `InvalidChange` when there is none."""
        shadow = self.shadow if "shadow" in self.model_fields_set else UNCHANGED
        return some_change(SplitChange(self.weights, self.strategy, self.enabled, self.salt, shadow, self.active))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        fields = handler.resolve_ref_schema(handler(core_schema))
        alone = {"type": "object", "title": "Weights alone", "additionalProperties": {"type": "number"}}
        return {"title": cls.__name__, "anyOf": [alone, {**fields, "title": "Fields"}]}


def some_change(change: SplitChange) -> SplitChange:
    """The change itself. Raises `InvalidChange` when it changes nothing."""
    if change == SplitChange():
        raise InvalidChange("nothing_to_change", "the body names nothing to change")
    return change


_SPLIT_EXAMPLES: Any = {
    "weights alone": {"value": {"v1": 90, "v2": 10}},
    "sticky, for one environment": {
        "value": {"environment": "staging", "weights": {"v1": 50, "v2": 50}, "strategy": "hash", "why": "try v2"}
    },
    "a shadow": {"value": {"shadow": "v2"}},
    "no split": {"value": {"enabled": False, "active": "v1"}},
}


@router.get("/v1/traffic-split", summary="The split of an environment", responses=errors(400, 404, 422, 503))
async def read_split(
    parts: Parts,
    settings: Configuration,
    response: Response,
    environment: AskedEnvironment,
    if_none_match: Annotated[str | None, Header(description="An `ETag` that is known: 304 if it still holds.")] = None,
) -> Split:
    """The shares, what decides them, and who changed the routing last; `ETag` is the generation.

    What was changed through another worker is told at once, and while the store is away, what this worker knows.
    """
    entry = await _newest(parts, settings)
    split = describe(entry, environment)
    headers = {"ETag": etag(split.generation), "Vary": "X-Environment", "Cache-Control": "no-cache"}
    if is_known(if_none_match, split.generation):
        return Response(status_code=304, headers=headers)  # type: ignore[return-value]
    response.headers.update(headers)
    return split


@router.post("/v1/traffic-split", summary="Change the split", responses=errors(404, 409, 412, 503, *BODY_ERRORS))
@router.put(
    "/v1/traffic-split",
    summary="Change the split",
    operation_id="put_split",
    responses=errors(404, 409, 412, 503, *BODY_ERRORS),
)
async def change_split(
    changer: Changer,
    response: Response,
    environment: EnvironmentHeader,
    body: Annotated[SplitBody, Body(openapi_examples=_SPLIT_EXAMPLES)],
) -> Split:
    """Change an environment's split, in all workers of all machines. The answer is the new split."""
    name = agreed_environment(body.environment, environment)
    entry = await changer.change(
        lambda state, versions: with_split(state, name, body.change, versions),
        Action.SPLIT,
        body.why,
        force=body.force,
    )
    return answer_change(entry, name, response)


async def _newest(parts: WorkerParts, settings: Settings) -> Entry:
    """The newest entry. This worker takes it over within a moment, if it has not yet."""
    known_routing(parts)
    known = parts.follower.entry
    assert known is not None, "a known routing comes from an entry"
    if parts.follower.failure is None:
        with contextlib.suppress(StoreUnavailable):
            stored = await parts.follower.ask(parts.follower.store.read)
            if stored is not None and stored.generation > known.generation:
                return replace(stored, state=fit(stored.state, settings))
    return known


def answer_change(entry: Entry, environment: str | None, response: Response) -> Split:
    """The split that a change has made."""
    response.headers["ETag"] = etag(entry.generation)
    return describe(entry, environment)


def describe(entry: Entry, environment: str | None) -> Split:
    """Raises `UnknownVersion` for an environment that does not exist."""
    found = find_environment(entry.state, environment)
    return Split(
        environment=found.name,
        generation=entry.generation,
        updated_at=iso(entry.at),
        by=entry.by,
        action=entry.action,
        why=entry.why,
        percent={version: round(100 * share, 6) for version, share in found.shares.items()},
        **content_of(found).model_dump(),
    )


def content_of(environment: Environment) -> EnvironmentContent:
    return EnvironmentContent(
        active=environment.active,
        weights=dict(environment.weights),
        shares=dict(environment.shares),
        strategy=environment.strategy,
        enabled=environment.enabled,
        salt=environment.salt,
        shadow=environment.shadow,
        experiment=environment.running.id if environment.running is not None else None,
        layer=layer_of(environment.layer) if environment.layer is not None else None,
    )


def layer_of(layer: Layer) -> LayerContent:
    content = {"name": layer.name, "from": layer.start, "to": layer.end, "outside": layer.outside}
    return LayerContent.model_validate(content)


def iso(at: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
