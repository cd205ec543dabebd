"""Edits of YAML as text: an entry is added to a list or a mapping, or taken out, and every other character stays.

A library that writes YAML anew would lose comments and layout, in which much of what is meant is said. Only what is
written as a block, one entry after the other, can be edited; the outcome is read again and held to what was meant.
"""

from collections.abc import Iterable
from typing import Any

import yaml


class NotEditable(Exception):
    """The text is not written so that an entry could be added or taken out alone; the message says what is wrong."""


def with_entry(text: str, path: Iterable[str], entry: str) -> str:
    """Add an entry behind the last one of the list or mapping that lies at a path of keys. Raises `NotEditable`.

    Args:
        entry: its lines as they would stand at the left edge: `- a`, or `key: value`.
    """
    block = _block(text, path)
    indent = " " * block.start_mark.column
    lines = text.splitlines(keepends=True)
    behind = _last_line(block) + 1
    if behind == len(lines) and not text.endswith("\n"):
        raise NotEditable("its last line has no end")
    added = [f"{indent}{line}\n" for line in entry.splitlines()]
    edited = "".join([*lines[:behind], *added, *lines[behind:]])
    new, meant = yaml.safe_load(entry), yaml.safe_load(text)
    found = _at(meant, path)
    if isinstance(found, list):
        found.extend(new)
    elif taken := found.keys() & new.keys():
        raise NotEditable(f"it has {', '.join(taken)} already")
    else:
        found.update(new)
    return _held_to(edited, meant)


def without_entry(text: str, path: Iterable[str], name: str) -> str:
    """Take out the entry of a mapping that has this key, or of a list that is this text. Raises `NotEditable`."""
    block = _block(text, path)
    meant = yaml.safe_load(text)
    found = _at(meant, path)
    if isinstance(found, list):
        first, last = next((node, node) for node in block.value if node.value == name)
        found.remove(name)
    else:
        first, last = next((key, value) for key, value in block.value if key.value == name)
        del found[name]
    lines = text.splitlines(keepends=True)
    return _held_to("".join([*lines[: first.start_mark.line], *lines[_last_line(last) + 1 :]]), meant)


def _block(text: str, path: Iterable[str]) -> yaml.CollectionNode:
    node = yaml.compose(text, yaml.SafeLoader)
    for step in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in entries if key.value == step), None)
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        raise NotEditable(f"what {' '.join(path)} has is not written one entry a line")
    return node


def _last_line(node: yaml.Node) -> int:
    """The number of a node's own last line, without the blank lines and comments behind it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    # A text of several lines ends where the next line begins.
    return int(node.end_mark.line) - (node.end_mark.column == 0)


def _at(content: Any, path: Iterable[str]) -> Any:
    for step in path:
        content = content[step]
    return content


def _held_to(text: str, meant: Any) -> str:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotEditable(f"the edit would break it: {error}") from error
    if found != meant:
        raise NotEditable("the edit would change something else as well")
    return text
