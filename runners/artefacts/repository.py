"""The BentoML model store as a repository of artefacts: find one, list them, put one there in one piece, remove it.

A folder with a card and model files goes in, `<BENTOML_HOME>/models/<model>/<version>` comes out. A server finds by way
of BentoML, whose store may be a bento's own. Commands look up: that reads the files themselves and imports nothing
heavy, BentoML included, so that a server that has its artefacts starts at once. Putting renames a complete folder into
place: whoever is killed in between leaves nothing that can be seen.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from runners.artefacts.artefact import Artefact, ArtefactDamaged, ArtefactMissing
from runners.artefacts.card import CardError, read_card
from runners.artefacts.integrity import DamagedFile, check_files

MODEL_YAML = "model.yaml"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""The two names change places in one step, by Linux's renameat2."""


def home() -> Path:
    """BentoML's home, found as BentoML finds it: `BENTOML_HOME` with variables expanded, else `~/bentoml`."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME", "~/bentoml"))).expanduser()


def folder_of(model: str, version: str) -> Path:
    """The folder in which the artefact is or would be."""
    return home() / "models" / model / version


def find_artefact(version: str, tag: str) -> Artefact:
    """The artefact of exactly this tag. Raises `ArtefactMissing`, or `ArtefactDamaged` if its card cannot be read."""
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
        raise ArtefactDamaged(str(error)) from error


def look_up(model: str, version: str) -> Artefact | None:
    """The artefact, or None where there is no folder. Raises `ArtefactDamaged` if a server would refuse it."""
    folder = folder_of(model, version)
    if not folder.is_dir():
        return None
    try:
        card = read_card(folder)
        if not (folder / MODEL_YAML).is_file():
            raise CardError(f"{folder / MODEL_YAML}: missing")
        if (card.model, card.version) != (model, version):
            raise CardError(f"the card is of {card.model}:{card.version}")
        check_files(folder, card)
    except (CardError, DamagedFile) as error:
        raise ArtefactDamaged(f"{model}:{version} cannot be served: {error}") from error
    return Artefact(version, f"{model}:{version}", folder, card)


def artefacts(model: str | None = None) -> list[Artefact | ArtefactDamaged]:
    """All artefacts of one model or of all, by name; models of other programs in the store are left out."""
    found: list[Artefact | ArtefactDamaged] = []
    for folder in sorted((home() / "models").glob(f"{model or '*'}/*/card.json")):
        try:
            artefact = look_up(folder.parents[1].name, folder.parent.name)
        except ArtefactDamaged as error:
            found.append(error)
        else:
            found += [artefact] if artefact else []
    return found


def stored_tags() -> list[str]:
    """The tags of all models that BentoML's store, which may be a bento's own, has for this process, by name."""
    import bentoml

    return sorted(str(model.tag) for model in bentoml.models.list())


def labels_of(artefact: Artefact) -> dict[str, str]:
    """The labels that it was put there with."""
    import yaml

    labels = yaml.safe_load((artefact.folder / MODEL_YAML).read_text(encoding="utf-8")).get("labels")
    return {str(name): str(label) for name, label in (labels or {}).items()}


@contextmanager
def exclusive(purpose: str) -> Iterator[None]:
    """Hold the store's lock for that purpose; a process that is killed lets go of it."""
    scratch = home() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / f"shokado-{purpose}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def staging() -> Iterator[Path]:
    """An empty folder on the store's own file system, outside of what BentoML lists; removed at the end.

    What killed imports left is removed first, which the lock makes safe: it can belong to nobody else.
    """
    with exclusive("import"):
        _clear()
        with tempfile.TemporaryDirectory(prefix="shokado-import-", dir=home() / "tmp") as folder:
            yield Path(folder)


def remove_left_overs() -> None:
    """Remove what a killed import has left; where another one is under way, that one did so when it began."""
    with suppress(OSError), (home() / "tmp" / "shokado-import.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear()


def _clear() -> None:
    for left_over in (home() / "tmp").glob("shokado-import-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def put(prepared: Path, stage: Path, labels: Mapping[str, str]) -> Artefact:
    """Put a folder with card and model files into the store, in place of what is there under its tag.

    Args:
        prepared: folder that holds `card.json` and the files it names; its content is copied.
        stage: the folder from `staging`, on the store's file system.
        labels: BentoML labels of the model.
    """
    import bentoml
    from bentoml._internal.models import ModelStore

    card = read_card(prepared)
    tag = f"{card.model}:{card.version}"
    private = ModelStore(stage / "store")
    (stage / "store").mkdir()
    # `create` copies file by file into the store it is given, and a kill in the middle would leave a folder that makes
    # every `bentoml models list` fail. So it is given a private store, and the finished folder is renamed.
    with bentoml.models.create(tag, labels=dict(labels), _model_store=private) as model:
        shutil.copytree(prepared, model.path, dirs_exist_ok=True)
    target = folder_of(card.model, card.version)
    target.parent.mkdir(parents=True, exist_ok=True)
    exchange(stage / "store" / card.model / card.version, target, stage)
    _mark_latest(target, stage)
    return Artefact(card.version, tag, target, card)


def exchange(finished: Path, target: Path, stage: Path) -> None:
    """Rename a folder of the stage to the place of an artefact; what is there comes into the stage in the same step.

    At any moment there is the old one or the new one, so that a server which starts, or a kill, never finds neither.
    A file system that cannot do it in one step, such as NFS, takes two.
    """
    if not target.exists():
        finished.rename(target)
    elif ctypes.CDLL(None, use_errno=True).renameat2(
        _AT_FDCWD, os.fsencode(finished), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE
    ):
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
        target.rename(stage / "replaced")
        finished.rename(target)


def remove_artefact(tag: str) -> None:
    """Take an artefact out of the store, if it is there."""
    import bentoml
    from bentoml.exceptions import NotFound

    with suppress(NotFound):
        bentoml.models.delete(tag)


def _mark_latest(target: Path, stage: Path) -> None:
    """BentoML's `latest` is the version created last, which is the one just put there."""
    pointer = stage / "latest"
    pointer.write_text(target.name, encoding="utf-8")
    pointer.replace(target.parent / "latest")
