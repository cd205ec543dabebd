"""What happens to a Redis: killed, paused, full, flushed, locked, a replica; what it may lose; and that it heals."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shokado.stores.redis_store import RedisStore
from shokado.stores.store import EMPTY, GenerationConflict, Store, StoreUnavailable
from tests.stores.backends import RedisBackend, SqliteBackend
from tests.stores.entries import NOW, REQUESTS, entry, filled, report, secret, settlement, total
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import wait_until

pytestmark = needs_redis

IN_TIME_S = 10.0
LAST_SECOND = "a crash may lose the last second: the server should run with appendfsync always"
NOT_TOLD = "the server does not tell whether it writes changes to its disk"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for this test only."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores give up soon."""
    monkeypatch.setattr("shokado.stores.redis_clients.TIMEOUT_S", 0.2)


def methods(store: RedisStore) -> list[Callable[[], object]]:
    """Everything that can be asked of it."""
    return [
        store.position,
        store.read,
        store.secrets,
        lambda: store.entry(1),
        lambda: store.history(5),
        lambda: store.reports(NOW),
        lambda: store.tallies(0),
        lambda: store.tally_marks(0),
        lambda: store.tallies_of([0]),
        *writing_methods(store),
    ]


def writing_methods(store: RedisStore) -> list[Callable[[], object]]:
    return [
        lambda: store.keep_secrets([secret(2)]),
        lambda: store.age_secrets(1, 1, b""),
        lambda: store.append(entry(50), 3),
        lambda: store.report(report("a"), 10),
        lambda: store.withdraw("a"),
        lambda: store.take_role("all", "a", 10, NOW),
        lambda: store.settle([settlement("refused")], NOW),
        lambda: store.add({REQUESTS: 1.0}, NOW),
        lambda: store.forget(0, 0),
    ]


