"""The background of a version: of the rows of its reference some are drawn, by which scores are explained."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from runners.artefacts.background import BACKGROUND_FILE, MAX_BYTES, MAX_ROWS, Background, write_background
from runners.artefacts.card import Card
from runners.artefacts.reference import DataOrigin
from runners.inputs.datatypes import BYTES
from runners.inputs.rows import Rows

SEED = 5


def drawn_background(rows: Rows, card: Card, origin: DataOrigin, made_at: datetime) -> Background | None:
    """A background of rows that the model takes, (rows, features); None for a text alone, which has no parts."""
    if card.input_datatype == BYTES and len(card.features) == 1:
        return None
    # In the order in which they are drawn: whoever takes the first ones has a sample as well.
    drawn = np.random.default_rng(SEED).permutation(len(rows))[:MAX_ROWS]
    kept: list[tuple[Any, ...]] = []
    size = 0
    for row in card.row_format.unbatched(rows[drawn]):
        size += sum(len(str(value)) for value in row)
        if kept and size > MAX_BYTES:
            break
        kept.append(tuple(row))
    return Background(origin=origin, made_at=made_at, rows=tuple(kept))


def with_background(card: Card, background: Background | None, folder: Path) -> Card:
    """The card with this background, which is written beside it in the folder; None: with none."""
    if background is None:
        (folder / BACKGROUND_FILE).unlink(missing_ok=True)
    described = None if background is None else write_background(background, folder)
    return card.model_copy(update={"background": described})
