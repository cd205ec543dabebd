"""Examples for the description of the API, out of a version's card."""

from typing import Any

from runners.artefacts.card import Card


def json_examples(card: Card) -> tuple[dict[str, Any], Any]:
    """Two rows of the card's examples: the first by name, another in the other form that JSON has for it."""
    rows, row_format = card.examples.rows, card.row_format
    return row_format.named(rows[0]), row_format.listed(rows[-1])
