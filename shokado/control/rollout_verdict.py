"""The verdict for controllers of rollouts, which ask again and again and are told what is stored.

Argo Rollouts reads it (`web` metric), and judges the answer itself. Flagger posts its webhooks, and takes the status
for the answer: 200 is yes, any other is no. It can show no key, so what it posts is for everybody, and is told a word
of the verdict but no figures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from shokado.control.dependencies import Parts
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.control.http.headers import AskedEnvironment, EnvironmentHeader, agreed_environment
from shokado.control.split import iso
from shokado.dialects.problem import Problem
from shokado.dispatch.change import find_environment
from shokado.dispatch.told_verdict import MAX_AGE_S, ToldVerdict, VerdictQuestion, VerdictWord, told_verdict
from shokado.worker.parts import WorkerParts, known_routing
from shokado.worker.readiness import known_versions

MAX_WEBHOOK_BYTES = 2**14
"""Many times what Flagger posts: who shows no key can have no more kept."""
_WORDS = "|".join(VerdictWord)


class _Webhook(bodies.StrictRoute):
    max_bytes = MAX_WEBHOOK_BYTES


router = APIRouter(tags=["experiments"])
_webhooks = APIRouter(route_class=_Webhook)


class VerdictAnswer(BaseModel):
    """How the environment's experiment stands."""

    environment: str
    verdict: VerdictWord = Field(description="RUNNING until it ends; NONE where no experiment is the one asked for.")
    reason: str
    experiment: str | None = Field(description="Its id.")
    control: str | None
    candidates: list[str]
    winner: str | None
    ended_at: str | None = Field(description="ISO 8601, UTC.")


class WebhookMetadata(BaseModel):
    """What the manifest of a canary says under `metadata`: texts, and no others than these."""

    model_config = ConfigDict(extra="forbid")

    environment: str | None = Field(default=None, description="By default the default one.")
    candidate: str | None = Field(default=None, description="The version that is to win; by default any.")
    experiment: str | None = Field(default=None, description="Its id; by default the environment's last one.")
    max_age_s: float = Field(
        default=MAX_AGE_S,
        ge=0,
        allow_inf_nan=False,
        description="How old the verdict of an unnamed one may be; a number, or a text that is one.",
    )
    verdicts: str | None = Field(
        default=None,
        pattern=f"^({_WORDS})(, ?({_WORDS}))*$",
        description="Those that mean yes, such as `PROMOTE,HOLD`; each route has its own default.",
    )

    @property
    def wanted(self) -> Sequence[VerdictWord]:
        """Those that mean yes; empty where it does not say."""
        return [VerdictWord(word.strip()) for word in (self.verdicts or "").split(",") if word]


class WebhookBody(BaseModel):
    """What Flagger posts; a newer one may say more."""

    name: str = Field(description="The canary's.")
    namespace: str
    phase: str = ""
    checksum: str = ""
    metadata: WebhookMetadata = Field(default_factory=WebhookMetadata)


class WebhookAnswer(BaseModel):
    """Yes, as the verdict is one of those that mean it."""

    environment: str
    verdict: VerdictWord
    experiment: str | None = Field(description="Its id.")


_EXAMPLE = {
    "name": "podinfo",
    "namespace": "test",
    "phase": "Progressing",
    "checksum": "85d557f47b",
    "metadata": {"environment": "production", "verdicts": "PROMOTE"},
}
_Posted = Annotated[WebhookBody, Body(examples=[_EXAMPLE])]


def _question(
    candidate: Annotated[str | None, Query(description="The version that is to win; without it, any.")] = None,
    experiment: Annotated[str | None, Query(description="Its id; without it, the environment's last one.")] = None,
    max_age_s: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="How old the verdict of an unnamed one may be.")
    ] = MAX_AGE_S,
) -> VerdictQuestion:
    return VerdictQuestion(candidate, experiment, max_age_s)


@router.get("/v1/verdict", summary="The verdict for a rollout", responses=errors(400, 404, 422, 503))
async def read_verdict(
    parts: Parts, environment: AskedEnvironment, question: Annotated[VerdictQuestion, Depends(_question)]
) -> VerdictAnswer:
    """How the environment's experiment stands, as it is stored: nothing is judged for it.

    For Argo Rollouts' `web` metric: `jsonPath: "{$.verdict}"` and `successCondition: result == "PROMOTE"`.
    """
    name, told = _told(parts, environment, question)
    experiment = told.experiment
    ended = experiment.conclusion if experiment is not None else None
    return VerdictAnswer(
        environment=name,
        verdict=told.word,
        reason=told.reason,
        experiment=experiment.id if experiment is not None else None,
        control=experiment.control if experiment is not None else None,
        candidates=list(experiment.candidates) if experiment is not None else [],
        winner=ended.winner if ended is not None else None,
        ended_at=iso(ended.at) if ended is not None else None,
    )


@_webhooks.post(
    "/v1/verdict/confirm-promotion",
    summary="Flagger: may it be promoted?",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def confirm_promotion(parts: Parts, environment: EnvironmentHeader, body: _Posted) -> WebhookAnswer:
    """Flagger's `confirm-promotion`: 200 where the candidate has won, so that it is promoted; 409 where it has not."""
    return _answer(parts, environment, body.metadata, (VerdictWord.PROMOTE,))


@_webhooks.post(
    "/v1/verdict/rollback",
    summary="Flagger: is it to be rolled back?",
    responses=errors(404, 409, 503, *BODY_ERRORS),
)
async def rollback(parts: Parts, environment: EnvironmentHeader, body: _Posted) -> WebhookAnswer:
    """Flagger's `rollback`: 200 where the experiment ended in ROLLBACK or INVALID, so that it goes back; else 409."""
    return _answer(parts, environment, body.metadata, (VerdictWord.ROLLBACK, VerdictWord.INVALID))


router.include_router(_webhooks)


def _answer(
    parts: WorkerParts, environment: str | None, asked: WebhookMetadata, default: Sequence[VerdictWord]
) -> WebhookAnswer:
    """Raises `Problem` (409) where the verdict is none of those that mean yes."""
    wanted = asked.wanted or default
    question = VerdictQuestion(asked.candidate, asked.experiment, asked.max_age_s)
    name, told = _told(parts, agreed_environment(asked.environment, environment), question)
    experiment = told.experiment.id if told.experiment is not None else None
    if told.word not in wanted:
        message = f"the verdict in {name} is {told.word}, and this waits for {' or '.join(wanted)}"
        raise Problem("other_verdict", message, {"verdict": told.word.value, "experiment": experiment})
    return WebhookAnswer(environment=name, verdict=told.word, experiment=experiment)


def _told(parts: WorkerParts, name: str | None, question: VerdictQuestion) -> tuple[str, ToldVerdict]:
    """The environment's name, and what is told. Raises `UnknownVersion`."""
    environment = find_environment(known_routing(parts), name)
    if question.candidate is not None:
        question = replace(question, candidate=known_versions(parts).resolve(question.candidate))
    return environment.name, told_verdict(environment, question, parts.clock())
