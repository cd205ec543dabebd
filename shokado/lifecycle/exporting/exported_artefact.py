"""Export: an artefact of the store, verified, goes to a folder or an object store; restored, it comes back the same.

store -> whole? -> files, SHA256SUMS -> read again, the same?
files -> SHA256SUMS hold? -> card holds? -> one rename into a store
"""

from dataclasses import dataclass
from pathlib import Path

from configuration.credentials import without_credentials
from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import BACKGROUND_FILE
from runners.artefacts.card import CARD_FILE, Card, CardError, read_card
from runners.artefacts.integrity import DamagedFile, check_described, check_files
from runners.artefacts.reference import REFERENCE_FILE
from shokado.lifecycle.errors import ExportFailed, VersionTaken
from shokado.lifecycle.exporting.artefact_folder import ArtefactFolder, digest_of_file
from shokado.lifecycle.importing import names
from shokado.lifecycle.importing.version import present
from shokado.lifecycle.progress import step


@dataclass(frozen=True)
class Exported:
    """Where an artefact is now, and whether it was there before."""

    artefact: Artefact
    address: str
    outcome: str


def export_artefact(artefact: Artefact, target: str, *, replace: bool = False) -> Exported:
    """Put an artefact below the target, unless it is there. Raises `ExportFailed`.

    `replace`: also where another one is there under its tag.
    """
    address = f"{target.rstrip('/')}/{artefact.card.model}/{artefact.version}"
    with step(f"{artefact.tag}: export to {without_credentials(address)}") as current:
        sums = {name: digest_of_file(artefact.folder / name) for name in _files(artefact.card, artefact.folder)}
        folder = ArtefactFolder(address)
        there = folder.sums()
        if there == sums:
            folder.check(sums)
            current.outcome = "there already, and whole"
            return Exported(artefact, without_credentials(address), "already exported")
        if there and not replace:
            message = f"{address} has another artefact: name another target, or add --replace."
            raise ExportFailed(message, f"shokado models export {artefact.tag} --to {target} --replace")
        folder.put(artefact.folder, sums)
        size = sum((artefact.folder / name).stat().st_size for name in sums)
        current.outcome = f"{len(sums)} files, {size / 1024:,.0f} KiB, read again and the same"
    return Exported(artefact, without_credentials(address), "replaced" if there else "exported")


def restore_artefact(address: str, *, replace: bool = False) -> Exported:
    """Bring an exported artefact into the store of this machine, as what it was, unless it is there.

    Raises `ExportFailed` where it is not whole, and `VersionTaken` where another one has its tag.
    """
    with repository.staging() as stage, step(f"restore {without_credentials(address)}") as current:
        prepared = stage / "prepared"
        prepared.mkdir()
        ArtefactFolder(address).fetch(prepared)
        try:
            card = read_card(prepared)
            _check_whole(card, prepared)
        except (CardError, DamagedFile) as error:
            raise ExportFailed(f"{address} is no artefact that could be served: {error}") from error
        names.check_name("model name", card.model)
        names.check_name("version label", card.version)
        there = present(card.model, card.version)
        if there is not None and there.digest == Artefact(card.version, "", prepared, card).digest:
            current.outcome = f"{there.tag} is there already"
            return Exported(there, without_credentials(address), "already there")
        if there is not None and not replace:
            message = f"{there.tag} is {there.card.source.uri} here: add --replace to have this one in its place."
            raise VersionTaken(message, f"shokado models restore {address} --replace")
        labels = {"task": card.task.value, "source": card.source.uri, "dataset": "unknown"}
        artefact = repository.put(prepared, stage, labels)
        current.outcome = f"{artefact.tag}, whole"
    return Exported(artefact, without_credentials(address), "replaced" if there else "restored")


def _files(card: Card, folder: Path) -> list[str]:
    """Names of all files of an artefact, which are as its card describes them. Raises `ExportFailed`."""
    try:
        return [CARD_FILE, *_check_whole(card, folder)]
    except DamagedFile as error:
        raise ExportFailed(f"{error}.", "shokado models list") from error


def _check_whole(card: Card, folder: Path) -> list[str]:
    check_files(folder, card)
    found = [kind.file_name for kind in card.files]
    for name, described in ((REFERENCE_FILE, card.reference), (BACKGROUND_FILE, card.background)):
        if described is not None:
            check_described(folder / name, described)
            found.append(name)
    return found
