"""Divergences: how far two histograms of the same bins lie apart, and what of it chance explains. Pure.

The population stability index (PSI) and the Jensen-Shannon divergence are both sums over groups i of cells, of the
shares q of the reference's n rows and p of m served ones:

    PSI = sum (p - q) ln(p / q)        JS = sum (p ln(2p / (p + q)) + q ln(2q / (p + q))) / 2 / ln 2, in bits

Without drift, c PSI and 8 ln(2) c JS, with c = nm / (n + m), have the chi-squared distribution with as many degrees of
freedom as there are groups, less one: both are phi-divergences, with phi''(1) of 2 and 1/4 (M. Salicru, D. Morales,
M. L. Menendez and L. Pardo, "On the applications of divergence type measures in testing statistical hypotheses",
Journal of Multivariate Analysis 51, 1994; for PSI alone: B. Yurdakul and J. Naranjo, "Statistical properties of the
population stability index", Journal of Risk Model Validation 14, 2020). Near it they have the noncentral one, whose
parameter is c times the true value; far from it they are normal, with the variance of the delta method
(Y. M. M. Bishop, S. E. Fienberg and P. W. Holland, Discrete Multivariate Analysis, 1975, chapter 14). The interval is
all true values that make what was observed improbable by neither of them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""How many rows are in each cell, shape (cells,)."""

Shares = NDArray[np.float64]
"""Which part of the rows is in each group, shape (groups,), none of them 0."""
Slopes = tuple[Shares, Shares]
"""Derivatives of a divergence by the reference's shares, and by those of served rows."""

MIN_ROWS = 200
"""So many rows there must be on both sides: with fewer, what is said above of large samples does not hold."""
MIN_EXPECTED = 5
"""Rows that a group must be expected to have on both sides, the usual bound of chi-squared statistics (W. G. Cochran,
"Some methods for strengthening the common chi-squared tests", Biometrics 10, 1954).
"""
_EMPTY = 0.5
"""What an empty group counts as where the other side has rows in it: the logarithm of nothing is infinite."""


