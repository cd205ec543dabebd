"""The figures per version: from what all workers counted to what people compare versions by.

In: tallies, as `stores.Store.tallies` gives them. Out: `VersionFigures`, where every figure comes with the number of
observations behind it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shokado.experiments.proportions import wilson
from shokado.stores.store import Tally

Counts = Mapping[str, float]
"""Sums of one version, by `Counted`; what is not there was never counted."""
Tallies = Mapping[tuple[int, Tally], float]
"""Counts by (beginning of the minute in Unix seconds, what was counted)."""


class Counted(StrEnum):
    """What is added up per version: the names of tallies.

    `REQUESTS`, `ROWS`, `ON_TIME` and `FAILED` are counted over all environments together, the others in each
    environment, in the minute they arrived.
    """

    REQUESTS = "requests"
    """Requests answered with a prediction."""
    ROWS = "rows"
    """Rows of these requests."""
    ON_TIME = "on_time"
    """Requests that were answered within `weighted.latency_target_ms`."""
    FAILED = "failed"
    """Requests that were assigned to the version and answered with an error."""
    FEEDBACK = "feedback"
    """Pieces of feedback."""
    DELAY_S = "delay_s"
    """Seconds from the prediction to its feedback."""
    CLASS_LABELS = "class_labels"
    CORRECT = "correct"
    """Labels of `CLASS_LABELS` for which the predicted class was the right one."""
    VALUE_LABELS = "value_labels"
    """Labels of values: of a regression, or of several a row."""
    SQUARED_ERROR = "squared_error"
    """Sum over the labels; several values a row count with the mean of theirs."""
    SQUARED_ERROR_SQUARED = "squared_error_squared"
    """Sum of the squares of the squared errors: how much they vary."""
    REWARDS = "rewards"
    """Number of rewards."""
    REWARD_SUM = "reward_sum"


@dataclass(frozen=True, slots=True)
class Proportion:
    """A mean of numbers between 0 and 1, with the interval that has the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float
    observations: int


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """How a version did; None where nothing was observed.

    `requests`, `rows`, `on_time` and `failed` are of all environments together, as they are counted.
    """

    requests: int
    rows: int
    on_time: int
    failed: int
    feedback: int
    labels: int
    accuracy: Proportion | None
    """Part of the labels that the predicted class was right for; of classifiers."""
    conversion: Proportion | None
    """Mean reward."""
    mean_squared_error: float | None
    """Mean over all labels of values, and over several a row; None for classifiers."""
    label_coverage: float | None
    """Labels per row that was answered; None for a single environment, whose rows are not counted apart."""
    mean_delay_s: float | None
    """Seconds from the prediction to its feedback."""


def figures(tallies: Tallies, version: str, environment: str | None = None) -> VersionFigures:
    """The figures of one version, with the feedback of one environment, or of all."""
    counts = add_up(tallies, environment).get(version, {})

    def count(name: Counted) -> int:
        return round(counts.get(name, 0))

    def mean(total: Counted, of: Counted) -> float | None:
        return counts.get(total, 0) / counts[of] if count(of) else None

    labels = count(Counted.CLASS_LABELS) + count(Counted.VALUE_LABELS)
    rows = count(Counted.ROWS)
    return VersionFigures(
        requests=count(Counted.REQUESTS),
        rows=rows,
        on_time=count(Counted.ON_TIME),
        failed=count(Counted.FAILED),
        feedback=count(Counted.FEEDBACK),
        labels=labels,
        accuracy=_proportion(counts.get(Counted.CORRECT, 0), count(Counted.CLASS_LABELS)),
        conversion=_proportion(counts.get(Counted.REWARD_SUM, 0), count(Counted.REWARDS)),
        mean_squared_error=mean(Counted.SQUARED_ERROR, Counted.VALUE_LABELS),
        # Labels may come for rows that were answered before these tallies begin.
        label_coverage=min(labels / rows, 1.0) if rows and environment is None else None,
        mean_delay_s=mean(Counted.DELAY_S, Counted.FEEDBACK),
    )


def add_up(
    tallies: Tallies, environment: str | None = None, weight: Callable[[int], float] = lambda _: 1.0
) -> dict[str, Counts]:
    """Sums by version, of one environment or of all; `weight` says how much a minute counts.

    What was counted over all environments together is in every sum.
    """
    weights = {minute: weight(minute) for minute in {minute for minute, _ in tallies}}
    sums: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (minute, tally), value in tallies.items():
        if environment is None or tally.environment in ("", environment):
            sums[tally.version][tally.name] += weights[minute] * value
    return {version: dict(counts) for version, counts in sums.items()}


def _proportion(total: float, observations: int) -> Proportion | None:
    if not observations:
        return None
    mean = min(max(total / observations, 0.0), 1.0)
    return Proportion(mean, *wilson(mean, observations), observations)
