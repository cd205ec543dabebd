"""A request log of requests that nobody sent, to versions that exist on paper, and such versions in the model store."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configuration.log_settings import LogSettings
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from shokado.request_log.log_writer import LogWriter
from shokado.request_log.records import LoggedFeedback
from tests.request_log.records import encoded, request_of
from tests.support.cards import make_card
from tests.support.paper_models import put_model

KINDS: dict[str, dict[str, Any]] = {
    "width": {"name": "width"},
    "city": {"name": "city", "type": "category", "levels": ["Bern", "Basel"], "nullable": True},
    "age": {"name": "age", "type": "integer"},
    "member": {"name": "member", "type": "boolean"},
}
"""Features that a paper card may have."""
EXAMPLE = {"width": 1.0, "city": 0, "age": 40, "member": 1}


Kind = str | dict[str, Any]
"""A feature by its name, or as a card has it."""


def paper_card(version: str = "v1", features: Sequence[Kind] = ("width", "city", "age"), **changes: Any) -> Card:
    """A card of those features; its model's score is the logistic function of the first one."""
    kinds = [KINDS[one] if isinstance(one, str) else one for one in features]
    if "examples" not in changes:
        changes["examples"] = {"rows": [[EXAMPLE[one["name"]] for one in kinds]], "scores": [0.25]}
    return make_card(format=3, version=version, features=kinds, **changes)


def logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-values)))


def put_version(card: Card) -> Artefact:
    """The version of the card in the model store."""
    with repository.staging() as stage:
        made = put_model(stage / card.version, card)
        return repository.put(made.folder, stage, {})


class PaperLog:
    """Writes one row a request, in the order of calls, a second each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at = 1_000_000.0
        self._written = 0

    def write(
        self,
        card: Card,
        rows: Sequence[Sequence[Any]],
        scores: Sequence[Any] | NDArray[Any],
        *,
        units: Sequence[str] | None = None,
        labels: Mapping[int, Any] | None = None,
        settings: LogSettings | None = None,
        **request: Any,
    ) -> list[str]:
        """Write rows that were answered with these scores, and labels by their positions. The prediction ids."""
        writer = LogWriter(settings or LogSettings(share=1), self.folder, f"w{self._written}", bytes(32))
        ids = [f"p-{self._written + at}" for at in range(len(rows))]
        records: list[Any] = []
        for at, (row, score) in enumerate(zip(rows, scores, strict=True)):
            self._at += 1
            named = {"prediction_id": ids[at], "request_id": f"r-{self._written + at}", "at": self._at}
            unit = units[at] if units is not None else f"user-{self._written + at}"
            records.append(request_of(card, [list(row)], [score], **(named | {"unit": unit} | request)))
        said = [LoggedFeedback(self._at, ids[at], 0, json.dumps(label), None) for at, label in (labels or {}).items()]
        writer.write(encoded(*records, *said), {1: card})
        writer.end_segment()
        self._written += len(rows)
        return ids
