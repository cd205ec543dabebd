"""Rows, in whatever form the caller has them, into the body of a request for predictions.

In: lists, mappings by feature, texts, a pandas frame or series, a numpy array. Neither package is imported: a frame has
columns and becomes rows by name; a table of numbers is packed, which the server takes without parsing: as float32 where
that holds all of them, else as float64.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
PACKED = "application/octet-stream"
_NUMBERS = ("f", "i", "u", "b")
"""Kinds of numpy's dtypes."""


@dataclass(frozen=True, slots=True)
class PredictionBody:
    """What is sent, and of how many rows."""

    content: bytes
    content_type: str
    rows: int

    @property
    def is_packed(self) -> bool:
        """Whether it holds rows and nothing else, so that headers must say the rest."""
        return self.content_type.startswith(PACKED)


def prediction_body(
    rows: Any,
    unit: str | int | None = None,
    entities: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> PredictionBody:
    """`unit` is named in the body where that is JSON. Raises `TypeError` for what are no rows.

    `entities` are whose features the server looks up, one for each row, or one for all; without `rows` they are all
    there is to send.
    """
    if entities is not None:
        return _of_entities(rows, unit, entities)
    if isinstance(rows, str | bytes | Mapping):
        raise TypeError(f"rows are a list, a frame or an array, not a {type(rows).__name__}: put the row in a list")
    if _is_table_of_numbers(rows):
        packed = rows.astype("<f4")
        is_short = rows.dtype.kind == "f" and rows.dtype.itemsize <= packed.dtype.itemsize
        if not is_short and not (packed == rows).all():
            packed = rows.astype("<f8")
        content_type = f"{PACKED}; dtype={packed.dtype.name}; columns={packed.shape[1]}"
        return PredictionBody(packed.tobytes(), content_type, len(rows))
    instances = _listed(rows)
    body = {"instances": instances} if unit is None else {"instances": instances, "unit": unit}
    return PredictionBody(to_json(body), JSON, len(instances))


def _of_entities(
    rows: Any, unit: str | int | None, entities: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> PredictionBody:
    body: dict[str, Any] = {"entities": entities if isinstance(entities, Mapping) else _listed(entities)}
    if rows is not None:
        if isinstance(rows, str | bytes | Mapping) or _is_table_of_numbers(rows):
            raise TypeError("beside entities, rows are a list of mappings by feature name, or a frame")
        body["instances"] = _listed(rows)
    if unit is not None:
        body["unit"] = unit
    if rows is not None:
        count = len(body["instances"])
    else:
        count = 1 if isinstance(entities, Mapping) else len(body["entities"])
    return PredictionBody(to_json(body), JSON, count)


def to_json(content: Any) -> bytes:
    """Numbers of numpy, and arrays within, are taken as well. Raises `TypeError` for what JSON cannot say."""
    return json.dumps(content, default=_plain, separators=(",", ":")).encode()


def _is_frame(rows: Any) -> bool:
    return hasattr(rows, "columns") and hasattr(rows, "to_dict")


def _is_table_of_numbers(rows: Any) -> bool:
    kind = getattr(getattr(rows, "dtype", None), "kind", None)
    return not _is_frame(rows) and kind in _NUMBERS and rows.ndim == 2


def _listed(rows: Any) -> list[Any]:
    if _is_frame(rows):
        rows = rows.to_dict(orient="records")
    elif hasattr(rows, "tolist"):
        rows = rows.tolist()
    return [_without_gaps(row) for row in rows]


def _without_gaps(row: Any) -> Any:
    """The row with None where a value is missing, which JSON calls null."""
    if isinstance(row, Mapping):
        return {name: None if _is_missing(value) else value for name, value in row.items()}
    if isinstance(row, list | tuple):
        return [None if _is_missing(value) else value for value in row]
    return row


def _is_missing(value: Any) -> bool:
    """Whether it is NaN, or what pandas has for a missing value of another kind."""
    return (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")  # noqa: PLR0124


def _plain(value: Any) -> Any:
    """The plain value of what the standard library does not know: a number or an array of numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{str(value)[:100]!r} ({type(value).__name__}) cannot be sent: neither number, text nor boolean")
