"""News from a real Redis: heard without asking, and where they cannot be, the store is asked as often as ever."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shokado.stores import redis_news
from shokado.stores.follower import LOOK_EVERY_S, POLL_EVERY_S
from shokado.stores.record import encode_entry
from shokado.stores.redis_store import RedisStore
from shokado.stores.store import Binned, Entry
from tests.stores.backends import MODEL, RedisBackend
from tests.stores.entries import NOW, REQUESTS, entry, filled, report, secret, settlement, total
from tests.stores.following import NEVER_S, Worker, running, working
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.waiting import in_time, until

pytestmark = needs_redis

CHANNEL = f"shokado:{{{MODEL}}}:news"
USER = ("on", ">word", "~shokado:*", "+@all")
"""Of Redis: may do everything with the keys, and use no channel."""


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RedisBackend]:
    """A server for this test only, as all are counted that listen to it."""
    with RedisServer(tmp_path) as server:
        found = RedisBackend(server)
        yield found
        found.close()


@pytest.fixture
def by_news_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told of news does not look without them."""
    monkeypatch.setattr("shokado.stores.follower.LOOK_EVERY_S", NEVER_S)


def listeners(backend: RedisBackend) -> int:
    """How many connections Redis would tell of a change."""
    with backend.server.client() as client:
        return int(dict(client.pubsub_numsub(CHANNEL))[CHANNEL.encode()])


