"""The figures of a version by segment: rates of each level of a feature, and how far apart they are. Pure.

    sums of a feature's levels --> rates with intervals --> their spread over the levels, and what is sure of it

All intervals of an answer hold together in 95 of 100 cases: each one has its part of the 5, as of C. E. Bonferroni,
divided among all levels that the feature can have, seen or not, and all rates. So whoever looks for the level that is
worst does not find one by chance, and the spread between the highest and the lowest level lies within what their
intervals leave possible. Differences and ratios are those of fairlearn: largest less smallest, smallest by largest.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

from runners.artefacts.card import Card
from shokado.experiments.figures import Counted
from shokado.experiments.proportions import hoeffding_interval
from shokado.experiments.row_levels import FeatureLevels
from shokado.experiments.segment_counts import SegmentCounted, is_binary

ERROR_RATE = 0.05
"""The chance at most that any interval of an answer misses its true value."""
FEWEST_VALUES = 100
"""Fewer errors of a regression say nothing of how far their mean may lie: the interval is that of a normal one."""
Sums = Mapping[tuple[str, str], float]
"""By level and name; see `SegmentCounted` and `Counted`."""


class SegmentRate(StrEnum):
    """What is told of each level."""

    ACCURACY = "accuracy"
    """Share of labels for which the predicted class was the right one."""
    CONVERSION = "conversion"
    """Mean reward."""
    SELECTION_RATE = "selection_rate"
    """Share of labelled rows for which the positive class was predicted."""
    TRUE_POSITIVE_RATE = "true_positive_rate"
    """The same of rows whose label is positive."""
    FALSE_POSITIVE_RATE = "false_positive_rate"
    """The same of rows whose label is negative."""
    CALIBRATION_GAP = "calibration_gap"
    """Share of positive labels less the mean probability that was predicted: above 0 where that was too low."""
    MEAN_SQUARED_ERROR = "mean_squared_error"
    MEAN_ERROR = "mean_error"
    """Mean of predicted value less label: above 0 where predictions were too high."""


class SpreadVerdict(StrEnum):
    """What is sure of the spread of a rate over the levels of a feature that were seen."""

    WITHIN = "WITHIN"
    """It surely is no more than the limit."""
    BEYOND = "BEYOND"
    """It surely is more."""
    UNKNOWN = "UNKNOWN"
    """Too little was seen to say either."""


@dataclass(frozen=True, slots=True)
class LevelRate:
    """A rate of one level; without observations, all that it could be."""

    value: float | None
    low: float | None
    """The true rate lies above, as all others of the answer above theirs, in 95 of 100 cases; None: anywhere."""
    high: float | None
    observations: int


@dataclass(frozen=True, slots=True)
class LevelReport:
    """How a version did on the rows of one level."""

    level: str
    feedback: int
    """Pieces of feedback."""
    labels: int
    rates: Mapping[SegmentRate, LevelRate]


@dataclass(frozen=True, slots=True)
class RateSpread:
    """How far apart a rate is between levels; None where there are not two levels that it was seen of."""

    verdict: SpreadVerdict
    difference: float | None = None
    """The largest less the smallest."""
    difference_low: float | None = None
    difference_high: float | None = None
    """The true difference lies between; None: anywhere."""
    ratio: float | None = None
    """The smallest by the largest; None also where the largest is 0, and for what can be negative."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    lowest: str | None = None
    """The level with the smallest rate."""
    highest: str | None = None


_NOTHING = RateSpread(SpreadVerdict.UNKNOWN)
_SIGNED = (SegmentRate.CALIBRATION_GAP, SegmentRate.MEAN_ERROR)
"""Rates below 0 have no ratio that says anything."""


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """How a version did on each level of a feature, of the predictions that feedback came for."""

    by: str
    levels: Sequence[LevelReport]
    """Those that were seen."""
    unseen: Sequence[str]
    """Levels that nothing is known of, and that no spread and no verdict speaks of."""
    spreads: Mapping[str, RateSpread]
    """By rate; `demographic_parity` is that of selection rates, `equalized_odds` the larger one of true and false
    positive rates.
    """
    limit: float
    """What verdicts ask whether a difference is within."""
    error_rate: float
    """The chance at most that any interval of this answer misses its true value."""
    intervals: int
    """How many share that chance."""


