"""Experiments: versions that share the traffic of an environment until it is decided which one is better.

An experiment is part of the routing state, so it begins, goes on and ends in generations. Its evidence is not: that is
counted in the store (`shokado.stores.evidence`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentDesign

MAX_STAGES = 20
"""Stages that an experiment keeps; the evidence of older ones is not looked at any more."""
_USE = b"shokado.exp.v1"


class Result(StrEnum):
    """How an experiment ended."""

    PROMOTE = "PROMOTE"
    """A candidate is better."""
    HOLD = "HOLD"
    """No difference that matters was found in time."""
    ROLLBACK = "ROLLBACK"
    """A candidate is worse, or past a guardrail."""
    INVALID = "INVALID"
    """What was counted cannot be compared."""
    STOPPED = "STOPPED"
    """By somebody."""


@dataclass(frozen=True, slots=True)
class ExperimentStage:
    """Consecutive generations in which the versions of an experiment have the same shares, units and models."""

    generation: int
    """The first one."""
    shares: Mapping[str, float]
    """Part of the traffic, between 0 and 1, of each version of the experiment; empty where the split is off. Of a
    shadow's experiment the control has all of it, and nobody while another version, or none, is the shadow.
    """
    is_sticky: bool
    """Whether units keep their version."""
    artefacts: Mapping[str, str] = field(default_factory=dict)
    """The digest of what each version is; empty where workers differ, so that nothing is compared."""


@dataclass(frozen=True, slots=True)
class VersionResult:
    """What was known of a version when the experiment ended."""

    assigned: int
    """Units that it was assigned, or requests; of a sample where there are many units."""
    observations: int
    """How many values of the metric there were."""
    mean: float | None = None
    effect: float | None = None
    """Its mean less the control's; None of the control itself, and without observations."""
    low: float | None = None
    high: float | None = None
    """Ends of the confidence sequence of the effect; None where it has none."""


@dataclass(frozen=True, slots=True)
class ExperimentConclusion:
    """How and why an experiment ended."""

    at: float
    """Unix seconds."""
    result: Result
    reason: str
    """For people."""
    winner: str | None = None
    versions: Mapping[str, VersionResult] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """The candidates that broke a guardrail, and which, for people."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment, under way or concluded."""

    id: str
    control: str
    candidates: tuple[str, ...]
    plan: ExperimentPlan
    started_at: float
    """Unix seconds."""
    stages: tuple[ExperimentStage, ...]
    """In their order; the last one is that of now."""
    conclusion: ExperimentConclusion | None = None

    @property
    def is_running(self) -> bool:
        return self.conclusion is None

    @property
    def is_shadowed(self) -> bool:
        """Whether the candidate scores what the control answers, as its shadow."""
        return self.plan.design is ExperimentDesign.SHADOW

    @property
    def versions(self) -> tuple[str, ...]:
        """The control first."""
        return (self.control, *self.candidates)

    @property
    def ends_at(self) -> float:
        """When it is over at the latest, in Unix seconds."""
        return self.started_at + self.plan.max_duration_s

    def stage_of(self, generation: int) -> ExperimentStage | None:
        """The stage that a generation is of; None before the first that is known."""
        return next((stage for stage in reversed(self.stages) if stage.generation <= generation), None)

    def cohort_of(self, at: float) -> int:
        """The cohort of what was predicted at `at`: when it began, both in Unix seconds."""
        return int(at // self.plan.cohort_s) * self.plan.cohort_s

    def with_stage(self, stage: ExperimentStage) -> "Experiment":
        """The experiment with a stage more."""
        return replace(self, stages=(*self.stages, stage)[-MAX_STAGES:])


class CountedStage:
    """The stage of now as those who count see it. Immutable; compared by identity."""

    __slots__ = ("_begun", "cohort_s", "experiment", "is_shadowed", "is_sticky", "stage")

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.stage = experiment.stages[-1]
        # Asked for each request, and worked out once.
        self.is_sticky, self.cohort_s = self.stage.is_sticky, experiment.plan.cohort_s
        self.is_shadowed = experiment.is_shadowed
        self._begun = blake2b(key=experiment.id.encode()[:64], digest_size=8, person=_USE)

    def cohort_of(self, at: float) -> int:
        """As of the experiment."""
        return int(at // self.cohort_s) * self.cohort_s

    def unit_bytes(self, unit: str) -> bytes:
        """Eight bytes that stand for a unit: others in each experiment, and no kin of those it is assigned by."""
        hashed = self._begun.copy()
        hashed.update(unit.encode())
        return hashed.digest()
