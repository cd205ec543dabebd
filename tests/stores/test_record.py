"""Entries and reports as JSON: they come back as they were, and what cannot be read is a `ValueError`."""

import json
from typing import Any

import pytest

from shokado.dispatch.state import VersionReport
from shokado.stores.record import decode_entry, decode_report, encode_entry, encode_report
from tests.stores.entries import entry, report


def test_an_entry_comes_back_as_it_was() -> None:
    written = entry(7, by="ü", why='say "no"\n\0')
    assert decode_entry(encode_entry(written)) == written
    assert decode_entry(encode_entry(written).decode()) == written


def test_a_report_comes_back_as_it_was() -> None:
    version = VersionReport("d" * 64, "failed", None, 1.5)
    written = report("ü", versions={"v1": version}, candidates={"v2": version})
    assert decode_report(encode_report(written)) == written


def changed(path: str, value: Any) -> bytes:
    """An entry in which one thing is another."""
    content = found = json.loads(encode_entry(entry(7)))
    *folders, name = path.split(".")
    for folder in folders:
        found = found[folder]
    found[name] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize("path", ["new", "state.new", "state.environments.production.new", "state.loads.v2.new"])
def test_what_only_a_newer_version_knows_is_passed_over(path: str) -> None:
    assert decode_entry(changed(path, {"more": 1})) == entry(7)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"{}",
        b"\xff\xfe",
        encode_entry(entry(7))[:-20],
        changed("action", "teleport"),
        changed("state", None),
        changed("state.generation", "7"),
        changed("state.environments.production.strategy", "oracle"),
        changed("state.environments.production.weights", {}),
        changed("state.environments.production.weights", {"v1": 0}),
        changed("state.environments.production.salt", "\ud800"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="an entry of the history cannot be read"):
        decode_entry(content)