class DriftVerdict(StrEnum):
    """What is said of a column."""

    NONE = "none"
    """The whole interval of the PSI lies at the threshold or below."""
    DRIFT = "drift"
    """The whole interval lies above the threshold."""
    TOO_FEW_ROWS = "too few rows"
    """The threshold lies within: more rows would tell."""
    NOT_WATCHED = "not watched"
    """Nothing is counted: there is no reference, or drift is off."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A divergence, and the interval that has the true one."""

    value: float
    """As it is usually computed: above 0 by chance even without drift, by `by_chance` on average."""
    low: float
    high: float
    by_chance: float


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far served rows lie from the reference, in one column."""

    psi: Measured
    jensen_shannon: Measured
    groups: int
    """How many groups of cells were compared."""


def compared(reference: Counts, served: Counts, ordered: slice, error_rate: float) -> Divergence | None:
    """The divergences of a column; None where either side has fewer than `MIN_ROWS` rows.

    Args:
        reference: of the version's reference, int64 (cells,).
        served: of served rows in the same cells.
        ordered: the cells that stand beside each other, as bins of numbers do, and may be put together so.
        error_rate: the chance at most with which the true value lies below the interval, and the same above.
    """
    n, m = int(reference.sum()), int(served.sum())
    if min(n, m) < MIN_ROWS:
        return None
    group_of = _groups(reference, m, ordered)
    mine, theirs = (np.bincount(group_of, weights=counts) for counts in (reference, served))
    there = (mine > 0) | (theirs > 0)
    q, p = _shares(mine[there]), _shares(theirs[there])
    interval = partial(_interval, shares=(q, p), rows=(n, m), error_rate=error_rate)
    return Divergence(
        interval(((p - q) * np.log(p / q)).sum(), _psi_slopes(p, q), scale=1.0),
        interval(_jensen_shannon(p, q), _jensen_shannon_slopes(p, q), scale=8 * math.log(2)),
        len(q),
    )


def verdict_of(divergence: Divergence | None, threshold: float) -> DriftVerdict:
    """What the interval of the PSI says; None: there were too few rows for one."""
    if divergence is None or divergence.psi.low <= threshold < divergence.psi.high:
        return DriftVerdict.TOO_FEW_ROWS
    return DriftVerdict.DRIFT if divergence.psi.low > threshold else DriftVerdict.NONE


def verdict_of_all(verdicts: Iterable[DriftVerdict]) -> DriftVerdict:
    """What is said of several columns together: drift where one has drifted."""
    found = set(verdicts)
    return next(one for one in (DriftVerdict.DRIFT, DriftVerdict.TOO_FEW_ROWS, DriftVerdict.NONE) if one in found)


def _groups(reference: Counts, served_rows: int, ordered: slice) -> NDArray[np.int64]:
    """The group of each cell, int64 (cells,): by the reference alone, so that drift cannot hide in what it fills.

    Cells that the reference has few rows in are one group, the first: what is new. Ordered ones are put together with
    those beside them instead.
    """
    needed = max(MIN_EXPECTED, MIN_EXPECTED * reference.sum() / served_rows)
    group_of = np.zeros(len(reference), dtype=np.int64)
    positions = range(len(reference))[ordered]
    group, gathered = 1, 0
    for cell in positions:
        group_of[cell] = group
        gathered += reference[cell]
        if gathered >= needed:
            group, gathered = group + 1, 0
    # What is left at the end is too little for a group of its own.
    group_of[group_of == group] = group - 1
    for cell in set(range(len(reference))) - set(positions):
        if reference[cell] >= needed:
            group_of[cell] = group
            group += 1
    return group_of


def _shares(rows: NDArray[Any]) -> Shares:
    filled = np.where(rows == 0, _EMPTY, rows)
    return np.asarray(filled / filled.sum())


def _psi_slopes(p: Shares, q: Shares) -> Slopes:
    return np.log(q / p) + 1 - p / q, np.log(p / q) + 1 - q / p


def _jensen_shannon(p: Shares, q: Shares) -> float:
    middle = (p + q) / 2
    return float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2)


def _jensen_shannon_slopes(p: Shares, q: Shares) -> Slopes:
    middle = (p + q) / 2
    return np.log2(q / middle) / 2, np.log2(p / middle) / 2


def _interval(
    value: float,
    slopes: Slopes,
    *,
    scale: float,
    shares: tuple[Shares, Shares],
    rows: tuple[int, int],
    error_rate: float,
) -> Measured:
    """The interval of a divergence.

    Args:
        value: what was observed.
        slopes: its derivatives by the `shares`: the reference's, and the served rows'; so `rows`.
        scale: what makes it chi-squared, together with nm / (n + m).
        error_rate: see `compared`.
    """
    from scipy.special import chdtr, chndtrinc, ndtri

    degrees = len(shares[0]) - 1
    if not degrees:
        # All rows of both sides are in one group.
        return Measured(0.0, 0.0, 0.0, 0.0)
    per_unit = scale * rows[0] * rows[1] / (rows[0] + rows[1])
    observed = float(value) * per_unit
    within = float(chdtr(degrees, observed))
    low = float(chndtrinc(observed, degrees, 1 - error_rate)) / per_unit if within > 1 - error_rate else 0.0
    high = float(chndtrinc(observed, degrees, error_rate)) / per_unit if within > error_rate else 0.0
    by_chance = degrees / per_unit
    reach = -float(ndtri(error_rate)) * _deviation(slopes, shares, rows)
    centre = float(value) - by_chance
    return Measured(float(value), max(min(low, centre - reach), 0.0), max(high, centre + reach), by_chance)


def _deviation(slopes: Slopes, shares: tuple[Shares, Shares], rows: tuple[int, int]) -> float:
    """The standard deviation of a function of multinomial shares, by the delta method."""
    variance = 0.0
    for slope, share, number in zip(slopes, shares, rows, strict=True):
        mean = (share * slope).sum()
        variance += float((share * (slope - mean) ** 2).sum()) / number
    return math.sqrt(variance)
