"""Engines named after how they behave. A row's score is its first value plus a half; a negative one is a bad row."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from runners.artefacts.scores import Scores
from runners.inputs.rows import Rows


@dataclass
class Obliging:
    """Scores everything; `sizes` has the size of each batch that it was asked for."""

    per_row: int = 1
    sizes: list[int] = field(default_factory=list)
    name: str = "obliging"

    def predict(self, rows: Rows) -> Scores:
        self.sizes.append(len(rows))
        scores = rows[:, 0] + np.float32(0.5)
        return scores if self.per_row == 1 else np.repeat(scores[:, None], self.per_row, axis=1)

    def interrupt(self, still: Callable[[], bool]) -> None:
        """It cannot be."""


class ChokesOnBadRows(Obliging):
    """Raises for the whole batch if it holds one bad row."""

    def predict(self, rows: Rows) -> Scores:
        scores = super().predict(rows)
        if (rows[:, 0] < 0).any():
            raise ValueError(f"{int((rows[:, 0] < 0).sum())} bad rows")
        return scores


class ChokesOnEverything(Obliging):
    """Raises always."""

    def predict(self, rows: Rows) -> Scores:
        super().predict(rows)
        raise RuntimeError("out of order")


class GivesNoNumberForBadRows(Obliging):
    """Returns NaN or infinity for bad rows, in one column if there are several."""

    def predict(self, rows: Rows) -> Scores:
        scores = super().predict(rows)
        bad = np.flatnonzero(rows[:, 0] < 0)
        values = np.where(bad % 2, np.nan, np.inf)
        if self.per_row == 1:
            scores[bad] = values
        else:
            scores[bad, -1] = values
        return scores


class GivesNoNumber(Obliging):
    """Returns NaN for every row."""

    def predict(self, rows: Rows) -> Scores:
        return np.full_like(super().predict(rows), np.nan)


class LosesARow(Obliging):
    """Returns one score too few."""

    def predict(self, rows: Rows) -> Scores:
        return super().predict(rows)[1:]


class AddsAColumn(Obliging):
    """Returns scores of shape (n, 1) where (n,) belongs."""

    def predict(self, rows: Rows) -> Scores:
        return super().predict(rows)[:, None]
