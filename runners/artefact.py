"""Artefacts: the configured versions as they lie in the BentoML model store."""

from dataclasses import dataclass
from pathlib import Path

from configuration.settings import Settings
from runners.card import Card, CardError, read_card


class ArtefactError(Exception):
    """A configured version cannot be served; the message is one line that says why and what to run."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One version's folder and its card."""

    version: str
    tag: str
    folder: Path
    card: Card


def find_artefacts(settings: Settings) -> dict[str, Artefact]:
    """All configured versions. Raises `ArtefactError` when one is missing, damaged, or takes other features."""
    artefacts = {version: _find(version, settings.tag_of(version)) for version in settings.versions}
    first = next(iter(artefacts.values()))
    for artefact in artefacts.values():
        for what in ("feature_names", "task", "classes"):
            mine, theirs = getattr(artefact.card, what), getattr(first.card, what)
            if mine != theirs:
                raise ArtefactError(
                    f"{artefact.tag} and {first.tag} cannot serve side by side: their {what} differ ({mine}; {theirs})"
                )
    return artefacts


def _find(version: str, tag: str) -> Artefact:
    import bentoml
    from bentoml.exceptions import NotFound

    try:
        folder = Path(bentoml.models.get(tag).path)
        return Artefact(version, tag, folder, read_card(folder))
    except NotFound:
        raise ArtefactError(f"no model {tag!r} in the BentoML model store; make it with: make models") from None
    except CardError as error:
        raise ArtefactError(f"{error}; import it again with: make models") from error
