"""The background of a version: rows that stand for features whose values are not known, when a score is explained.

`background.json` beside the card has a sample of the rows that the reference was made of. They are rows of somebody's
data, so that an import may be told to keep none.
"""

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from runners.artefacts.card import Card, ModelFile
from runners.artefacts.integrity import DamagedFile, describe_file, read_described
from runners.artefacts.reference import DataOrigin
from runners.inputs.rows import Rows

BACKGROUND_FILE = "background.json"
MAX_ROWS = 100
"""Rows that are kept: the mean of scores over them is known to a tenth of their standard deviation."""
MAX_BYTES = 2**20
"""Size of the rows, where texts among them are long."""


class Background(BaseModel):
    """The rows, as a card has its examples, and where they came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    origin: DataOrigin
    made_at: AwareDatetime
    rows: tuple[tuple[float | None, ...], ...] | tuple[tuple[float | str | None, ...], ...] = Field(
        min_length=1, max_length=MAX_ROWS
    )


def write_background(background: Background, folder: Path) -> ModelFile:
    """Write `background.json` into an artefact's folder; what its card must say of it comes back."""
    path = folder / BACKGROUND_FILE
    path.write_text(background.model_dump_json() + "\n", encoding="utf-8")
    return describe_file(path)


def read_background(folder: Path, card: Card) -> Background | None:
    """The artefact's background; None where its card has none.

    Raises `DamagedFile` with the path and the reason where it is not the one that the card describes.
    """
    if card.background is None:
        return None
    path = folder / BACKGROUND_FILE
    background = read_described(path, card.background, Background)
    try:
        card.row_format.check_examples(background.rows)
    except ValueError as error:
        raise DamagedFile(f"{path}: {error}") from error
    return background


def rows_of(background: Background, card: Card) -> Rows:
    """The rows as the model takes them, (rows, features)."""
    return card.row_format.batch(background.rows)
