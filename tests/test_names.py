"""A name means one thing: no two files and no two public classes share one, and words of this house alone are gone."""

import ast
import importlib
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path.relative_to(ROOT)
    for top in ("configuration", "runners", "shokado", "load_tests", "k8s", "service.py")
    for path in [*(ROOT / top).rglob("*.py"), ROOT / top]
    if path.suffix == ".py" and "contenders" not in path.parts
)
"""Without the benchmark's contenders: each is a program of its own, in the same roles."""
SAME_FILES = {
    "__init__": "a package's",
    "__main__": "of each program",
    "app": "what a framework is given: the commands to Typer, the control routes to FastAPI",
    "canary": "the command, and what it does",
    "errors": "those of each layer",
    "experiment": "the command, and what it begins",
    "health": "the same over HTTP and over gRPC",
    "keys": "the command, and what it writes",
    "smoke_test": "the command, and what it does",
    "split": "the command, and the route that it asks",
}
SAME_CLASSES = {
    "Health": "the same over HTTP and over gRPC",
    "Prediction": "what a version makes of a request: in the server a job, at the client its answer",
}
CLIENT = ("shokado/client/answers.py", "shokado/client/operations.py")
"""What the server answers and takes has the same name at the client, which may not import it."""
IN_HEADERS = {"told_at"}
"""What an answer says beside its body."""
HOUSEHOLD = {"desk", "door", "doors", "letters", "place", "places", "untimed", "weakness", "wishes"}
"""Words for which the field has others: collector, transport, characters, placement, without a limit, weight,
answer options.
"""


def by_name(names: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Where each name is that is in more than one file."""
    where = defaultdict(list)
    for name, file in names:
        where[name].append(file)
    return {name: files for name, files in where.items() if len(files) > 1}


def public_classes(file: Path) -> list[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


CLASSES = by_name([(name, file.as_posix()) for file in FILES for name in public_classes(file)])


def words_of(name: str) -> list[str]:
    """The words of an identifier, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def test_no_two_files_share_a_name() -> None:
    shared = by_name([(file.stem, file.as_posix()) for file in FILES])
    assert {name: files for name, files in shared.items() if name not in SAME_FILES} == {}
    assert shared.keys() >= SAME_FILES.keys(), "a name that is shared no more needs no reason"


def test_no_two_public_classes_share_a_name() -> None:
    servers = {name: [file for file in files if file not in CLIENT] for name, files in CLASSES.items()}
    shared = {name: files for name, files in CLASSES.items() if len(servers[name]) != 1 or name in SAME_CLASSES}
    assert {name: files for name, files in shared.items() if name not in SAME_CLASSES} == {}
    assert shared.keys() == SAME_CLASSES.keys(), "a name that is shared no more needs no reason"


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - SAME_CLASSES.keys()))
def test_what_the_client_calls_as_the_server_does_is_the_same(name: str) -> None:
    """All that the client knows of it is what the server says."""
    (at_client,) = (load(file, name) for file in CLASSES[name] if file in CLIENT)
    (at_server,) = (load(file, name) for file in CLASSES[name] if file not in CLIENT)
    assert fields_of(at_client) <= fields_of(at_server) | IN_HEADERS


def load(file: str, name: str) -> Any:
    return getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)


def fields_of(kind: Any) -> set[str]:
    if issubclass(kind, msgspec.Struct):
        return set(kind.__struct_fields__)
    return set(kind.model_fields if issubclass(kind, BaseModel) else kind.__dataclass_fields__)


def test_words_of_this_house_alone_are_gone() -> None:
    found = {
        f"{token.string} in {file}"
        for file in FILES
        for token in tokenize.generate_tokens(io.StringIO((ROOT / file).read_text(encoding="utf-8")).readline)
        if token.type == tokenize.NAME and HOUSEHOLD.intersection(words_of(token.string))
    }
    assert found == set()
    assert [file for file in FILES if HOUSEHOLD.intersection(words_of(file.as_posix()))] == []


def test_a_word_is_found_in_a_name() -> None:
    assert words_of("FeedbackDesk") == ["feedback", "desk"]
    assert words_of("max_text_letters") == ["max", "text", "letters"]
    assert words_of("_DOORS") == ["doors"]
