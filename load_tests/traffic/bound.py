"""How far a share of random draws may lie from what it should be, before it cannot be chance. Pure.

Chernoff's bound on the tails of the binomial distribution: of n draws with probability p, the probability that a share
of x or further from p is seen is at most exp(-n KL(x, p)), where KL is the relative entropy of two coins. Source:
W. Hoeffding, Probability Inequalities for Sums of Bounded Random Variables, 1963, theorem 1. It is never wrong in the
direction of an alarm: at `FALSE_ALARM` a right split fails one run in a billion.
"""

import math
from collections.abc import Callable

FALSE_ALARM = 1e-9
"""Probability that a right split is called a wrong one, in a whole run."""


def relative_entropy(share: float, probability: float) -> float:
    """KL(share, probability) of two coins, in nats; infinite where the second cannot do what the first does."""

    def part(first: float, second: float) -> float:
        if first == 0:
            return 0.0
        return first * math.log(first / second) if second > 0 else math.inf

    return part(share, probability) + part(1 - share, 1 - probability)


def bounds(probability: float, draws: int, false_alarm: float = FALSE_ALARM) -> tuple[int, int]:
    """The lowest and the highest count, of so many draws, that chance explains; what is outside has no such excuse."""
    limit = math.log(2 / false_alarm)

    def explained(count: int) -> bool:
        return draws * relative_entropy(count / draws, probability) <= limit

    if draws == 0:
        return 0, 0
    # The entropy falls towards the expected count and rises from there.
    expected = round(probability * draws)
    low = _first(0, expected, explained)
    high = draws - _first(0, draws - expected, lambda others: explained(draws - others))
    return low, high


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from low to high that holds, where all above it do; high itself is taken to."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
