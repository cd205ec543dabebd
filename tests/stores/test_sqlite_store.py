"""What happens to files: read-only, full, damaged, deleted, replaced, and writers that die; and that it heals."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shokado.stores.sqlite_store import SqliteStore
from shokado.stores.store import EMPTY, GenerationConflict, StoreUnavailable
from tests.stores.backends import SqliteBackend
from tests.stores.entries import NOW, REQUESTS, entry, filled, report, secret, settlement, total
from tests.stores.processes import in_processes, no_file_above, process, unprivileged
from tests.support.disk import fill, remount
from tests.support.waiting import wait_until


def refused(ask: Callable[[], object], path: Path, why: str) -> None:
    with pytest.raises(StoreUnavailable, match=why) as failure:
        ask()
    assert str(failure.value).startswith(f"the store {path} cannot be used: ")


def generations(store: SqliteStore) -> list[int]:
    return [one.generation for one in store.history(10_000)]


def test_a_page_of_the_history_is_read_from_an_index(tmp_path: Path) -> None:
    """However long the history is: `limit` is what a page costs."""
    store = SqliteStore(tmp_path / "routing.db")
    for generation in range(1, 30):
        store.append(entry(generation), generation - 1)
    asked: list[str] = []
    connection = store._opened()
    connection.set_trace_callback(asked.append)
    assert [one.generation for one in store.history(2, 20)] == [19, 18]
    connection.set_trace_callback(None)
    (query,) = [text for text in asked if text.startswith("SELECT content FROM entries")]
    assert "LIMIT 2" in query
    (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert plan[3].startswith("SEARCH entries USING INTEGER PRIMARY KEY"), "neither a scan nor a sort"


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deeper" / "routing.db")
    assert (store.position(), store.history(1), store.tallies(0)) == (EMPTY, [], {})
    assert list(tmp_path.iterdir()) == []


def test_writing_makes_the_file_and_its_folders_for_nobody_else(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        path = tmp_path / "deeper" / "still" / "routing.db"
        store = SqliteStore(path)
        store.keep_secrets([secret()])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        endings = ("", "-wal", "-shm", "-owner")
        assert modes == {f"routing.db{ending}": 0o600 for ending in endings}
        store.close()
        assert [file.name for file in path.parent.iterdir()] == ["routing.db"]
    finally:
        os.umask(umask)


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%20.db", "#1.db", "версия.db", "it's.db"])
def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    store = SqliteStore(tmp_path / name)
    filled(store, 2)
    assert (tmp_path / name).exists()
    assert SqliteStore(tmp_path / name).read() == entry(2)


def test_what_matters_is_written_through_and_the_rest_is_not(sqlite_backend: SqliteBackend) -> None:
    store = SqliteStore(sqlite_backend.path)
    filled(store, 1)
    connection = store._connection
    assert connection is not None
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    full, normal = (2,), (1,)
    steps: list[tuple[Callable[[], object], tuple[int]]] = [
        (lambda: store.report(report("a"), 10), normal),
        (lambda: store.append(entry(2), 1), full),
        (lambda: store.add({REQUESTS: 1.0}, NOW), normal),
        (lambda: store.settle([settlement("one")], NOW), full),
        (lambda: store.withdraw("a"), normal),
        (lambda: store.take_role("all", "a", 10, NOW), normal),
        (lambda: store.keep_secrets([secret()]), full),
        (lambda: store.age_secrets(1, 1, b""), normal),
        (lambda: store.forget(0, 0), normal),
    ]
    for step, expected in steps:
        step()
        assert connection.execute("PRAGMA synchronous").fetchone() == expected


def test_expired_keys_are_forgotten(sqlite_backend: SqliteBackend) -> None:
    store = SqliteStore(sqlite_backend.path)
    store.settle([settlement("brief", keep_s=10), settlement("long", keep_s=11)], NOW)
    store.forget(before=0, now=NOW + 10)
    with contextlib.closing(sqlite_backend.connect()) as connection:
        assert connection.execute("SELECT key FROM settled").fetchall() == [("long",)]


def test_a_file_that_may_only_be_read(shared_folder: Path) -> None:
    path = shared_folder / "routing.db"

    def scenario() -> None:
        store = SqliteStore(path)
        kept = filled(store, 3).keep_secrets([secret()])
        store.close()
        path.chmod(0o400)
        for handle in (store, SqliteStore(path)):
            assert handle.read() == entry(3)
            assert handle.secrets() == kept
            refused(lambda handle=handle: handle.append(entry(4), 3), path, "read-only")  # type: ignore[misc]
            refused(lambda handle=handle: handle.report(report("a"), 10), path, "read-only")  # type: ignore[misc]
            assert handle.position() == (3, "id-3")
            handle.close()
        path.chmod(0o600)
        store.append(entry(4), 3)
        assert generations(store) == [4, 3, 2, 1]

    unprivileged(scenario, shared_folder)


@pytest.mark.parametrize("left", ["nothing", "a log"])
def test_a_folder_that_may_only_be_read(shared_folder: Path, left: str) -> None:
    """Also when the last writer was killed and has left its log beside the file."""
    path = shared_folder / "inner" / "routing.db"

    def write(_: Connection) -> None:
        filled(SqliteStore(path), 3).report(report("a"), 10)
        os.kill(os.getpid(), signal.SIGKILL)

    def scenario() -> None:
        if left == "nothing":
            store = SqliteStore(path)
            filled(store, 3).close()
        else:
            with process(write) as (writer, _):
                writer.join()
        files = list(path.parent.iterdir())
        assert len(files) == (1 if left == "nothing" else 4)
        for file in files:
            file.chmod(0o400)
        path.parent.chmod(0o500)
        store = SqliteStore(path)
        assert generations(store) == [3, 2, 1]
        refused(lambda: store.append(entry(4), 3), path, "read-only|readonly")
        assert store.position() == (3, "id-3")
        path.parent.chmod(0o700)
        for file in files:
            file.chmod(0o600)
        store.append(entry(4), 3)
        assert SqliteStore(path).read() == entry(4)

    unprivileged(scenario, shared_folder)


def test_a_log_that_may_not_be_read_is_not_passed_over(shared_folder: Path) -> None:
    """The file alone would be an older state."""
    path = shared_folder / "routing.db"

    def scenario() -> None:
        store = SqliteStore(path)
        filled(store, 3)
        log = shared_folder / "routing.db-wal"
        assert log.stat().st_size > 0
        for file in (log, shared_folder / "routing.db-shm"):
            file.chmod(0)
        in_processes(lambda _: refused(SqliteStore(path).read, path, "unable to open"), 1)

    unprivileged(scenario, shared_folder)


def test_a_folder_that_is_closed_and_opened_again(shared_folder: Path) -> None:
    path = shared_folder / "inner" / "routing.db"

    def scenario() -> None:
        store = filled(SqliteStore(path), 2)
        path.parent.chmod(0)
        for handle in (store, SqliteStore(path)):
            refused(handle.position, path, "Permission denied")
            refused(lambda handle=handle: handle.append(entry(3), 2), path, "Permission denied")  # type: ignore[misc]
        path.parent.chmod(0o700)
        store.append(entry(3), 2)
        assert store.read() == entry(3)

    unprivileged(scenario, shared_folder)


def test_a_file_that_cannot_be_made(shared_folder: Path) -> None:
    path = shared_folder / "inner" / "routing.db"

    def scenario() -> None:
        shared_folder.chmod(0o500)
        store = SqliteStore(path)
        assert store.position() == EMPTY
        refused(lambda: store.append(entry(1), 0), path, "Permission denied")
        refused(lambda: store.keep_secrets([secret()]), path, "Permission denied")
        shared_folder.chmod(0o700)
        store.append(entry(1), 0)
        assert store.position() == (1, "id-1")

    unprivileged(scenario, shared_folder)


def until_refused(store: SqliteStore) -> int:
    """Append until there is no room; the last generation that was confirmed."""
    last = store.position().generation
    for generation in range(last + 1, 1_000):
        try:
            store.append(entry(generation), generation - 1)
        except StoreUnavailable:
            return generation - 1
    raise AssertionError("there is no end to the room")


def test_a_disk_that_is_full_and_has_room_again(sqlite_backend: SqliteBackend) -> None:
    path = sqlite_backend.path

    def scenario(_: int) -> None:
        store = SqliteStore(path)
        filled(store, 3)
        with no_file_above(40_960):
            last = until_refused(store)
            assert last >= 3
            assert store.position() == (last, f"id-{last}")
            assert generations(store) == list(range(last, 0, -1))
        store.append(entry(last + 1), last)
        assert store.settle([settlement("one")], NOW) == [True]
        assert generations(SqliteStore(path)) == list(range(last + 1, 0, -1))

    in_processes(scenario, 1)


def test_what_is_there_can_be_read_when_the_disk_is_full_from_the_start(sqlite_backend: SqliteBackend) -> None:
    path = sqlite_backend.path
    store = SqliteStore(path)
    kept = filled(store, 3).keep_secrets([secret()])
    store.close()

    def scenario(_: int) -> None:
        store = SqliteStore(path)
        with no_file_above(100):
            assert (generations(store), store.secrets()) == ([3, 2, 1], kept)
            refused(lambda: store.append(entry(4), 3), path, "full|disk I/O")
            refused(
                lambda: SqliteStore(path.with_name("new.db")).append(entry(1), 0), path.with_name("new.db"), "full|I/O"
            )
        store.append(entry(4), 3)
        assert generations(store) == [4, 3, 2, 1]

    in_processes(scenario, 1)


def test_a_file_system_that_is_really_full_and_then_read_only(small_disk: Path) -> None:
    path = small_disk / "routing.db"
    store = SqliteStore(path)
    kept = filled(store, 3).keep_secrets([secret()])
    make_room = fill(small_disk)
    last = until_refused(store)
    assert generations(store) == list(range(last, 0, -1))
    make_room()
    store.append(entry(last + 1), last)
    store.close()
    remount(small_disk, "ro")
    assert (store.position().generation, store.secrets()) == (last + 1, kept)
    refused(lambda: store.append(entry(last + 2), last + 1), path, "it is read-only")
    remount(small_disk, "rw")
    store.append(entry(last + 2), last + 1)
    assert generations(store) == list(range(last + 2, 0, -1))
    store.close()


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(3).randbytes(50_000))


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def smear(path: Path) -> None:
    """Garbage after the first page, which tells what the file is."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + random.Random(4).randbytes(len(content) - 4096))


