"""An artefact: a version's folder and its card, and what must hold before it serves."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from runners.artefacts.card import Card, digest_of

_IDENTITY = {"model", "task", "features", "classes", "source", "files", "quantization"}
_RULES = {"positive_from", "predicts"}
"""Count where they are not the default, so that artefacts from before there were any keep their digest."""


class ArtefactError(Exception):
    """A version cannot be served; the message is one line that says why."""


class ArtefactMissing(ArtefactError):
    """The store of this machine has nothing under the tag."""


class ArtefactDamaged(ArtefactError):
    """The store has a folder under the tag that cannot be served; the message says which part is wrong."""


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
