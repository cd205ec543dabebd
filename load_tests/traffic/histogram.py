"""Times in classes, each two per cent wider than the one before: small, and histograms of several processes add up."""

import math

import msgspec

_SMALLEST_S = 1e-5
"""The smallest time that is told apart; no request is as short."""
_LOG_GROWTH = math.log(1.02)


class Histogram(msgspec.Struct):
    """How often which times were seen."""

    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        index = math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _LOG_GROWTH)
        self.counts[index] = self.counts.get(index, 0) + 1

    def merge(self, other: "Histogram") -> None:
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def percentile_s(self, percent: float) -> float:
        """Upper edge of the class with that percentile (nearest rank), so at most 2 % above it; NaN of nothing."""
        rank = math.ceil(percent / 100 * self.total)
        for index in sorted(self.counts):
            rank -= self.counts[index]
            if rank <= 0:
                return _SMALLEST_S * math.exp(index * _LOG_GROWTH)
        return math.nan
