"""The follower when the store is away, wiped, set back or damaged: what was known is kept, and given back."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from shokado.dispatch.state import initial_state
from shokado.stores.record import decode_entry, encode_entry
from shokado.stores.store import EMPTY, Action, GenerationConflict, StoreUnavailable
from tests.stores.backends import Backend, RedisBackend
from tests.stores.entries import NOW, REQUESTS, entry, filled, settlement, total
from tests.stores.following import NEVER_S, Worker, running, working
from tests.support.redis_server import needs_redis
from tests.support.settings import paper_settings
from tests.support.waiting import in_time, until

LOGGER = "bentoml.shokado"


def test_a_store_that_is_away_changes_nothing_and_comes_back(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with working(backend, 2) as [worker, other]:
            await worker.changes(2)
            known = worker.entry
            await until(lambda: other.entry == known)
            backend.take_away()
            await until(lambda: worker.follower.failure and other.follower.failure)
            assert worker.follower.failure is not None
            assert worker.follower.failure.startswith(f"the store {worker.follower.store.name} ")
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await worker.change()
            assert (worker.entry, worker.adopted[-1]) == (known, known)
            await asyncio.to_thread(backend.give_back)
            await until(lambda: worker.follower.failure is None and other.follower.failure is None)
            changed = await worker.change()
            assert (changed.generation, worker.weight) == (4, 23.0)
            await until(lambda: other.entry == changed)
            assert len(await worker.history()) == 4

    with caplog.at_level(logging.INFO, LOGGER):
        in_time(scenario())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4, "each worker says each once"
    assert sum("serving goes on as it was, changes are refused" in one for one in said) == 2
    assert sum("can be used again" in one for one in said) == 2


def test_a_worker_that_starts_while_the_store_is_away_knows_what_its_siblings_did(
    backend: Backend, tmp_path: Path
) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        async with working(backend, memory=memory) as [sibling]:
            await sibling.changes(3)
            backend.take_away()
            async with working(backend, memory=memory) as [worker]:
                assert (worker.entry, worker.state) == (sibling.entry, sibling.state)
                assert worker.adopted == [sibling.entry]
                assert worker.follower.failure is not None
                await asyncio.to_thread(backend.give_back)
                await until(lambda: worker.follower.failure is None)
                assert (await worker.change()).generation == 5
                assert [found.generation for found in worker.adopted] == [4, 5]

    in_time(scenario())


def test_what_is_remembered_is_fitted_to_the_configuration(backend: Backend, tmp_path: Path) -> None:
    memory = tmp_path / "routing.json"
    memory.write_bytes(encode_entry(entry(3)))
    chosen = paper_settings(
        environments={"canary": {"active": "v2", "weights": {"v2": 1}}}, default_environment="canary"
    )

    async def scenario() -> None:
        backend.take_away()
        async with working(backend, memory=memory, chosen=chosen) as [worker]:
            assert (set(worker.state.environments), worker.generation) == ({"canary"}, 3)
            await asyncio.to_thread(backend.give_back)

    in_time(scenario())


def test_a_worker_that_starts_without_store_and_memory_waits_for_the_store(backend: Backend) -> None:
    filled(backend.open(), 3)

    async def scenario() -> None:
        backend.take_away()
        async with working(backend) as [worker]:
            assert (worker.follower.entry, worker.follower.state, worker.adopted) == (None, None, [])
            assert worker.follower.failure is not None
            with pytest.raises(StoreUnavailable):
                await worker.change()
            await asyncio.to_thread(backend.give_back)
            await until(lambda: worker.follower.entry)
            assert worker.adopted == [worker.entry] == [entry(3)]
            await until(lambda: worker.follower.failure is None)

    in_time(scenario())


def test_a_worker_that_waits_for_the_store_takes_what_a_sibling_gets_to_know(backend: Backend, tmp_path: Path) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        backend.take_away()
        async with working(backend, memory=memory) as [worker]:
            assert worker.follower.entry is None
            memory.write_bytes(encode_entry(entry(3)))
            await until(lambda: worker.follower.entry == entry(3))
            await asyncio.to_thread(backend.give_back)
            # The store never heard of it.
            await until(lambda: worker.follower.failure is None)
            assert (await worker.history())[0].action is Action.RESTORED

    in_time(scenario())


def test_an_empty_store_that_cannot_be_written_leaves_the_configuration_to_go_by(
    backend: Backend, tmp_path: Path
) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        backend.refuse_writes()
        async with working(backend, 2, memory=memory) as workers:
            for worker in workers:
                assert worker.generation == 0
                assert worker.state == replace(initial_state(paper_settings()), generation=0)
                assert worker.adopted == [worker.entry]
                assert worker.follower.failure is not None
                with pytest.raises(StoreUnavailable):
                    await worker.change()
            assert decode_entry(memory.read_bytes()).generation == 0
            backend.take_writes()
            await until(lambda: all(worker.generation == 1 for worker in workers))
            assert len({worker.entry.id for worker in workers}) == 1
            assert workers[0].state == initial_state(paper_settings())
            assert len(await workers[0].history()) == 1
            await until(lambda: not any(worker.follower.failure for worker in workers))
            assert (await workers[0].change()).generation == 2

    in_time(scenario())


def test_a_worker_that_goes_by_the_configuration_takes_what_others_wrote(backend: Backend) -> None:
    async def scenario() -> None:
        backend.refuse_writes()
        async with working(backend, poll_every_s=NEVER_S) as [worker]:
            backend.take_writes()
            filled(backend.open(), 3)
            assert (await worker.change()).generation == 4
            assert [found.generation for found in worker.adopted] == [0, 3, 4]

    in_time(scenario())


def test_a_worker_that_goes_by_the_configuration_takes_what_a_sibling_gets_to_know(
    backend: Backend, tmp_path: Path
) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        backend.refuse_writes()
        async with working(backend, memory=memory) as [worker]:
            assert worker.generation == 0
            memory.write_bytes(encode_entry(entry(3)))
            await until(lambda: worker.entry == entry(3))
            backend.take_writes()
            await until(lambda: worker.follower.failure is None)
            assert (await worker.change()).generation == 4

    in_time(scenario())


def test_a_first_entry_whose_confirmation_got_lost_is_adopted(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        worker = Worker(backend)
        append = worker.follower.store.append

        def lose(*arguments: object) -> None:
            append(*arguments)  # type: ignore[arg-type]
            raise StoreUnavailable("no answer")

        monkeypatch.setattr(worker.follower.store, "append", lose)
        async with running(worker):
            await until(lambda: worker.generation == 1)
            assert [found.generation for found in worker.adopted] == [0, 1]
            assert len(await worker.history()) == 1

    in_time(scenario())


def test_a_change_whose_confirmation_got_lost_is_adopted_by_the_next_poll(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with working(backend) as [worker]:
            append = worker.follower.store.append

            def lose(*arguments: object) -> None:
                append(*arguments)  # type: ignore[arg-type]
                raise StoreUnavailable("no answer")

            monkeypatch.setattr(worker.follower.store, "append", lose)
            with pytest.raises(StoreUnavailable):
                await worker.change()
            await until(lambda: worker.generation == 2)
            assert worker.weight == 21.0

    in_time(scenario())


def test_a_store_that_was_wiped_gets_back_what_the_workers_know(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with working(backend, 4) as workers:
            await workers[0].changes(5)
            await until(lambda: all(worker.generation == 6 for worker in workers))
            known = workers[0].entry
            backend.wipe()
            reader = backend.open()
            await until(lambda: reader.position() == known.position)
            [restored] = reader.history(10)
            assert restored == replace(known, by="shokado", action=Action.RESTORED, why=restored.why)
            assert restored.why == "the store had lost what came after generation 0"
            changed = await workers[3].change()
            assert (changed.generation, workers[3].weight) == (7, 26.0)
            await until(lambda: all(worker.entry == changed for worker in workers))
            assert [found.generation for found in reader.history(10)] == [7, 6]
            assert [found.generation for found in workers[0].adopted] == [1, 2, 3, 4, 5, 6, 7]

    in_time(scenario())
    assert caplog.text.count("generation 6 was written to it again") == 1


def test_a_store_that_was_set_back_gets_back_what_the_workers_know(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 4) as workers:
            await workers[0].changes(2)
            await asyncio.to_thread(backend.keep_copy)
            await workers[1].changes(5)
            await until(lambda: all(worker.generation == 8 for worker in workers))
            known, reader = workers[0].entry, backend.open()
            assert reader.read() == known
            backend.set_back()
            await until(lambda: reader.position() == known.position)
            history = reader.history(10)
            assert [found.generation for found in history] == [8, 3, 2, 1]
            assert history[0].state == known.state
            assert history[0].why == "the store had lost what came after generation 3"
            await workers[2].change()
            await until(lambda: all(worker.generation == 9 for worker in workers))
            assert workers[0].weight == known.state.environments["production"].weights["v2"] + 1

    in_time(scenario())


@pytest.mark.parametrize("loss", ["wiped", "set back"])
def test_a_change_right_after_the_loss_does_not_start_from_what_is_left(backend: Backend, loss: str) -> None:
    """Before any poll has noticed."""

    async def scenario() -> None:
        async with working(backend, poll_every_s=NEVER_S) as [worker]:
            await worker.change()
            await asyncio.to_thread(backend.keep_copy)
            await worker.changes(5)
            backend.wipe() if loss == "wiped" else backend.set_back()
            changed = await worker.change()
            assert (changed.generation, worker.entry, worker.weight) == (8, changed, 27.0)
            left = [] if loss == "wiped" else [2, 1]
            assert [found.generation for found in await worker.history()] == [8, 7, *left]

    in_time(scenario())


def test_workers_that_knew_different_generations_restore_the_newest(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 3, poll_every_s=NEVER_S) as workers:
            for worker, count in zip(workers, (1, 2, 3), strict=True):
                await worker.changes(count)
            assert [worker.generation for worker in workers] == [2, 4, 7]
            backend.wipe()
            for worker in workers:
                await worker.follower._follow()
            assert backend.open().position() == workers[2].entry.position
            # What it found before another was faster.
            await workers[0].follower._restore(EMPTY)
            await asyncio.gather(*(worker.follower._follow() for worker in workers))
            assert [worker.state for worker in workers] == [workers[2].state] * 3
            assert workers[0].generation == 7
            assert backend.open().position() == workers[2].entry.position

    in_time(scenario())


def test_a_worker_that_starts_over_a_wiped_store_gives_back_what_siblings_knew(
    backend: Backend, tmp_path: Path
) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        async with working(backend, memory=memory) as [sibling]:
            await sibling.changes(4)
        backend.wipe()
        async with working(backend, memory=memory) as [worker]:
            assert (worker.entry, worker.follower.failure) == (sibling.entry, None)
            assert backend.open().position() == sibling.entry.position

    in_time(scenario())


def test_of_two_entries_of_one_generation_the_store_has_the_right_one(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with working(backend, 2) as workers:
            await workers[0].changes(2)
            await until(lambda: workers[1].generation == 3)
            backend.put(3, "another", encode_entry(entry(3, id="another")))
            await until(lambda: all(worker.entry == entry(3, id="another") for worker in workers))
            assert workers[0].weight == 3.0
            assert (await workers[0].change()).generation == 4

    in_time(scenario())
    assert "the store has another generation 3 (another) than this worker" in caplog.text


@pytest.mark.parametrize("content", [b"damaged", encode_entry(entry(3)).replace(b'"split"', b'"teleport"')])
def test_an_entry_that_cannot_be_read_is_named_and_the_old_state_kept(backend: Backend, content: bytes) -> None:
    async def scenario() -> None:
        async with working(backend, 2) as [worker, other]:
            known = (await worker.change()).generation
            backend.put(3, "id-3", content)
            await until(lambda: worker.follower.failure)
            assert worker.follower.failure is not None
            assert "an entry of the history cannot be read" in worker.follower.failure
            assert worker.generation == known
            with pytest.raises(StoreUnavailable, match="cannot be read"):
                await worker.change()
            async with working(backend) as [late]:
                assert late.follower.entry is None
                backend.put(4, "id-4", encode_entry(entry(4)))
                await until(lambda: worker.entry == other.entry == late.follower.entry == entry(4))
            await until(lambda: worker.follower.failure is None)
            assert (await worker.change()).generation == 5

    in_time(scenario())


def test_a_poll_that_meets_a_bug_is_followed_by_others(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """The worker that cannot adopt an entry stays with the one before, says so, and tries again."""

    async def scenario() -> None:
        async with working(backend, 2) as [worker, other]:
            before = worker.entry
            worker.bugs = [ZeroDivisionError("a bug")] * 3
            changed = await other.change()
            await until(lambda: worker.follower.failure)
            name = worker.follower.store.name
            assert worker.follower.failure == f"the store {name} cannot be followed: ZeroDivisionError('a bug')"
            await until(lambda: worker.entry == changed and worker.follower.failure is None)
            assert worker.adopted == [before, changed]

    in_time(scenario())
    [said] = [record for record in caplog.records if "a bug" in record.getMessage()]
    assert said.exc_info is not None, "with its traceback, once"


def test_a_change_that_cannot_be_adopted_here_is_made_and_adopted_later(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [worker, other]:
            worker.bugs = [ZeroDivisionError("a bug")]
            with pytest.raises(ZeroDivisionError):
                await worker.change()
            assert worker.generation == 1
            assert (await other.change()).generation == 3
            assert (await worker.change()).generation == 4
            assert [found.generation for found in worker.adopted] == [1, 3, 4]

    in_time(scenario())


def test_a_report_that_fails_does_not_keep_a_worker_from_following(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with working(backend, 2) as [worker, other]:

            def fail(*_: object) -> None:
                raise StoreUnavailable("it is read-only")

            monkeypatch.setattr(worker.follower.store, "report", fail)
            worker.now += 5
            await until(lambda: worker.follower.failure == "it is read-only")
            changed = await other.change()
            await until(lambda: worker.entry == changed)
            monkeypatch.undo()
            await until(lambda: worker.follower.failure is None)

    in_time(scenario())


def test_a_store_that_loses_everything_at_once_is_said(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        backend.refuse_writes()
        async with working(backend, poll_every_s=NEVER_S) as [worker]:
            backend.take_writes()

            def conflict(*_: object) -> None:
                raise GenerationConflict(0, 1)

            monkeypatch.setattr(worker.follower.store, "append", conflict)
            with pytest.raises(StoreUnavailable, match="loses what is written to it"):
                await worker.change()

    in_time(scenario())


def test_a_worker_can_be_stopped_while_the_store_is_away(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend):
            backend.take_away()
        await asyncio.to_thread(backend.give_back)

    in_time(scenario())


@needs_redis
def test_a_history_that_a_full_server_has_dropped_is_said(redis_backend: RedisBackend) -> None:
    """Whoever knows the newest entry goes on, and what is written next mends it."""

    async def scenario() -> None:
        async with working(redis_backend) as [worker]:
            await worker.change()
            with redis_backend.server.client() as client:
                client.delete("shokado:{paper}:entries")
            async with working(redis_backend) as [late]:
                assert late.follower.entry is None
                assert late.follower.failure is not None
                assert "loses what is written to it" in late.follower.failure
                changed = await worker.change()
                await until(lambda: late.follower.entry == changed)

    in_time(scenario())


@needs_redis
def test_those_in_line_are_refused_with_the_first_when_the_store_does_not_answer(
    redis_backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait as long again, the last for minutes."""
    monkeypatch.setattr("shokado.stores.redis_clients.TIMEOUT_S", 1.5)

    async def scenario() -> None:
        async with working(redis_backend, poll_every_s=NEVER_S) as [worker]:
            store, tried = worker.follower.store, list[str]()

            def note(name: str) -> None:
                method = getattr(store, name)

                def noted(*arguments: object) -> object:
                    tried.append(name)
                    return method(*arguments)

                monkeypatch.setattr(store, name, noted)

            note("settle")
            note("position")
            redis_backend.server.pause()
            try:
                asked = [worker.follower.ask(store.settle, [settlement(f"key-{number}")], NOW) for number in range(50)]
                answers = await asyncio.gather(*asked, *(worker.change() for _ in range(20)), return_exceptions=True)
            finally:
                redis_backend.server.resume()
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            assert tried == ["settle"]
            await worker.follower.ask(store.add, {REQUESTS: 1.0}, NOW)
            assert (await worker.change()).generation == 2
            # The one that was sent was carried out when the server went on.
            assert total(store) in {1.0, 2.0}

    in_time(scenario())
