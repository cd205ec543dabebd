"""Integrity: files are those that their card describes, which is asked before anything parses them."""

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from runners.artefacts.card import Card, FileKind, ModelFile

Described = TypeVar("Described", bound=BaseModel)


class DamagedFile(Exception):
    """A file cannot be read, or is not the one that its card describes; the message says which."""


def describe_file(path: Path) -> ModelFile:
    """Digest and size of a file, which must not be empty. Raises `OSError`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(sha256=digest, size_bytes=path.stat().st_size)


def check_file(folder: Path, kind: FileKind, card: Card) -> Path:
    """The model file of this kind, which the card must have. Reads all of it. Raises `DamagedFile`."""
    return check_described(folder / kind.file_name, card.files[kind])


def check_described(path: Path, expected: ModelFile) -> Path:
    """The path, if that file is there. Reads all of it. Raises `DamagedFile`."""
    try:
        # A file of another size need not be read, and an empty one cannot be described.
        intact = path.stat().st_size == expected.size_bytes and describe_file(path) == expected
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror or error}") from error
    if not intact:
        raise DamagedFile(f"{path}: not the file that its card describes")
    return path


def read_described(path: Path, expected: ModelFile, kind: type[Described]) -> Described:
    """What a file of JSON says, which is of that kind. Raises `DamagedFile`."""
    content = check_described(path, expected).read_bytes()
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or path.stem
        raise DamagedFile(f"{path}: {where}: {first['msg']}") from error


def check_files(folder: Path, card: Card) -> None:
    """Check all model files of an artefact as `check_file` does. Raises `DamagedFile`."""
    for kind in card.files:
        check_file(folder, kind, card)
