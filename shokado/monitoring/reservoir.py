"""Reservoirs: of all that comes, each piece is as likely as any other to be among a fixed number that stays.

Algorithm L of K.-H. Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", ACM Transactions on
Mathematical Software 20, 1994: once it is full, it draws how many pass before one is kept, so that most cost an
addition.
"""

import math
from collections.abc import Callable, Iterator


class Reservoir:
    """Draws what is kept of what comes; whoever inherits from it keeps it."""

    __slots__ = ("_draw", "_next", "_size", "_weight", "seen")

    def __init__(self, size: int, draw: Callable[[], float]) -> None:
        """`draw` draws numbers in [0, 1)."""
        self.seen = 0
        """How many came."""
        self._size = size
        self._draw = draw
        self._weight = 1.0
        self._next = 0
        """How many will have come when one is kept in place of another."""

    def passed(self, count: int) -> bool:
        """Count so many, where none of them is to be kept; false where one may be, and then nothing is counted."""
        if self.seen < self._size or self.seen + count >= self._next:
            return False
        self.seen += count
        return True

    def _filled(self) -> None:
        """The first `size` are kept; from now on, others are drawn."""
        self._next = self._size
        self._skip()

    def _drawn_since(self, start: int) -> Iterator[tuple[int, int]]:
        """What is kept of what came since `start`: in whose stead, and its own number, counted from there."""
        while self._next <= self.seen:
            yield int(self._draw() * self._size), self._next - 1 - start
            self._skip()

    def _skip(self) -> None:
        """Draw which is the next one to be kept."""
        # Of 1 - u, as u may be 0.
        self._weight *= math.exp(math.log(1 - self._draw()) / self._size)
        self._next += math.floor(math.log(1 - self._draw()) / math.log1p(-self._weight)) + 1
