"""Edits of YAML as text: what is added can be taken out again, and nothing else changes."""

import pytest

from shokado.lifecycle.rollout.yaml_text import NotEditable, with_entry, without_entry

TEXT = """\
# What is served.
versions:
  v1:
    remote: {url: "http://a"}   # flow
    aliases:
      - a
  # the second
  v2: {}    # short

# Behind a blank line.
resources:
- one
- two
last: |
  a text
  of lines
"""


@pytest.mark.parametrize(
    ("path", "entry", "name", "line"),
    [
        (["versions"], 'v3:\n  remote: {url: "http://c"}', "v3", "  v3:\n    remote: "),
        (["versions", "v1"], "engine: auto", "engine", "    engine: auto\n"),
        (["versions", "v1", "aliases"], "- b", "b", "      - b\n"),
        (["resources"], "- three", "three", "- three\nlast"),
        ([], "more: 1", "more", "  of lines\nmore: 1\n"),
    ],
)
def test_an_entry_comes_behind_the_last_one_and_goes_without_a_trace(
    path: list[str], entry: str, name: str, line: str
) -> None:
    added = with_entry(TEXT, path, entry)
    assert line in added
    assert set(TEXT.splitlines()) <= set(added.splitlines())
    assert without_entry(added, path, name) == TEXT


@pytest.mark.parametrize(
    ("path", "name"), [(["versions"], "v1"), (["resources"], "one"), ([], "versions"), ([], "last")]
)
def test_what_was_there_before_goes_with_its_lines(path: list[str], name: str) -> None:
    left = without_entry(TEXT, path, name)
    assert name not in (line.strip(" -:|") for line in left.splitlines())
    assert "# What is served." in left
    assert "# Behind a blank line." in left


@pytest.mark.parametrize(
    "text", ["versions: {v1: {}}\n", "versions:\n", "other: 1\n", "- versions\n", "", "versions:\n  v1:"]
)
def test_what_is_not_written_one_entry_a_line_is_left_alone(text: str) -> None:
    with pytest.raises(NotEditable):
        with_entry(text, ["versions"], "v3: {}")


def test_an_edit_that_would_break_or_change_something_else_is_none() -> None:
    with pytest.raises(NotEditable, match="break"):
        without_entry("a: &x\n  b: 1\nc: *x\n", [], "a")
    with pytest.raises(NotEditable, match="something else"):
        without_entry("a:\n  - the only one\n", ["a"], "the only one")
    with pytest.raises(NotEditable, match="already"):
        with_entry("a: 1\n", [], "a: 2")
