"""Feedback: labels and rewards for predictions, one or many in a request.

In a list, an entry that cannot be used is rejected by itself; the others count. Whoever sends a single one is told by
the status.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from configuration.segment_settings import MAX_FEATURES
from shokado.control.dependencies import Configuration, Parts, Quota
from shokado.control.http import bodies
from shokado.control.http.errors import BODY_ERRORS, errors
from shokado.dialects.json_text import LONG_BYTES, exceeds, refusal
from shokado.dialects.problem import Problem, body_too_large, invalid, problem_of
from shokado.experiments.feedback_collector import Feedback, FeedbackStatus, Ruling
from shokado.experiments.prediction_id import MAX_CARRIED_ROWS
from shokado.stores.store import StoreUnavailable

_MAX_VALUES = 8 + MAX_CARRIED_ROWS + 2 * MAX_FEATURES
"""Values of one entry: more than it has names for, a label of as many values as can be joined, and its segments."""
_Label = bool | int | float | str
_Level = bool | int | float | str | None
_SLICE = 64
"""Entries that are decoded in one go."""

router = APIRouter(tags=["experiments"])


class FeedbackEntry(BaseModel):
    """What became of one row of a prediction: its label, a reward, or both."""

    prediction_id: str = Field(description="As the prediction's answer named it.")
    index: int = Field(default=0, description="Of the row in its request.")
    label: _Label | list[_Label] | dict[str, _Label] | None = Field(
        default=None,
        description="What would have been right: a class, or the value of a regression; several of either as a list, "
        "or by their names.",
    )
    reward: float | None = Field(default=None, ge=0, le=1, description="How well it went; a conversion is 1.")
    segments: dict[str, _Level] | None = Field(
        default=None,
        description="The row's level by each feature of `segments.features` that no version takes; null: missing.",
    )


class FeedbackResult(BaseModel):
    """What became of one entry."""

    status: FeedbackStatus
    reason: str | None = Field(default=None, description="Why it was not accepted.")
    version: str | None = Field(default=None, description="That made the prediction.")


class FeedbackAnswer(BaseModel):
    """How many entries were taken, and what became of each, in order."""

    accepted: int
    duplicate: int = Field(description="Counted before, and not again.")
    rejected: int
    results: list[FeedbackResult]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    prediction_id: str
    index: int = 0
    label: _Label | list[_Label] | dict[str, _Label] | None = None
    reward: float | None = None
    segments: dict[str, _Level] | None = None


class _Result(msgspec.Struct, omit_defaults=True):
    status: FeedbackStatus
    reason: str = ""
    version: str = ""


class _Answer(msgspec.Struct):
    accepted: int
    duplicate: int
    rejected: int
    results: list[_Result]


_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _described_body() -> dict[str, Any]:
    schema = TypeAdapter(FeedbackEntry).json_schema()
    examples = {
        "a label": {"value": {"prediction_id": "AQIK..", "label": 1}},
        "rewards": {"value": [{"prediction_id": "AQIK..", "reward": 1}, {"prediction_id": "AQJL..", "reward": 0}]},
    }
    described = {"schema": {"anyOf": [schema, {"type": "array", "items": schema}]}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": described}}}


@router.post(
    "/v1/feedback",
    summary="Say what became of predictions",
    response_model=FeedbackAnswer,
    responses=errors(503, *BODY_ERRORS),
    openapi_extra=_described_body(),
)
async def give_feedback(parts: Parts, settings: Configuration, body_quota: Quota, request: Request) -> Response:
    """Join labels and rewards to the versions that made the predictions. The same one counts once, however often sent.

    A list is answered with 200 once every entry is settled, the rejected ones included. A single entry that is
    rejected is answered with 422, and one that was counted before with 200.
    """
    body = await bodies.read_json_body(request, settings.limits.max_body_bytes, body_quota)
    limit = settings.feedback.max_entries
    if len(body) >= LONG_BYTES and exceeds(body, limit * _MAX_VALUES, limit * _MAX_VALUES):
        raise _too_many(f"more than {limit} entries, or {limit * _MAX_VALUES} values,", limit)
    raw, alone = _split(body)
    if len(raw) > limit:
        raise _too_many(f"{len(raw)} entries", limit)
    entries: list[Feedback | Ruling] = []
    for start in range(0, len(raw), _SLICE):
        entries += map(_entry, raw[start : start + _SLICE])
        # A long list must not hold up predictions.
        await asyncio.sleep(0)
    try:
        taken = iter(await parts.feedback.take([entry for entry in entries if isinstance(entry, Feedback)]))
    except StoreUnavailable as error:
        found = problem_of(error)
        words = "send the same again later: nothing counts twice"
        raise replace(found, message=f"{found.message}; {words}") from error
    rulings = [next(taken) if isinstance(entry, Feedback) else entry for entry in entries]
    if alone:
        _refuse(rulings[0])
    counts = Counter(ruling.status for ruling in rulings)
    accepted, duplicate = counts[FeedbackStatus.ACCEPTED], counts[FeedbackStatus.DUPLICATE]
    results = [_Result(ruling.status, ruling.reason, ruling.version) for ruling in rulings]
    answer = _Answer(accepted, duplicate, len(rulings) - accepted - duplicate, results)
    return Response(_encode(answer), media_type="application/json")


def _too_many(entries: str, limit: int) -> Problem:
    message = f"{entries} in one list; at most {limit} are allowed"
    return Problem("too_many_entries", message, {"limit": limit})


def _split(body: bytes) -> tuple[list[msgspec.Raw], bool]:
    """The entries, and whether it is one without a list. Raises `Problem` (400, 422)."""
    try:
        if body.lstrip()[:1] == b"[":
            return _decode_list(body), False
        if len(body) > bodies.MAX_CHANGE_BYTES:
            raise body_too_large(bodies.MAX_CHANGE_BYTES)
        if not isinstance(msgspec.json.decode(body), dict):
            raise invalid("invalid", "the body is neither an entry nor a list of entries")
    except (ValueError, RecursionError) as error:
        raise refusal(body, error) from None
    return [msgspec.Raw(body)], True


def _entry(raw: msgspec.Raw) -> Feedback | Ruling:
    try:
        entry = _decode_entry(raw)
    except (ValueError, RecursionError) as error:
        return Ruling(FeedbackStatus.INVALID, refusal(bytes(raw), error).message)
    return Feedback(entry.prediction_id, entry.index, entry.label, entry.reward, entry.segments or {})


def _refuse(ruling: Ruling) -> None:
    """Raise `Problem` (422) for what was rejected."""
    if ruling.status not in (FeedbackStatus.ACCEPTED, FeedbackStatus.DUPLICATE):
        raise invalid(f"feedback_{ruling.status}", ruling.reason)
