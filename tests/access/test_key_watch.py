"""The keys of a server that runs, as their file changes."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from shokado.access.key_watch import KeyWatch
from shokado.access.keys import KeyFileError, Role, add_key, digest_of, read_text, revoke_key
from tests.support.waiting import in_time, until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def names(watch: KeyWatch) -> list[str]:
    watch.look()
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


def test_no_key_is_refused_while_the_file_is_written(file: Path) -> None:
    """Written in place, as `>` and many editors do: a look may find any part of its text."""
    for name in ("first", "second", "third"):
        add_key(file, name, Role.PREDICT)
    watch = KeyWatch(file)
    whole = file.read_bytes()
    for written in range(len(whole)):
        file.write_bytes(whole[:written])
        watch.look()
        assert len(watch.ring.keys) == 3, whole[:written]
    file.write_bytes(whole)
    assert names(watch) == ["first", "second", "third"]
    assert watch.settled
    assert watch.failure is None


def test_an_empty_file_revokes_nothing_however_long_it_stays_so(file: Path) -> None:
    add_key(file, "first", Role.ADMIN)
    watch = KeyWatch(file)
    file.write_text("")
    assert names(watch) == ["first"]
    assert "holds no list of keys" in (watch.failure or "")
    add_key(file, "second", Role.ADMIN)
    assert names(watch) == ["second"], "a file made by touch can be begun"


def test_a_change_that_no_time_tells_of_is_seen(file: Path) -> None:
    """The clock of a file system may not have moved on between two changes, and the length be the same."""
    add_key(file, "first", Role.ADMIN)
    watch = KeyWatch(file)
    before, text = file.stat(), file.read_text()
    file.write_text(text.replace("name: first", "name: third"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(watch) == ["third"]


def test_a_pipe_is_told_and_waited_for_by_nobody(file: Path) -> None:
    add_key(file, "first", Role.ADMIN)
    watch = KeyWatch(file)
    file.unlink()
    os.mkfifo(file)
    assert names(watch) == ["first"]
    assert "not a regular file" in (watch.failure or "")
    with pytest.raises(KeyFileError, match="not a regular file"):
        KeyWatch(file)


def test_a_file_system_that_hangs_is_told_and_followed_when_it_is_back(file: Path, caplog: Any) -> None:
    add_key(file, "first", Role.ADMIN)
    hangs, back = threading.Event(), threading.Event()

    def read(path: Path) -> bytes:
        if hangs.is_set():
            back.wait(30)
        return read_text(path)

    async def run() -> None:
        watch = KeyWatch(file, read)
        hangs.set()
        watching = asyncio.create_task(watch.run(timeout_s=0.01))
        await until(lambda: "was not read within" in (watch.failure or ""))
        assert [key.name for key in watch.ring.keys] == ["first"]
        add_key(file, "second", Role.ADMIN)
        hangs.clear()
        back.set()
        await until(lambda: len(watch.ring.keys) == 2 and watch.failure is None)
        watching.cancel()

    in_time(run())
    assert caplog.text.count("was not read within") == 1


def test_the_end_of_a_server_does_not_wait_for_a_file_system(file: Path) -> None:
    add_key(file, "first", Role.ADMIN)
    hangs, back = threading.Event(), threading.Event()

    def read(path: Path) -> bytes:
        if hangs.is_set():
            back.wait(30)
        return read_text(path)

    async def run() -> None:
        watch = KeyWatch(file, read)
        hangs.set()
        watching = asyncio.create_task(watch.run(timeout_s=0.01))
        await until(lambda: watch.failure)
        watching.cancel()

    in_time(run())
    assert not back.is_set(), "the look is under way still"
    back.set()


def test_a_look_that_fails_in_an_unforeseen_way_is_told_and_repeated(file: Path) -> None:
    add_key(file, "first", Role.ADMIN)
    fails = threading.Event()

    def read(path: Path) -> bytes:
        if fails.is_set():
            raise RuntimeError("unforeseen")
        return read_text(path)

    async def run() -> None:
        watch = KeyWatch(file, read)
        fails.set()
        watching = asyncio.create_task(watch.run())
        await until(lambda: "unforeseen" in (watch.failure or ""))
        fails.clear()
        await until(lambda: watch.failure is None)
        watching.cancel()

    in_time(run())
