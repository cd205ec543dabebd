"""Exporting: logged rows become Parquet files, one folder for each day and version, with their labels beside them.

`pandas.read_parquet(folder)` reads them as one table: all files have the columns of all versions.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runners.artefacts.card import Card
from runners.artefacts.scores import score_names
from runners.inputs.schema import Feature
from shokado.request_log.logged_rows import LoggedRow, feedback_in, rows_in
from shokado.request_log.records import LoggedCard
from shokado.request_log.segments import Folder, records_of, segments_at

ROWS_OF_A_GROUP = 65_536
"""Rows that are in memory at once, of each file."""
FEATURE = "feature."
SCORE = "score."
"""What the columns of features and scores begin with, so that none is called as another one."""

_AS = {"text": str, "float": float}
"""What makes the value of a feature that of its column."""

Said = Mapping[tuple[str, int], tuple[str | None, float | None]]
"""Label, as JSON, and reward of a row, by prediction id and index."""


def export(folder: Folder, target: Path) -> dict[str, int]:
    """Write the rows of a log's folder below `target`, which must be empty or not there.

    Returns how many rows each file has, by its name below `target`. Raises `SegmentDamaged` and `OSError`, among them
    `FileExistsError`.
    """
    import pyarrow
    import pyarrow.parquet

    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty")
    cards = list(_cards_in(folder))
    columns = _columns(cards)
    schema = pyarrow.schema([(name, _arrow_type(pyarrow, kind)) for name, kind in columns.items()])
    said = {(one.prediction_id, one.index): (one.label, one.reward) for one in feedback_in(folder)}
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, int] = {}

    def write(name: str) -> None:
        if name not in writers:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            writers[name] = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
        rows, waiting[name] = waiting[name], []
        writers[name].write_table(pyarrow.Table.from_pylist(rows, schema=schema))

    try:
        for row in rows_in(folder):
            name = _file_of(row)
            waiting.setdefault(name, []).append(_flat(row, said, columns))
            counts[name] = counts.get(name, 0) + 1
            if len(waiting[name]) >= ROWS_OF_A_GROUP:
                write(name)
        for name in list(waiting):
            write(name)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def _cards_in(folder: Folder) -> Iterator[tuple[Card, tuple[str, ...]]]:
    """All cards that segments name, and their masked features."""
    seen = set()
    for segment in segments_at(folder):
        for records, _ in records_of(segment):
            for record in records:
                if isinstance(record, LoggedCard) and (record.card, record.masked) not in seen:
                    seen.add((record.card, record.masked))
                    yield Card.model_validate_json(record.card), record.masked


def _columns(cards: Iterable[tuple[Card, tuple[str, ...]]]) -> dict[str, str]:
    """The columns of all versions, and what they hold: a feature that is of two kinds is a text."""
    columns = {
        "time": "time", "prediction_id": "text", "request_id": "text", "row": "integer", "unit": "text",
        "environment": "text", "generation": "integer", "reason": "text", "propensity": "float",
        "latency_ms": "float",
    }  # fmt: skip
    scores: dict[str, str] = {}
    for card, masked in cards:
        for feature in card.features:
            name, kind = FEATURE + feature.name, "text" if feature.name in masked else _kind(feature)
            columns[name] = kind if columns.get(name, kind) == kind else "text"
        scores |= {SCORE + name if name != "score" else name: "float" for name in score_names(card)}
    return columns | scores | {"prediction": "text", "label": "text", "reward": "float"}


def _kind(feature: Feature) -> str:
    return "text" if feature.levels or feature.type == "text" else "float"


def _arrow_type(pyarrow: Any, kind: str) -> Any:
    types = {
        "time": pyarrow.timestamp("us", tz="UTC"),
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "float": pyarrow.float64(),
    }
    return types[kind]


def _file_of(row: LoggedRow) -> str:
    day = datetime.fromtimestamp(row.at, UTC).date().isoformat()
    return f"day={day}/version={row.version}/rows.parquet"


def _flat(row: LoggedRow, said: Said, columns: Mapping[str, str]) -> dict[str, Any]:
    label, reward = said.get((row.prediction_id, row.index), (None, None))
    features = {FEATURE + name: value for name, value in row.features.items()}
    return {
        "time": datetime.fromtimestamp(row.at, UTC),
        "prediction_id": row.prediction_id,
        "request_id": row.request_id,
        "row": row.index,
        "unit": row.unit,
        "environment": row.environment,
        "generation": row.generation,
        "reason": row.reason,
        "propensity": row.propensity,
        "latency_ms": row.latency_ms,
        **{name: _AS[columns[name]](value) if value is not None else None for name, value in features.items()},
        **{SCORE + name if name != "score" else name: value for name, value in row.scores.items()},
        "prediction": str(row.label) if row.label is not None else None,
        "label": str(json.loads(label)) if label is not None else None,
        "reward": reward,
    }
