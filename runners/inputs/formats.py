"""Which format the rows of a model have: its features and a server's limits go in."""

from collections.abc import Iterable

from configuration.settings import LimitSettings
from runners.inputs.datatypes import BYTES
from runners.inputs.dense import DenseRows
from runners.inputs.mixed import MixedRows
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature, Schema
from runners.inputs.text import TextRows
from runners.inputs.typed import TypedRows


def row_format_of(features: Iterable[Feature], limits: LimitSettings = LimitSettings()) -> RowFormat:  # noqa: B008
    """The format of the features' rows."""
    schema = Schema.of(features, limits)
    if schema.datatype == BYTES:
        format_of_texts = MixedRows if schema.is_mixed else TextRows
        return format_of_texts(schema, limits.max_rows, limits.max_text_characters)
    format_of_numbers = TypedRows if schema.is_typed else DenseRows
    return format_of_numbers(schema, limits.max_rows)
