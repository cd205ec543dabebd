"""Dealing: what units get under the `hash` strategy, as the rendezvous and a layer say."""

from collections.abc import Callable
from functools import lru_cache

from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import STICKY, Assignment, Reason, assignment_of
from shokado.dispatch.rendezvous import Rendezvous

REMEMBERED_UNITS = 16_384
"""Who has asked of late; users come back. Some 3 MB for each environment that has the `hash` strategy."""


def dealing(rendezvous: Rendezvous, layer: Layer | None) -> Callable[[str], Assignment]:
    """What a unit gets, as a function that remembers who has asked of late.

    Not a method: a cache around one would be a cycle, and with the collector nearly off keep its thousands of units in
    memory after each change of the split.
    """
    version_of = rendezvous.version_of

    @lru_cache(maxsize=REMEMBERED_UNITS)
    def deal(unit: str) -> Assignment:
        if layer is None or layer.has(unit):
            return assignment_of(version_of(unit), STICKY)
        return assignment_of(layer.outside or version_of(unit), Reason.OUTSIDE_LAYER)

    return deal
