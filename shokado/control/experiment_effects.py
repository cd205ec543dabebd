"""How the effects of an experiment became what they are: each candidate's confidence sequence as a curve."""

import asyncio
from functools import partial
from math import inf

from fastapi import APIRouter
from pydantic import BaseModel, Field

from shokado.control.dependencies import Parts
from shokado.control.experiments import known_experiment
from shokado.control.http.errors import errors
from shokado.experiments.effects_over_time import EffectCurve, effects_over_time
from shokado.experiments.experiment_judge import due_before

router = APIRouter(tags=["experiments"])


class Effects(BaseModel):
    """The effect of each candidate over the time of an experiment."""

    id: str
    at: list[float] = Field(
        description="Unix seconds, ascending: the figures are of all that was predicted before, and whose labels had "
        "time to come. Empty where nothing was counted, or the experiment ended more than a day ago."
    )
    candidates: dict[str, EffectCurve] = Field(
        description="Its mean less the control's, as a look at the predictions up to then tells it; null where nothing "
        "can be said."
    )


@router.get("/v1/experiments/{experiment}/effects", summary="Effects over time", responses=errors(404, 422, 503))
async def read_effects(parts: Parts, experiment: str) -> Effects:
    """The confidence sequence of each effect, point by point: all of them hold together."""
    _, found = await known_experiment(parts, experiment)
    plan, ended = found.plan, found.conclusion
    now = ended.at if ended is not None else parts.clock()
    evidence = await parts.follower.ask(parts.follower.store.counted_evidence, found.id)
    before = due_before(plan, now) if plan.metric.from_feedback else inf
    # Takes a while for many cohorts.
    told = await asyncio.to_thread(partial(effects_over_time, found, evidence, before, now))
    return Effects(id=found.id, at=list(told.at), candidates=told.candidates)