def of_another_kind(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE entries (something INTEGER)")


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (garbage, "file is not a database"),
        (shorten, "malformed"),
        (smear, "malformed"),
        (of_another_kind, "no such column"),
        (into_a_folder, "Is a directory"),
    ],
)
def test_a_damaged_file_is_refused_until_it_is_mended(
    sqlite_backend: SqliteBackend, damage: Callable[[Path], None], why: str
) -> None:
    path = sqlite_backend.path
    store, other = SqliteStore(path), SqliteStore(path)
    filled(store, 100).close()
    good = path.with_name("good")
    shutil.copy(path, good)
    damage(path)
    for handle in (store, other):
        for ask in (handle.position, handle.read, lambda handle=handle: handle.append(entry(101), 100)):
            refused(ask, path, why)
    for file in [path] if path.is_dir() else []:
        file.rmdir()
    good.replace(path)
    store.append(entry(101), 100)
    assert generations(other) == list(range(101, 0, -1))


def test_a_file_that_is_damaged_while_it_is_open(sqlite_backend: SqliteBackend) -> None:
    """Nothing but `StoreUnavailable` comes of it, and a good file in its place mends it."""
    path = sqlite_backend.path
    store = SqliteStore(path)
    filled(store, 3)
    sqlite_backend.keep_copy()
    for damage in (garbage, shorten, lambda path: os.truncate(path, 0)):
        damage(path)
        for ask in (store.read, lambda: store.append(entry(50), 3), lambda: store.history(5), store.secrets) * 2:
            with contextlib.suppress(StoreUnavailable, GenerationConflict):
                ask()
        sqlite_backend.set_back()
        assert store.read() == entry(3)
        assert generations(SqliteStore(path)) == [3, 2, 1]
        store.append(entry(4), 3)
        sqlite_backend.set_back()


