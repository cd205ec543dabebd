"""Reference rows: an artefact goes in, rows to measure scales over and rows to compare over come out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.engines.engine import example_rows, likely_rows
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import ReferenceRefused
from shokado.lifecycle.importing.reference_rows import open_table, read_sample

MAX_ROWS = 10_000
"""Rows of a file that are used; more tell nothing new."""
DEALT_ROWS = 1000
"""Rows made of the examples: with fewer, networks meet numbers that they have no scale for."""


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """Rows as a server packs them, float32 [N, features].

    Attributes:
        scales: what the scales of activations are measured over.
        compared: what parent and quantized version are compared over.
        origin: where the compared ones come from, in words.
    """

    scales: NDArray[np.float32]
    compared: NDArray[np.float32]
    origin: str


def reference_rows(artefact: Artefact, file: Path | None) -> ReferenceRows:
    """The rows of the file, one half for each purpose; else those of the data set that the version learned from, its
    training and its test part; else its card's examples, and rows whose columns are each drawn from them.

    Raises `ReferenceRefused` where the file cannot be read, or has no row that the model takes.
    """
    card = artefact.card
    if file is not None:
        return _of_file(file, card)
    name = repository.labels_of(artefact).get("dataset", "")
    if name in datasets.NAMES:
        data = datasets.load(name)
        if data.feature_names == card.feature_names:
            return ReferenceRows(data.train.rows, data.test.rows, f"the test part of {name}")
    rows = np.vstack([example_rows(card), likely_rows(card, DEALT_ROWS)])
    return ReferenceRows(rows, rows, "the card's examples, and rows dealt from them")


def _of_file(file: Path, card: Card) -> ReferenceRows:
    rows = read_sample(open_table(file, card), card, MAX_ROWS).rows
    taken = rows[card.row_format.fitting(rows)]
    if not len(taken):
        raise ReferenceRefused(f"{file} has no row that the model takes: in each a value is missing, or infinite.")
    return ReferenceRows(taken[::2], taken[1::2] if len(taken) > 1 else taken, str(file))
