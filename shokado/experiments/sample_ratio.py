"""Whether units and labels came as they should have: the sample-ratio check, and that of the labels' arrival. Pure.

Where versions got other shares of the units than the split says, something decided on units by what they are (a version
that fails for some of them, a redirect, a cache), and versions are no longer compared on alike units. The same goes for
labels: a version whose worst answers get no label looks better than it is. Then no effect is to be believed.

Both are exact, and may be looked at as often as anybody likes: the Dirichlet mixture of M. Lindon and A. Malek (2022,
see `mixtures`). Each stage has shares of its own, and the evidence of stages is multiplied, as each stage is a test of
its own that begins where the last one ended.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from configuration.experiment_plan import MAX_COHORTS
from shokado.experiments.mixtures import dirichlet_log_e

CONCENTRATION = 100.0
"""How narrow the mixture is, as in the authors' `savvi`: shares that are off by some five points are found first."""

_LOOKS = MAX_COHORTS + 2
"""Times at which answers become old enough for a label: cohorts lie across both ends of an experiment."""

Counts = Mapping[str, float]
"""By version. What is not there is 0."""


def sample_ratio_p_value(stages: Sequence[tuple[Counts, Counts]]) -> float:
    """How little units that were dealt out by the shares would explain the numbers of them that versions got.

    Units have to be drawn independently, so a unit counts once however often it comes; where requests are drawn one by
    one (`random`), requests are units.

    Args:
        stages: of each, the shares of the versions, which sum to 1, and the units whose outcomes are compared. A unit
            that another version answered in place of its own counts for that other one, or not at all.

    Returns:
        In [0, 1]: the chance that it is ever as small as a number is at most that number, while all is well.
    """
    return _p_value(_log_e(stages))


def arrival_p_value(stages: Sequence[tuple[Counts, Counts, Counts]]) -> float:
    """How little labels that come alike for all versions would explain the numbers of answers with and without one.

    Answers of one moment have the same chance of a label whichever version gave them, also where that chance changes
    over time; so those with a label are of each version by its share, and those without likewise. With labels for
    nearly all answers those without say more, and else those with; each has half of the error rate.

    Those without are no sequence to which others are added: a unit that comes again may get its label then, and leaves
    them. What they say is an e-value at each look, but not over all of them, so each look has its part (C. E.
    Bonferroni). Looks count as often as more answers are old enough, which is once for each cohort.

    Args:
        stages: of each, the shares of the versions, and their answers that are old enough for a label: how many have
            one, and how many have not; without the latter where that is not known.
    """
    labelled = _log_e([(shares, having) for shares, having, _ in stages])
    lacking = _log_e([(shares, lacking) for shares, _, lacking in stages])
    return _p_value(max(labelled, lacking - math.log(_LOOKS)) - math.log(2))


def _log_e(stages: Sequence[tuple[Counts, Counts]]) -> float:
    return sum(_log_e_of_stage(shares, counts) for shares, counts in stages)


def _log_e_of_stage(shares: Counts, counts: Counts) -> float:
    versions = [version for version, share in shares.items() if share > 0]
    if any(number > 0 for version, number in counts.items() if version not in versions):
        # What had no share got something all the same.
        return math.inf
    drawn = np.array([counts.get(version, 0) for version in versions], dtype=np.float64)
    given = np.array([shares[version] for version in versions], dtype=np.float64)
    return float(dirichlet_log_e(drawn, given / given.sum(), CONCENTRATION))


def _p_value(log_e: float) -> float:
    return math.exp(-max(log_e, 0.0))
