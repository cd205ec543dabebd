"""What was seen in a run. Counts of several processes add up, and go between them as bytes."""

from collections.abc import Mapping

import msgspec

from load_tests.traffic.answer import Answer
from load_tests.traffic.histogram import Histogram

_MAX_COMPLAINTS = 20
"""Different complaints that are kept: of more, only the number."""
_OTHERS = "others"
FALLBACK = "FALLBACK"
_OUTSIDE_LAYER = "OUTSIDE_LAYER"
"""Not the split's choice: an experiment leaves the unit alone."""


class StageCounts(msgspec.Struct):
    """Requests that were due in one stage, by what became of them; times from when they were due."""

    accepted: int = 0
    refused: int = 0
    """Requests answered by 429 or 503 with `Retry-After`."""
    errors: int = 0
    latencies: Histogram = msgspec.field(default_factory=Histogram)
    """Latencies of accepted requests."""
    refusals: Histogram = msgspec.field(default_factory=Histogram)

    @property
    def total(self) -> int:
        return self.accepted + self.refused + self.errors

    def merge(self, other: "StageCounts") -> None:
        self.accepted += other.accepted
        self.refused += other.refused
        self.errors += other.errors
        self.latencies.merge(other.latencies)
        self.refusals.merge(other.refusals)


class Units(msgspec.Struct):
    """The units of one generation: the version that each got first, and those that got another one later."""

    versions: dict[str, str] = {}
    switched: set[str] = set()
    answers: dict[str, int] = {}
    """Answers by version."""

    def see(self, unit: str, version: str) -> None:
        if self.versions.setdefault(unit, version) != version:
            self.switched.add(unit)

    def merge(self, other: "Units") -> None:
        for unit, version in other.versions.items():
            self.see(unit, version)
        self.switched |= other.switched
        _add(self.answers, other.answers)


class Counts(msgspec.Struct):
    """What one process counted, or all."""

    stages: dict[int, StageCounts] = {}
    lateness: Histogram = msgspec.field(default_factory=Histogram)
    """How long after a request was due this program came round to send it."""
    split: dict[int, dict[str, int]] = {}
    """Answers to requests without a unit, by generation and version, by the split's choice."""
    units: dict[int, Units] = {}
    """Units by generation."""
    told: int = 0
    """Answers that tell their reason."""
    fallbacks: int = 0
    """Answers whose reason is `FALLBACK`."""
    feedback: int = 0
    """Labels that were taken."""
    complaints: dict[str, int] = {}
    """How often something was wrong, in words."""
    doubt: str = ""
    """Why all this says little of the server, such as that this program could not keep up; empty where nothing does."""

    def stage(self, index: int) -> StageCounts:
        return self.stages.setdefault(index, StageCounts())

    def add_answer(self, stage: int, latency_s: float, answer: Answer, unit: str | None) -> None:
        """A right answer, of which the choice of its version counts if it was the split's."""
        counts = self.stage(stage)
        counts.accepted += 1
        counts.latencies.add(latency_s)
        if answer.reason is None:
            return
        self.told += 1
        if answer.reason == FALLBACK:
            self.fallbacks += 1
        elif answer.reason == _OUTSIDE_LAYER:
            return
        elif unit is not None:
            units = self.units.setdefault(answer.generation, Units())
            units.see(unit, answer.version)
            _add(units.answers, {answer.version: 1})
        else:
            _add(self.split.setdefault(answer.generation, {}), {answer.version: 1})

    def add_refusal(self, stage: int, latency_s: float) -> None:
        counts = self.stage(stage)
        counts.refused += 1
        counts.refusals.add(latency_s)

    def fail(self, stage: int, complaint: str) -> None:
        self.stage(stage).errors += 1
        self._complain(complaint, 1)

    def whole(self) -> StageCounts:
        """The counts of all stages together."""
        found = StageCounts()
        for counts in self.stages.values():
            found.merge(counts)
        return found

    def merge(self, other: "Counts") -> None:
        for index, counts in other.stages.items():
            self.stage(index).merge(counts)
        self.lateness.merge(other.lateness)
        for generation, versions in other.split.items():
            _add(self.split.setdefault(generation, {}), versions)
        for generation, units in other.units.items():
            self.units.setdefault(generation, Units()).merge(units)
        self.told += other.told
        self.fallbacks += other.fallbacks
        self.feedback += other.feedback
        for complaint, times in other.complaints.items():
            self._complain(complaint, times)
        self.doubt = self.doubt or other.doubt

    def _complain(self, complaint: str, times: int) -> None:
        if complaint not in self.complaints and len(self.complaints) >= _MAX_COMPLAINTS:
            complaint = _OTHERS
        _add(self.complaints, {complaint: times})


def _add(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Counts).decode