def refused(ask: Callable[[], object], store: Store, why: str) -> None:
    """In time, by name."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=why) as failure:
        ask()
    assert time.monotonic() - began < IN_TIME_S
    assert str(failure.value).startswith(f"the store {store.name} ")


def test_a_server_that_is_killed_and_started_again(own: RedisServer) -> None:
    store = RedisStore(own.url, "paper")
    kept = filled(store, 3).keep_secrets([secret()])
    store.settle([settlement("one")], NOW)
    own.kill()
    for ask in methods(store):
        refused(ask, store, "refused|closed|reset")
    own.start()
    assert (store.read(), store.secrets(), total(store)) == (entry(3), kept, 1.0)
    store.append(entry(4), 3)
    assert store.settle([settlement("one"), settlement("two")], NOW) == [False, True]


@pytest.mark.slow
def test_a_server_that_accepts_and_never_answers(soon: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        store = RedisStore(f"redis://:hush@127.0.0.1:{deaf.getsockname()[1]}/0", "paper")
        for ask in methods(store):
            refused(ask, store, "(?i)timeout")
            # Nothing is tried again, as it may have been done.
            deaf.accept()[0].close()
            deaf.setblocking(False)
            with pytest.raises(BlockingIOError):
                deaf.accept()
    refused(store.position, store, "refused")


def test_the_position_costs_one_command(redis_backend: RedisBackend) -> None:
    store = redis_backend.open()
    store.position()
    with redis_backend.server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        for _ in range(10):
            store.position()
        assert client.info("stats")["total_commands_processed"] - before <= 11


def test_pages_of_the_history_are_those_of_sqlite(redis_backend: RedisBackend, sqlite_backend: SqliteBackend) -> None:
    """With generations left out, and asked for from where there are none."""
    both: list[Store] = [redis_backend.open(), sqlite_backend.open()]
    for store in both:
        newest = 0
        for generation in (1, 2, 3, 7, 8, 20, 2**53 - 1):
            store.append(entry(generation), newest)
            newest = generation
    for before in (None, 1, 2, 5, 8, 9, 21, 2**53 - 1, 2**53):
        for limit in (0, 1, 3, 100):
            page, expected = (store.history(limit, before) for store in both)
            assert page == expected, (limit, before)
            assert [one.state for one in page] == [one.state for one in expected]


def test_a_page_of_the_history_costs_what_its_limit_says(redis_backend: RedisBackend) -> None:
    """Two commands that read an index and the page, however long the history is."""
    store = redis_backend.open()

    def cost() -> tuple[int, int]:
        """Commands, and bytes that the server sends, of a page in the middle."""
        with redis_backend.server.client() as client:
            # What the counting sends is the same each time, and small beside a long history.
            before = client.info("stats")
            assert [one.generation for one in store.history(2, 20)] == [19, 18]
            after = client.info("stats")
        counts = ("total_commands_processed", "total_net_output_bytes")
        commands, sent = (after[count] - before[count] for count in counts)
        return commands - 1, sent

    filled(store, 30)
    commands, sent = cost()
    assert commands == 2
    for generation in range(31, 1_001):
        store.append(entry(generation), generation - 1)
    again, sent_again = cost()
    assert again == 2
    assert sent_again < sent + 500


def test_nothing_is_left_of_tallies_that_are_forgotten(redis_backend: RedisBackend) -> None:
    store = redis_backend.open()
    store.add({REQUESTS: 1.0}, NOW)
    store.forget(before=NOW + 60, now=NOW)
    with redis_backend.server.client() as client:
        assert list(client.scan_iter()) == []


@pytest.mark.slow
def test_a_server_that_stops_answering_and_goes_on(soon: None, own: RedisServer) -> None:
    """What it answers too late is taken for no answer, rather than for that to another question."""
    store, fresh = RedisStore(own.url, "paper"), RedisStore(own.url, "paper")
    kept = filled(store, 3).keep_secrets([secret()])
    own.pause()
    for ask in [*methods(store), fresh.position]:
        refused(ask, store, "(?i)timeout")
    own.resume()
    wait_until(lambda: answers(store))
    for handle in (store, fresh):
        assert handle.position() in {(3, "id-3"), (50, "id-50")}
        assert handle.secrets() == kept
        assert handle.entry(2) == entry(2)
        assert [one.generation for one in handle.history(9, before=4)] == [3, 2, 1]


def answers(store: RedisStore) -> bool:
    with contextlib.suppress(StoreUnavailable):
        store.position()
        return True
    return False


def test_nobody_is_there() -> None:
    store = RedisStore("redis://nobody.invalid:1/0", "paper")
    refused(store.position, store, "nobody.invalid")


@pytest.mark.parametrize("login", ["", ":wrong-hush@", "ann:wrong-hush@"])
def test_a_wrong_password_is_said_and_not_told(tmp_path: Path, login: str) -> None:
    with RedisServer(tmp_path, requirepass="right-hush") as server:
        store = RedisStore(server.url.replace("//", f"//{login}"), "paper")
        assert "hush" not in store.name
        for ask in methods(store):
            with pytest.raises(StoreUnavailable, match=r"(?i)auth|pass") as failure:
                ask()
            assert "hush" not in str(failure.value)
        right = RedisStore(server.url.replace("//", "//:right-hush@"), "paper")
        assert (filled(right, 2).position(), right.name) == ((2, "id-2"), store.name)


def test_a_server_that_is_full_and_has_room_again(own: RedisServer) -> None:
    store = RedisStore(own.url, "paper")
    filled(store, 3)
    store.settle([settlement("one")], NOW)
    with own.client() as client:
        client.config_set("maxmemory", 1)
        for ask in writing_methods(store):
            # Some of them write nothing, or make room.
            with contextlib.suppress(StoreUnavailable):
                ask()
        refused(lambda: store.append(entry(4), 3), store, "maxmemory")
        refused(lambda: store.settle([settlement("two")], NOW), store, "maxmemory")
        refused(lambda: store.report(report("a"), 10), store, "maxmemory")
        refused(lambda: store.add({REQUESTS: 1.0}, NOW), store, "maxmemory")
        refused(lambda: store.keep_secrets([secret()]), store, "maxmemory")
        assert (store.read(), total(store)) == (entry(3), 1.0)
        client.config_set("maxmemory", 0)
    store.append(entry(4), 3)
    assert store.settle([settlement("one"), settlement("two")], NOW) == [False, True]
    assert total(store) == 2.0
    assert store.keep_secrets([secret()]) == [secret()]


def test_a_replica_can_be_read(own: RedisServer, tmp_path: Path) -> None:
    store = RedisStore(own.url, "paper")
    filled(store, 3)
    with own.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    with RedisServer(tmp_path / "replica", replicaof=f"127.0.0.1 {own.port}") as server:
        replica = RedisStore(server.url, "paper")
        wait_until(lambda: answers(replica) and replica.position() == (3, "id-3"))
        assert replica.history(9) == store.history(9)
        refused(lambda: replica.append(entry(4), 3), replica, "read only replica")
        refused(lambda: replica.settle([settlement("one")], NOW), replica, "read only replica")
        refused(lambda: replica.report(report("a"), 10), replica, "read only replica")
        assert replica.position() == (3, "id-3")
        with server.client() as client:
            client.replicaof("NO", "ONE")
        replica.append(entry(4), 3)
        assert replica.read() == entry(4)


def test_a_server_that_is_flushed_is_empty(redis_backend: RedisBackend) -> None:
    store = redis_backend.open()
    filled(store, 3).keep_secrets([secret()])
    store.settle([settlement("one")], NOW)
    redis_backend.wipe()
    assert (store.position(), store.read(), store.history(9), store.tallies(0)) == (EMPTY, None, [], {})
    assert store.secrets() == []
    with pytest.raises(GenerationConflict):
        store.append(entry(4), 3)
    store.append(entry(4), 0)
    assert store.settle([settlement("one")], NOW) == [True]


def test_scripts_that_the_server_forgot_are_sent_again(redis_backend: RedisBackend) -> None:
    store = redis_backend.open()
    for generation in (1, 2):
        store.append(entry(generation), generation - 1)
        assert store.settle([settlement(f"key-{generation}")], NOW) == [True]
        store.add({REQUESTS: 1.0}, NOW)
        with redis_backend.server.client() as client:
            client.script_flush()
    assert total(store) == 4.0


def test_models_share_a_server_and_nothing_else(redis_backend: RedisBackend) -> None:
    paper, glass = redis_backend.open(), RedisStore(redis_backend.url, "glass")
    filled(paper, 3).report(report("a"), 10)
    paper.settle([settlement("one")], NOW)
    assert (glass.position(), glass.reports(NOW), glass.tallies(0)) == (EMPTY, [], {})
    assert glass.settle([settlement("one")], NOW) == [True]
    paper.keep_secrets([secret()])
    assert glass.secrets() == []


def test_keys_are_remembered_for_as_long_as_the_caller_says_by_his_own_clock(redis_backend: RedisBackend) -> None:
    redis_backend.open().settle([settlement("one", keep_s=3600)], NOW)
    with redis_backend.server.client() as client:
        assert 3_500_000 < client.pttl("shokado:{paper}:settled:one") <= 3_600_000


def test_something_else_under_its_keys_is_said(redis_backend: RedisBackend) -> None:
    store = redis_backend.open()
    with redis_backend.server.client() as client:
        client.set("shokado:{paper}:newest", "something else")
        refused(store.position, store, "WRONGTYPE")
        refused(lambda: store.append(entry(1), 0), store, "WRONGTYPE")
        client.delete("shokado:{paper}:newest")
        client.hset("shokado:{paper}:newest", mapping={"generation": "many", "id": "x"})
        refused(store.position, store, "many")
        client.delete("shokado:{paper}:newest")
    assert store.position() == EMPTY


@pytest.mark.parametrize(
    ("settings", "durability"),
    [
        ({}, ""),
        (
            {"appendfsync": "everysec"},
            "a crash may lose the last second: the server should run with appendfsync always",
        ),
        ({"appendfsync": "no"}, "a crash may lose the last second: the server should run with appendfsync always"),
        ({"appendonly": "no"}, "a crash of the server may lose changes: it should run with appendonly yes"),
        ({"rename-command": "CONFIG HIDDEN"}, "the server does not tell whether it writes changes to its disk"),
        (
            {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            "a full server forgets at will: it should run with maxmemory-policy noeviction",
        ),
        ({"maxmemory": "100mb", "maxmemory-policy": "noeviction"}, ""),
    ],
)
def test_what_may_be_lost_is_said(tmp_path: Path, settings: dict[str, str], durability: str) -> None:
    with RedisServer(tmp_path, **settings) as server:
        store = RedisStore(server.url, "paper")
        assert store.durability == ""
        store.position()
        assert store.durability == durability
        filled(store, 2).settle([settlement("one")], NOW)
        assert store.read() == entry(2)


def test_what_may_be_lost_is_asked_again_after_a_failure(soon: None, own: RedisServer) -> None:
    store = RedisStore(own.url, "paper")
    store.position()
    assert store.durability == ""
    with own.client() as client:
        client.config_set("appendfsync", "no")
        client.config_set("appendonly", "no")
    own.pause()
    refused(store.position, store, "(?i)timeout")
    own.resume()
    wait_until(lambda: answers(store))
    assert "appendonly yes" in store.durability


class Hammer:
    """A client that appends or settles without end, and goes on when it is refused; remembers what was confirmed."""

    def __init__(self, url: str, number: int) -> None:
        self.number = number
        self.confirmed: dict[int, str] = {}
        self.settled: list[str] = []
        self.refusals = 0
        self._store = RedisStore(url, "paper")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Hammer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._store.close()

    def _run(self) -> None:
        for turn in itertools.count():
            if self._over.is_set():
                return
            try:
                self._append(f"{self.number}-{turn}")
                self._settle(f"{self.number}-{turn // 2}")
            except GenerationConflict:
                continue
            except StoreUnavailable:
                self.refusals += 1

    def _append(self, name: str) -> None:
        newest = self._store.position().generation
        self._store.append(entry(newest + 1, id=name), newest)
        self.confirmed[newest + 1] = name

    def _settle(self, key: str) -> None:
        """Each key has two turns; it is known when either was answered."""
        self._store.settle([settlement(key)], NOW)
        self.settled.append(key)


def grown(counts: Callable[[], list[int]], by: int = 1) -> Callable[[], bool]:
    """Whether each of the counts has grown since."""
    before = counts()
    return lambda: all(now >= was + by for now, was in zip(counts(), before, strict=True))


def test_a_server_that_is_killed_under_load_keeps_all_that_it_confirmed_once(own: RedisServer) -> None:
    with contextlib.ExitStack() as stack:
        hammers = [stack.enter_context(Hammer(own.url, number)) for number in range(4)]
        for _ in range(3):
            wait_until(grown(lambda: [len(hammer.confirmed) for hammer in hammers], by=40))
            refusals = grown(lambda: [hammer.refusals for hammer in hammers])
            own.kill()
            wait_until(refusals)
            own.start()
        wait_until(grown(lambda: [len(hammer.confirmed) for hammer in hammers]))
    store = RedisStore(own.url, "paper")
    found = {one.generation: one.id for one in store.history(100_000)}
    assert sorted(found) == list(range(1, len(found) + 1))
    for hammer in hammers:
        assert hammer.confirmed.items() <= found.items()
    confirmed = [generation for hammer in hammers for generation in hammer.confirmed]
    assert len(confirmed) == len(set(confirmed))
    keys = sorted({key for hammer in hammers for key in hammer.settled})
    assert store.settle([settlement(key) for key in keys], NOW) == [False] * len(keys)
    with own.client() as client:
        known = sum(1 for _ in client.scan_iter("shokado:{paper}:settled:*", count=1_000))
    # A key whose answer got lost may be known as well; each that is was counted once.
    assert len(keys) <= known
    assert total(store) == known
