"""Examples for the description of the API, out of a version's card."""

from typing import Any

from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from runners.inputs.union import UnionRows


def json_examples(card: Card, read: RowReader | None = None) -> tuple[dict[str, Any], Any]:
    """Two rows of the card's examples: the first by name, another in the other form that JSON has for it.

    `read` is how requests are read: the row by name has what any version of a union takes.
    """
    rows, row_format = card.examples.rows, card.row_format
    named = row_format.named(rows[0])
    return read.filled(named) if isinstance(read, UnionRows) else named, row_format.listed(rows[-1])
