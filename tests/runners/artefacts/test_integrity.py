"""A model file is the one that its card describes, or is refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runners.artefacts.card import Card, FileKind
from runners.artefacts.integrity import DamagedFile, check_file, check_files, describe_file
from tests.support.cards import make_card


@pytest.fixture
def card(tmp_path: Path) -> Card:
    """The card of an artefact with both files, which lies in `tmp_path`; no engine would read them."""
    for kind in FileKind:
        (tmp_path / kind.file_name).write_bytes(f"the {kind} file".encode() * 1000)
    return make_card(files={kind: describe_file(tmp_path / kind.file_name).model_dump() for kind in FileKind})


def test_files_are_those_that_the_card_describes(card: Card, tmp_path: Path) -> None:
    check_files(tmp_path, card)
    assert check_file(tmp_path, FileKind.UBJ, card) == tmp_path / "model.ubj"


@pytest.mark.parametrize("kind", FileKind)
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content[:-1] + b"?", lambda content: content * 2, lambda _: b""],
    ids=["cut off", "another last byte", "twice", "empty"],
)
def test_a_damaged_file_is_refused_by_name(
    damage: Callable[[bytes], bytes], kind: FileKind, card: Card, tmp_path: Path
) -> None:
    path = tmp_path / kind.file_name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile) as refused:
        check_files(tmp_path, card)
    assert str(refused.value) == f"{path}: not the file that its card describes"


def test_a_file_that_cannot_be_read_is_refused_by_name(card: Card, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.onnx").mkdir()
    (tmp_path / "model.ubj").unlink()
    with pytest.raises(DamagedFile, match=r"model\.ubj: No such file or directory$"):
        check_file(tmp_path, FileKind.UBJ, card)
    with pytest.raises(DamagedFile, match=r"model\.onnx: "):
        check_file(tmp_path, FileKind.ONNX, card)
