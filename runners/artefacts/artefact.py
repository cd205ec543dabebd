"""Artefacts: versions as they lie in the BentoML model store, found by tag, with what must hold before they serve."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from configuration.settings import Settings
from runners.artefacts.card import ABOVE_HALF, Card, CardError, Source, digest_of, read_card

_IDENTITY = {"model", "task", "features", "classes", "source", "files", "quantization"}
_RULES = {"positive_from", "predicts"}
"""Count where they are not the default, so that artefacts from before there were any keep their digest."""


_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


class ArtefactError(Exception):
    """A version cannot be served; the message is one line that says why."""


class ArtefactMissing(ArtefactError):
    """The store of this machine has nothing under the tag."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One version's folder and its card."""

    version: str
    tag: str
    folder: Path
    card: Card

    digest: str = field(init=False)
    """SHA-256, hexadecimal, of what the artefact is: its signature, its source and its files' digests.

    Every import of the same registered version gives the same one, whatever its label, on every machine: the
    verification and the examples, whose last bits depend on the processor, and the run's metrics, which may be added
    to, do not count.
    """

    def __post_init__(self) -> None:
        identity = self.card.model_dump(mode="json", include=_IDENTITY)
        identity |= self.card.model_dump(mode="json", include=_RULES, exclude_defaults=True)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "digest", digest)

    @property
    def in_store(self) -> bool:
        """Whether the model store of this machine has it; of a remote version, it need not."""
        return bool(self.card.files)


def find_artefacts(settings: Settings) -> dict[str, Artefact]:
    """All configured versions. Raises `ArtefactError` when one is missing, damaged, or takes other features.

    A remote version that the store does not have takes and gives what the others do.
    """
    found: dict[str, Artefact] = {}
    for version in settings.versions:
        try:
            found[version] = find_artefact(version, settings.tag_of(version))
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
    card = next(iter(found.values())).card
    return {version: found.get(version) or elsewhere(version, settings, card) for version in settings.versions}


def _remedy(wanted: str) -> str:
    """What helps: in a checkout a command, and in a bento or an image, which has no Makefile, another one of them."""
    if _MAKEFILE.is_file():
        return f"{wanted} with: make models"
    import bentoml

    held = ", ".join(sorted(str(model.tag) for model in bentoml.models.list())) or "no versions"
    return f"{held} are in this bento; build one that holds it, in a checkout, with: make image"


def elsewhere(version: str, settings: Settings, card: Card) -> Artefact:
    """What is known of a remote version without an artefact: it takes and gives what the card of another one says."""
    remote = settings.remote_of(version)
    assert remote is not None
    source = Source(uri=remote.address, run_id="", flavor="remote", framework="")
    unknown: dict[str, Any] = {"files": {}, "verification": {}, "metrics": {}, "quantization": None}
    unknown |= {"positive_from": ABOVE_HALF}
    return Artefact(
        version, remote.address, Path(), card.model_copy(update={"version": version, "source": source, **unknown})
    )


def find_artefact(version: str, tag: str) -> Artefact:
    """The artefact of exactly this tag. Raises `ArtefactError`; `ArtefactMissing` where there is none."""
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        found = bentoml.models.get(tag)
    except BentoMLException:
        found = None
    # BentoML takes the beginning of a version for the version where only one begins so.
    if found is None or str(found.tag) != tag:
        raise ArtefactMissing(f"no model {tag!r} in the BentoML model store")
    folder = Path(found.path)
    try:
        return Artefact(version, tag, folder, read_card(folder))
    except CardError as error:
        raise ArtefactError(str(error)) from error


def remove_artefact(tag: str) -> None:
    """Take an artefact out of the store, if it is there."""
    import bentoml
    from bentoml.exceptions import NotFound

    with suppress(NotFound):
        bentoml.models.delete(tag)


def check_alike(artefacts: Iterable[Artefact]) -> None:
    """Raise `ArtefactError` unless all take and give the same, as versions do that serve side by side."""
    for theirs, mine in pairwise(artefacts):
        for what in ("feature_names", "takes_text", "task", "classes"):
            one, other = getattr(mine.card, what), getattr(theirs.card, what)
            if one != other:
                raise ArtefactError(
                    f"{mine.tag} and {theirs.tag} cannot serve side by side: their {what} differ ({one}; {other})"
                )


def check_files(artefact: Artefact) -> None:
    """Read all model files and raise `ArtefactError` unless they are those that the card describes."""
    for kind, expected in artefact.card.files.items():
        path = artefact.folder / kind.file_name
        try:
            intact = path.stat().st_size == expected.size_bytes and digest_of(path) == expected.sha256
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}") from error
        if not intact:
            raise ArtefactError(f"{path}: not the file that its card describes; import the version again")
