"""The reference of a version: what its rows and scores were like when it was made, as histograms of bounded size.

`reference.json` beside the card has counts of the training data, or of other rows that are typical. Whoever looks for
drift counts what is served in the same bins: one array of int64 for each feature and score, whatever the traffic.
"""

from collections.abc import Iterable
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from runners.artefacts.card import Card, ModelFile
from runners.artefacts.integrity import DamagedFile, describe_file, read_described

REFERENCE_FILE = "reference.json"
MAX_BINS = 32
"""Bins of numbers, or levels, that a feature may have: enough to see a shift of a few percent, and some 500 bytes."""

Counts = NDArray[np.int64]
"""One number for each cell of a histogram, shape (cells,). Counts of the same bins may be added."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Numbers(_Frozen):
    """Bins of numbers, or of the lengths of texts.

    The first bin is from `lowest` up to and with the first bound, each further one from above the bound before it up
    to and with its own. The cells are: below, each bin, above, infinite, missing.
    """

    kind: Literal["numbers"] = "numbers"
    of: Literal["values", "characters"] = "values"
    lowest: FiniteFloat
    bounds: tuple[FiniteFloat, ...] = Field(min_length=1, max_length=MAX_BINS)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.lowest > self.bounds[0] or any(one >= other for one, other in pairwise(self.bounds)):
            raise ValueError("bounds must ascend from the lowest value on")
        return self

    @property
    def cells(self) -> int:
        return len(self.bounds) + 4

    @property
    def ordered(self) -> slice:
        """The cells that stand beside each other."""
        return slice(1, 1 + len(self.bounds))

    def count(self, column: NDArray[Any]) -> Counts:
        """Count the values of a column, (rows,), which are numbers, or texts where those have their length counted.

        NaN and None are missing. Every value is in one cell.
        """
        values = lengths_of(column) if self.of == "characters" else column
        cells = np.searchsorted(self.bounds, values, side="left") + 1
        # As float64: beside a Python float, numpy would compare in the values' own float32.
        cells[values < np.float64(self.lowest)] = 0
        cells[np.isinf(values)] = self.cells - 2
        cells[np.isnan(values)] = self.cells - 1
        return np.bincount(cells, minlength=self.cells)


class Levels(_Frozen):
    """The levels of a category, as the numbers that its rows have for them.

    The cells are: each level, other, missing.
    """

    kind: Literal["levels"] = "levels"
    levels: tuple[FiniteFloat, ...] = Field(min_length=1, max_length=MAX_BINS)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(one >= other for one, other in pairwise(self.levels)):
            raise ValueError("levels must ascend")
        return self

    @property
    def cells(self) -> int:
        return len(self.levels) + 2

    @property
    def ordered(self) -> slice:
        """None: levels have no order."""
        return slice(0, 0)

    def count(self, column: NDArray[Any]) -> Counts:
        """Count the values of a column of numbers, (rows,). NaN is missing. Every value is in one cell."""
        levels = np.array(self.levels)
        cells = np.searchsorted(levels, column, side="left")
        cells[cells == len(levels)] = 0
        cells[levels[cells] != column] = self.cells - 2
        cells[np.isnan(column)] = self.cells - 1
        return np.bincount(cells, minlength=self.cells)


class Distribution(_Frozen):
    """A histogram: bins, and how many values of the reference data are in each of their cells."""

    bins: Annotated[Numbers | Levels, Field(discriminator="kind")]
    counts: tuple[Annotated[int, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != self.bins.cells:
            raise ValueError(f"{len(self.counts)} counts for {self.bins.cells} cells")
        return self

    @classmethod
    def of(cls, bins: Numbers | Levels, column: NDArray[Any]) -> Self:
        """What a column, (rows,), has in those bins."""
        return cls(bins=bins, counts=tuple(bins.count(column).tolist()))


class OriginKind(StrEnum):
    """What the reference data are."""

    FILE = "file"
    """A file that somebody named."""
    LOGGED_DATA_SET = "logged data set"
    """What the run logged as its input in MLflow."""
    TRAINING_PART = "training part"
    """Those rows of an example data set that its versions were trained on."""
    INPUT_EXAMPLE = "input example"
    """The few rows that were logged with the model."""


class DataOrigin(_Frozen):
    """Where the reference data came from."""

    kind: OriginKind
    name: str
    """The path of the file, the name of the data set, or the model whose example it is."""
    rows: int = Field(gt=0)
    """How many rows there were; `ReferenceProfile.rows` are fewer where only a sample of them was counted."""


class ReferenceProfile(_Frozen):
    """The histograms of a version's features and scores."""

    format: Literal[1] = 1
    origin: DataOrigin
    made_at: AwareDatetime
    rows: int = Field(gt=0)
    """How many rows were counted."""
    scored_rows: int = Field(gt=0)
    """How many of them have scores: rows with a value that the model does not take have none."""
    features: dict[str, Distribution]
    """By name, in the order of the card's."""
    scores: tuple[Distribution, ...] = Field(min_length=1)
    """One for the probability of the second class or for the value, or one for each class or value; see `scores.py`."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _check_rows(self.features.values(), self.rows)
        _check_rows(self.scores, self.scored_rows)
        if max(self.rows, self.scored_rows) > min(self.rows, self.origin.rows):
            raise ValueError("more rows than there were")
        return self


def _check_rows(distributions: Iterable[Distribution], rows: int) -> None:
    for counted in distributions:
        if sum(counted.counts) != rows:
            raise ValueError(f"the counts add up to {sum(counted.counts)} for {rows} rows")


def lengths_of(texts: NDArray[Any]) -> NDArray[np.float64]:
    """The number of characters of each text, (rows,); NaN where there is None."""
    return np.array([np.nan if text is None else len(text) for text in texts.tolist()], dtype=np.float64)


def write_reference(reference: ReferenceProfile, folder: Path) -> ModelFile:
    """Write `reference.json` into an artefact's folder; what its card must say of it comes back."""
    path = folder / REFERENCE_FILE
    path.write_text(reference.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return describe_file(path)


def read_reference(folder: Path, card: Card) -> ReferenceProfile | None:
    """The artefact's reference; None where its card has none, as those from before there were any.

    Raises `DamagedFile` with the path and the reason where it is not the one that the card describes.
    """
    if card.reference is None:
        return None
    path = folder / REFERENCE_FILE
    reference = read_described(path, card.reference, ReferenceProfile)
    if (tuple(reference.features), len(reference.scores)) != (card.feature_names, card.scores_per_row):
        raise DamagedFile(f"{path}: it is of other features or scores than its card")
    return reference
