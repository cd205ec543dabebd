"""Rows of a reference: a file or a frame goes in, a sample of the rows that a model would be given comes out.

    CSV, Parquet -> frames of some thousand rows -> columns by the features' names -> packed rows -> sample

All of a file is read, a part at a time, and what does not fit is refused with its row; the memory that this takes does
not grow with the file.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.inputs.columns import Category, Column, Text
from runners.inputs.datatypes import BYTES
from runners.inputs.rows import Rows
from shokado.lifecycle.errors import ReferenceRefused

SUFFIXES = (".csv", ".parquet")
MAX_ROWS = 100_000
"""Rows that are kept: the share of a bin of 3 % is then known to .05 %."""
MAX_TEXTS = 20_000
"""The same of texts, which take a hundred times the memory and the time."""
MAX_VALUES = 16_000_000
"""Numbers that are kept: 64 MB."""
NUMBERS_OF_A_TEXT = 100
"""How many of them take the memory of a text."""
READ_ROWS = 1 << 14
READ_VALUES = 2_000_000
"""How many rows and numbers are read at a time, at most."""
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A")
"""How a cell of a CSV file says that a number is missing. In a column of texts, these are texts."""
MAX_PARTS = 1000
"""Arrays that a sampler joins at once: of single rows, each takes more memory than its row."""
SEED = 5


@dataclass(frozen=True)
class Table:
    """A table that is read part by part.

    Attributes:
        columns: the names of its columns.
        frames: its rows.
    """

    name: str
    columns: tuple[str, ...]
    frames: Iterable[pd.DataFrame]


@dataclass(frozen=True, eq=False)
class SampledRows:
    """Rows of a table.

    Attributes:
        rows: as a model is given them, float32 (rows, features) with NaN where a value is missing; or texts, dtype
            object (rows, 1), with None.
        of: how many rows the table had.
        ignored: columns that are no features.
    """

    rows: Rows
    of: int
    ignored: tuple[str, ...]


def open_table(path: Path, card: Card) -> Table:
    """The table in a CSV or Parquet file; its rows are read when they are asked for. Raises `ReferenceRefused`."""
    return open_columns(path, card.row_format.schema.columns)


def open_columns(path: Path, features: Sequence[Column]) -> Table:
    """`open_table` for columns that no card has yet."""
    if path.suffix.lower() not in SUFFIXES:
        raise ReferenceRefused(f"{path} is neither {' nor '.join(SUFFIXES)}.")
    if not path.is_file():
        raise ReferenceRefused(f"There is no file {path}.")
    opened = _csv if path.suffix.lower() == ".csv" else _parquet
    with _plain_errors(path):
        columns, frames = opened(path, features)
    return Table(str(path), columns, _plainly(path, frames))


def table_of(name: str, values: Any, card: Card) -> Table:
    """The table of a frame, or of an array whose columns have the features' order. Raises `ReferenceRefused`."""
    if not isinstance(values, pd.DataFrame):
        array = np.asarray(values, dtype=object) if isinstance(values, list) else np.asarray(values)
        width = len(card.features)
        array = array.reshape(-1, 1) if width == 1 and array.ndim == 1 else np.atleast_2d(array)
        if array.ndim != 2 or array.shape[1] != width:
            raise ReferenceRefused(f"{name} has the shape {list(array.shape)} for {width} features.")
        values = pd.DataFrame(array, columns=list(card.feature_names))
    columns = tuple(map(str, values.columns))
    return Table(name, columns, [values.set_axis(columns, axis=1)])


def read_sample(table: Table, card: Card, max_rows: int | None = None) -> SampledRows:
    """All rows of the table, or where it has more than `max_rows` a sample, which is the same one every time.

    Raises `ReferenceRefused` for a feature without a column, a value of another type, and a table without rows.
    """
    names = card.feature_names
    check_columns(table, names)
    sampler = RowSampler(max_rows or most_rows(card))
    for frame in table.frames:
        columns = [
            _values(table.name, frame[column.name], column, sampler.seen) for column in card.row_format.schema.columns
        ]
        sampler.add(_packed(columns, card))
    if not sampler.seen:
        raise ReferenceRefused(f"{table.name} has no rows.")
    ignored = tuple(name for name in table.columns if name not in names)
    return SampledRows(sampler.drawn(), sampler.seen, ignored)


class RowSampler:
    """Draws rows without knowing how many there are: each gets a random number, and the lowest ones stay."""

    def __init__(self, max_rows: int) -> None:
        self.seen = 0
        self._max_rows = max_rows
        self._random = np.random.default_rng(SEED)
        self._lots: list[NDArray[np.float64]] = []
        self._parts: list[Rows] = []
        self._held = 0

    def add(self, rows: Rows) -> None:
        self.seen += len(rows)
        self._held += len(rows)
        self._lots.append(self._random.random(len(rows)))
        self._parts.append(rows)
        if self._held > 2 * self._max_rows or len(self._parts) >= MAX_PARTS:
            self.drawn()

    def keep_at_most(self, max_rows: int) -> None:
        """Let fewer rows stay from now on: those that would have, had it been so from the beginning."""
        self._max_rows = min(max_rows, self._max_rows)

    def drawn(self) -> Rows:
        """The rows that stay, in their order."""
        rows, lots = np.concatenate(self._parts), np.concatenate(self._lots)
        if len(rows) > self._max_rows:
            kept = np.sort(np.argpartition(lots, self._max_rows)[: self._max_rows])
            rows, lots = rows[kept], lots[kept]
        self._parts, self._lots, self._held = [rows], [lots], len(rows)
        return rows


