"""Bounds of float32: where a function that keeps the order of numbers passes some bounds of its own.

The function is asked, so that nothing of how it computes has to be known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.precision import FLOAT32

LARGEST = FLOAT32.largest
_LARGEST_RANK = int(np.float32(LARGEST).view(np.int32))
_BITS = 33
"""Halvings that find one float32 among all of them."""


@dataclass(frozen=True, eq=False)
class Digits:
    """What the numbers of columns are like: arrays of shape [columns]."""

    exact: NDArray[np.bool_]
    """Whether float32 holds them as they come."""
    decimal: NDArray[np.bool_]
    """Whether they have so few digits that float32 tells them apart."""
    given: type[np.floating] = np.float64
    """What scikit-learn is given them as."""

    def of(self, columns: Sequence[int]) -> "Digits":
        return Digits(self.exact[list(columns)], self.decimal[list(columns)], self.given)


def bounds_before(
    is_left: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    lowest: NDArray[np.float64],
    count: int,
    digits: Digits,
    *,
    is_strict: bool,
) -> NDArray[np.float32]:
    """The float32 to compare with instead, for each of `count` bounds a column: [count, columns].

    It is the largest one that is left of the bound; or where numbers on a bound are not, the smallest one that is not.
    In columns whose numbers float32 rounds, data may lie on a bound, and become the nearest float32: that one stays on
    their side. Where all numbers have few digits, each float32 stands for one of them alone.

    Args:
        is_left: whether each number [count, columns] is left of its bound.
        lowest: the smallest number of each column that may be asked for: [columns].
        digits: what the columns' numbers are like.
        is_strict: whether a number on a bound is not left of it.
    """
    low = np.tile(np.maximum(_ranks(lowest) - 1, -_LARGEST_RANK), (count, 1))
    high = np.full(low.shape, _LARGEST_RANK)
    for _ in range(_BITS):
        middle = (low + high + 1) // 2
        numbers = _numbers(middle)
        asked = (
            np.where(digits.decimal, decimals_of(numbers), numbers)
            if digits.decimal.any()
            else numbers.astype(np.float64)
        )
        left = is_left(np.maximum(asked, lowest))
        low, high = np.where(left, middle, low), np.where(left, high, np.maximum(middle - 1, low))
    following = np.minimum(low + 1, _LARGEST_RANK)
    bound = low + is_strict
    told_apart = digits.exact | digits.decimal
    if not told_apart.all():
        middles = (_numbers(low).astype(np.float64) + _numbers(following)) / 2
        left = is_left(np.maximum(np.nextafter(middles, -np.inf if is_strict else np.inf), lowest))
        bound = np.where(told_apart, bound, np.where(left, following, low))
    return _numbers(bound)


def rounded_down(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each number."""
    near = numbers.astype(np.float32)
    return np.where(near > numbers, np.nextafter(near, np.float32(-np.inf)), near)


def nearest(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """The nearest float32 to each, and the smaller one of two that are as near.

    Numbers are rounded to the nearest as well, before they are compared, so that one that is at most a threshold still
    is. Half-way between two lie thresholds between neighbours that float32 holds, such as whole numbers.
    """
    below = rounded_down(numbers)
    above = np.nextafter(below, np.float32(np.inf))
    return np.where(numbers - below > above - numbers, above, below)


def decimals_of(numbers: NDArray[np.floating]) -> NDArray[np.float64]:
    """The number of fewest digits that becomes the same float32 as each of these: 40.2 for 40.2000007629..."""
    different, slots = np.unique(numbers.astype(np.float32), return_inverse=True)
    return different.astype(str).astype(np.float64)[slots].reshape(numbers.shape)


def are_decimals(numbers: NDArray[np.float64]) -> bool:
    """Whether there are such numbers, and each is the one of fewest digits that becomes its float32."""
    numbers = numbers[np.isfinite(numbers)]
    return len(numbers) > 0 and bool((decimals_of(numbers) == numbers).all())


def _ranks(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each number among those of float32, of which 0 has 0."""
    magnitudes = np.abs(numbers.astype(np.float32)).view(np.int32).astype(np.int64)
    return np.where(numbers < 0, -magnitudes, magnitudes)


def _numbers(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The number of each rank; beyond the largest one it is infinite."""
    magnitudes: NDArray[Any] = np.abs(ranks).astype(np.int32).view(np.float32)
    return np.where(ranks < 0, -magnitudes, magnitudes)