@pytest.mark.parametrize("which", ["the file", "all files", "the folder"])
def test_a_file_that_is_deleted_while_it_is_open(tmp_path: Path, which: str) -> None:
    path = tmp_path / "inner" / "routing.db"
    store, other = SqliteStore(path), SqliteStore(path)
    filled(store, 3).keep_secrets([secret()])
    assert other.position() == (3, "id-3")
    if which == "the file":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    if which == "all files":
        path.parent.mkdir()
    if which == "the folder":
        for handle in (store, other):
            refused(handle.position, path, "No such file")
    store.append(entry(1, id="new"), 0)
    assert other.position() == (1, "new")
    other.append(entry(2), 1)
    assert generations(store) == [2, 1]
    assert store.secrets() == []
    assert whole(path)


def test_a_file_that_is_replaced_while_it_is_open(sqlite_backend: SqliteBackend) -> None:
    """By a copy, with the old file's log beside it, which says other things."""
    path = sqlite_backend.path
    stores = [SqliteStore(path) for _ in range(3)]
    filled(stores[0], 30)
    sqlite_backend.keep_copy()
    for generation in range(31, 400):
        stores[generation % 3].append(entry(generation), generation - 1)
    sqlite_backend.set_back()
    assert [store.position() for store in stores] == [(30, "id-30")] * 3
    for generation in range(31, 400):
        stores[generation % 3].append(entry(generation, id=f"new-{generation}"), generation - 1)
    for store in stores:
        store.close()
    assert generations(stores[0]) == list(range(399, 0, -1))
    assert stores[0].position() == (399, "new-399")
    assert whole(path)


