"""Pairs, as stores keep them: labels, and what a shadow says of the same requests (`ShadowScores` of `evidence`).

Whichever comes second, they meet in the store, in one piece. Somebody then makes evidence of what has met, once. Both
are kept until labels have had their time, and so many of each cohort at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shokado.stores.evidence import Evidence, Sighting

FORGET_EVERY_S = 300.0
"""How often somebody has a store forget what nobody needs any more."""


@dataclass(frozen=True, slots=True)
class PairedLabel:
    """A label of a row, for which there may be scores."""

    experiment: str
    cohort: int
    key: str
    row: int
    """The row's position in its request."""
    content: str
    """As whoever joins them reads it."""
    waits: bool
    """Whether scores may come yet; else it is kept only where they are there."""
    at_most: int
    """How many of a cohort wait: where there are more, those that came first are let go, as a label whose scores never
    come would else take the place of all that are quicker than theirs.
    """
    counted: Evidence
    """What is counted of it in any case."""
    let_go: Evidence
    """What is counted for each one that is let go for it."""


@dataclass(frozen=True, slots=True)
class MetPair:
    """A label and the scores of its request."""

    cohort: int
    key: str
    row: int
    content: str
    answers: bytes


@dataclass(frozen=True, slots=True)
class JoinedPair:
    """What a pair that has met is worth."""

    pair: MetPair
    counts: Mapping[Evidence, float]
    """What is counted of it in any case."""
    sighting: Sighting | None
    """What counts once for its unit; None where it says nothing."""