def most_rows(card: Card, tables: int = 1) -> int:
    """How many rows of a version are kept, where so many tables are kept at once."""
    if card.input_datatype == BYTES:
        return max(1, min(MAX_TEXTS, MAX_VALUES // NUMBERS_OF_A_TEXT // tables))
    return max(1, min(MAX_ROWS, MAX_VALUES // len(card.features) // tables))


def check_columns(table: Table, names: Sequence[str]) -> None:
    """Raise `ReferenceRefused` unless the table has a column for each feature."""
    missing = [name for name in names if name not in table.columns]
    twice = [name for name in names if table.columns.count(name) > 1]
    if missing:
        raise ReferenceRefused(f"{table.name} lacks {_listed(missing)} of the model; it has {_listed(table.columns)}.")
    if twice:
        raise ReferenceRefused(f"{table.name} has {_listed(twice)} twice.")


def _listed(names: Sequence[str]) -> str:
    """Names as a message has them, of which there may be many."""
    shown = ", ".join(repr(name[:100]) for name in names[:10])
    return f"the column{'s' * (len(names) > 1)} {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")


# From the columns of a frame to rows.


def _packed(columns: list[NDArray[Any]], card: Card) -> Rows:
    """Numbers that are beyond float32 become infinite there, as which they are counted."""
    with np.errstate(over="ignore"):
        return np.stack(columns, axis=1).astype(card.row_format.dtype)


def _values(table: str, values: Any, column: Column, seen: int) -> NDArray[Any]:
    """A series as float64 with NaN for what is missing, or as texts with None, dtype object; shape (rows,).

    `seen` is the number of the first row. Raises `ReferenceRefused` for a value of another type.
    """
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values)
    if is_number and not isinstance(column, Text | Category) and not pd.api.types.is_bool_dtype(values):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    plain = [None if _is_missing(value) else _plain(value) for value in values.tolist()]
    for row, value in enumerate(plain, start=seen):
        if reason := _reason(row, value, column):
            raise ReferenceRefused(f"{table}: {reason}.")
    if isinstance(column, Category):
        return np.array([_position(value, column) for value in plain])
    found = np.empty(len(plain), dtype=object)
    found[:] = plain
    return found if isinstance(column, Text) else found.astype(np.float64)


def _position(level: str | None, column: Category) -> float:
    """The number of a level; of any other text the one that follows, whether or not the model takes it."""
    known = column.encode
    try:
        return float(known(level))
    except KeyError:
        return math.nan if not level else float(len(column.levels))


def _is_missing(value: Any) -> bool:
    """None, NaN, and pandas' own NA and NaT."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _plain(value: Any) -> Any:
    """The value as Python has it; numbers that no float holds are infinite."""
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _reason(row: int, value: Any, column: Column) -> str | None:
    """Why a value is not taken, in the words of a server; how long a text may be is its own affair."""
    if value is None or (type(value) is float and not isinstance(column, Text | Category)):
        return None
    if isinstance(column, Category) and isinstance(value, str):
        return None
    if not isinstance(value, bool | int | float | str | list | dict):
        belongs = "text" if isinstance(column, Text) else "number"
        return f"row {row}, feature {column.name!r}: a {type(value).__name__} where a {belongs} belongs"
    fault = column.fault(row, value)
    return fault.message if fault is not None and fault.code != "text_too_long" else None


# From a file to frames.


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Raise `ReferenceRefused` for what pandas and Arrow raise, and for cells that pandas would only warn to drop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError:
        raise ReferenceRefused(f"{path} is empty.") from None
    except (OSError, ValueError, pyarrow.ArrowException, pd.errors.ParserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise ReferenceRefused(f"{path} cannot be read: {reason}") from error


def _plainly(path: Path, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    while True:
        with _plain_errors(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _csv(path: Path, features: Sequence[Column]) -> tuple[tuple[str, ...], Iterator[pd.DataFrame]]:
    # The names as they stand there: pandas makes others of those that are there twice.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, na_filter=False, encoding="utf-8-sig")
    columns = tuple(header.iloc[0].tolist())
    return columns, _csv_frames(path, features, _rows_at_a_time(len(columns)))


def _csv_frames(path: Path, features: Sequence[Column], rows: int) -> Iterator[pd.DataFrame]:
    texts = {feature.name: str for feature in features if isinstance(feature, Text | Category)}
    missing = {feature.name: list(MISSING) for feature in features if feature.name not in texts}
    with pd.read_csv(
        path,
        # Without this, a row of more cells than there are names would give its first one to an index.
        index_col=False,
        dtype=texts,
        keep_default_na=False,
        na_values=missing,
        encoding="utf-8-sig",
        low_memory=False,
        chunksize=rows,
    ) as frames:
        for frame in frames:
            yield pd.DataFrame({feature.name: _from_cells(frame[feature.name], feature) for feature in features})


def _from_cells(values: Any, column: Column) -> Any:
    """A single cell that is no number makes pandas leave all of its column as texts."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    return [column.read_cell(cell) if isinstance(cell, str) else cell for cell in values.tolist()]


def _parquet(path: Path, features: Sequence[Column]) -> tuple[tuple[str, ...], Iterator[pd.DataFrame]]:
    file = pyarrow.parquet.ParquetFile(path, pre_buffer=False)
    batches = file.iter_batches(_rows_at_a_time(len(features)), columns=[feature.name for feature in features])
    # Metadata of pandas would make an index of a column that was one.
    return tuple(file.schema_arrow.names), (batch.to_pandas(ignore_metadata=True) for batch in batches)


def _rows_at_a_time(columns: int) -> int:
    return max(1, min(READ_ROWS, READ_VALUES // max(1, columns)))
