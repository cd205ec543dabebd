"""Retraining events, and the log of them that all workers share. Pure: times are told, and values returned.

An event has a key, such as a version that has drifted on a day, and there is one event for a key. The log is one value
in the store, which workers replace by compare-and-set: so two that notice the same cause make one event, two events are
as far apart as they should be, and an event is called by one worker at a time, that of its lease.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from configuration.retraining_settings import RetrainingSettings

LEASE_S = 60.0
"""How long the lease of a call is, which its worker makes longer while it lives: clocks may differ by less."""
RENEW_EVERY_S = 15.0
KEEP_S = 8 * 86_400.0
"""How long an ended event is remembered, and so is none of the same key: longer than keys are of."""
MOST_EVENTS = 200
"""No more are begun, as none may be forgotten early."""
_MOST_REASON = 500
_MOST_RETRY_S = 3600.0
_USE = b"shokado.retrain"


class EventStatus(StrEnum):
    """How far an event is."""

    DUE = "due"
    """To be called, for the first time or again."""
    CALLING = "calling"
    """Somebody is being called, or a command runs."""
    DONE = "done"
    """It was accepted, or the command ended with 0."""
    FAILED = "failed"
    """Given up after `retraining.max_attempts`."""


@dataclass(frozen=True, slots=True)
class RetrainingCause:
    """Why a version should be trained anew."""

    kind: str
    """`drift` or `guardrail`."""
    key: str
    """What makes another event of it, such as the day."""
    version: str
    reason: str
    """For people."""
    environment: str | None = None


class RetrainingEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event; times are Unix seconds."""

    id: str
    """The same for all attempts, by which a receiver knows one that it has."""
    key: str
    cause: str
    version: str
    environment: str | None = None
    reason: str
    at: float
    """When it was noticed."""
    status: EventStatus = EventStatus.DUE
    attempts: int = 0
    due_at: float = 0.0
    """Before, it is not called."""
    worker: str = ""
    """Whose lease it is."""
    leased_until: float = 0.0
    ended_at: float | None = None
    note: str = ""
    """What came of the last attempt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt."""

    accepted: bool
    note: str
    retry_after_s: float = 0.0
    """How long the other side wants to rest."""


Log = tuple[RetrainingEvent, ...]
"""All events that are remembered, in the order in which they were noticed."""

_decode = msgspec.json.Decoder(Log).decode


def decode_log(content: bytes | None) -> Log:
    """Raises `ValueError` where it is none."""
    return _decode(content) if content else ()


def encode_log(log: Log) -> bytes:
    return msgspec.json.encode(log)


def day_of(at: float) -> str:
    """The day of a time, UTC."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def with_causes(log: Log, causes: Iterable[RetrainingCause], settings: RetrainingSettings, now: float) -> Log:
    """The log with an event for the first cause that has none, as soon as there may be another one."""
    log = tuple(event for event in log if event.ended_at is None or event.ended_at > now - KEEP_S)
    # One that lies ahead was noticed before a clock was set back.
    last = max((event.at for event in log if event.at <= now), default=None)
    if len(log) >= MOST_EVENTS or (last is not None and now < last + settings.min_interval_s):
        return log
    known = {event.key for event in log}
    cause = next((one for one in causes if one.key not in known), None)
    if cause is None:
        return log
    event = RetrainingEvent(
        id=blake2b(f"{cause.key}\0{now!r}".encode(), digest_size=16, person=_USE).hexdigest(),
        key=cause.key,
        cause=cause.kind,
        version=cause.version,
        environment=cause.environment,
        reason=cause.reason[:_MOST_REASON],
        at=now,
    )
    return (*log, event)


def callable_event(log: Log, now: float) -> RetrainingEvent | None:
    """The event that is to be called now: one at a time, and also one whose worker has let its lease run out."""
    if any(event.status is EventStatus.CALLING and event.leased_until > now for event in log):
        return None
    waiting = (event for event in log if event.status in (EventStatus.DUE, EventStatus.CALLING))
    return next((event for event in waiting if event.due_at <= now), None)


def called(event: RetrainingEvent, worker: str, settings: RetrainingSettings, now: float) -> RetrainingEvent:
    """The event as it is when a worker begins to call, or gives it up, as its callers have died too often."""
    if event.attempts >= settings.max_attempts:
        note = f"its worker ended while it was calling; {event.attempts} attempts"
        return msgspec.structs.replace(event, status=EventStatus.FAILED, ended_at=now, note=note)
    return msgspec.structs.replace(
        event, status=EventStatus.CALLING, attempts=event.attempts + 1, worker=worker, leased_until=now + LEASE_S
    )


def renewed_lease(event: RetrainingEvent, now: float) -> RetrainingEvent:
    return msgspec.structs.replace(event, leased_until=now + LEASE_S)


def ended(event: RetrainingEvent, outcome: Outcome, settings: RetrainingSettings, now: float) -> RetrainingEvent:
    """The event after an attempt: done, due again, or failed."""
    note = outcome.note[:_MOST_REASON]
    if outcome.accepted:
        return msgspec.structs.replace(event, status=EventStatus.DONE, ended_at=now, note=note, worker="")
    if event.attempts >= settings.max_attempts:
        return msgspec.structs.replace(event, status=EventStatus.FAILED, ended_at=now, note=note, worker="")
    rest_s = min(settings.retry_s * 3.0 ** (event.attempts - 1), _MOST_RETRY_S)
    due_at = now + max(rest_s, min(outcome.retry_after_s, _MOST_RETRY_S))
    return msgspec.structs.replace(event, status=EventStatus.DUE, due_at=due_at, note=note, worker="")


def interrupted(event: RetrainingEvent, now: float) -> RetrainingEvent:
    """The event whose worker stops meanwhile: another one begins again, and the attempt does not count."""
    note = "its worker stopped meanwhile"
    attempts = event.attempts - 1
    return msgspec.structs.replace(
        event, status=EventStatus.DUE, attempts=attempts, due_at=now, note=note, worker="", leased_until=0.0
    )


def replaced(log: Log, event: RetrainingEvent, worker: str) -> Log | None:
    """The log with this state of an event that the worker is calling; None where it has lost it to another one."""
    held = next((one for one in log if one.id == event.id), None)
    if held is None or held.worker != worker or held.status is not EventStatus.CALLING:
        return None
    return tuple(event if one.id == event.id else one for one in log)


def taken(log: Log, event: RetrainingEvent) -> Log:
    """The log with a new state of an event, whoever had it."""
    return tuple(event if one.id == event.id else one for one in log)


def body_of(event: RetrainingEvent, model: str) -> bytes:
    """What is told: JSON, the same at each attempt."""
    told = {
        "id": event.id,
        "type": "retraining.wanted",
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="seconds"),
        "data": {
            "model": model,
            "version": event.version,
            "environment": event.environment,
            "cause": event.cause,
            "reason": event.reason,
        },
    }
    return msgspec.json.encode(told)


def newest(log: Log, most: int) -> Sequence[RetrainingEvent]:
    """The last events, newest first."""
    return log[-most:][::-1]
