"""A comparison of a candidate with the control: the effect, its confidence sequence, and what speaks for one. Pure.

The asymptotic sequence is used from a stated number of observations on, and never before. Until then, numbers between 0
and 1 (a class was right, a reward, a failure) are compared by the exact test, which has `EXACT_PART` of alpha; the
sequence has the rest, so that both together miss the true effect with a chance of at most alpha. Of other numbers
(errors, latencies) nothing is said until then, as nothing exact can be said of numbers without bounds.

Fields of moments have the shape (stages, ..), the stages in their order: the moments of one look at one experiment have
the shape (stages,). See `confidence_sequences.score_of_difference` for what makes stages one effect.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.confidence_sequences import Bounds, Score, score_of_difference, score_of_pairs
from shokado.experiments.exact_tests import ExactTest, PairedAnswers, TwoProportions
from shokado.experiments.mixtures import Elements
from shokado.experiments.moments import ClusteredMoments, Moments

EXACT_PART = 0.1
"""The part of alpha for the time before the asymptotic sequence."""
MIN_EVENTS = 30
"""So many successes and failures of each version are enough for the normal distribution to be near."""
MIN_COUNT = 1000
"""So many observations of each version are, where they have no bounds; tails may be heavy, see docs/verdicts.md."""
MIN_CLUSTERS = 50
"""So many clusters of each version are."""


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """What was seen of an effect: the candidate less the control."""

    score: Score
    enough: NDArray[np.bool_]
    """Whether there are observations enough for the asymptotic sequence, (..)."""
    exact: ExactTest | None
    """What is used until then; None where nothing is exact."""

    @property
    def estimate(self) -> NDArray[np.float64]:
        """The effect as observed, (..); NaN where one of the two was not."""
        return self.score.estimate

    @property
    def method(self) -> str:
        """What is used at a single look: `exact` or `asymptotic`."""
        return "exact" if self.exact is not None and not self.enough else "asymptotic"

    def bounds(self, alpha: float, resolution: float) -> Bounds:
        """The confidence sequence of the effect, at this look; infinite where nothing can be said.

        Args:
            alpha: the chance at most with which it ever misses the effect.
            resolution: above 0, in units of the effect: the smallest one that matters. There the sequence is the
                narrowest; it must not follow what was seen.
        """
        low, high = self.score.bounds(alpha * self._asymptotic_part, resolution)
        if self._early is None:
            return np.where(self.enough, low, -np.inf), np.where(self.enough, high, np.inf)
        exact_low, exact_high = self._early.bounds(alpha * EXACT_PART)
        return np.where(self.enough, low, exact_low), np.where(self.enough, high, exact_high)

    def at_least(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        """The one-sided sequence: the effect is below it with a chance of at most alpha, at any look; see `bounds`."""
        low = np.where(self.enough, self.score.at_least(alpha * self._asymptotic_part, resolution), -np.inf)
        return low if self._early is None else np.where(self.enough, low, self._early.at_least(alpha * EXACT_PART))

    def at_most(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        """The same to the other side: the effect is above it with a chance of at most alpha, at any look."""
        high = np.where(self.enough, self.score.at_most(alpha * self._asymptotic_part, resolution), np.inf)
        return high if self._early is None else np.where(self.enough, high, self._early.at_most(alpha * EXACT_PART))

    def p_value(self, alpha: float, resolution: float, effect: Elements = 0.0) -> NDArray[np.float64]:
        """Against just that effect: at most `alpha` where `bounds` exclude it.

        Args:
            alpha: what it will be held against; it is valid for any other, but less powerful.
            resolution: see `bounds`.
            effect: a value of it.

        Returns:
            In [0, 1], (..); 1 where nothing can be said. The chance that it is ever as small as a number is at most
            that number, where the effect is that one.
        """
        early = self._early.log_e(effect) if self._early is not None else None
        return self._p_value(early, self.score.log_e(effect, alpha * self._asymptotic_part, resolution))

    def p_value_above(self, alpha: float, resolution: float, effect: Elements = 0.0) -> NDArray[np.float64]:
        """Against an effect of at most that: at most `alpha` where `at_least` lies above it; see `p_value`."""
        early = self._early.log_e_above(effect) if self._early is not None else None
        return self._p_value(early, self.score.log_e_above(effect, alpha * self._asymptotic_part, resolution))

    @property
    def _early(self) -> ExactTest | None:
        return None if self.enough.all() else self.exact

    @property
    def _asymptotic_part(self) -> float:
        return 1.0 if self.exact is None else 1 - EXACT_PART

    def _p_value(self, early: NDArray[np.float64] | None, later: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the logarithms of e-values say, each with its part of alpha."""
        log_e = np.where(
            self.enough,
            later + math.log(self._asymptotic_part),
            0.0 if early is None else early + math.log(EXACT_PART),
        )
        return np.exp(-np.maximum(log_e, 0.0))


def compared(
    treated: Moments | ClusteredMoments, control: Moments | ClusteredMoments, *, bounded: bool
) -> VersionComparison:
    """A comparison of two versions that answered different requests.

    Args:
        treated: the candidate's observations.
        control: the control's.
        bounded: whether all of them are between 0 and 1.
    """
    enough = _enough(treated, bounded=bounded) & _enough(control, bounded=bounded)
    exact = None
    if bounded and isinstance(treated, Moments) and isinstance(control, Moments):
        exact = TwoProportions(treated, control)
    return VersionComparison(score_of_difference(treated, control, enough), enough[-1], exact)


def compared_in_pairs(differences: Moments | ClusteredMoments, *, answers: bool) -> VersionComparison:
    """A comparison of two versions that both answered the same requests, one of them as a shadow.

    What requests differ by falls out of the differences, so they need a fraction of the labels.

    Args:
        differences: of each pair, the candidate's observation less the control's.
        answers: whether observations are that an answer was right (1) or wrong (0), and so each difference -1, 0 or 1.
    """
    if not answers or isinstance(differences, ClusteredMoments):
        enough = _enough(differences, bounded=False)
        return VersionComparison(score_of_pairs(differences, enough), enough[-1], None)
    # Pairs that do not differ say nothing.
    enough = np.cumsum(np.asarray(differences.squares), axis=0) >= MIN_EVENTS
    return VersionComparison(score_of_pairs(differences, enough), enough[-1], PairedAnswers(differences))


def _enough(observed: Moments | ClusteredMoments, *, bounded: bool) -> NDArray[np.bool_]:
    """Whether there are enough up to each stage, (stages, ..)."""
    if isinstance(observed, ClusteredMoments):
        # Units of an earlier stage come back in a later one, and are no new ones.
        return np.asarray(np.maximum.accumulate(np.asarray(observed.clusters), axis=0) >= MIN_CLUSTERS)
    count, total = (np.cumsum(np.asarray(one), axis=0) for one in (observed.count, observed.total))
    if not bounded:
        return np.asarray(count >= MIN_COUNT)
    return np.asarray((total >= MIN_EVENTS) & (count - total >= MIN_EVENTS))
