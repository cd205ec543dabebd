"""Reasons: why a version answered, which every answer says."""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Reason(StrEnum):
    """Why a version answered."""

    SPLIT = "SPLIT"
    STICKY = "STICKY"
    PINNED = "PINNED"
    ACTIVE = "ACTIVE"
    FALLBACK = "FALLBACK"
    OUTSIDE_LAYER = "OUTSIDE_LAYER"
    """The unit is outside of the experiment's part of a layer."""


class Assignment(NamedTuple):
    version: str
    reason: Reason


# Bound here, as an enum's members are found through its metaclass, which would cost every request.
SPLIT, STICKY, PINNED, ACTIVE = Reason.SPLIT, Reason.STICKY, Reason.PINNED, Reason.ACTIVE

# Looking one up takes a third of the time that making one does, and there are few.
assignment_of = lru_cache(maxsize=1024)(Assignment)
