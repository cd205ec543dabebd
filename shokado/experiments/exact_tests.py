"""The effect on what is right or wrong, exactly, at any number of answers and in any number of stages. Pure.

What speaks against two proportions is the product of the beta-binomial mixtures of both versions: each is a martingale,
and so is the product, in whatever order their answers come. Against a difference speaks what speaks against every pair
that has it, so it is the least over those pairs: S. R. Howard et al. (2021, see `mixtures`) for the mixtures, and L.
Wasserman, A. Ramdas and S. Balakrishnan, "Universal inference", PNAS 117 (2020), section 8, for the least over a
composite hypothesis. Two sequences with half of alpha each, one for each version, would be wider: both versions are
rarely unlucky at once.

Fields of `Moments` have the shape (stages, ..), and what speaks against one effect in all stages is added up. Where
their effects differ, all of this is about those that they may have in common.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.confidence_sequences import Bounds, outermost
from shokado.experiments.mixtures import Elements, bernoulli_log_likelihood, beta_log_marginal
from shokado.experiments.moments import Moments

_HALVINGS = 36
Trials = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Successes and failures, (stages, ..)."""


class ExactTest(ABC):
    """What speaks against effects between -1 and 1, each the candidate less the control."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the experiments, without stages."""

    @abstractmethod
    def log_e_above(self, effect: Elements) -> NDArray[np.float64]:
        """How much speaks against an effect of at most that in every stage, (..). It never rises with the effect."""

    @abstractmethod
    def log_e_below(self, effect: Elements) -> NDArray[np.float64]:
        """How much speaks against one of at least that. It never falls."""

    def log_e(self, effect: Elements) -> NDArray[np.float64]:
        """How much speaks against just that effect."""
        return np.maximum(self.log_e_above(effect), self.log_e_below(effect))

    def bounds(self, alpha: float) -> Bounds:
        """The bounds between which the effect lies, at every look but with a chance of alpha.

        There may be none, where stages have different effects: then the lower bound is above the upper one.
        """
        return self.at_least(alpha), self.at_most(alpha)

    def at_least(self, alpha: float) -> NDArray[np.float64]:
        """The lower one of these bounds, which needs all of alpha alone as well."""
        low, high = np.full(self.shape, -1.0), np.full(self.shape, 1.0)
        return outermost(lambda effect: self.log_e_above(effect) >= -math.log(alpha), low, high)

    def at_most(self, alpha: float) -> NDArray[np.float64]:
        """The upper one, which needs all of alpha alone likewise."""
        low, high = np.full(self.shape, -1.0), np.full(self.shape, 1.0)
        return outermost(lambda effect: self.log_e_below(effect) >= -math.log(alpha), high, low)


@dataclass(frozen=True, slots=True)
class TwoProportions(ExactTest):
    """Two versions that answered different requests; numbers between 0 and 1 that are neither do no harm."""

    treated: Moments
    control: Moments

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.treated.count)[1:]

    def log_e_above(self, effect: Elements) -> NDArray[np.float64]:
        return _log_e_above(_trials(self.treated), _trials(self.control), effect)

    def log_e_below(self, effect: Elements) -> NDArray[np.float64]:
        return _log_e_above(_trials(self.control), _trials(self.treated), np.negative(effect))


@dataclass(frozen=True, slots=True)
class PairedAnswers(ExactTest):
    """Two versions that answered the same requests, right or wrong: each difference is -1, 0 or 1.

    The mixture is that of the shares of these three, over a Dirichlet distribution with parameters of 1/2.
    """

    differences: Moments

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.differences.count)[1:]

    def log_e_above(self, effect: Elements) -> NDArray[np.float64]:
        won, lost, alike = self._pairs()
        return _pairs_log_e_above(won, lost, alike, effect)

    def log_e_below(self, effect: Elements) -> NDArray[np.float64]:
        won, lost, alike = self._pairs()
        return _pairs_log_e_above(lost, won, alike, np.negative(effect))

    def _pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """How many the candidate alone had right, the control alone, and both or neither."""
        count, total, differing = (
            np.asarray(one, dtype=np.float64)
            for one in (self.differences.count, self.differences.total, self.differences.squares)
        )
        return (differing + total) / 2, (differing - total) / 2, count - differing


def _log_e_above(first: Trials, second: Trials, effect: Elements) -> NDArray[np.float64]:
    effect = np.broadcast_to(np.asarray(effect, dtype=np.float64), np.shape(first[0]))

    def rises(q: NDArray[np.float64]) -> NDArray[np.bool_]:
        (s, f), (t, g), p = first, second, q + effect
        return _over(s, p) - _over(f, 1 - p) + _over(t, q) - _over(g, 1 - q) > 0

    # The likeliest proportions with that difference: O. Miettinen and M. Nurminen, "Comparative analysis of two rates",
    # Statistics in Medicine 4 (1985), give them as a root of a cubic equation.
    q = _peak(rises, np.maximum(0.0, -effect), np.minimum(1.0, 1.0 - effect))
    observed = _share(*first), _share(*second)
    within = observed[0] - observed[1] <= effect
    p, q = np.where(within, observed[0], np.clip(q + effect, 0, 1)), np.where(within, observed[1], q)
    likelihood = bernoulli_log_likelihood(*first, p) + bernoulli_log_likelihood(*second, q)
    return np.asarray((beta_log_marginal(*first) + beta_log_marginal(*second) - likelihood).sum(axis=0))


def _pairs_log_e_above(
    won: NDArray[np.float64], lost: NDArray[np.float64], alike: NDArray[np.float64], effect: Elements
) -> NDArray[np.float64]:
    from scipy.special import gammaln, xlogy

    effect = np.broadcast_to(np.asarray(effect, dtype=np.float64), np.shape(won))

    def rises(q: NDArray[np.float64]) -> NDArray[np.bool_]:
        return _over(won, q + effect) + _over(lost, q) - 2 * _over(alike, 1 - effect - 2 * q) > 0

    q = _peak(rises, np.maximum(0.0, -effect), (1 - effect) / 2)
    count = won + lost + alike
    trials = np.maximum(count, 1.0)
    within = (won - lost) / trials <= effect
    log_e = gammaln(1.5) - 3 * gammaln(0.5) - gammaln(count + 1.5)
    for number, share in ((won, q + effect), (lost, q), (alike, 1 - effect - 2 * q)):
        log_e = log_e + gammaln(number + 0.5) - xlogy(number, np.where(within, number / trials, np.maximum(share, 0)))
    return np.asarray(log_e.sum(axis=0))


def _peak(
    rises: Callable[[NDArray[np.float64]], NDArray[np.bool_]], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where a concave function is the largest, by halving."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = rises(middle)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def _over(number: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope of number times log(share); a share of 0 is at the end of where it is looked for."""
    return number / np.maximum(share, 1e-300)


def _trials(observed: Moments) -> Trials:
    """Rounding may leave sums of numbers just outside of what they can be."""
    count = np.asarray(observed.count, dtype=np.float64)
    successes = np.clip(np.asarray(observed.total, dtype=np.float64), 0, count)
    return successes, count - successes


def _share(successes: NDArray[np.float64], failures: NDArray[np.float64]) -> NDArray[np.float64]:
    count = successes + failures
    return np.where(count > 0, successes / np.where(count > 0, count, 1.0), 0.5)
