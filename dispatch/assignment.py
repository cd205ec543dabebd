"""Assignment: which version a request gets, and why. Pure: the same arguments give the same answer on every worker."""

from enum import StrEnum
from typing import NamedTuple

from dispatch.state import Environment


class Reason(StrEnum):
    """Why a version answered."""

    SPLIT = "SPLIT"
    PINNED = "PINNED"
    ACTIVE = "ACTIVE"
    FALLBACK = "FALLBACK"


class Assignment(NamedTuple):
    version: str
    reason: Reason


def assign(
    environment: Environment, random_number: float, *, pinned: str | None = None, split: bool = True
) -> Assignment:
    """Assign a version.

    `random_number` is uniform in [0, 1). `pinned` wins over all else; `split=False` asks for the active version.
    """
    if pinned is not None:
        return Assignment(pinned, Reason.PINNED)
    if split and environment.enabled:
        for end, version in environment.thresholds:
            if random_number < end:
                return Assignment(version, Reason.SPLIT)
    return Assignment(environment.active, Reason.ACTIVE)
