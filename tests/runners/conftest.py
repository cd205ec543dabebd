"""Real artefacts of every data set, and copies of them that a test may damage."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import read_card
from tests.conftest import HOME, prepare

FindArtefact = Callable[[str, str], Artefact]


@pytest.fixture(scope="session")
def artefact_of() -> FindArtefact:
    """Artefact by data set and version."""
    prepare_once = functools.cache(prepare)

    def find(dataset: str, version: str) -> Artefact:
        prepare_once(dataset)
        folder = HOME / "models" / dataset / version
        return Artefact(version, f"{dataset}:{version}", folder, read_card(folder))

    return find


@pytest.fixture(scope="session")
def trees(artefact_of: FindArtefact) -> Artefact:
    """`customers:v1`, which has both files."""
    return artefact_of("customers", "v1")


@pytest.fixture
def own_trees(trees: Artefact, tmp_path: Path) -> Artefact:
    """A copy of `customers:v1` to damage."""
    folder = tmp_path / "own"
    shutil.copytree(trees.folder, folder)
    return Artefact(trees.version, trees.tag, folder, trees.card)
