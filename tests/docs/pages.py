"""The pages of documentation, cut into blocks: each command on them is handed to the test that runs it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.server import ROOT

README = "README.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / README, *sorted((ROOT / "docs").glob("*.md")))
}
"""Text by path."""
EXECUTABLE = ("bash", "python")
"""Languages of blocks that a reader runs."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences; the section is the heading above."""

    page: str
    section: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.section}: {self.text.partition(chr(10))[0]}"


def _blocks(page: str) -> Iterator[Block]:
    section = ""
    for heading, language, text in re.findall(r"(?ms)^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", PAGES[page]):
        section = heading or section
        if not heading:
            yield Block(page, section, language, text)


BLOCKS = [block for page in PAGES for block in _blocks(page)]
RUN: set[Block] = set()
"""Blocks that a test has been given to run."""


def runs(
    page: str, section: str, *, language: str = "bash", containing: str = "", argument: str = "commands"
) -> pytest.MarkDecorator:
    """Give a test a section's blocks, in order, of which it runs all."""
    found = [
        block
        for block in BLOCKS
        if (block.page, block.section, block.language) == (page, section, language) and containing in block.text
    ]
    assert found, f"{page} has nothing in {language} below {section!r} that contains {containing!r}"
    RUN.update(found)
    return pytest.mark.parametrize(argument, [[block.text for block in found]], ids=[section])
