"""The BentoML model store as a place for artefacts: look one up, list them, put one there in one piece.

A folder with a card and model files goes in, `<BENTOML_HOME>/models/<model>/<version>` comes out. Looking up reads
the files themselves and imports nothing heavy, BentoML included, so that a server that has its artefacts starts at
once. Putting renames a complete folder into place: whoever is killed in between leaves nothing that can be seen.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runners.artefacts.card import Card, CardError, describe_file, read_card
from shokado.lifecycle.errors import LifecycleError

# Read by BentoML when it is first imported, which happens below.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

MODEL_YAML = "model.yaml"
_NAME = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")


class DamagedArtefact(LifecycleError):
    """A folder is there but a server would refuse it; the message says which part is wrong."""


@dataclass(frozen=True)
class Artefact:
    """A version in the store whose files have the digests that its card names."""

    folder: Path
    card: Card

    @property
    def tag(self) -> str:
        return f"{self.card.model}:{self.card.version}"


def home() -> Path:
    """BentoML's home, found as BentoML finds it: `BENTOML_HOME` with variables expanded, else `~/bentoml`."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME", "~/bentoml"))).expanduser()


def check_name(kind: str, name: str) -> str:
    """The name itself if BentoML takes it as it is. Raises `LifecycleError` otherwise; `kind` is for the message."""
    if name == "latest" or not _NAME.fullmatch(name):
        raise LifecycleError(
            f"{name!r} cannot be a {kind} in the BentoML store: use lower-case letters, digits, '-', '_' and '.', "
            "63 characters at most, a letter or digit at both ends, and not 'latest'."
        )
    return name


def fitting_name(name: str) -> str:
    """A name that BentoML takes and that is as near as can be, such as `titanic_rf` for `Titanic_RF`."""
    fitting = re.sub(r"[^-._a-z0-9]+", "-", name.lower()).strip("-._")[:63].rstrip("-._")
    return fitting if fitting and fitting != "latest" else "model"


def folder_of(model: str, version: str) -> Path:
    """Where the artefact is or would be."""
    return home() / "models" / model / version


def look_up(model: str, version: str) -> Artefact | None:
    """The artefact, or None where there is no folder. Raises `DamagedArtefact` if a server would refuse it."""
    folder = folder_of(model, version)
    if not folder.is_dir():
        return None
    try:
        card = read_card(folder)
        if not (folder / MODEL_YAML).is_file():
            raise CardError(f"{folder / MODEL_YAML}: missing")
        if (card.model, card.version) != (model, version):
            raise CardError(f"the card is of {card.model}:{card.version}")
        for kind, expected in card.files.items():
            path = folder / kind.file_name
            if path.stat().st_size != expected.size_bytes or describe_file(path) != expected:
                raise CardError(f"{path}: not the file that the card describes")
    except (CardError, OSError) as error:
        raise DamagedArtefact(f"{model}:{version} cannot be served: {error}") from error
    return Artefact(folder, card)


def artefacts(model: str | None = None) -> list[Artefact | DamagedArtefact]:
    """All artefacts of one model or of all, by name; models of other programs in the store are left out."""
    found: list[Artefact | DamagedArtefact] = []
    for folder in sorted((home() / "models").glob(f"{model or '*'}/*/card.json")):
        try:
            artefact = look_up(folder.parents[1].name, folder.parent.name)
        except DamagedArtefact as error:
            found.append(error)
        else:
            found += [artefact] if artefact else []
    return found


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
        scratch = home() / "tmp"
        for left_over in scratch.glob("shokado-import-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="shokado-import-", dir=scratch) as folder:
            yield Path(folder)


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
    if target.exists():
        target.rename(stage / "replaced")
    (stage / "store" / card.model / card.version).rename(target)
    _mark_latest(target, stage)
    return Artefact(target, card)


def _mark_latest(target: Path, stage: Path) -> None:
    """BentoML's `latest` is the version created last, which is the one just put there."""
    pointer = stage / "latest"
    pointer.write_text(target.name, encoding="utf-8")
    pointer.replace(target.parent / "latest")