def rates_of(card: Card) -> Sequence[SegmentRate]:
    """The rates that there are for a model's task."""
    of_values = (SegmentRate.MEAN_SQUARED_ERROR,) if card.outputs else (
        SegmentRate.MEAN_SQUARED_ERROR, SegmentRate.MEAN_ERROR,
    )  # fmt: skip
    if not card.classes:
        return (SegmentRate.CONVERSION, *of_values)
    if not is_binary(card):
        return (SegmentRate.ACCURACY, SegmentRate.CONVERSION)
    binary = (SegmentRate.SELECTION_RATE, SegmentRate.TRUE_POSITIVE_RATE, SegmentRate.FALSE_POSITIVE_RATE)
    calibration = (SegmentRate.CALIBRATION_GAP,) if card.task.has_probabilities else ()
    return (SegmentRate.ACCURACY, SegmentRate.CONVERSION, *binary, *calibration)


def segment_report(card: Card, levels: FeatureLevels, sums: Sums, limit: float) -> SegmentReport:
    """The figures of one version by the levels of one feature; `limit` is above 0."""
    rates = rates_of(card)
    intervals = len(rates) * len(levels.names)
    alpha = ERROR_RATE / intervals
    seen = [name for name in levels.names if sums.get((name, Counted.FEEDBACK), 0) > 0]
    told = []
    for name in seen:
        counts = {counted: value for (level, counted), value in sums.items() if level == name}
        labels = counts.get(Counted.CLASS_LABELS, 0) + counts.get(Counted.VALUE_LABELS, 0)
        found = {rate: _rate_of(rate, counts, alpha) for rate in rates}
        told.append(LevelReport(name, round(counts[Counted.FEEDBACK]), round(labels), found))
    spreads = {str(rate): _spread({one.level: one.rates[rate] for one in told}, rate, limit) for rate in rates}
    if SegmentRate.SELECTION_RATE in spreads:
        spreads["demographic_parity"] = spreads[SegmentRate.SELECTION_RATE]
        true, false = spreads[SegmentRate.TRUE_POSITIVE_RATE], spreads[SegmentRate.FALSE_POSITIVE_RATE]
        spreads["equalized_odds"] = _larger(true, false, limit)
    unseen = [name for name in levels.levels if name not in seen]
    return SegmentReport(levels.feature, told, unseen, spreads, limit, ERROR_RATE, intervals)


def _rate_of(rate: SegmentRate, counts: Mapping[str, float], alpha: float) -> LevelRate:
    def count(name: str) -> float:
        return counts.get(name, 0.0)

    labels, positives = count(Counted.CLASS_LABELS), count(SegmentCounted.POSITIVES)
    true, selected = count(SegmentCounted.TRUE_POSITIVES), count(SegmentCounted.SELECTED)
    values, squares = count(Counted.VALUE_LABELS), count(Counted.SQUARED_ERROR)
    match rate:
        case SegmentRate.ACCURACY:
            return _share(count(Counted.CORRECT), labels, alpha)
        case SegmentRate.CONVERSION:
            return _share(count(Counted.REWARD_SUM), count(Counted.REWARDS), alpha)
        case SegmentRate.SELECTION_RATE:
            return _share(selected, labels, alpha)
        case SegmentRate.TRUE_POSITIVE_RATE:
            return _share(true, positives, alpha)
        case SegmentRate.FALSE_POSITIVE_RATE:
            return _share(selected - true, labels - positives, alpha)
        case SegmentRate.CALIBRATION_GAP:
            predicted = count(SegmentCounted.PROBABILITY) / labels if labels else 0.0
            return _share(positives, labels, alpha, predicted)
        case SegmentRate.MEAN_SQUARED_ERROR:
            return _mean(squares, count(Counted.SQUARED_ERROR_SQUARED), values, alpha)
        case SegmentRate.MEAN_ERROR:
            return _mean(count(SegmentCounted.ERROR), squares, values, alpha)


