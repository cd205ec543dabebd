"""Bounds of float32, or of float64: where a function that keeps the order of numbers passes some bounds of its own.

The function is asked, so that nothing of how it computes has to be known. Numbers are tried by their rank among all of
their kind, of which 0 has 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.precision import FLOAT32

LARGEST = FLOAT32.largest
IsLeft = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""Whether each number [count, columns] is left of its bound."""
_INTEGERS: dict[Any, Any] = {np.float32: np.int32, np.float64: np.int64}
"""As which the bits of a number that is not negative keep its order."""


@dataclass(frozen=True, eq=False)
class Digits:
    """What the numbers of columns are like: arrays of shape [columns]."""

    exact: NDArray[np.bool_]
    """Whether float32 holds them as they come."""
    decimal: NDArray[np.bool_]
    """Whether they have so few digits that float32 tells them apart."""
    given: type[np.floating] = np.float64
    """What scikit-learn is given them as."""

    @property
    def told_apart(self) -> NDArray[np.bool_]:
        """Whether float32 has another number for each of them."""
        return self.exact | self.decimal

    def of(self, columns: Sequence[int]) -> "Digits":
        return Digits(self.exact[list(columns)], self.decimal[list(columns)], self.given)


def bounds_before(
    is_left: IsLeft,
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
        is_left: asked for numbers of float64.
        lowest: the smallest number of each column that may be asked for: [columns].
        digits: what the columns' numbers are like.
        is_strict: whether a number on a bound is not left of it.
    """
    has_decimals = digits.decimal.any()

    def is_left_as_given(numbers: NDArray[np.float32]) -> NDArray[np.bool_]:
        given = np.where(digits.decimal, decimals_of(numbers), numbers) if has_decimals else numbers.astype(np.float64)
        return is_left(np.maximum(given, lowest))

    start = np.maximum(_ranks(lowest) - 1, -largest_rank(np.float32))
    ranks = largest_left(is_left_as_given, np.tile(start, (count, 1)), np.float32)
    bound = ranks + is_strict
    if not digits.told_apart.all():
        between = nearest_left(lambda numbers: is_left(np.maximum(numbers, lowest)), ranks, is_strict=is_strict)
        bound = np.where(digits.told_apart, bound, between)
    return numbers_of(bound, np.float32)


def largest_left(is_left: IsLeft, start: NDArray[np.int64], kind: Any) -> NDArray[np.int64]:
    """The rank of the largest float32 or float64 that is left of each bound; `start` where no larger one is."""
    low, high = start, np.full(start.shape, largest_rank(kind))
    # One more than a number has bits, for the negative ones.
    for _ in range(np.iinfo(_INTEGERS[kind]).bits + 1):
        # Each halved by itself: two ranks of float64 may add up to more than int64 has.
        middle = low // 2 + high // 2 + (low % 2 + high % 2 + 1) // 2
        left = is_left(numbers_of(middle, kind))
        low, high = np.where(left, middle, low), np.where(left, high, np.maximum(middle - 1, low))
    return low


def nearest_left(is_left: IsLeft, ranks: NDArray[np.int64], *, is_strict: bool = False) -> NDArray[np.int64]:
    """The rank of the float32 that a float64 next to each bound becomes: the given one, or the next larger one.

    It is the larger one only if what lies beyond the middle of both is still left of the bound.
    """
    following = np.minimum(ranks + 1, largest_rank(np.float32))
    middles = (numbers_of(ranks, np.float32).astype(np.float64) + numbers_of(following, np.float32)) / 2
    left = is_left(np.nextafter(middles, -np.inf if is_strict else np.inf))
    return np.where(left, following, ranks)


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


def numbers_of(ranks: NDArray[np.int64], kind: Any) -> NDArray[Any]:
    """The float32 or float64 of each rank; beyond the largest one it is infinite."""
    magnitudes = np.abs(ranks).astype(_INTEGERS[kind]).view(kind)
    return np.asarray(np.where(ranks < 0, -magnitudes, magnitudes))


def largest_rank(kind: Any) -> int:
    """The rank of the largest number; the smallest one has the same below 0."""
    return int(kind(np.finfo(kind).max).view(_INTEGERS[kind]))
