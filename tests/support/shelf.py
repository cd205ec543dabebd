"""Copies of real artefacts in the BentoML store of the tests, under a name of their own, to damage and to load."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Examples, FileKind, read_card, write_card
from runners.artefacts.integrity import describe_file
from runners.artefacts.repository import find_artefact
from runners.inputs.schema import Feature
from tests.conftest import HOME
from tests.support.hostile import crashing_trees, endless
from tests.support.paper_models import put_model


class Shelf:
    """The copies of one test; needs `customers:v1` and `customers:v2` in the store."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._folder = HOME / "models" / model

    def put(self, label: str, copied: str = "v1", **changes: Any) -> Artefact:
        """A copy of a version of `customers`, its card changed like that; found again under the version `label`."""
        folder = self._folder / label
        shutil.copytree(HOME / "models" / "customers" / copied, folder)
        description = folder / "model.yaml"
        content = yaml.safe_load(description.read_text()) | {"name": self.model, "version": label}
        description.write_text(yaml.safe_dump(content))
        card = read_card(folder).model_copy(update={"model": self.model, "version": label} | changes)
        write_card(card, folder)
        return find_artefact(label, f"{self.model}:{label}")

    def with_file(self, label: str, kind: FileKind, make: Callable[[bytes], bytes], copied: str = "v1") -> Artefact:
        """A copy with this model file alone, made of the one that was there, and a card that goes with it."""
        artefact = self.put(label, copied)
        path = artefact.folder / kind.file_name
        path.write_bytes(make(path.read_bytes() if path.exists() else b""))
        write_card(artefact.card.model_copy(update={"files": {kind: describe_file(path)}}), artefact.folder)
        return find_artefact(label, artefact.tag)

    def crashing(self, label: str) -> Artefact:
        """Kills the process that opens it."""
        return self.with_file(label, FileKind.UBJ, crashing_trees)

    def endless(self, label: str) -> Artefact:
        """Is never ready."""
        features = len(find_artefact("v1", "customers:v1").card.features)
        return self.with_file(label, FileKind.ONNX, lambda _: endless(features))

    def wider(self, label: str, feature: Feature) -> Artefact:
        """Takes one feature more than the copied one, before all others, and its scores depend on it alone."""
        artefact = self.put(label)
        card, folder = artefact.card, artefact.folder
        for name in (*(kind.file_name for kind in FileKind), "reference.json"):
            (folder / name).unlink(missing_ok=True)
        rows: Any = tuple((float(index), *row) for index, row in enumerate(card.examples.rows))
        changes = {
            "features": (feature, *card.features),
            "examples": Examples(rows=rows, scores=card.examples.scores),
            "reference": None,
        }
        made = put_model(folder / "made", card.model_copy(update=changes))
        for path in made.folder.iterdir():
            path.replace(folder / path.name)
        made.folder.rmdir()
        return find_artefact(label, artefact.tag)

    def without_card(self, label: str) -> Artefact:
        """Has lost its card since it was found."""
        artefact = self.put(label)
        (artefact.folder / "card.json").unlink()
        return artefact

    def truncate(self, artefact: Artefact, kind: FileKind = FileKind.ONNX) -> None:
        """Cut the model file in half and leave its card as it is."""
        path = artefact.folder / kind.file_name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def remove(self, label: str) -> None:
        shutil.rmtree(self._folder / label)

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def own_shelf(name: str) -> Iterator[Shelf]:
    """A shelf that is cleared at the end; `name` and this process's id tell it from others."""
    shelf = Shelf(f"{name}-{os.getpid()}")
    try:
        yield shelf
    finally:
        shelf.clear()
