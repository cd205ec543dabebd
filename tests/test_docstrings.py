"""A docstring can be read alone: it neither begins in the middle nor points at its neighbours."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_names import FILES, ROOT

BEGINS_IN_THE_MIDDLE = re.compile(
    r"\s*((Of|From|That|After|Above|Below|Between|Beyond|Beside|With|Also|Then|And|Or|But|Among|Such)\b|Why\.\s*$)"
)
POINTS_AT_NEIGHBOURS = re.compile(r"\b[Tt]his one and the (next|following)|\bthe next (two|three|four)\b", re.DOTALL)
NONE_IN_WORDS = re.compile(r"[;:] none(?= (when|where|if|unless|while)\b|: )|[;:] nothing (?=(when|where|if)\b)")
FAULTS = {
    "begins in the middle": BEGINS_IN_THE_MIDDLE.match,
    "points at neighbours": POINTS_AT_NEIGHBOURS.search,
    "None is spelled so": NONE_IN_WORDS.search,
}


def docstrings(file: Path) -> list[tuple[int, str]]:
    """With the line of each: those of modules, classes and functions, and the ones below attributes."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [
        (node.lineno, node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def faults_of(text: str) -> list[str]:
    return [fault for fault, found in FAULTS.items() if found(text)]


def test_every_docstring_can_be_read_alone() -> None:
    assert [
        f"{file}:{line}: {fault}" for file in FILES for line, text in docstrings(file) for fault in faults_of(text)
    ] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Of a body: from here on this way is the faster one.", "begins in the middle"),
        ("Why.", "begins in the middle"),
        ("Answered with a prediction. This one and the next three are counted together.", "points at neighbours"),
        ("The newest entry; none where there never was any.", "None is spelled so"),
        ("A context of the kubeconfig; none: the current one.", "None is spelled so"),
    ],
)
def test_what_cannot_be_read_alone_is_found(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


@pytest.mark.parametrize(
    "text", ["Often enough.", "Whether it is ready; None where nobody knows.", "Why it gets no batches."]
)
def test_what_can_be_is_not(text: str) -> None:
    assert faults_of(text) == []
