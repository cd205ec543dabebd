"""The artefacts of the versions that are configured, which a server finds when it starts.

In: the settings. Out: an artefact for each version; one that is served elsewhere need not be in the store.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configuration.settings import LimitSettings, Settings
from runners.artefacts.artefact import Artefact, ArtefactError, ArtefactMissing, check_alike
from runners.artefacts.card import ABOVE_HALF, ABOVE_ZERO, Card, Source
from runners.artefacts.repository import find_artefact, stored_tags
from runners.inputs.rows import RowReader
from runners.inputs.union import format_of_versions

_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def find_artefacts(settings: Settings, find: Callable[[str, str], Artefact] = find_artefact) -> dict[str, Artefact]:
    """All configured versions. Raises `ArtefactError` when one is missing, damaged, or takes other features.

    `find` gives the artefact of a version and its tag, or raises `ArtefactError`.
    A remote version that the store does not have takes and gives what the others do.
    """
    found: dict[str, Artefact] = {}
    for version in settings.versions:
        try:
            found[version] = find(version, settings.tag_of(version))
        except ArtefactMissing as error:
            if settings.remote_of(version) is None:
                raise ArtefactMissing(f"{error}; {_remedy('make it')}") from error
        except ArtefactError as error:
            raise ArtefactError(f"{error}; {_remedy('import it again')}") from error
    check_alike(found.values())
    if not found:
        raise ArtefactMissing(
            "no version has an artefact in the BentoML model store, and one of them must, to say what the model takes "
            f"and gives; {_remedy('make it')}"
        )
    card = card_of_first(found)
    return {version: found.get(version) or elsewhere(version, settings, card) for version in settings.versions}


def card_of_first(artefacts: Mapping[str, Artefact]) -> Card:
    """The card of the first version: all of them give the same, and rows without names have its features."""
    return next(iter(artefacts.values())).card


def row_format_of(artefacts: Mapping[str, Artefact], limits: LimitSettings) -> RowReader:
    """How requests are read, as these versions take them."""
    features = {version: artefact.card.features for version, artefact in artefacts.items()}
    return format_of_versions(card_of_first(artefacts).features, features, limits)


def _remedy(wanted: str) -> str:
    """What helps: in a checkout a command, and in a bento or an image, which has no Makefile, another one of them."""
    if _MAKEFILE.is_file():
        return f"{wanted} with: make models, or a model of your own with: shokado models import"
    held = ", ".join(stored_tags()) or "no versions"
    return f"{held} are in this bento; build one that holds it, in a checkout, with: make image"


def elsewhere(version: str, settings: Settings, card: Card) -> Artefact:
    """What is known of a remote version without an artefact: it takes and gives what the card of another one says."""
    remote = settings.remote_of(version)
    assert remote is not None
    source = Source(uri=remote.address, run_id="", flavor="remote", framework="")
    unknown: dict[str, Any] = {"files": {}, "verification": {}, "metrics": {}}
    unknown |= {"quantization": None, "quantized": None, "reference": None, "background": None}
    unknown |= {"positive_from": ABOVE_HALF if card.task.has_probabilities else ABOVE_ZERO}
    return Artefact(
        version, remote.address, Path(), card.model_copy(update={"version": version, "source": source, **unknown})
    )
