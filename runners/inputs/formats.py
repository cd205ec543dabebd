"""Which format the rows of a model have: its features and a server's limits go in."""

from collections.abc import Iterable

from configuration.settings import LimitSettings
from runners.inputs.datatypes import BYTES
from runners.inputs.dense import DenseRows
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature, Schema
from runners.inputs.text import TextRows
from runners.inputs.typed import TypedRows


def row_format_of(features: Iterable[Feature], limits: LimitSettings = LimitSettings()) -> RowFormat:  # noqa: B008
    """The format of the features' rows. Raises `ValueError` where they do not go together."""
    schema = Schema.of(features, limits)
    if schema.datatype == BYTES:
        return TextRows(schema, limits.max_rows, limits.max_text_characters)
    format_of_numbers = TypedRows if schema.is_typed else DenseRows
    return format_of_numbers(schema, limits.max_rows)
