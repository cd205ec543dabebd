"""Evidence of experiments, as stores keep it: sums, and which units were counted already.

A sum is of one version in one stage and one cohort, the predictions of a short time. What counts once for each unit is
a *sighting*. A scope holds so many units at most: a unit's hash has a level, the zeros that it begins with, and when a
scope is full it lets go of all units of its lowest level, about half, with all that was counted for them. What is left
is what would have been counted had nobody looked at others: a sample in whose choice no version has a part.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

PLAIN = ""
"""The scope of what is no sighting: each of it counts."""
UNIT_BYTES = 8
KEEP_BATCHES_S = 86_400.0
"""How long a store knows which batch of a worker it has added last."""


class Evidence(NamedTuple):
    """What is added up."""

    stage: int
    version: str
    cohort: int
    """When it began, in Unix seconds."""
    name: str
    """Bounded by code."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Evidence that counts unless its unit has been seen before in the same scope."""

    experiment: str
    scope: str
    unit: bytes
    """`UNIT_BYTES` of hash."""
    at_most: int
    """How many units the scope keeps."""
    counts: Mapping[Evidence, float]

    @property
    def level(self) -> int:
        return level_of(self.unit)


@dataclass(frozen=True, slots=True)
class ShadowScores:
    """What a shadow says of a request."""

    experiment: str
    cohort: int
    """As of `Evidence`: that of the prediction."""
    key: str
    """The prediction's own, which no other one has."""
    answers: bytes
    """As whoever joins them reads them."""
    at_most: int
    """How many of a cohort are kept."""
    no_room: Evidence
    """What is counted where there is no room."""


@dataclass(frozen=True, slots=True)
class EvidenceBatch:
    """What a worker has counted; the same batch is added once, however often it is sent."""

    worker: str
    number: int
    """Ascending."""
    counts: Mapping[tuple[str, Evidence], float] = field(default_factory=dict)
    """By experiment and evidence."""
    sightings: Sequence[Sighting] = ()
    scores: Sequence[ShadowScores] = ()


@dataclass(frozen=True, slots=True)
class GatheredEvidence:
    """The sums of an experiment."""

    sums: Mapping[tuple[int, str, str], float]
    """By stage, version and name."""
    halvings: Mapping[str, int]
    """How often each scope let go of half of its units."""


@dataclass(frozen=True, slots=True)
class CountedEvidence:
    """All that was counted for an experiment, by cohort."""

    rows: Mapping[Evidence, float]
    halvings: Mapping[str, int]
    """As of `GatheredEvidence`."""

    def before(self, before: float) -> GatheredEvidence:
        """The sums over the cohorts that began before `before`."""
        sums: defaultdict[tuple[int, str, str], float] = defaultdict(float)
        for (stage, version, cohort, name), value in self.rows.items():
            if cohort < before:
                sums[stage, version, name] += value
        return GatheredEvidence(dict(sums), dict(self.halvings))


def level_of(unit: bytes) -> int:
    """How many zeros a unit's hash begins with: half of all units have at least one, a quarter two."""
    return 8 * UNIT_BYTES - int.from_bytes(unit, "big").bit_length()
