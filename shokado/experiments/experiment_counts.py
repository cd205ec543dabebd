"""What is counted for an experiment, by name: units, what became of requests, and sums of metrics."""

from collections.abc import Sequence

from configuration.experiment_policy import ExperimentMetric

ASSIGNED = "assigned"
"""Units or requests by the version that answered them, or failed to."""
REQUESTS = "requests"
"""Those that were assigned to the version and ended, whoever answered them."""
ERRORS = "errors"
"""Those of `REQUESTS` that were answered with an error which was not the client's fault."""
FALLBACKS = "fallbacks"
"""Those of `REQUESTS` that another version answered."""
SLOW = "slow"
"""Answers of the assigned version that took longer than the target."""

SAMPLED = "pairs.sampled"
"""Requests that a shadow is compared on, counted for the shadow."""
SCORED = "pairs.scored"
"""Those of `SAMPLED` that it has scored."""
FAILED = "pairs.failed"
"""Those of `SAMPLED` that it could not score: its model failed, or a feature was lacking."""
NO_ROOM = "pairs.no_room"
"""Those of `SCORED` and `FAILED` that wait for labels, and that the store had no room for."""
LABELS = "pairs.labels"
"""Labels of the control's answers that came in time, of units of the sample."""
JOINED = "pairs.joined"
"""Those of `LABELS` for whose request the shadow's scores were there."""
LET_GO = "pairs.let_go"
"""Those of `LABELS` that waited for scores and made room for newer ones."""

MAX_ASSIGNED_UNITS = 2**15
"""Units of a stage that are told apart: a share is known to half a per cent then (two standard deviations)."""
MAX_LABELLED_UNITS = 2**20
"""Units of an experiment whose labels count."""


def sums_named(metric: ExperimentMetric) -> tuple[str, str, str]:
    """Under which names a metric is counted: number of observations, their sum, the sum of their squares."""
    return f"{metric}.count", f"{metric}.sum", f"{metric}.squares"


def paired_sums_named(metric: ExperimentMetric) -> tuple[str, str, str]:
    """The same of differences within pairs, counted for the shadow."""
    return f"pairs.{metric}.count", f"pairs.{metric}.sum", f"pairs.{metric}.squares"


def segment_sums_named(metric: ExperimentMetric, segment: str, level: str) -> tuple[str, str, str]:
    """The same of the rows of one level of a segmented feature; see `FeatureLevels.key`."""
    begin = f"{metric}.{segment}.{level}"
    return f"{begin}.count", f"{begin}.sum", f"{begin}.squares"


_NAMES = {metric: sums_named(metric) for metric in ExperimentMetric}


def one_observation(
    metric: ExperimentMetric, value: float, segments: Sequence[tuple[str, str]] = ()
) -> dict[str, float]:
    """What one observation adds, by name: to the metric, and to that of each segment and level that its row is of."""
    names = [_NAMES[metric], *(segment_sums_named(metric, *of) for of in segments)]
    return {name: number for each in names for name, number in zip(each, (1.0, value, value * value), strict=True)}


def assigned_scope(stage: int) -> str:
    """The scope of units that were seen in a stage."""
    return f"assigned.{stage}"


def labelled_scope(metric: ExperimentMetric) -> str:
    """The scope of units of which a label is known."""
    return f"labelled.{metric}"
