"""Confidence sequences: intervals of which all together, at every look there ever is, have the true value. Pure.

A confidence interval misses the true value with a chance of alpha at each look, a confidence sequence with a chance of
alpha at any look. So an experiment may be looked at as often as anybody likes, and ended for what was seen.

The asymptotic ones are those of Waudby-Smith et al. (2024, see `mixtures`), theorem 2.2: they need a finite variance,
and are right from some number of observations on, which `comparisons` asks for. The exact one of a proportion is right
at any number. All functions are elementwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.mixtures import (
    JEFFREYS,
    Elements,
    Prior,
    beta_log_e,
    normal_bound,
    normal_bound_above,
    normal_log_e,
    normal_log_e_above,
    tightest_ratio,
)
from shokado.experiments.moments import ClusteredMoments, Moments

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper ones."""
_HALVINGS = 36


@dataclass(frozen=True, slots=True)
class Score:
    """What was seen of a mean or an effect, as a weighted sum of independent parts.

    Minus `weight` times the true value it is a sum of increments with mean 0, which is what the normal mixture tests.
    """

    total: NDArray[np.float64]
    """The sum of weight times estimate, over all parts."""
    weight: NDArray[np.float64]
    """The sum of the weights; 0 where nothing was seen."""
    variance: NDArray[np.float64]
    """The variance of `total`, as estimated."""
    spread: NDArray[np.float64]
    """Variance per weight, as first known: the unit in which `rho` is chosen. It must not follow what is seen later."""

    @property
    def estimate(self) -> NDArray[np.float64]:
        """NaN where nothing was seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.weight > 0, self.total / self.weight, np.nan)

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Whether anything can be said: where all observations are alike, nobody knows how far others may lie."""
        return np.asarray((self.variance > 0) & (self.spread > 0))

    def rho(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        """The `rho` for which the sequence is the narrowest just when it reaches `resolution` on either side.

        With W the ratio of `tightest_ratio`, bounds are the narrowest at a variance of W rho, where they are
        (W + 1) sqrt(rho) from 0; that weight times `resolution` is the same for this rho.
        """
        ratio = tightest_ratio(alpha)
        return np.asarray((1 + 1 / ratio) * (self.spread / resolution) ** 2)

    def bounds(self, alpha: float, resolution: float) -> Bounds:
        """The sequence at this look; infinite on both sides where nothing can be said.

        Args:
            alpha: the chance at most with which it ever misses the true value.
            resolution: above 0, in units of the mean: a difference that should be told from none.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = normal_bound(self.variance, self.rho(alpha, resolution), alpha) / self.weight
        reach = np.where(self.varies, reach, np.inf)
        centre = np.where(self.weight > 0, self.estimate, 0.0)
        return centre - reach, centre + reach

    def at_least(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        """The one-sided sequence at this look: what the true value is below with a chance of alpha, at any look.

        Minus infinity where nothing can be said; arguments as of `bounds`.
        """
        return np.where(self.varies, self.estimate - self._reach_above(alpha, resolution), -np.inf)

    def at_most(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        """The same to the other side: what the true value is above with a chance of alpha; infinity without any."""
        return np.where(self.varies, self.estimate + self._reach_above(alpha, resolution), np.inf)

    def _reach_above(self, alpha: float, resolution: float) -> NDArray[np.float64]:
        rho = self.rho(_both_sides(alpha), resolution)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(normal_bound_above(self.variance, rho, alpha) / self.weight)

    def log_e(self, value: Elements, alpha: float, resolution: float) -> NDArray[np.float64]:
        """How much speaks against that true value: more than -log(alpha) just where `bounds` exclude it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = normal_log_e(self.total - self.weight * value, self.variance, self.rho(alpha, resolution))
        return np.where(self.varies, found, 0.0)

    def log_e_above(self, value: Elements, alpha: float, resolution: float) -> NDArray[np.float64]:
        """How much speaks for a true value above that one; 0 where nothing can be said."""
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = self.rho(_both_sides(alpha), resolution)
            found = normal_log_e_above(self.total - self.weight * value, self.variance, rho)
        return np.where(self.varies, found, 0.0)


def _both_sides(alpha: float) -> float:
    """The alpha of both sides together, of which one has this: what `rho` is chosen for."""
    return min(2 * alpha, 0.5)


def score_of_mean(observed: Moments | ClusteredMoments) -> Score:
    """A mean, each observation with a weight of 1; fields of `observed` may have any shape.

    For paired differences as well: a candidate's loss less the control's, on the same rows.
    """
    return _score(
        weights=np.asarray(observed.count, dtype=np.float64)[np.newaxis],
        estimates=np.asarray(observed.mean)[np.newaxis],
        variances=np.asarray(observed.mean_variance)[np.newaxis],
        known=np.ones(1, dtype=np.bool_).reshape((1,) * (1 + np.ndim(observed.mean))),
    )


def score_of_pairs(differences: Moments | ClusteredMoments, known: NDArray[np.bool_]) -> Score:
    """A mean difference within pairs, of all stages together; see `score_of_difference`."""
    counts = np.asarray(differences.count, dtype=np.float64)
    return _score(counts, differences.mean, differences.mean_variance, known)


def score_of_difference(
    treated: Moments | ClusteredMoments, control: Moments | ClusteredMoments, known: NDArray[np.bool_]
) -> Score:
    """The difference of two independent means, of all stages together: the weighted mean of the differences in each.

    The weight of a stage is n m / (n + m) for its n and m observations, as of W. G. Cochran, "Some methods for
    strengthening the common chi-squared tests", Biometrics 10 (1954). It depends on numbers only, never on outcomes, so
    it cannot lean towards stages that went well; and versions are compared within a stage only, so shares that change
    while rates change cannot look like an effect (E. H. Simpson, "The interpretation of interaction in contingency
    tables", 1951). Variances are not pooled.

    Args:
        treated: fields of shape (stages, ..), in the order in which the stages were.
        control: likewise.
        known: whether enough was seen up to each stage for its variance to be known, (stages, ..).
    """
    n, m = (np.asarray(one.count, dtype=np.float64) for one in (treated, control))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where((n > 0) & (m > 0), n * m / (n + m), 0.0)
    return _score(weights, treated.mean - control.mean, treated.mean_variance + control.mean_variance, known)


def _score(
    weights: NDArray[np.float64],
    estimates: NDArray[np.float64],
    variances: NDArray[np.float64],
    known: NDArray[np.bool_],
) -> Score:
    """Parts over the first axis; those whose variance is not known yet are left out."""
    weights, estimates, variances, known = np.broadcast_arrays(weights, estimates, variances, known)
    there = np.isfinite(variances)
    weights = np.where(there, weights, 0.0)
    totals = weights * np.where(there, estimates, 0.0)
    spent = weights**2 * np.where(there, variances, 0.0)
    return Score(totals.sum(axis=0), weights.sum(axis=0), spent.sum(axis=0), _spread(weights, spent, known))


def _spread(
    weights: NDArray[np.float64], variances: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Variance per weight of the first parts for which it is known, or of all; 0 where there is none."""
    last = np.where(known.any(axis=0), known.argmax(axis=0), len(known) - 1)[np.newaxis]
    weight, variance = (np.take_along_axis(np.cumsum(parts, axis=0), last, axis=0)[0] for parts in (weights, variances))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weight > 0, variance / weight, 0.0)


def proportion_sequence(successes: Elements, failures: Elements, alpha: float, prior: Prior = JEFFREYS) -> Bounds:
    """The bounds between which a proportion lies, exactly, at every look but with a chance of alpha.

    All proportions against which the beta-binomial mixture does not speak (see `mixtures.beta_log_e`), so it holds also
    for the mean of numbers between 0 and 1, and is then wider than need be.
    """
    successes, failures = (np.asarray(one, dtype=np.float64) for one in (successes, failures))
    count = successes + failures
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.where(count > 0, np.clip(successes / count, 0, 1), 0.5)

    def excluded(proportion: NDArray[np.float64]) -> NDArray[np.bool_]:
        return beta_log_e(successes, failures, proportion, prior) >= -math.log(alpha)

    return outermost(excluded, np.zeros_like(observed), observed), outermost(excluded, np.ones_like(observed), observed)


def outermost(
    excluded: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    end: NDArray[np.float64],
    within: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The bound between an end and a value within; the end itself, where that is not excluded.

    On the way from `within` to `end` there is one place where exclusion begins. What is returned lies outside it, by
    less than 1e-10 of the way.
    """
    outer, inner = end, within
    for _ in range(_HALVINGS):
        middle = (outer + inner) / 2
        out = excluded(middle)
        outer, inner = np.where(out, middle, outer), np.where(out, inner, middle)
    return outer
