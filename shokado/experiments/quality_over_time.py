"""Quality over time: what feedback and errors say of a version in each piece of time, with the interval of each figure.

In: tallies by the minute in which something was counted, as `stores.Store.tallies` gives them, or by the first one of
their piece of time, as `stores.tally_sums` does. Out: means in pieces of time of equal length, each alone or with all
before it. Pure.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shokado.experiments.figures import Counted, Counts, Tallies
from shokado.experiments.proportions import wilson
from shokado.stores.store import BUCKET_S

_NEEDED = frozenset(
    (
        Counted.REQUESTS, Counted.FAILED, Counted.CLASS_LABELS, Counted.CORRECT, Counted.VALUE_LABELS,
        Counted.SQUARED_ERROR, Counted.SQUARED_ERROR_SQUARED, Counted.REWARDS, Counted.REWARD_SUM,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of time, one after the other: `number` of them, `length_s` each, the first from `begin` on."""

    begin: int
    """Unix seconds; a multiple of `length_s`, so that whoever asks again is told of the same ones."""
    length_s: int
    number: int

    @classmethod
    def until(cls, now: float, hours: float, about: int) -> "Pieces":
        """Those that cover the last `hours` before `now`, each of whole minutes; the last one has not ended yet."""
        length_s = BUCKET_S * max(1, math.ceil(hours * 3600 / BUCKET_S / about))
        begin = int((now - hours * 3600) // length_s) * length_s
        return cls(begin, length_s, int((now - begin) // length_s) + 1)

    def of(self, minute: int) -> int | None:
        """The number of the piece in which a minute lies; None where it is before or after all of them."""
        piece = (minute - self.begin) // self.length_s
        return piece if 0 <= piece < self.number else None

    @property
    def ends(self) -> list[int]:
        """When each one ends, in Unix seconds."""
        return [self.begin + (piece + 1) * self.length_s for piece in range(self.number)]


@dataclass(frozen=True, slots=True)
class MeansOverTime:
    """A mean in each piece, with the interval that has the true one in 95 of 100 cases, for each piece by itself."""

    value: list[float | None] = field(default_factory=list)
    """None where nothing was observed."""
    low: list[float | None] = field(default_factory=list)
    """None as well where there is too little for an interval."""
    high: list[float | None] = field(default_factory=list)
    observations: list[int] = field(default_factory=list)

    def add(self, value: float | None, interval: tuple[float, float] | None, observations: int) -> None:
        """One piece more."""
        low, high = interval if interval is not None else (None, None)
        self.value.append(value)
        self.low.append(low)
        self.high.append(high)
        self.observations.append(observations)


@dataclass(frozen=True, slots=True)
class QualityOverTime:
    """How a version did; None where nothing was observed in any piece."""

    accuracy: MeansOverTime | None
    """Part of the labels for which the predicted class was the right one."""
    conversion: MeansOverTime | None
    """Mean reward."""
    mean_squared_error: MeansOverTime | None
    error_rate: MeansOverTime | None
    """Errors per answer of either kind, of all environments together."""


def quality_over_time(
    tallies: Tallies, environment: str, versions: Iterable[str], pieces: Pieces, *, so_far: bool = False
) -> dict[str, QualityOverTime]:
    """How the versions did in each piece, by the feedback of one environment; `so_far`: in it and all before it."""
    counted = _counted(tallies, environment, pieces)
    return {version: _quality(counted.get(version, {}), pieces.number, so_far=so_far) for version in versions}


def mean_interval(total: float, squares: float, observations: int) -> tuple[float, float] | None:
    """The interval of the mean of numbers that are not negative; None of fewer than two, which tell of no spread.

    Student, "The probable error of a mean", Biometrika 6 (1908): right of normal numbers, and of others where there are
    many. Squared errors are skewed, so that of a few dozen it is too short.

    Args:
        total: sum of the numbers.
        squares: sum of their squares.
        observations: how many there are.
    """
    from scipy.special import stdtrit

    if observations < 2:
        return None
    mean = total / observations
    variance = max(squares - observations * mean**2, 0.0) / (observations - 1)
    reach = float(stdtrit(observations - 1, 0.975)) * math.sqrt(variance / observations)
    return max(mean - reach, 0.0), mean + reach


def _counted(tallies: Tallies, environment: str, pieces: Pieces) -> dict[str, dict[int, Counts]]:
    """Sums by version and piece."""
    sums: defaultdict[str, defaultdict[int, defaultdict[str, float]]]
    sums = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    pieces_of = {minute: pieces.of(minute) for minute in {minute for minute, _ in tallies}}
    for (minute, tally), value in tallies.items():
        piece = pieces_of[minute]
        if piece is not None and tally.name in _NEEDED and tally.environment in ("", environment):
            sums[tally.version][piece][tally.name] += value
    return {version: dict(found) for version, found in sums.items()}


def _quality(found: Mapping[int, Counts], number: int, *, so_far: bool) -> QualityOverTime:
    accuracy, conversion, squared_error, error_rate = (MeansOverTime() for _ in range(4))
    sums: defaultdict[str, float] = defaultdict(float)
    for piece in range(number):
        if not so_far:
            sums.clear()
        for name, value in found.get(piece, {}).items():
            sums[name] += value
        _add_share(accuracy, sums[Counted.CORRECT], round(sums[Counted.CLASS_LABELS]))
        _add_share(conversion, sums[Counted.REWARD_SUM], round(sums[Counted.REWARDS]))
        _add_share(error_rate, sums[Counted.FAILED], round(sums[Counted.FAILED] + sums[Counted.REQUESTS]))
        labels, total = round(sums[Counted.VALUE_LABELS]), sums[Counted.SQUARED_ERROR]
        interval = mean_interval(total, sums[Counted.SQUARED_ERROR_SQUARED], labels)
        squared_error.add(total / labels if labels else None, interval, labels)
    return QualityOverTime(*map(_observed, (accuracy, conversion, squared_error, error_rate)))


def _add_share(means: MeansOverTime, total: float, observations: int) -> None:
    if not observations:
        means.add(None, None, 0)
        return
    mean = min(max(total / observations, 0.0), 1.0)
    means.add(mean, wilson(mean, observations), observations)


def _observed(means: MeansOverTime) -> MeansOverTime | None:
    return means if any(means.observations) else None
