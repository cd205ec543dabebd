"""Explanations: which version a unit gets, why, and what a change of the weights would do to it.

The explanation follows `shokado.dispatch.assignment` and the dispatcher's fallback, without a request.
"""

import json
import math
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from configuration.settings import Strategy
from runners.version_state import VersionState
from shokado.control.dependencies import Parts
from shokado.control.http.bodies import parse
from shokado.control.http.errors import errors
from shokado.control.http.headers import AskedEnvironment
from shokado.control.split import LayerContent, layer_of
from shokado.dialects.head import MAX_UNIT_CHARACTERS
from shokado.dialects.problem import invalid
from shokado.dispatch.assignment import assign
from shokado.dispatch.change import KnownVersions, SplitChange, find_environment, with_split
from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import Reason
from shokado.dispatch.state import Environment
from shokado.worker.parts import known_routing
from shokado.worker.readiness import known_versions

MAX_WEIGHTS_CHARACTERS = 4096
"""Length of weights in a query: more than a split of many versions needs."""

router = APIRouter(tags=["split"])


class UnitLayer(LayerContent):
    """The part of a layer that the split is for, and where in the layer the unit lies."""

    position: float = Field(description="Of the unit: at least 0 and below 1.")
    inside: bool = Field(description="Whether the split deals the unit.")


class AssignmentExplanation(BaseModel):
    """What a request gets, and why."""

    version: str | None = Field(description="None where the unit does not decide.")
    reason: Reason
    strategy: Strategy
    shares: dict[str, float]
    scores: dict[str, float] | None = Field(
        default=None, description="Of the unit, for each version of a `hash` split: the largest has it."
    )
    layer: UnitLayer | None = Field(default=None, description="Of a unit, where the split is for a part of a layer.")
    because: str


class AfterChange(AssignmentExplanation):
    """What it would get with other weights."""

    moves: bool | None = Field(description="Whether the unit would get another version; none where it does not decide.")


class Explanation(AssignmentExplanation):
    """What a request of this unit gets now."""

    unit: str
    environment: str
    generation: int
    after: AfterChange | None = Field(default=None, description="With the `weights` that were asked for.")


@router.get(
    "/v1/traffic-split/explain",
    summary="Which version a unit gets, and why",
    responses=errors(400, 404, 422, 503),
    response_model_exclude_unset=True,
)
async def explain(
    parts: Parts,
    environment: AskedEnvironment,
    unit: Annotated[
        str, Query(max_length=MAX_UNIT_CHARACTERS, description="As `X-Unit-ID` would name it.", examples=["user-17"])
    ] = "",
    weights: Annotated[
        str | None,
        Query(
            max_length=MAX_WEIGHTS_CHARACTERS,
            description='What would be if the weights were these: `v1:50,v2:50`, or `{"v1": 50, "v2": 50}`.',
            examples=["v1:50,v2:50"],
        ),
    ] = None,
    version: Annotated[str | None, Query(description="A version or alias that the request would pin.")] = None,
) -> Explanation:
    """The assignment that a request of this unit gets from this worker, and, with `weights`, after such a change."""
    state, known = known_routing(parts), known_versions(parts)
    found = find_environment(state, environment)
    pinned = known.resolve(version) if version is not None else None
    ready = {name for name, runner in parts.dispatcher.runners.items() if runner.ready}
    now = explain_assignment(found, unit, pinned, ready)
    told: dict[str, Any] = {"unit": unit, "environment": found.name, "generation": state.generation}
    if weights is not None:
        # Whether the change would be allowed now is another question.
        allowing = KnownVersions(dict.fromkeys(known.states, VersionState.READY), known.aliases)
        changed = with_split(state, found.name, SplitChange(weights=read_weights(weights)), allowing)
        after = explain_assignment(changed.environments[found.name], unit, pinned, ready)
        moves = None if now.version is None or after.version is None else now.version != after.version
        told["after"] = AfterChange(moves=moves, **after.model_dump(exclude_unset=True))
    return Explanation(**told, **now.model_dump(exclude_unset=True))


