"""An artefact: a version's folder and its card, and what must hold before it serves."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from runners.artefacts import integrity
from runners.artefacts.card import Card
from runners.artefacts.identity import identity_of
from runners.artefacts.integrity import DamagedFile
from runners.inputs.union import why_contradicting


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
    """Equal for every import of the same registered version (see `identity_of`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", identity_of(self.card))

    @property
    def in_store(self) -> bool:
        """Whether the model store of this machine has it; of a remote version, it need not."""
        return bool(self.card.files)


def check_alike(artefacts: Iterable[Artefact]) -> None:
    """Raise `ArtefactError` unless all give the same, and what they take does not contradict; features may differ."""
    for theirs, mine in combinations(artefacts, 2):
        beside = f"{mine.tag} and {theirs.tag} cannot serve side by side"
        for what in ("task", "classes", "outputs"):
            one, other = getattr(mine.card, what), getattr(theirs.card, what)
            if one != other:
                raise ArtefactError(f"{beside}: their {what} differ ({one}; {other})")
        if (why := why_contradicting(mine.card.features, theirs.card.features)) is not None:
            raise ArtefactError(f"{beside}: {why}")


def check_files(artefact: Artefact) -> None:
    """Read all model files and raise `ArtefactError` unless they are those that the card describes."""
    try:
        integrity.check_files(artefact.folder, artefact.card)
    except DamagedFile as error:
        raise ArtefactError(f"{error}; import the version again") from error
