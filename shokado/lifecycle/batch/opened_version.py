"""Opened versions: an artefact travels to the process that scores as the bytes of its files, and is opened there.

So a cluster's machines need no model store. Whoever packs one has checked it; opening checks it again.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configuration.settings import EngineChoice, LimitSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import CARD_FILE, Card, CardError, FileKind, read_card
from runners.artefacts.scores import Scores
from runners.engines.engine import Engine, FasterEngine, example_rows, open_engine
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowFormat, Rows
from runners.placements.executor import score
from shokado.lifecycle.errors import BatchRefused

SCORED_ROWS = 4096
"""Rows that the engine is given at once: from here on nothing is gained by more."""
_MAX_ROWS = 1_000_000
"""No request is read here, so there is no limit to keep."""


@dataclass(frozen=True)
class PackedArtefact:
    """A version's files, and which engine scores it."""

    version: str
    digest: str
    engine: str
    files: Mapping[str, bytes]


def pack_artefact(artefact: Artefact, engine: str) -> PackedArtefact:
    """Raises `OSError`."""
    names = [CARD_FILE, *(kind.file_name for kind in FileKind if kind in artefact.card.files)]
    files = {name: (artefact.folder / name).read_bytes() for name in names}
    return PackedArtefact(artefact.version, artefact.digest, engine, files)


def chosen_engine(artefact: Artefact, choice: EngineChoice) -> str:
    """The engine that scores large batches, by its name; with `auto` the one that is the faster at it here and now.

    Raises `BatchRefused` where the version cannot be scored here.
    """
    try:
        opened = open_engine(artefact.folder, artefact.card, choice)
    except CardError as error:
        raise BatchRefused(f"{error}.") from error
    if isinstance(opened, FasterEngine):
        opened = opened.large if opened.crossover_rows <= SCORED_ROWS else opened.small
    return opened.name


@dataclass(frozen=True, eq=False)
class OpenedVersion:
    """A version that scores rows in this process."""

    card: Card
    engine: Engine
    max_text_characters: int

    @cached_property
    def row_format(self) -> RowFormat:
        """How its rows are read, with the limit that a server has for a text."""
        limits = LimitSettings(max_rows=_MAX_ROWS, max_text_characters=self.max_text_characters)
        return row_format_of(self.card.features, limits)

    def score(self, batch: Rows) -> tuple[Scores, dict[int, str]]:
        """The scores of a batch, and why rows have none, by their place.

        Raises `BatchRefused` where the model has no score for the card's example either.
        """
        parts = [self._score(batch[start : start + SCORED_ROWS]) for start in range(0, len(batch), SCORED_ROWS)]
        failures = {
            number * SCORED_ROWS + row: why for number, (_, failed) in enumerate(parts) for row, why in failed.items()
        }
        return np.concatenate([scores for scores, _ in parts]), failures

    def _score(self, batch: Rows) -> tuple[Scores, dict[int, str]]:
        outcome = score(self.engine, batch, self.card.scores_per_row, self._good_row)
        if not outcome.broken:
            return outcome.scores, outcome.failures
        # So many rows fail that looking for them by halves was given up; or the model does.
        if score(self.engine, self._good_row, self.card.scores_per_row).failures:
            why = next(iter(outcome.failures.values()))
            raise BatchRefused(f"{self.card.version} cannot score its own example any more: {why}.")
        scores, failures = outcome.scores.copy(), {}
        for row in range(len(batch)):
            alone = score(self.engine, batch[row : row + 1], self.card.scores_per_row)
            scores[row] = alone.scores[0]
            failures.update(dict.fromkeys([row] if alone.failures else [], alone.failures.get(0, "")))
        return scores, failures

    @cached_property
    def _good_row(self) -> NDArray:  # type: ignore[type-arg]
        return example_rows(self.card)[:1]


def open_version(packed: PackedArtefact, max_text_characters: int) -> OpenedVersion:
    """Raises `BatchRefused`."""
    with tempfile.TemporaryDirectory(prefix="shokado-batch-") as at:
        folder = Path(at)
        for name, content in packed.files.items():
            (folder / name).write_bytes(content)
        try:
            card = read_card(folder)
            return OpenedVersion(card, open_engine(folder, card, EngineChoice(packed.engine)), max_text_characters)
        except CardError as error:
            raise BatchRefused(f"{packed.version} cannot be opened: {error}.") from error
