"""The policy of a canary as data: how fast a version gets more of the traffic, what must not happen meanwhile, and the
experiment that decides whether it may have all.

In: a YAML file, by default the one beside this module. Out: a frozen `CanaryPolicy`, or a `SettingsError` that names
each wrong key. What is observed is judged by it in `shokado.lifecycle.rollout.verdict`, and the gateway judges the
experiment.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configuration.experiment_plan import MAX_DURATION_S, AtEnd, ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from configuration.policy_file import read_policy

DEFAULT_FILE = Path(__file__).with_name("canary.yaml")


class CanaryExperiment(ExperimentPlan):
    """The plan of an experiment that takes back what is worse by itself, and leaves promoting to the canary's steps."""

    max_duration_s: float = Field(default=5400, ge=1, le=MAX_DURATION_S, allow_inf_nan=False)
    label_delay_s: float = Field(default=600, ge=0, le=MAX_DURATION_S, allow_inf_nan=False, validate_default=True)
    at_end: Literal[AtEnd.ROLLBACK] = AtEnd.ROLLBACK


class CanaryPolicy(BaseModel):
    """Rates and shares are between 0 and 1; steps are percent of the traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[float, ...] = Field(default=(10, 50, 100), min_length=1)
    min_seconds: float = Field(default=60, ge=0)
    max_seconds: float = Field(default=1800, gt=0)
    """Seconds after which `shokado canary run` gives up a step that cannot be judged."""
    min_requests: int = Field(default=100, ge=1)
    """Requests that the canary needs for a step to pass."""
    confidence: float = Field(default=0.999, ge=0.5, lt=1)
    """One minus the chance that a look at a rate which is just at its limit takes it for higher."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    max_error_increase: float = Field(default=0.005, ge=0, le=1)
    """How far the canary's error rate may lie above the active version's."""
    max_fallback_share: float = Field(default=0.01, ge=0, le=1)
    """Requests of the canary that the active version answered in its place: nobody saw them fail."""
    max_p99_ratio: float = Field(default=1.5, ge=1)
    p99_allowance_ms: float = Field(default=10, ge=0)
    """A latency that is longer by no more than this is fine, whatever the ratio."""
    min_requests_p99: int = Field(default=1000, ge=1)
    """Answers that both versions need: the 99th percentile of 100 requests is the slowest one, which says little."""
    experiment: CanaryExperiment | None = CanaryExperiment(metric=ExperimentMetric.ERROR_RATE, smallest_effect=0.01)
    """Compares the two from the first step on, and must have ended well before the canary gets everything; None: the
    limits above are all there is.
    """

    @model_validator(mode="after")
    def _steps_lead_to_all(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] <= 0 or self.steps[-1] != 100:
            raise ValueError(f"steps are {list(self.steps)}; they ascend from above 0 to 100")
        if self.experiment is not None and self.steps[0] == 100:
            raise ValueError("steps begin with 100, which leaves nothing to compare; begin lower, or by limits alone")
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds is {self.max_seconds}, below min_seconds, which is {self.min_seconds}")
        return self

    def step_after(self, percent: float) -> float | None:
        """The first step above a share of the traffic; None above the last."""
        return next((step for step in self.steps if step > percent), None)


def load_policy(path: Path = DEFAULT_FILE) -> CanaryPolicy:
    """Read a policy. Raises `SettingsError`."""
    return read_policy(path, CanaryPolicy)