def _share(total: float, observations: float, alpha: float, less: float = 0.0) -> LevelRate:
    """The mean of numbers between 0 and 1, less a number that is known."""
    number = round(observations)
    if not number:
        return LevelRate(None, -less, 1 - less, 0)
    mean = min(max(total / number, 0.0), 1.0)
    low, high = hoeffding_interval(mean, number, alpha)
    return LevelRate(mean - less, low - less, high - less, number)


def _mean(total: float, squares: float, observations: float, alpha: float) -> LevelRate:
    """The mean of any numbers, given their sum and that of their squares; its interval is asymptotic."""
    number = round(observations)
    if not number:
        return LevelRate(None, None, None, 0)
    mean = total / number
    variance = max(squares / number - mean**2, 0.0) * number / max(number - 1, 1)
    if number < FEWEST_VALUES or not variance:
        return LevelRate(mean, None, None, number)
    reach = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(variance / number)
    return LevelRate(mean, mean - reach, mean + reach, number)


def _spread(rates: Mapping[str, LevelRate], rate: SegmentRate, limit: float) -> RateSpread:
    """How far apart levels are; all of them count, also one of whose rate nothing was seen."""
    known = {level: one.value for level, one in rates.items() if one.value is not None}
    if len(rates) < 2:
        return _NOTHING
    floor = -math.inf if rate in _SIGNED else 0.0
    lows = [max(floor, -math.inf if one.low is None else one.low) for one in rates.values()]
    highs = [math.inf if one.high is None else one.high for one in rates.values()]
    low, high = max(max(lows) - min(highs), 0.0), max(highs) - min(lows)
    spread = RateSpread(_verdict(low, high, limit), None, low, high if math.isfinite(high) else None)
    if rate not in _SIGNED:
        spread = replace(spread, ratio_low=min(lows) / max(highs), ratio_high=_ratio(min(highs), max(lows)))
    if len(known) < 2:
        return spread
    lowest, highest = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    smallest, largest = known[lowest], known[highest]
    ratio = smallest / largest if rate not in _SIGNED and largest > 0 else None
    return replace(spread, difference=largest - smallest, ratio=ratio, lowest=lowest, highest=highest)


def _ratio(smaller: float, larger: float) -> float:
    """At most 1, which it may be where the larger one may be 0."""
    return min(smaller / larger, 1.0) if larger > 0 else 1.0


def _larger(first: RateSpread, second: RateSpread, limit: float) -> RateSpread:
    """The larger one of two differences, and the smaller one of their ratios."""
    low = _both(max, first.difference_low, second.difference_low)
    high = _both(max, first.difference_high, second.difference_high)
    if low is None or high is None:
        return _NOTHING
    larger = first if (first.difference or 0) >= (second.difference or 0) else second
    return RateSpread(
        verdict=_verdict(low, high, limit),
        difference=_both(max, first.difference, second.difference),
        difference_low=low,
        difference_high=high,
        ratio=_both(min, first.ratio, second.ratio),
        ratio_low=_both(min, first.ratio_low, second.ratio_low),
        ratio_high=_both(min, first.ratio_high, second.ratio_high),
        lowest=larger.lowest,
        highest=larger.highest,
    )


def _both(choose: Callable[[float, float], float], first: float | None, second: float | None) -> float | None:
    """The choice of two numbers; None where one is unknown."""
    return choose(first, second) if first is not None and second is not None else None


def _verdict(low: float, high: float, limit: float) -> SpreadVerdict:
    if low > limit:
        return SpreadVerdict.BEYOND
    return SpreadVerdict.WITHIN if high <= limit else SpreadVerdict.UNKNOWN
