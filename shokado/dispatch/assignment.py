"""Assignment: which version a request gets, and why. Pure: the same arguments give the same answer on every worker."""

from shokado.dispatch.reason import ACTIVE, PINNED, SPLIT, Assignment, assignment_of
from shokado.dispatch.state import Environment


def assign(
    environment: Environment, random_number: float, unit: str = "", *, pinned: str | None = None, split: bool = True
) -> Assignment:
    """Assign a version.

    `random_number` is uniform in [0, 1); `unit` is what the `hash` strategy sticks to. `pinned` wins over all else;
    `split=False` asks for the active version.
    """
    if pinned is not None:
        return assignment_of(pinned, PINNED)
    if split and environment.enabled:
        deal = environment.deal
        if deal is not None:
            return deal(unit)
        for end, version in environment.thresholds:
            if random_number < end:
                return assignment_of(version, SPLIT)
    return assignment_of(environment.active, ACTIVE)
