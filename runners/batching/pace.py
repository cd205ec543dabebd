"""How fast an engine is, and how large its batches should therefore be. Pure values: no clock, no engine."""

from math import exp

_SMALLEST_LIMIT = 16
"""Rows that a batch may always have: below, what a call costs by itself outweighs its rows."""
_STEPS_TO_CEILING = 64
"""How many full batches in time lead from none to the ceiling."""
_DECREASE = 0.8
"""What a batch that took too long leaves of the limit: little goes, as a hiccup may have been the cause."""


class Pace:
    """Seconds that a batch of n rows takes: a moving average for each power of two of n.

    The average follows a change within some ten batches and ignores a single slow one.
    """

    _WEIGHT = 0.2

    def __init__(self) -> None:
        self._seconds_per_row: dict[int, float] = {}

    def observe(self, rows: int, seconds: float) -> None:
        size = rows.bit_length()
        per_row = seconds / rows
        known = self._seconds_per_row.get(size)
        self._seconds_per_row[size] = per_row if known is None else known + self._WEIGHT * (per_row - known)

    def estimate(self, rows: int) -> float:
        """Expected seconds for a batch of `rows`; 0 while nothing was observed.

        A size never seen is scaled from the next larger one that was, else from the largest: both err on the safe
        side only a little, because seconds per row fall slowly once batches are large.
        """
        size = rows.bit_length()
        per_row = self._seconds_per_row.get(size)
        if per_row is None:
            if not self._seconds_per_row:
                return 0.0
            larger = [known for known in self._seconds_per_row if known > size]
            per_row = self._seconds_per_row[min(larger) if larger else max(self._seconds_per_row)]
        return rows * per_row


class DrainRate:
    """Rows per second that really came back lately, while rows were waiting: a moving average over some seconds.

    Unlike `Pace` it knows what else the process does between two batches.
    """

    _MEMORY_S = 2.0

    def __init__(self) -> None:
        self._rows = 0.0
        self._seconds = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """`rows` came back within `seconds`, during which there was work all the time."""
        kept = exp(-seconds / self._MEMORY_S)
        self._rows = self._rows * kept + rows
        self._seconds = self._seconds * kept + seconds

    def seconds_for(self, rows: int) -> float | None:
        """How long so many rows will take; None while nothing was observed."""
        return rows * self._seconds / self._rows if self._rows else None


class BatchLimit:
    """Rows of one batch: additive increase while full batches meet the latency target, else multiplicative decrease.

    Source: Crankshaw et al., Clipper: A Low-Latency Online Prediction Serving System, NSDI 2017, section 4.3.
    """

    def __init__(self, latency_target_s: float, ceiling: int, start: int | None = None) -> None:
        self._target_s = latency_target_s
        self._ceiling = ceiling
        self._floor = min(_SMALLEST_LIMIT, ceiling)
        self._step = max(1, ceiling // _STEPS_TO_CEILING)
        self.rows = min(max(start or self._floor, self._floor), ceiling)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch. A small one says nothing about the limit, whether it was quick or met a hiccup."""
        if seconds > self._target_s:
            if 2 * rows >= self.rows:
                self.rows = max(self._floor, int(self.rows * _DECREASE))
        elif rows >= self.rows:
            self.rows = min(self._ceiling, self.rows + self._step)
