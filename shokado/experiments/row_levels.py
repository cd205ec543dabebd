"""Levels of rows: which level of each segmented feature a row has, as a byte that its prediction id carries.

    settings, card --> `RowLevels`: rows of a request --> codes, a byte for each feature of each row
    settings, card, id --> `levels_said`: codes --> levels by feature, where they still mean the same

A code is the position of a level among the names of `FeatureLevels`. What they are, a digest says beside them: codes of
an id that was made under other settings, or of other levels of the model, say nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from configuration.segment_settings import MAX_LEVELS, FeatureSegments, SegmentSettings
from runners.artefacts.card import Card
from runners.inputs.columns import Boolean, Category, Column, Number, Text
from runners.inputs.rows import RequestRows

MISSING = "(missing)"
OTHERS = "(others)"
"""All levels that are not told apart."""
DIGEST_BYTES = 4
"""One digest in four thousand millions is that of other levels by chance."""
_FALSE, _TRUE = "false", "true"


@dataclass(frozen=True, slots=True)
class FeatureLevels:
    """The levels of one feature that are told apart."""

    feature: str
    levels: tuple[str, ...]
    """In their order, without `MISSING` and `OTHERS`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each code stands for."""
        return (MISSING, *self.levels, OTHERS)

    @property
    def key(self) -> str:
        """Names the feature together with its levels: what is counted for others is never added to these."""
        return f"{self.feature}@{_digest(self.names).hex()}"

    def level_of(self, value: Any) -> str:
        """The level that feedback says, of a feature that no version takes."""
        if value is None:
            return MISSING
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text if text in self.levels else OTHERS


@dataclass(frozen=True, slots=True)
class SealedLevels:
    """What an id says of the levels of its rows."""

    digest: bytes
    per_row: int
    codes: bytes


class RowLevels:
    """Finds the levels of the rows of one version."""

    def __init__(self, features: Sequence[tuple[int, FeatureLevels, Callable[[Any], int]]], card: Card) -> None:
        """Each feature with its column, which ascend, and what makes a code of a packed value."""
        self.features = tuple(levels for _, levels, _ in features)
        self.digest = _digest([levels.key for levels in self.features])
        self._coders = tuple(coder for *_, coder in features)
        self._pick = card.row_format.picker([column for column, *_ in features])

    def codes(self, rows: RequestRows, count: int) -> bytes:
        """The codes of the first `count` rows, row after row."""
        picked, coders = self._pick(rows, count), self._coders
        return bytes([code(value) for values in picked for code, value in zip(coders, values)])  # noqa: B905  # as long

    def said(self, sealed: SealedLevels, row: int) -> Mapping[str, str]:
        """The levels of a row by `FeatureLevels.key`; empty where its codes mean something else, or there are none."""
        codes = sealed.codes[row * sealed.per_row : (row + 1) * sealed.per_row]
        if sealed.digest != self.digest or len(codes) != len(self.features):
            return {}
        return {levels.key: levels.names[code] for levels, code in zip(self.features, codes, strict=True)}


def row_levels(settings: SegmentSettings, card: Card) -> RowLevels | None:
    """What finds the levels of this version's rows; None where it takes none of the features."""
    found = []
    for at, column in enumerate(card.row_format.schema.columns):
        if column.name in settings.features and not isinstance(column, Text):
            levels = feature_levels(settings.features[column.name], column)
            if levels is not None:
                found.append((at, levels, _coder(levels, settings.features[column.name], column)))
    return RowLevels(found, card) if found else None


def levels_of(settings: SegmentSettings, card: Card, feature: str) -> FeatureLevels | None:
    """The levels of a feature that is set up; None where neither the version nor the settings say any."""
    of = settings.features[feature]
    column = next((one for one in card.row_format.schema.columns if one.name == feature), None)
    if column is None or isinstance(column, Text):
        return FeatureLevels(feature, of.levels) if of.levels else None
    return feature_levels(of, column)


def feature_levels(of: FeatureSegments, column: Column) -> FeatureLevels | None:
    """The levels of a column; None for a number without levels and cuts, and for any other column with cuts."""
    if of.levels:
        return FeatureLevels(column.name, of.levels)
    if isinstance(column, Category | Boolean):
        own = column.levels[:MAX_LEVELS] if isinstance(column, Category) else (_FALSE, _TRUE)
        return FeatureLevels(column.name, own) if not of.cuts else None
    return FeatureLevels(column.name, _ranges(of.cuts)) if of.cuts else None


def _ranges(cuts: Sequence[float]) -> tuple[str, ...]:
    spelt = [f"{cut:.15g}" for cut in cuts]
    between = [f"{low} to below {high}" for low, high in pairwise(spelt)]
    return (f"below {spelt[0]}", *between, f"{spelt[-1]} and above")


class _Codes(dict[float, int]):
    """The code of each packed value that is told apart; of any other, that of the others, and 0 of a missing one."""

    def __init__(self, codes: Mapping[float, int], others: int) -> None:
        super().__init__(codes)
        self._others = others

    def __missing__(self, value: float) -> int:
        return 0 if math.isnan(value) else self._others


def _coder(levels: FeatureLevels, of: FeatureSegments, column: Column) -> Callable[[float], int]:
    """What makes a code of a packed value; each request waits for it, so it runs no Python where it need not."""
    if of.cuts:
        assert isinstance(column, Number)
        in_range = partial(bisect_right, (-math.inf, *(_packed(cut, column) for cut in of.cuts)))
        return in_range if not column.nullable else lambda value: 0 if math.isnan(value) else in_range(value)
    codes = {name: code for code, name in enumerate(levels.levels, 1)}
    if isinstance(column, Category):
        known = {float(at): codes[level] for at, level in enumerate(column.levels) if level in codes}
    elif isinstance(column, Boolean):
        known = {float(level == _TRUE): code for level, code in codes.items() if level in (_FALSE, _TRUE)}
    else:
        known = {_packed(level, column): code for level, code in codes.items()}
    return _Codes(known, len(levels.names) - 1).__getitem__


def _packed(number: float | str, column: Column) -> float:
    """A number as rows have it, so that a row of 0.7 is at the cut 0.7; NaN for a level that is none."""
    assert isinstance(column, Number)
    try:
        return float(column.precision.dtype.type(number))
    except ValueError:
        return math.nan


def _digest(names: Sequence[str]) -> bytes:
    return blake2b("\0".join(names).encode(), digest_size=DIGEST_BYTES).digest()
