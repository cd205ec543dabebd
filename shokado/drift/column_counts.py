"""The columns of a version that are watched, and how one array has the counts of them all.

    rows seen | rows counted | cells of the 1st feature | .. | cells of the 1st score | .. | unknown levels of features

Arrays of the same columns may be added, whichever worker, minute or machine they are of.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.artefacts.reference import Counts, Levels, Numbers, ReferenceProfile, lengths_of
from runners.artefacts.scores import Scores, score_names
from runners.inputs.rows import Rows
from runners.inputs.schema import Feature

MAX_SCORES = 32
"""Scores of a row that are watched: the first ones, of many classes or values."""
_SEEN, _COUNTED = 0, 1
"""Where the array has the numbers of rows."""


@dataclass(frozen=True, slots=True)
class WatchedColumn:
    """A feature or a score that is watched."""

    name: str
    feature: Feature | None
    """None: it is a score."""
    bins: Numbers | Levels
    reference: Counts
    start: int
    """Where its cells begin in the array."""
    unknown: int | None
    """Where the array has how many rows had a level that the model does not know, and behind it how many requests were
    refused for one; None where there are no levels."""

    @property
    def cells(self) -> slice:
        return slice(self.start, self.start + self.bins.cells)

    def count(self, values: NDArray[Any], counts: Counts) -> None:
        """Add values, (rows,), to the array."""
        counts[self.cells] += self.bins.count(values)
        if self.unknown is not None and self.feature is not None and self.feature.other:
            counts[self.unknown] += int((values == len(self.feature.levels)).sum())


class ColumnCounts:
    """Counts rows of one version in the bins of its reference."""

    def __init__(self, card: Card, reference: ReferenceProfile, digest: str, max_features: int) -> None:
        """`digest` is the reference's own; `max_features` of the card's are watched."""
        self.reference = reference
        watched = card.features[:max_features]
        names = score_names(card)
        self.not_watched = (*card.feature_names[max_features:], *names[MAX_SCORES:])
        self._width = len(watched)
        self._is_wider = len(card.features) > len(watched)
        self._texts = [feature.type == "text" for feature in watched]
        self._start = 2
        self._end = 2 + sum(reference.features[feature.name].bins.cells for feature in watched)
        self._end += sum(score.bins.cells for score in reference.scores[:MAX_SCORES])
        features = [self._column(feature.name, feature, reference) for feature in watched]
        scores = [self._score(name, at, reference) for at, name in enumerate(names[:MAX_SCORES])]
        self.features, self.scores = tuple(features), tuple(scores)
        self.cells = self._end
        """How long the array is."""
        layout = json.dumps([digest, [column.name for column in self.columns]])
        self.bins = hashlib.sha256(layout.encode()).hexdigest()[:32]
        """Names the bins and their order."""

    @property
    def columns(self) -> Sequence[WatchedColumn]:
        return (*self.features, *self.scores)

    def nothing(self) -> Counts:
        return np.zeros(self.cells, dtype=np.int64)

    def kept(self, rows: Rows) -> Rows:
        """What is to be kept of rows to count them later: numbers as they are, of texts their lengths, float64.

        A view of the rows where all of their columns are watched.
        """
        if rows.dtype != object:
            return rows[:, : self._width].copy() if self._is_wider else rows
        columns = [
            lengths_of(rows[:, at]) if is_text else rows[:, at].astype(np.float64)
            for at, is_text in enumerate(self._texts)
        ]
        return np.stack(columns, axis=1)

    def count(self, rows: Rows, scores: Scores, seen: int) -> Counts:
        """The counts of `kept` rows, of shape (rows, columns), and their scores, that were drawn from so many."""
        counts = self.nothing()
        counts[_SEEN], counts[_COUNTED] = seen, len(rows)
        for at, column in enumerate(self.features):
            column.count(rows[:, at], counts)
        for column, values in zip(self.scores, scores.reshape(len(rows), -1).T, strict=False):
            column.count(values, counts)
        return counts

    def refused(self, feature: str) -> int | None:
        """Where the array has how many requests were refused for an unknown level of the feature."""
        unknown = next((column.unknown for column in self.features if column.name == feature), None)
        return None if unknown is None else unknown + 1

    def _column(self, name: str, feature: Feature, reference: ReferenceProfile) -> WatchedColumn:
        counted = reference.features[name]
        bins = counted.bins
        if isinstance(bins, Numbers) and bins.of == "characters":
            bins = bins.model_copy(update={"of": "values"})
        unknown = None
        if feature.levels:
            unknown, self._end = self._end, self._end + 2
        return WatchedColumn(name, feature, bins, np.array(counted.counts), self._take(bins), unknown)

    def _score(self, name: str, at: int, reference: ReferenceProfile) -> WatchedColumn:
        counted = reference.scores[at]
        return WatchedColumn(name, None, counted.bins, np.array(counted.counts), self._take(counted.bins), None)

    def _take(self, bins: Numbers | Levels) -> int:
        start = self._start
        self._start += bins.cells
        return start


def rows_of(counts: Counts) -> tuple[int, int]:
    """How many rows were seen, and how many of them counted."""
    return int(counts[_SEEN]), int(counts[_COUNTED])
