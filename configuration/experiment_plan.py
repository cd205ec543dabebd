"""The plan of an experiment as data: the policy by which it is judged, how long it lasts, and what its end does.

In: a YAML file, by default the one beside this module, or the body of a request. Out: a frozen `ExperimentPlan`.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from configuration.experiment_policy import STORED, ExperimentMetric, ExperimentPolicy
from configuration.policy_file import read_policy
from configuration.settings import Name

DEFAULT_FILE = Path(__file__).with_name("experiment.yaml")
MAX_DURATION_S = 366 * 86_400.0
"""Longer than anybody waits for an answer."""
MIN_LABEL_DELAY_S = 1.0
"""No label comes sooner: it is told by a request that is sent after the answer."""
MAX_COHORTS = 200
"""Cohorts of an experiment at most: what is counted of each is kept until some time after its end."""


class AtEnd(StrEnum):
    """What an experiment may do to the split when it ends."""

    TELL = "tell"
    """Nothing."""
    ROLLBACK = "rollback"
    """Give the control all of the traffic where a candidate is worse, or the experiment is not valid. A shadow, which
    has none, gets no more copies.
    """
    PROMOTE = "promote"
    """The same, and give a candidate that is better all of the traffic."""


class LayerPart(BaseModel):
    """A part of a layer: experiments with parts that do not overlap share no unit, whichever server they are of."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: Name
    """The layer's, the same for all experiments that share it out."""
    start: float = Field(alias="from", ge=0, lt=1)
    """Where the part begins; all of the layer is from 0 to 1."""
    end: float = Field(alias="to", gt=0, le=1)
    """Where it ends: another part may begin there."""

    @model_validator(mode="after")
    def _somebody_is_inside(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"from is {self.start:g} and to is {self.end:g}: nobody is inside unless from is below to")
        return self


class ExperimentPlan(ExperimentPolicy):
    """Times in seconds."""

    max_duration_s: float = Field(default=14 * 86_400, ge=1, le=MAX_DURATION_S, allow_inf_nan=False)
    """How long it lasts at most. What is not decided then is HOLD."""
    label_delay_s: float = Field(default=86_400, ge=0, le=MAX_DURATION_S, allow_inf_nan=False, validate_default=True)
    """Within which a label or reward must come to count. By those, predictions are judged when it is over; by all else,
    at once. It may be 0 where nothing that is counted waits for them.
    """
    at_end: AtEnd = AtEnd.TELL
    sample: float = Field(default=1.0, gt=0, le=1)
    """Part of the units whose requests a shadow is compared on; the same ones all the time."""
    layer: LayerPart | None = None
    """The units that the experiment may have; None: all of them. The control answers all others."""

    @field_validator("label_delay_s")
    @classmethod
    def _labels_have_time_to_come(cls, label_delay_s: float, info: ValidationInfo) -> float:
        """Fields of the policy come before this one, those that are valid."""
        if info.context == STORED:
            return label_delay_s
        metrics = [info.data.get("metric"), *(guardrail.metric for guardrail in info.data.get("guardrails", ()))]
        late = [metric.value for metric in metrics if metric is not None and metric.from_feedback]
        if late and label_delay_s < MIN_LABEL_DELAY_S:
            raise ValueError(
                f"label_delay_s is {label_delay_s:g}, within which no label or reward comes, and none would count for "
                f"{', '.join(late)}: set it to the seconds within which they come, such as 86400 for a day"
            )
        max_duration_s = info.data.get("max_duration_s", math.inf)
        if late and label_delay_s >= max_duration_s:
            raise ValueError(
                f"label_delay_s is {label_delay_s:g}, and no label or reward counts before it is over, so that none "
                f"would count for {', '.join(late)} within max_duration_s, which is {max_duration_s:g}"
            )
        return label_delay_s

    @property
    def metrics(self) -> frozenset[ExperimentMetric]:
        """All that is counted."""
        return frozenset({self.metric, *(guardrail.metric for guardrail in self.guardrails)})

    @property
    def cohort_s(self) -> int:
        """How many seconds of predictions are judged together: all of them, when their labels had time to come."""
        return max(1, -int(-self.max_duration_s // MAX_COHORTS))


def load_plan(path: Path = DEFAULT_FILE) -> ExperimentPlan:
    """Read a plan. Raises `SettingsError`."""
    return read_policy(path, ExperimentPlan)
