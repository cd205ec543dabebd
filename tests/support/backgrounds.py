"""Backgrounds for artefacts that were made without one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runners.artefacts.artefact import Artefact
from runners.artefacts.background import Background, write_background
from runners.artefacts.card import Card, write_card
from runners.artefacts.reference import DataOrigin, OriginKind

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)


def background_of(rows: NDArray[Any], card: Card) -> Background:
    """Of rows as the model takes them, (rows, features)."""
    origin = DataOrigin(kind=OriginKind.FILE, name="rows.csv", rows=len(rows))
    return Background(origin=origin, made_at=MADE_AT, rows=tuple(map(tuple, card.row_format.unbatched(rows))))


def with_rows(folder: Path, card: Card, rows: NDArray[Any] | None) -> Artefact:
    """The artefact in the folder, whose card is written anew: with these rows as its background, or with none."""
    described = None if rows is None else write_background(background_of(rows, card), folder)
    card = card.model_copy(update={"background": described})
    write_card(card, folder)
    return Artefact(card.version, f"{card.model}:{card.version}", folder, card)
