"""References of models that exist only on paper, and artefacts that have one."""

from pathlib import Path
from typing import Any

import numpy as np

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card, write_card
from runners.artefacts.reference import (
    DataOrigin,
    Distribution,
    Levels,
    Numbers,
    OriginKind,
    ReferenceProfile,
    write_reference,
)
from tests.support.cards import make_card

ROWS = 2_000
TYPED: dict[str, Any] = {
    "format": 3,
    "features": [
        {"name": "width", "type": "float", "nullable": True},
        {"name": "port", "type": "category", "levels": ["S", "C"], "other": True},
    ],
    "examples": {"rows": [[1.0, 0.0], [2.0, 1.0]], "scores": [0.25, 0.1]},
}
"""What differs in the card of a model with a number that may be missing, and texts, known and unknown."""


def typed_rows(rows: int, random: np.random.Generator, shift: float = 0.0) -> np.ndarray:
    """Rows of that model, float32 (rows, 2)."""
    width, port = random.normal(shift, 1, rows), random.choice([0.0, 1.0], rows, p=[0.7, 0.3])
    return np.stack([width, port], axis=1).astype(np.float32)


def typed_reference(random: np.random.Generator, **changes: Any) -> ReferenceProfile:
    rows = typed_rows(ROWS, random)
    bounds = tuple(np.quantile(rows[:, 0], np.linspace(0.1, 1, 10), method="inverted_cdf").astype(float).tolist())
    content: dict[str, Any] = {
        "origin": DataOrigin(kind=OriginKind.FILE, name="a.csv", rows=ROWS),
        "made_at": "2026-01-31T12:00:00Z",
        "rows": ROWS,
        "scored_rows": ROWS,
        "features": {
            "width": Distribution.of(Numbers(lowest=float(rows[:, 0].min()), bounds=bounds), rows[:, 0]),
            "port": Distribution.of(Levels(levels=(0, 1)), rows[:, 1]),
        },
        "scores": (Distribution.of(Numbers(lowest=0, bounds=(0.25, 0.5, 0.75, 1)), random.random(ROWS)),),
    }
    return ReferenceProfile.model_validate(content | changes)


def put_reference(folder: Path, reference: ReferenceProfile | None, **card: Any) -> Artefact:
    """An artefact in that folder with a card and this reference, and without a model file."""
    folder.mkdir(parents=True, exist_ok=True)
    described = write_reference(reference, folder).model_dump() if reference is not None else None
    made: Card = make_card(**TYPED | card, reference=described)
    write_card(made, folder)
    return Artefact(made.version, f"paper:{made.version}", folder, made)
