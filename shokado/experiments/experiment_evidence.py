"""The evidence of an experiment at one look: what was seen of each version, stage by stage, as sums. Pure.

A stage begins where the experiment does, and with each change of its shares. Within a stage units are dealt out by the
same shares all the time, so only there are versions compared. How sums become one effect: `confidence_sequences`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from configuration.experiment_policy import ExperimentMetric
from shokado.experiments.moments import ClusteredMoments, Moments

Sums = Moments | ClusteredMoments
"""Clustered where units come again and their observations are alike: then units are independent, and requests are not.
"""


@dataclass(frozen=True, slots=True)
class VersionEvidence:
    """One version in one stage."""

    units: float = 0
    """Units that were assigned to it and answered by it, each once; where requests are assigned one by one, requests.
    For the sample-ratio check.
    """
    due: float | None = 0
    """Answers old enough for their label or reward to have come, if it ever does. Younger ones do not count at all:
    labels that come late differ from those that come at once. None where it is not known, as answers or labels are
    those of a sample.
    """
    sums: Mapping[ExperimentMetric, Sums] = field(default_factory=dict)
    """What is compared. Of what comes from feedback: of answers that are due only, each observation a label or reward.
    """
    segments: Mapping[tuple[ExperimentMetric, tuple[str, str]], Sums] = field(default_factory=dict)
    """The same of rows of one level of a feature, by metric and `Guardrail.rows`."""

    def labelled(self, metric: ExperimentMetric) -> float:
        """Answers that are due and have their label.

        Raises:
            ValueError: there are more of them than are due.
        """
        sums = self.sums.get(metric)
        count = float(sums.count) if sums is not None else 0.0
        if self.due is not None and count > self.due:
            raise ValueError(f"{count:g} labels of {metric} for {self.due:g} answers that are due")
        return count


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """All versions in one stage."""

    shares: Mapping[str, float]
    """Parts of the units, by version; with a sum of 1."""
    versions: Mapping[str, VersionEvidence]
    pairs: Mapping[str, Sums] = field(default_factory=dict)
    """By candidate that is a shadow: for each label, its observation less the control's on the same row. What is
    observed is that of the policy's metric.
    """

    def of(self, version: str) -> VersionEvidence:
        return self.versions.get(version, VersionEvidence())


def sums_of(
    metric: ExperimentMetric, version: str, stages: Sequence[StageEvidence], rows: tuple[str, str] | None = None
) -> Sums:
    """What was seen of a version, or of its rows of one level alone, with fields of shape (stages,)."""
    if rows is not None:
        return _stacked([stage.of(version).segments.get((metric, rows)) for stage in stages])
    return _stacked([stage.of(version).sums.get(metric) for stage in stages])


def pairs_of(candidate: str, stages: Sequence[StageEvidence]) -> Sums | None:
    """What was seen of a shadow beside the control, with fields of shape (stages,); None where it was none."""
    found = [stage.pairs.get(candidate) for stage in stages]
    return _stacked(found) if any(part is not None for part in found) else None


def _stacked(parts: Sequence[Sums | None]) -> Sums:
    """Raises ValueError where some are clustered and others are not."""
    kinds = {type(part) for part in parts if part is not None} or {Moments}
    if len(kinds) > 1:
        raise ValueError("the sums of some stages are clustered, and those of others are not")
    kind = kinds.pop()
    names = [one.name for one in fields(kind)]
    rows = [[0.0 if part is None else getattr(part, name) for name in names] for part in parts]
    return kind(*np.array(rows, dtype=np.float64).T)
