"""What the columns of a file are called that does not say it, and what they hold.

Names as somebody types them, and a table of rows, go in; a signature as MLflow would have logged it comes out.
Importing this module imports no framework.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shokado.lifecycle.errors import UnsupportedModel

if TYPE_CHECKING:
    import pandas as pd

    from shokado.lifecycle.importing.onnx_inputs import OnnxInput

TYPES = ("float", "integer", "boolean", "category")
"""What may be said of a column."""
_EXAMPLE_ROWS = 100
"""How many rows of a table are among those that are compared."""


@dataclass(frozen=True)
class ColumnName:
    """What somebody says of a column: its name, and its type where the file's own is not meant."""

    name: str
    type: str | None = None

    @property
    def typed(self) -> str:
        return self.name if self.type is None else f"{self.name}:{self.type}"


def parsed_columns(text: str) -> tuple[ColumnName, ...]:
    """The columns in `width,age:integer`. Raises `UnsupportedModel` for a type that there is not."""
    columns = []
    for part in text.split(",") if text else ():
        name, colon, kind = part.strip().rpartition(":")
        column = ColumnName(name, kind) if colon else ColumnName(kind)
        if not column.name or column.type not in (None, *TYPES):
            raise UnsupportedModel(f"--features has {part.strip()!r}: a name, or name:type with {', '.join(TYPES)}.")
        columns.append(column)
    if len({column.name for column in columns}) < len(columns):
        raise UnsupportedModel("--features names a column twice.")
    return tuple(columns)


def columns_of(table: Path) -> tuple[str, ...]:
    """The names in a CSV or Parquet file. Raises `ReferenceRefused`."""
    from shokado.lifecycle.importing.reference_rows import open_columns

    return open_columns(table, ()).columns


def rows_of(table: Path, columns: Sequence[ColumnName], inputs: Sequence["OnnxInput"]) -> "pd.DataFrame":
    """The first rows of a table. Raises `ReferenceRefused`."""
    from runners.inputs.columns import Category, Number
    from shokado.lifecycle.importing.reference_rows import check_columns, open_columns

    names = [column.name for column in columns]
    typed = [
        Category(name, nullable=True, levels=source.levels) if source.levels else Number(name, nullable=True)
        for name, source in zip(names, inputs, strict=True)
    ]
    opened = open_columns(table, typed)
    check_columns(opened, names)
    return next(iter(opened.frames)).head(_EXAMPLE_ROWS)[names]


def signature_of(columns: Sequence[ColumnName], inputs: Sequence["OnnxInput"], frame: "pd.DataFrame | None") -> Any:
    """What MLflow would have logged of those columns."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    specs: list[Any] = [
        ColSpec(
            _mlflow_type(column, source, None if frame is None else frame[column.name]),
            column.name,
            required=frame is None or not frame[column.name].isna().any(),
        )
        for column, source in zip(columns, inputs, strict=True)
    ]
    return ModelSignature(inputs=Schema(specs))


def _mlflow_type(column: ColumnName, source: "OnnxInput", values: Any) -> str:
    """By what is said, else by the values of a table where the file takes any number, else by the file."""
    import pandas as pd
    from onnx import TensorProto

    kind = column.type or source.type
    if values is not None and column.type is None and kind == "float":
        is_whole = pd.api.types.is_integer_dtype(values)
        kind = "boolean" if pd.api.types.is_bool_dtype(values) else "integer" if is_whole else kind
    narrow = source.kind == TensorProto.FLOAT and (values is None or values.dtype == "float32")
    number = "float" if narrow else "double"
    return {"integer": "long", "boolean": "boolean", "category": "string"}.get(kind, number)
