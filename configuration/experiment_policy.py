"""The policy of an experiment as data: what versions are compared by, what matters, and what must not happen meanwhile.

`shokado.experiments.experiment_verdict` judges by it, pure.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

STORED = "stored"
"""The context of a policy that was begun with before: what is refused only since then must be read all the same."""


class ExperimentMetric(StrEnum):
    """A mean over answers, or over their labels."""

    ACCURACY = "accuracy"
    """Share of labels for which the predicted class was the right one."""
    REWARD = "reward"
    """Mean reward, from 0 to 1; a conversion is a reward of 1."""
    SQUARED_ERROR = "squared_error"
    ABSOLUTE_ERROR = "absolute_error"
    LATENCY = "latency"
    """Mean milliseconds until the answer."""
    ERROR_RATE = "error_rate"
    """Share of requests that were answered with an error which was not the client's fault."""
    SLOW_SHARE = "slow_share"
    """Share of answers that took longer than the latency target."""
    FALLBACK_SHARE = "fallback_share"
    """Share of requests that the active version answered in place of the assigned one."""
    AGREEMENT = "agreement"
    """Share of rows for which a shadow says the same as the control; it needs no labels."""

    @property
    def higher_is_better(self) -> bool:
        return self in (ExperimentMetric.ACCURACY, ExperimentMetric.REWARD, ExperimentMetric.AGREEMENT)

    @property
    def bounded(self) -> bool:
        """Whether each observation is between 0 and 1."""
        return self not in (
            ExperimentMetric.SQUARED_ERROR, ExperimentMetric.ABSOLUTE_ERROR, ExperimentMetric.LATENCY,
        )  # fmt: skip

    @property
    def from_feedback(self) -> bool:
        """Whether it waits for labels or rewards, which come later or never."""
        return self in (
            ExperimentMetric.ACCURACY, ExperimentMetric.REWARD,
            ExperimentMetric.SQUARED_ERROR, ExperimentMetric.ABSOLUTE_ERROR,
        )  # fmt: skip


IN_PAIRS = (
    ExperimentMetric.ACCURACY, ExperimentMetric.SQUARED_ERROR, ExperimentMetric.ABSOLUTE_ERROR,
    ExperimentMetric.AGREEMENT,
)  # fmt: skip
"""What can be said of a version whose answers nobody is given."""


class ExperimentDesign(StrEnum):
    """Who answers what."""

    SPLIT = "split"
    """Candidates share the traffic with the control."""
    SHADOW = "shadow"
    """The control answers, and the candidate scores the same rows, as the environment's shadow."""


def _is_none(value: object) -> bool:
    return value is None


class Guardrail(BaseModel):
    """What a candidate must not do, whatever the metric says; at least one of both limits.

    It is promoted when it surely keeps all guardrails, and rolled back when it surely does not keep one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: ExperimentMetric
    limit: float | None = Field(default=None, gt=0, lt=1)
    """The candidate's share may not lie above it; of shares of which less is better."""
    margin: float | None = Field(default=None, gt=0)
    """The candidate may not be worse than the control by more than this, in units of the metric."""
    by: str | None = Field(default=None, max_length=200, exclude_if=_is_none)
    """A feature of `segments.features`: the guardrail is about rows of one of its levels alone."""
    level: str | None = Field(default=None, max_length=64, exclude_if=_is_none)
    """Which one. Where it is left out, the guardrail is one for each level, when the experiment begins."""
    segment: str | None = Field(default=None, max_length=300, exclude_if=_is_none)
    """Names the feature with its levels as they were then, which is how it is counted; nobody need give it."""

    @property
    def rows(self) -> tuple[str, str] | None:
        """The segment and level that it is about; None where it is about all rows."""
        return (self.segment, self.level) if self.segment is not None and self.level is not None else None

    @property
    def what(self) -> str:
        """What it is about, for people."""
        return f"{self.metric}{f' of {self.by} {self.level}' if self.level is not None else ''}"

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.limit is None and self.margin is None:
            raise ValueError(f"the guardrail {self.metric} has neither limit nor margin: give at least one")
        if self.limit is not None and (self.metric.higher_is_better or not self.metric.bounded):
            raise ValueError(f"a limit is for shares of which less is better, and {self.metric} is none: give a margin")
        if self.by is not None and not self.metric.from_feedback:
            raise ValueError(f"by is for what comes with labels and rewards, and {self.metric} does not: leave it out")
        if self.by is None and (self.level is not None or self.segment is not None):
            raise ValueError("level is one of a feature: name it in by")
        return self


class ExperimentPolicy(BaseModel):
    """How candidates are compared with the control."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: ExperimentMetric
    design: ExperimentDesign = ExperimentDesign.SPLIT
    smallest_effect: float = Field(gt=0)
    """The smallest difference that matters, in units of the metric. Versions that differ by less are equivalent; it
    also decides for which differences the test is the most powerful. With `agreement` it is the bound: the share of
    rows on which a candidate may disagree.
    """
    error_rate: float = Field(default=0.05, ge=1e-6, le=0.2)
    """The chance at most that an experiment ever promotes or rolls back a candidate which is as good as the control,
    however often it is looked at, over all candidates and guardrails together; and that it promotes one which does not
    keep a guardrail.
    """
    guardrails: tuple[Guardrail, ...] = Field(default=(), max_length=16)
    integrity_error_rate: float = Field(default=0.001, ge=1e-9, le=0.2)
    """The chance at most that an experiment is ever called invalid while units and labels come as they should."""

    @field_validator("smallest_effect")
    @classmethod
    def _less_than_everything(cls, smallest_effect: float, info: ValidationInfo) -> float:
        """No two shares differ by 1, so versions of which nothing was seen would be equivalent."""
        metric = info.data.get("metric")
        if info.context != STORED and metric is not None and metric.bounded and smallest_effect >= 1:
            raise ValueError(
                f"{metric} is between 0 and 1, so the smallest effect must be below 1, such as 0.01 for one point of a "
                f"hundred, and it is {smallest_effect:g}"
            )
        return smallest_effect

    @model_validator(mode="after")
    def _guardrails_differ(self) -> Self:
        about = [(guardrail.metric, guardrail.by, guardrail.level) for guardrail in self.guardrails]
        if len(set(about)) < len(about):
            raise ValueError("two guardrails have the same metric: give limit and margin in one")
        return self

    @model_validator(mode="after")
    def _design_fits(self) -> Self:
        metric = self.metric
        if self.design is ExperimentDesign.SPLIT:
            if ExperimentMetric.AGREEMENT in {metric, *(guardrail.metric for guardrail in self.guardrails)}:
                raise ValueError(
                    "agreement is of versions that score the same rows: give design: shadow, and no guardrail"
                )
            return self
        if metric not in IN_PAIRS:
            raise ValueError(
                f"nobody is given a shadow's answers, so there is no {metric} of it; {', '.join(IN_PAIRS)} are"
            )
        for guardrail in self.guardrails:
            if guardrail.metric is not ExperimentMetric.ERROR_RATE or guardrail.margin is not None:
                raise ValueError(
                    "the guardrail of a shadow is a limit of its error_rate, the share of rows it fails on"
                )
        return self