def asked(backend: RedisBackend) -> int:
    """How often Redis was asked for the newest generation."""
    with backend.server.client() as client:
        return int(client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"])


async def have_all(workers: Sequence[Worker], changed: Entry) -> None:
    await until(lambda: all(worker.entry == changed for worker in workers))


@contextlib.asynccontextmanager
async def told(backend: RedisBackend, count: int, **given: Any) -> AsyncIterator[list[Worker]]:
    """Workers that are told of news, and have looked after those that told them that they are."""
    async with working(backend, count, **given) as workers:
        await until(lambda: all(worker.follower.is_told for worker in workers))
        yield workers


@pytest.mark.usefixtures("by_news_alone")
def test_changes_are_heard_without_asking(backend: RedisBackend) -> None:
    async def scenario() -> None:
        async with told(backend, 3) as workers:
            for turn in range(4):
                await have_all(workers, await workers[turn % 3].change())

    in_time(scenario())


def test_who_is_told_of_news_asks_seldom(backend: RedisBackend) -> None:
    async def scenario() -> None:
        async with told(backend, 1, poll_every_s=POLL_EVERY_S):
            await asyncio.sleep(0.5)
            before, began = asked(backend), time.monotonic()
            await asyncio.sleep(4)
            calls, took_s = asked(backend) - before, time.monotonic() - began
            assert 1 <= calls <= took_s / LOOK_EVERY_S + 1

    in_time(scenario())


@pytest.mark.usefixtures("by_news_alone")
def test_what_is_new_at_a_worker_is_told_though_it_asks_seldom(backend: RedisBackend) -> None:
    reader = backend.open()

    async def scenario() -> None:
        async with told(backend, 1) as [worker]:
            await until(lambda: reader.reports(worker.now))
            worker.said = {"heard": ["v1"]}
            await until(lambda: reader.reports(worker.now)[0].heard == ["v1"])

    in_time(scenario())


def test_a_change_of_which_nobody_tells_is_found_by_looking(backend: RedisBackend) -> None:
    """As by a worker of an older release, or where a message got lost."""

    async def scenario() -> None:
        async with told(backend, 2) as workers:
            backend.put(2, "untold", encode_entry(entry(2, id="untold")))
            await until(lambda: all(worker.entry == entry(2, id="untold") for worker in workers))
            assert all(worker.follower.is_told for worker in workers)

    in_time(scenario())


@pytest.mark.usefixtures("by_news_alone")
def test_many_changes_are_looked_after_together(backend: RedisBackend) -> None:
    """However many there are, a worker asks no more often than by polling."""

    async def scenario() -> None:
        async with told(backend, 1, poll_every_s=POLL_EVERY_S) as [worker]:
            await asyncio.sleep(0.5)
            store, before, began = backend.open(), asked(backend), time.monotonic()
            for generation in range(2, 302):
                await asyncio.to_thread(store.append, entry(generation), generation - 1)
            await until(lambda: worker.generation == 301)
            # Each look that finds something asks twice.
            looks = (time.monotonic() - began) / POLL_EVERY_S + 1
            assert asked(backend) - before <= 2 * looks

    in_time(scenario())


@pytest.mark.usefixtures("by_news_alone")
def test_news_are_heard_again_after_their_connection_was_closed(backend: RedisBackend) -> None:
    """Also what was changed meanwhile."""

    async def scenario() -> None:
        async with told(backend, 2) as workers:
            with backend.server.client() as client:
                assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 2
            missed = await workers[0].change()
            await have_all(workers, missed)
            await until(lambda: listeners(backend) == 2 and all(worker.follower.is_told for worker in workers))
            changed = await workers[1].change()
            await have_all(workers, changed)

    in_time(scenario())


@pytest.mark.usefixtures("by_news_alone")
def test_news_are_heard_again_after_the_server_was_away(backend: RedisBackend) -> None:
    async def scenario() -> None:
        async with told(backend, 2) as workers:
            backend.take_away()
            await until(lambda: not any(worker.follower.is_told for worker in workers))
            await until(lambda: all(worker.follower.failure for worker in workers))
            await asyncio.to_thread(backend.give_back)
            await until(lambda: all(worker.follower.is_told and not worker.follower.failure for worker in workers))
            changed = await workers[1].change()
            await have_all(workers, changed)

    in_time(scenario())


class Wire:
    """Stands between a client and a Redis, and can go dead without a word, as what lies between does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self.connections = 0

    async def start(self) -> str:
        """The address at which it listens."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def go_dead(self) -> None:
        """Nothing passes any more on the connections that there are, none of which is closed."""
        for task in self._tasks:
            task.cancel()

    def stop(self) -> None:
        self.go_dead()
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._tasks.append(asyncio.create_task(self._pass(source, target)))

    @staticmethod
    async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while some := await source.read(65536):
            target.write(some)


def test_a_connection_that_died_without_a_word_is_noticed(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_news, "QUIET_S", 0.2)
    monkeypatch.setattr(redis_news, "TIMEOUT_S", 0.3)

    async def scenario() -> None:
        wire = Wire(backend.server.port)
        store = RedisStore(await wire.start(), MODEL)
        news, heard = store.news(), asyncio.Event()
        listening = asyncio.create_task(news.listen(heard.set))
        await heard.wait()
        # One that lives is left alone, however quiet it is.
        await asyncio.sleep(1.5)
        assert (wire.connections, news.listening) == (1, True)
        wire.go_dead()
        await until(lambda: not news.listening)
        heard.clear()
        await heard.wait()
        assert (wire.connections, news.listening) == (2, True)
        heard.clear()
        await asyncio.to_thread(filled, backend.open(), 1)
        await heard.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        wire.stop()

    in_time(scenario())


@pytest.mark.parametrize("refusal", ["no channel", "no such command"])
def test_where_news_are_refused_the_store_is_asked_as_often_as_ever(
    tmp_path: Path, refusal: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without the channel may change the split; that it is not told of is said once, until it is."""
    monkeypatch.setattr(redis_news, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(redis_news, "_LONGEST_PAUSE_S", 0.05)
    renamed = {"rename-command": "SUBSCRIBE HEAR"} if refusal == "no such command" else {}
    with RedisServer(tmp_path, **renamed) as server:
        backend = RedisBackend(server)
        backend.url = server.url.replace("//", "//ann:word@")
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "ann", *USER, "resetchannels")

        async def scenario() -> None:
            async with working(backend, 2) as workers:
                await workers[0].changes(3)
                await until(lambda: all(worker.generation == 4 for worker in workers))
                assert [found.generation for found in await workers[1].history()] == [4, 3, 2, 1]
                assert not any(worker.follower.is_told or worker.follower.failure for worker in workers)
                before = asked(backend)
                await until(lambda: asked(backend) > before + 50)
                said = [record.getMessage() for record in caplog.records if "does not tell" in record.getMessage()]
                assert len(said) == len(workers)
                assert all("word" not in words for words in said)
                if refusal == "no channel":
                    with server.client() as client:
                        client.execute_command("ACL", "SETUSER", "ann", f"&{CHANNEL}")
                    await until(lambda: all(worker.follower.is_told for worker in workers))
                    await workers[0].change()
                    await until(lambda: workers[1].generation == 5)
                    assert caplog.text.count("tells of changes") == len(workers)

        in_time(scenario())
        backend.close()


def test_a_user_with_the_rights_that_the_page_names_can_do_everything(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER shokado ")]
    with RedisServer(tmp_path) as server:
        backend = RedisBackend(server)
        with server.client() as client:
            client.execute_command(*line.replace("PASSWORD", "word").split())
        backend.url = server.url.replace("//", "//shokado:word@")

        async def scenario() -> None:
            async with told(backend, 2) as workers:
                await workers[0].changes(2)
                await until(lambda: workers[1].generation == 3)
                await asyncio.to_thread(use, RedisStore(backend.url, MODEL))

        in_time(scenario())
        backend.close()


def use(store: RedisStore) -> None:
    """Ask all that a store can be asked. Raises `StoreUnavailable`."""
    store.append(entry(4), 3)
    assert (store.read(), store.entry(4), len(store.history(9))) == (entry(4), entry(4), 4)
    assert store.durability == ""
    store.age_secrets(1, 1, store.keep_secrets([secret()])[0].value)
    store.report(report("a"), 10)
    assert store.take_role("all", "a", 10, NOW)
    store.reports(NOW)
    store.withdraw("a")
    assert store.settle([settlement("one")], NOW) == [True]
    store.add({REQUESTS: 1.0}, NOW)
    assert total(store) == 2.0
    assert list(store.tallies_of(store.tally_marks(0)))
    store.add_levels({}, NOW)
    store.level_sums("v1", "region", NOW)
    store.counted_evidence("e")
    store.forget_evidence([], NOW)
    store.met_pairs("e", 10)
    store.forget_pairs({})
    binned = Binned("v1", "bins")
    store.add_binned({binned: np.ones(3, dtype=np.int64)}, NOW)
    assert store.binned(binned, 0)
    store.forget_binned(NOW + 3600)
    assert store.put_document("word", b"content", 0)
    assert store.document("word") == (1, b"content")
    store.forget(before=NOW + 3600, now=NOW)
    store.close()


def test_nothing_is_left_at_the_end(backend: RedisBackend) -> None:
    """However soon it comes."""

    async def scenario() -> None:
        with backend.server.client() as client:
            before = len(client.client_list())
            for turn in range(30):
                async with running(Worker(backend)):
                    await asyncio.sleep(turn * 0.001)
            backend.close()
            assert listeners(backend) == 0
            await until(lambda: len(client.client_list()) == before)

    in_time(scenario())


def test_an_address_at_which_nobody_is_has_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_news, "_FIRST_PAUSE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    news = RedisStore(f"redis://127.0.0.1:{port}/0", MODEL).news()

    async def scenario() -> None:
        listening = asyncio.create_task(news.listen(lambda: pytest.fail("heard")))
        await until(lambda: news._tries > 2)
        assert not news.listening
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    in_time(scenario())