def explain_assignment(
    environment: Environment, unit: str, pinned: str | None, ready: Collection[str]
) -> AssignmentExplanation:
    """What a request gets where only the versions in `ready` are ready; `unit` may be empty."""
    shares = dict(environment.shares)
    told: dict[str, Any] = {"strategy": environment.strategy, "shares": shares}
    sticky = environment.strategy is Strategy.HASH
    layer = environment.layer
    if pinned is None and environment.enabled and (len(shares) > 1 or layer) and not (sticky and unit):
        return AssignmentExplanation(
            version=None,
            reason=Reason.STICKY if sticky else Reason.SPLIT,
            because=_drawn(environment, ready),
            **told,
        )
    version, reason = assign(environment, 0.0, unit, pinned=pinned)
    if reason is Reason.STICKY and unit:
        told["scores"] = environment.rendezvous.scores_of(unit)
    if layer is not None and reason in (Reason.STICKY, Reason.OUTSIDE_LAYER):
        position, inside = layer.position_of(unit), reason is Reason.STICKY
        part = layer_of(layer).model_dump()
        told["layer"] = UnitLayer.model_validate({**part, "position": position, "inside": inside})
    because = _because(environment, unit, version, reason)
    if version not in ready:
        because += f"; {_away(environment, version, reason, ready)}"
        if reason is not Reason.PINNED and environment.active in ready:
            version, reason = environment.active, Reason.FALLBACK
    return AssignmentExplanation(version=version, reason=reason, because=because, **told)


def read_weights(text: str) -> dict[str, float]:
    """Weights as a query spells them, `v1:50,v2:50` or a JSON object. Raises `Problem` (400, 422).

    Only the form is checked here: which versions there are and which weights make sense, `with_split` knows.
    """
    if text.lstrip().startswith("{"):
        content = parse(text.encode(errors="replace"))
        for name, weight in content.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise invalid(
                    "invalid_weight", f"the weight of {name[:100]!r} is {json.dumps(weight)[:100]}, no number"
                )
        return {name: _float(weight) for name, weight in content.items()}
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, separator, weight = (piece.strip() for piece in part.rpartition(":"))
        if not (name and separator):
            raise invalid("invalid_weights", f"{part[:100]!r} is no weight; write v1:50,v2:50 or a JSON object")
        if name in weights:
            raise invalid("repeated_key", f"{name[:100]!r} occurs twice")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise invalid("invalid_weight", f"the weight of {name[:100]!r} is {weight[:100]!r}, no number") from None
    return weights


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _drawn(environment: Environment, ready: Collection[str]) -> str:
    if environment.strategy is Strategy.HASH:
        words = "without a unit, each request is a unit of its own, and versions get them by their shares"
        if environment.layer is not None:
            words += f", as far as they are in {environment.layer}; {_outside(environment.layer)}"
    else:
        words = f"under the {environment.strategy} strategy a unit does not decide: each request is drawn by the shares"
    away = [version for version in environment.shares if version not in ready]
    if away and environment.active in ready:
        words += f"; what {' and '.join(away)} cannot answer now, as not ready here, version {environment.active} does"
    return words


def _because(environment: Environment, unit: str, version: str, reason: Reason) -> str:
    match reason:
        case Reason.PINNED:
            return f"the request pins version {version}"
        case Reason.ACTIVE:
            return f"the split of {environment.name} is off, so its active version answers"
        case Reason.OUTSIDE_LAYER:
            assert environment.layer is not None
            lies = f"the unit lies at {environment.layer.position_of(unit):.6f}, outside of {environment.layer}"
            return f"{lies}; {_outside(environment.layer)}, so version {version} does"
        case _:
            return _dealt(environment, unit, version)


def _dealt(environment: Environment, unit: str, version: str) -> str:
    """Why the split gives the unit this version."""
    whole = "has all of the traffic"
    inside = ""
    if environment.layer is not None and unit:
        whole = f"has all of {environment.layer}"
        inside = f"the unit lies at {environment.layer.position_of(unit):.6f}, in {environment.layer}, and "
    if environment.strategy is not Strategy.HASH or not unit or len(environment.shares) == 1:
        return f"{inside}version {version} {whole}"
    salt = f" and the salt {environment.salt!r}" if environment.salt else ""
    return f"{inside}the hash of the unit{salt} gives version {version} the largest score, so the unit sticks to it"


def _outside(layer: Layer) -> str:
    """Who answers the units outside of a part of a layer."""
    if layer.outside is None:
        return "what the split gives units outside answers them, and is not compared with the shadow"
    return f"units outside are not in the experiment, and its control {layer.outside} answers them"


def _away(environment: Environment, version: str, reason: Reason, ready: Collection[str]) -> str:
    if reason is not Reason.PINNED and environment.active in ready:
        return f"but {version} is not ready here, so the active version {environment.active} answers"
    return f"but {version} is not ready here, so the request is refused with 503"
