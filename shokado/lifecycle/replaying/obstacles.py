"""Obstacles: why a logged request cannot be put to a candidate, or not compared. Never is one sent with other values.

A request is replayed as a whole or not at all: a part of it would be another request, with another latency.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np

from runners.inputs.columns import Category
from shokado.lifecycle.replaying.candidate import CandidateSignature
from shokado.lifecycle.replaying.logged_calls import (
    REPLAY_PREFIX,
    LoggedCall,
    LoggedOrigin,
    Obstacle,
    Obstacles,
)

_NAMED = 10
"""Features that a reason names."""


def obstacles_to(signature: CandidateSignature, model: str | None) -> Obstacles:
    """What says of each call why that candidate cannot be given it; `model` is whose calls it can, None: any's."""

    @cache
    def of_all(origin: LoggedOrigin) -> Obstacle | None:
        return _incomparable(origin, signature, model) or _hidden(origin, signature) or _lacking(origin, signature)

    @cache
    def lost(origin: LoggedOrigin) -> dict[int, float]:
        return _lost_levels(origin, signature)

    def obstacle(call: LoggedCall) -> Obstacle | None:
        if call.request_id.startswith(REPLAY_PREFIX):
            return Obstacle("an earlier replay sent it")
        found = of_all(call.origin)
        if found is not None:
            return found
        if not np.isfinite(call.scores).all():
            return Obstacle("it has no score in the log")
        for column, other in lost(call.origin).items():
            if (call.batch[:, column] == other).any():
                name = call.origin.card.feature_names[column]
                return Obstacle(f"{name} has a level that {call.version} does not know, and so does not log")
        return None

    return obstacle


def _incomparable(origin: LoggedOrigin, signature: CandidateSignature, model: str | None) -> Obstacle | None:
    card = origin.card
    if model is not None and card.model != model:
        return Obstacle(f"it was asked of the model {card.model}")
    for what in ("task", "classes", "outputs"):
        theirs, ours = getattr(card, what), getattr(signature, what)
        if theirs != ours:
            return Obstacle(f"{card.version} and {signature.version} give other {what}: {_said(theirs)}; {_said(ours)}")
    return None


def _hidden(origin: LoggedOrigin, signature: CandidateSignature) -> Obstacle | None:
    """Features that the candidate takes, and of which the log has no values."""
    hidden = [name for name in signature.row_format.feature_names if name in origin.masked]
    if not hidden:
        return None
    hashed, dropped = ([n for n in hidden if (n in origin.hashed) is is_hashed] for is_hashed in (True, False))
    parts = [
        f"{verb} {_listed(names)}" for verb, names in (("the log hashes", hashed), ("the log drops", dropped)) if names
    ]
    settings = [setting for setting, names in (("log.hash", hashed), ("log.drop", dropped)) if names]
    return Obstacle(f"{' and '.join(parts)}, which {signature.version} takes", " and ".join(settings))


def _lacking(origin: LoggedOrigin, signature: CandidateSignature) -> Obstacle | None:
    """Features that the candidate takes and the version did not: whatever the request had of them was not logged."""
    known = set(origin.card.feature_names)
    lacking = [name for name in signature.row_format.feature_names if name not in known]
    if not lacking:
        return None
    return Obstacle(f"{origin.card.version} does not take {_listed(lacking)}, which {signature.version} takes")


def _lost_levels(origin: LoggedOrigin, signature: CandidateSignature) -> dict[int, float]:
    """What is packed of texts that are none of the version's levels, by column, where the candidate has other levels.

    The text itself is not in the log. Where both know the same levels, it is the same to them, whatever it was.
    """
    lost = {}
    for at, column in enumerate(origin.card.row_format.schema.columns):
        if isinstance(column, Category) and column.other and column.name in signature.row_format.feature_names:
            theirs = signature.categories.get(column.name)
            if theirs is None or not theirs.other or set(theirs.levels) != set(column.levels):
                lost[at] = float(len(column.levels))
    return lost


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _said(value: object) -> str:
    return _listed(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
