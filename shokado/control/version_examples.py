"""Examples of a version: rows, and what it must answer for them, for whoever tests a server from outside."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runners.artefacts.card import Card
from runners.artefacts.scores import tolerance_of
from shokado.control.dependencies import Parts
from shokado.control.http.errors import errors
from shokado.dispatch.request import UnknownVersion
from shokado.worker.readiness import known_versions

router = APIRouter(tags=["versions"])


class VersionExamples(BaseModel):
    """Rows of a version's card, and their scores as its framework gave them when it was imported."""

    version: str
    digest: str = Field(description="Of the artefact: the same on every machine.")
    rows: list[dict[str, Any]] = Field(description="By feature: `instances` of `POST /v1/models/predict`.")
    predictions: list[float | list[float]] | None = Field(
        description="What that must answer for them; null where only another server has the version's artefact."
    )
    tolerance: list[float] = Field(
        description="By how much a prediction may differ: one number, or one for each of several values a row."
    )


@router.get(
    "/v1/models/{version}/examples",
    summary="Rows of a version, and what it must answer for them",
    responses=errors(404, 422, 503),
)
async def read_examples(parts: Parts, version: str) -> VersionExamples:
    """The rows that the description of the API shows, in this version's form: the first and the last of its card."""
    name = known_versions(parts).resolve(version)
    artefact = parts.fleet.artefacts.get(name)
    if artefact is None:
        raise UnknownVersion("version", name, list(parts.fleet.artefacts))
    card, chosen = artefact.card, shown_rows(artefact.card)
    return VersionExamples(
        version=name,
        digest=artefact.digest,
        rows=[card.row_format.named(card.examples.rows[at]) for at in chosen],
        # Of a version that the store here lacks, the card is made of another one's, whose scores they are.
        predictions=[_plain(card.examples.scores[at]) for at in chosen] if artefact.in_store else None,
        tolerance=tolerance_of(card, 0.0).reshape(-1).tolist(),
    )


def shown_rows(card: Card) -> list[int]:
    """Positions of the rows that everybody may see anyway."""
    return sorted({0, len(card.examples.rows) - 1})


def _plain(scores: float | tuple[float, ...]) -> float | list[float]:
    return [*scores] if isinstance(scores, tuple) else scores
