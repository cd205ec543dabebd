"""Row segments: replayed rows told apart by the value of a feature, numbers in bins with about as many rows each.

In: logged calls and the name of a feature. Out: the names of its segments, and the one of each row.
"""

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.columns import Category, Column, Text
from shokado.lifecycle.errors import ReplayRefused
from shokado.lifecycle.replaying.logged_calls import LoggedCall

MOST_VALUES = 12
"""So many values a feature may have that are a segment each. Of more levels the rest is one; numbers are in bins."""
BINS = 5
MISSING = "(missing)"
NOT_TAKEN = "(not taken by the version)"
DROPPED = "(dropped)"
OTHERS = "(others)"
_FEWEST_DIGITS, _MOST_DIGITS = 4, 17
"""Digits of values and of the bounds of bins: as few as tell them apart."""


@dataclass(frozen=True, eq=False)
class RowSegments:
    """The segments of a feature.

    Attributes:
        names: in the order of their values, or of levels by their number of rows.
        of_rows: the position of each row's, (rows,): of all rows of all calls, in their order.
    """

    feature: str
    names: tuple[str, ...]
    of_rows: NDArray[np.int64]


def segments_by(feature: str, calls: Sequence[LoggedCall]) -> RowSegments:
    """The segments of all rows of the calls. Raises `ReplayRefused` where the log has no values of such a feature."""
    _check(feature, calls)
    values = [value for call in calls for value in _values_of(feature, call)]
    numbers = sorted({value for value in values if isinstance(value, float)})
    if len(numbers) > MOST_VALUES:
        edges = _edges(np.array([value for value in values if isinstance(value, float)]))
        order = _bin_names(edges)
        named = [_bin(value, order, edges) if isinstance(value, float) else value for value in values]
    else:
        order = _told_apart(numbers)
        spelt = dict(zip(numbers, order, strict=True))
        named = [spelt[value] if isinstance(value, float) else value for value in values]
    found = Counter(name for name in named if name not in order)
    order += [name for name, _ in found.most_common(MOST_VALUES)]
    if len(found) > MOST_VALUES:
        order.append(OTHERS)
    at = {name: position for position, name in enumerate(order)}
    return RowSegments(
        feature, tuple(order), np.array([at.get(name, len(order) - 1) for name in named], dtype=np.int64)
    )


def _check(feature: str, calls: Sequence[LoggedCall]) -> None:
    origins = {call.origin for call in calls}
    known = sorted({name for origin in origins for name in origin.card.feature_names})
    if feature not in known:
        nearest = difflib.get_close_matches(feature, known, 1, 0.5)
        advice = f"the nearest is {nearest[0]}" if nearest else f"known are {', '.join(known)}"
        raise ReplayRefused(f"No version of the log takes {feature}; {advice}.")
    if all(feature in origin.masked - origin.hashed for origin in origins if feature in origin.card.feature_names):
        raise ReplayRefused(f"The log drops {feature}, so rows cannot be told apart by it: log.drop in serving.yaml.")


def _values_of(feature: str, call: LoggedCall) -> Sequence[Any]:
    """Numbers, or names: of levels themselves, of a hashed value its hash, of a text its length."""
    origin = call.origin
    names = origin.card.feature_names
    if feature not in names:
        return [NOT_TAKEN] * len(call.batch)
    if feature in origin.hashed:
        return [hashed or MISSING for hashed in call.hashes[feature]]
    if feature in origin.masked:
        return [DROPPED] * len(call.batch)
    at = names.index(feature)
    column = origin.card.row_format.schema.columns[at]
    values = call.batch[:, at].tolist()
    if isinstance(column, Text):
        return [float(len(value)) for value in values]
    return [MISSING if (spelt := _spelt(column, value)) is None else spelt for value in values]


def _spelt(column: Column, value: Any) -> str | float | None:
    """A level as a text, and any other number as a float; None where it is missing."""
    if isinstance(column, Category):
        return column.spell(value)
    number = float(value)
    return None if math.isnan(number) else number


def _edges(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds of the bins, ascending: each bin has its lower one, the last one also its upper one."""
    edges: NDArray[np.float64] = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1), method="inverted_cdf"))
    return edges


def _bin(value: float, names: Sequence[str], edges: NDArray[np.float64]) -> str:
    at = int(np.searchsorted(edges, value, side="right")) - 1
    return names[min(at, len(names) - 1)]


def _bin_names(edges: NDArray[np.float64]) -> list[str]:
    spelt = _told_apart(edges.tolist())
    names = [f"{low} to below {high}" for low, high in pairwise(spelt)]
    return [*names[:-1], f"{spelt[-2]} to {spelt[-1]}"]


def _told_apart(numbers: Sequence[float]) -> list[str]:
    """Different numbers as texts, with as few digits as they differ by."""
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        spelt = [f"{number:.{digits}g}" for number in numbers]
        if len(set(spelt)) == len(spelt):
            return spelt
    return [f"{number:.{_MOST_DIGITS}g}" for number in numbers]