def test_whoever_makes_a_deleted_file_anew_before_the_others_notice(sqlite_backend: SqliteBackend) -> None:
    """They still have the old one's log and what SQLite keeps in memory about it."""
    path = sqlite_backend.path
    deleted, made = multiprocessing.Event(), multiprocessing.Event()

    def old() -> None:
        store = filled(SqliteStore(path), 60)
        path.unlink()
        deleted.set()
        made.wait()
        store.append(entry(31), 30)
        assert store.position() == (31, "id-31")

    def early() -> None:
        store = SqliteStore(path)
        deleted.wait()
        filled(store, 30)
        made.set()
        wait_until(lambda: store.position() == (31, "id-31"))

    in_processes(lambda number: (old, early)[number](), 2)
    assert generations(SqliteStore(path)) == list(range(31, 0, -1))
    assert whole(path)


def test_whoever_opens_a_replaced_file_before_the_others_notice_comes_to_see_it(sqlite_backend: SqliteBackend) -> None:
    path = sqlite_backend.path
    turns = [multiprocessing.Event() for _ in range(3)]

    def early() -> None:
        store = SqliteStore(path)
        turns[0].wait()
        store.position()
        turns[1].set()
        turns[2].wait()
        assert store.position() == (31, "new-31")
        store.append(entry(32), 31)

    def old() -> None:
        store = SqliteStore(path)
        filled(store, 30)
        sqlite_backend.keep_copy()
        for generation in range(31, 60):
            store.append(entry(generation), generation - 1)
        sqlite_backend.set_back()
        turns[0].set()
        turns[1].wait()
        assert store.position() == (30, "id-30")
        store.append(entry(31, id="new-31"), 30)
        turns[2].set()
        wait_until(lambda: store.position() == (32, "id-32"))

    in_processes(lambda number: (early, old)[number](), 2)
    assert generations(SqliteStore(path)) == list(range(32, 0, -1))
    assert whole(path)


def test_whoever_opens_a_replaced_file_first_goes_by_its_own_log(sqlite_backend: SqliteBackend) -> None:
    """SQLite itself would read the log that lies beside it, and write that into the file."""
    path = sqlite_backend.path
    old = SqliteStore(path)
    filled(old, 30)
    sqlite_backend.keep_copy()
    for generation in range(31, 60):
        old.append(entry(generation), generation - 1)
    sqlite_backend.set_back()
    first = SqliteStore(path)
    assert generations(first) == list(range(30, 0, -1))
    first.append(entry(31, id="new-31"), 30)
    assert old.position() == (31, "new-31")
    old.close()
    first.close()
    assert generations(SqliteStore(path)) == list(range(31, 0, -1))
    assert whole(path)


