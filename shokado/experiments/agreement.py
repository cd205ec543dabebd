"""Agreement: on how many rows a shadow says something else than the control, exactly, at any number of rows. Pure.

No label is needed, and nothing is learned of who is right. So the question is whether the candidate may take the
control's part: whether the share of rows on which they disagree lies below a bound. A quantized model, or one that was
converted, should; of another model it says how many answers would change.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configuration.experiment_policy import ExperimentMetric
from shokado.experiments.comparisons import VersionComparison, compared_in_pairs
from shokado.experiments.confidence_sequences import Bounds, proportion_sequence
from shokado.experiments.experiment_evidence import Sums
from shokado.experiments.mixtures import beta_log_e


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was seen of an agreement: the candidate's less the control's with itself, which is minus the share of rows
    on which they disagree. All stages together, (..).
    """

    disagreed: NDArray[np.float64]
    agreed: NDArray[np.float64]

    method = "exact"

    @property
    def estimate(self) -> NDArray[np.float64]:
        """NaN before the first row."""
        count = self.disagreed + self.agreed
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(count > 0, -self.disagreed / count, np.nan)

    def bounds(self, alpha: float, resolution: float) -> Bounds:  # noqa: ARG002  # it is exact without
        """The confidence sequence, at this look; see `VersionComparison.bounds`."""
        low, high = proportion_sequence(self.disagreed, self.agreed, alpha)
        return -high, -low

    def p_value(self, alpha: float, resolution: float) -> NDArray[np.float64]:  # noqa: ARG002
        """Against a share of disagreements that is just `resolution`: at most `alpha` where `bounds` exclude it."""
        log_e = beta_log_e(self.disagreed, self.agreed, resolution)
        return np.asarray(np.exp(-np.maximum(log_e, 0.0)))


def comparison_of_pairs(metric: ExperimentMetric, pairs: Sums) -> VersionComparison | Agreement:
    """A comparison of a shadow with the control, by the differences of their observations: fields (stages, ..)."""
    if metric is ExperimentMetric.AGREEMENT:
        disagreed = -np.sum(pairs.total, axis=0)
        return Agreement(disagreed, np.sum(pairs.count, axis=0) - disagreed)
    return compared_in_pairs(pairs, answers=metric is ExperimentMetric.ACCURACY)
