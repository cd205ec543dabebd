"""Shapley values of any model, by scoring rows that are partly the explained one and partly a background row.

The contribution of a feature is what its value changes the score by when it is put in the place of a background row's,
on average over all orders in which the features may be put there, and over the background rows (interventional Shapley
values: Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NIPS 2017).

Where few features allow it, all sets of them are scored, and the values are exact. Else orders are drawn (Castro, Gomez
and Tejada, Polynomial calculation of the Shapley value based on sampling, Computers & Operations Research 36, 2009),
each with its reverse, whose errors largely cancel (Mitchell, Cooper, Frank and Holmes, Sampling Permutations for
Shapley Value Estimation, JMLR 23, 2022). Every background row gets as many orders, so that base and contributions add
up to the score exactly.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np
from numpy.typing import NDArray

from runners.explanations.contributions import Values
from runners.inputs.rows import Rows

GROUP_ROWS = 256
"""About so many rows are made at a time: calls of an engine cost little beside them, and they take little memory."""
LEAST_PAIRS = 2
"""Pairs of orders for each background row: a variance needs two."""
LEAST_BACKGROUND = 10
"""Background rows below which sampled values say more of those rows than of the data."""
SEED = 5
"""The same request gets the same explanation."""


class TooManyFeatures(Exception):
    """The features are too many for the rows that may be scored; the message has both."""


@dataclass(frozen=True)
class SamplingPlan:
    """What is scored to explain a row.

    Attributes:
        background_rows: how many of the background's rows are used, the first ones.
        pairs: of orders, for each of them; 0: all sets of features are scored.
    """

    features: int
    background_rows: int
    pairs: int

    @property
    def is_exact(self) -> bool:
        return not self.pairs

    @property
    def scored_per_background_row(self) -> int:
        return 2 * self.pairs * (self.features - 1) if self.pairs else 2**self.features - 2

    @classmethod
    def within(cls, max_scored_rows: int, features: int, background_rows: int) -> "SamplingPlan":
        """The best one that scores at most so many rows. Raises `TooManyFeatures`."""
        if features <= max_scored_rows.bit_length() and background_rows * (2**features - 2) <= max_scored_rows:
            return cls(features, background_rows, 0)
        pairs = max_scored_rows // (2 * (features - 1))
        used = min(background_rows, pairs // LEAST_PAIRS)
        if used < min(background_rows, LEAST_BACKGROUND):
            needed = 2 * (features - 1) * LEAST_PAIRS * min(background_rows, LEAST_BACKGROUND)
            raise TooManyFeatures(
                f"{features} features need {needed} scored rows for each explained one, and "
                f"explanations.max_scored_rows is {max_scored_rows}"
            )
        return cls(features, used, pairs // used)


@dataclass(frozen=True, eq=False)
class RowContributions:
    """Contributions of one row, (features, outputs), and their standard errors; None where they are exact."""

    contributions: Values
    errors: Values | None


def explain_row(
    row: Rows, score: Values, background: Rows, background_scores: Values, plan: SamplingPlan
) -> Generator[Rows, Values, RowContributions]:
    """Explain one row: yields batches of rows, and is sent their scores, float64 (rows, outputs).

    Args:
        row: (features,), of the dtype in which the model takes rows.
        score: that of the row, (outputs,).
        background: (plan.background_rows, features) of the same dtype, whose scores are (rows, outputs).
    """
    if plan.is_exact:
        return (yield from _enumerated(row, score, background, background_scores))
    return (yield from _sampled(row, score, background, background_scores, plan))


def _enumerated(
    row: Rows, score: Values, background: Rows, background_scores: Values
) -> Generator[Rows, Values, RowContributions]:
    sets, weights = _all_sets(len(row))
    inner = sets[1:-1]
    totals = np.zeros((len(inner), len(score)))
    at_once = max(1, GROUP_ROWS // max(1, len(inner)))
    for start in range(0, len(background) if len(inner) else 0, at_once):
        others = background[start : start + at_once]
        scores = yield np.where(inner[None], row, others[:, None]).reshape(-1, len(row))
        totals += scores.reshape(len(others), *totals.shape).sum(axis=0)
    values = np.concatenate([background_scores.mean(axis=0)[None], totals / len(background), score[None]])
    return RowContributions(weights @ values, None)


@lru_cache(maxsize=8)
def _all_sets(features: int) -> tuple[NDArray[np.bool_], Values]:
    """All sets of features, bool (sets, features), the empty one first and the full one last; and by what weights
    Shapley's formula takes their values for each feature, (features, sets).
    """
    numbers = np.arange(2**features)
    sets = (numbers[:, None] >> np.arange(features) & 1).astype(bool)
    of_size = [factorial(size) * factorial(features - size - 1) / factorial(features) for size in range(features)]
    with_it, without = np.array([0.0, *of_size]), np.array([*of_size, 0.0])
    sizes = sets.sum(axis=1)
    return sets, np.where(sets.T, with_it[sizes], -without[sizes])


def _sampled(
    row: Rows, score: Values, background: Rows, background_scores: Values, plan: SamplingPlan
) -> Generator[Rows, Values, RowContributions]:
    features, pairs = len(row), plan.pairs
    random = np.random.default_rng(SEED)
    steps = np.arange(1, features)[:, None]
    total = np.zeros((features, len(score)))
    variance = np.zeros_like(total)
    at_once = max(1, GROUP_ROWS // plan.scored_per_background_row)
    for start in range(0, len(background), at_once):
        others = background[start : start + at_once]
        drawn = random.permuted(np.tile(np.arange(features), (len(others) * pairs, 1)), axis=1)
        # Where each feature stands in its order, and in the reverse of it: (background rows, pairs, 2, features).
        ranks = np.stack([drawn, features - 1 - drawn], axis=1).reshape(len(others), pairs, 2, features)
        scores = yield np.where(ranks[..., None, :] < steps, row, others[:, None, None, None]).reshape(-1, features)
        path = np.empty((len(others), pairs, 2, features + 1, len(score)))
        path[..., 0, :] = background_scores[start : start + at_once, None, None]
        path[..., 1:-1, :] = scores.reshape(*path.shape[:3], features - 1, len(score))
        path[..., -1, :] = score
        of_pairs = np.take_along_axis(np.diff(path, axis=3), ranks[..., None], axis=3).mean(axis=2)
        total += of_pairs.mean(axis=1).sum(axis=0)
        variance += (of_pairs.var(axis=1, ddof=1) / pairs).sum(axis=0)
    count = len(background)
    return RowContributions(total / count, np.sqrt(variance) / count)
