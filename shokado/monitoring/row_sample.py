"""Samples of rows: of all that come, each is as likely as any other to be among a fixed number that stays."""

from collections.abc import Callable

import numpy as np

from runners.artefacts.scores import Scores
from runners.inputs.rows import Rows
from shokado.monitoring.reservoir import Reservoir


class RowSample(Reservoir):
    """A sample of at most `size` rows with their scores."""

    __slots__ = ("_kept", "_parts", "_replaced")

    def __init__(self, size: int, kept: Callable[[Rows], Rows], draw: Callable[[], float]) -> None:
        """`kept` gives what is to be kept of rows; `draw` numbers in [0, 1)."""
        super().__init__(size, draw)
        self._kept = kept
        self._parts: list[tuple[Rows, Scores]] = []
        self._replaced: dict[int, tuple[Rows, Scores]] = {}
        """Rows in place of those that came first, by their index."""

    def add(self, rows: Rows, scores: Scores) -> None:
        """Rows and their scores, (rows,) or (rows, several); they may be kept, and must not change."""
        if self.passed(len(rows)):
            return
        start = self.seen
        self.seen = end = start + len(rows)
        if start >= self._size:
            self._replace(rows, scores, start)
        elif end < self._size:
            self._parts.append((self._kept(rows), scores))
        else:
            room = self._size - start
            self._parts.append((self._kept(rows[:room]), scores[:room]))
            self._filled()
            self._replace(rows, scores, start)

    def drawn(self) -> tuple[Rows, Scores]:
        """The sample, of at least one row: what was kept of its rows, and their scores."""
        rows = np.concatenate([part for part, _ in self._parts])
        scores = np.concatenate([part for _, part in self._parts])
        for index, (row, score) in self._replaced.items():
            rows[index], scores[index] = row[0], score[0]
        return rows, scores

    def _replace(self, rows: Rows, scores: Scores, start: int) -> None:
        for instead, at in self._drawn_since(start):
            # A copy of its own: a view would keep the batch.
            self._replaced[instead] = self._kept(rows[at : at + 1]).copy(), scores[at : at + 1].copy()
