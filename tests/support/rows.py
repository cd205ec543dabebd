"""Row formats of models that exist only on paper."""

from collections.abc import Collection, Iterable

from configuration.settings import LimitSettings
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature


def dense_format(names: Iterable[str], max_rows: int = 10_000, booleans: Collection[str] = ()) -> RowFormat:
    """Of features of numbers; `booleans` are those of them that may be truth values as well."""
    features = [Feature(name=name, type="boolean" if name in booleans else "float") for name in names]
    return row_format_of(features, LimitSettings(max_rows=max_rows))


def text_format(name: str, max_rows: int = 10_000, max_text_characters: int = 100_000) -> RowFormat:
    """Of one text."""
    limits = LimitSettings(max_rows=max_rows, max_text_characters=max_text_characters)
    return row_format_of([Feature(name=name, type="text")], limits)
