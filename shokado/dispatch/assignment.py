"""Assignment: which version a request gets, and why. Pure: the same arguments give the same answer on every worker."""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from configuration.settings import Strategy
from shokado.dispatch.state import Environment


class Reason(StrEnum):
    """Why a version answered."""

    SPLIT = "SPLIT"
    STICKY = "STICKY"
    PINNED = "PINNED"
    ACTIVE = "ACTIVE"
    FALLBACK = "FALLBACK"


class Assignment(NamedTuple):
    version: str
    reason: Reason


# Bound here, as an enum's members are found through its metaclass, which would cost every request.
SPLIT, STICKY, PINNED, ACTIVE = Reason.SPLIT, Reason.STICKY, Reason.PINNED, Reason.ACTIVE
HASH = Strategy.HASH

# Looking one up takes a third of the time that making one does, and there are few.
_assignment = lru_cache(maxsize=1024)(Assignment)


def assign(
    environment: Environment, random_number: float, unit: str = "", *, pinned: str | None = None, split: bool = True
) -> Assignment:
    """Assign a version.

    `random_number` is uniform in [0, 1); `unit` is what the `hash` strategy sticks to. `pinned` wins over all else;
    `split=False` asks for the active version.
    """
    if pinned is not None:
        return _assignment(pinned, PINNED)
    if split and environment.enabled:
        if environment.strategy is HASH:
            return _assignment(environment.rendezvous.version_of(unit), STICKY)
        for end, version in environment.thresholds:
            if random_number < end:
                return _assignment(version, SPLIT)
    return _assignment(environment.active, ACTIVE)
