"""The keys of a server that runs, as their file changes."""

import os
from pathlib import Path
from typing import Any

import pytest

from access.keys import KeyFileError, Role, add_key, digest_of, revoke_key
from access.watch import KeyWatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def names(watch: KeyWatch) -> list[str]:
    watch.look()
    return [key.name for key in watch.ring.keys]


def test_keys_come_and_go_with_the_file(file: Path) -> None:
    first = add_key(file, "first", Role.ADMIN)
    watch = KeyWatch(file)
    add_key(file, "second", Role.PREDICT)
    assert names(watch) == ["first", "second"]
    revoke_key(file, "first")
    assert names(watch) == ["second"]
    assert watch.ring.find(digest_of(first.encode())) is None
    revoke_key(file, "second")
    assert names(watch) == [], "the last one as well"
    assert watch.failure is None


def test_a_broken_or_missing_file_leaves_the_keys_and_is_told_once(file: Path, caplog: Any) -> None:
    add_key(file, "first", Role.ADMIN)
    watch = KeyWatch(file)
    whole = file.read_text()
    for break_file, says in ((lambda: file.write_text("["), "not readable"), (file.unlink, "No such file")):
        caplog.clear()
        break_file()
        assert names(watch) == names(watch) == ["first"]
        assert says in (watch.failure or "")
        assert caplog.text.count("still hold") == 1
    file.write_text(whole)
    assert names(watch) == ["first"]
    assert watch.failure is None


def test_a_swapped_symlink_is_seen(file: Path, tmp_path: Path) -> None:
    """As Kubernetes renews a mounted secret: `..data` is a link to a folder, and is replaced."""
    for number in "12":
        (tmp_path / number).mkdir()
        add_key(tmp_path / number / "keys.yaml", f"key-{number}", Role.ADMIN)
    (tmp_path / "..data").symlink_to("1")
    file.symlink_to("..data/keys.yaml")
    watch = KeyWatch(file)
    assert names(watch) == ["key-1"]
    (tmp_path / "new").symlink_to("2")
    os.replace(tmp_path / "new", tmp_path / "..data")
    assert names(watch) == ["key-2"]


def test_without_a_usable_file_there_is_no_start(file: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        KeyWatch(file)
    file.write_text("[]")
    with pytest.raises(KeyFileError, match="holds no key"):
        KeyWatch(file)