def test_a_file_that_is_given_back_with_its_log_is_read_with_it(sqlite_backend: SqliteBackend) -> None:
    path = sqlite_backend.path
    store = SqliteStore(path)
    filled(store, 3)
    copies = {file: file.read_bytes() for file in (path, path.with_name(f"{path.name}-wal"))}
    for generation in range(4, 10):
        store.append(entry(generation), generation - 1)
    for file, content in copies.items():
        file.with_name("new").write_bytes(content)
        file.with_name("new").replace(file)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    assert generations(SqliteStore(path)) == [3, 2, 1]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_file_that_is_lost_again_and_again_under_several_processes(sqlite_backend: SqliteBackend, what: str) -> None:
    """Whoever is refused can go on, and what is there in the end is whole."""
    path = sqlite_backend.path
    SqliteStore(path).append(entry(1), 0)
    sqlite_backend.keep_copy()
    rounds = 15

    def run(number: int) -> None:
        if number == 0:
            for _ in range(rounds):
                with process(append_some) as (child, _):
                    child.join()
                if what == "replaced":
                    sqlite_backend.set_back()
                else:
                    path.unlink()
            path.with_name("over").touch()
        store = SqliteStore(path)
        while not path.with_name("over").exists():
            append_one(store)
        wait_until(lambda: append_one(store))
        store.close()

    def append_some(_: Connection) -> None:
        """Time for the others: as long as it takes a process of its own to write."""
        store = SqliteStore(path)
        for _number in range(20):
            append_one(store)
        store.close()

    def append_one(store: SqliteStore) -> bool:
        with contextlib.suppress(GenerationConflict, StoreUnavailable):
            newest = store.position().generation
            store.append(entry(newest + 1), newest)
            return True
        return False

    in_processes(run, 4)
    found = generations(SqliteStore(path))
    assert found == list(range(len(found), 0, -1))
    assert whole(path)


def whole(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def test_a_lock_that_is_held_too_long_is_said(sqlite_backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shokado.stores.sqlite_store._BUSY_S", 0.05)
    store = SqliteStore(sqlite_backend.path)
    filled(store, 2)
    with contextlib.closing(sqlite_backend.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        for handle in (SqliteStore(sqlite_backend.path), SqliteStore(sqlite_backend.path)):
            assert handle.read() == entry(2)
            refused(lambda handle=handle: handle.append(entry(3), 2), sqlite_backend.path, "locked")  # type: ignore[misc]
    store.append(entry(3), 2)


def test_a_file_that_somebody_takes_too_long_to_open_is_said(
    sqlite_backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shokado.stores.sqlite_store._BUSY_S", 0.05)
    path = sqlite_backend.path
    handle = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refused(lambda: SqliteStore(path).append(entry(1), 0), path, "temporarily unavailable")
    os.close(handle)
    SqliteStore(path).append(entry(1), 0)


def test_a_writer_that_is_killed_loses_nothing_that_it_confirmed(sqlite_backend: SqliteBackend) -> None:
    """In the middle of thousands of appends, several times over."""
    path = sqlite_backend.path

    def write(confirmed: Connection) -> None:
        store = SqliteStore(path)
        generation = store.position().generation
        while True:
            generation += 1
            store.append(entry(generation), generation - 1)
            store.settle([settlement(f"key-{generation}")], NOW)
            confirmed.send(generation)

    last = 0
    for count in (1, 300, 500, 700):
        with process(write) as (writer, confirmed):
            for _ in range(count):
                assert confirmed.poll(20)
                last = confirmed.recv()
            writer.kill()
            with contextlib.suppress(EOFError):
                while True:
                    last = confirmed.recv()
        store = SqliteStore(path)
        newest = store.position().generation
        assert newest in {last, last + 1}
        assert generations(store) == list(range(newest, 0, -1))
        counted = round(total(store))
        assert counted in {last, last + 1}
        assert store.settle([settlement(f"key-{number}") for number in range(1, counted + 1)], NOW) == [False] * counted
        # So that numbers agree in the next round.
        if counted < newest:
            store.settle([settlement(f"key-{newest}")], NOW)
        store.close()
        assert whole(path)
