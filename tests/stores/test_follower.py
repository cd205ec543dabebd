"""The follower over both stores: workers that change the routing agree on it, and lose none of it."""

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from shokado.dispatch.change import InvalidChange, with_candidate
from shokado.dispatch.state import Load, RoutingState, VersionReport, initial_state
from shokado.stores.record import decode_entry, encode_entry
from shokado.stores.store import Action, GenerationConflict, Position
from tests.stores.backends import Backend
from tests.stores.entries import NOW, entry, filled, report
from tests.stores.following import NEVER_S, Worker, more, running, working
from tests.support.settings import paper_settings
from tests.support.waiting import in_time, until


def test_the_first_worker_begins_the_history_with_the_configuration(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend) as [worker]:
            assert worker.state == initial_state(paper_settings())
            assert worker.adopted == [worker.entry]
            assert (worker.entry.by, worker.entry.action, worker.entry.at) == ("configuration", Action.CONFIGURED, NOW)
            assert await worker.history() == [worker.entry]
            assert worker.follower.failure is None

    in_time(scenario())


def test_workers_that_start_at_once_begin_one_history(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 5) as workers:
            assert len({worker.entry.id for worker in workers}) == 1
            assert [len(worker.adopted) for worker in workers] == [1] * 5
            assert len(await workers[0].history()) == 1

    in_time(scenario())


def test_a_store_with_a_history_has_the_last_word(backend: Backend) -> None:
    async def scenario() -> None:
        newest = filled(backend.open(), 7).read()
        async with working(backend, 2) as workers:
            for worker in workers:
                assert worker.entry == newest
                assert worker.adopted == [newest]

    in_time(scenario())


def test_what_is_stored_is_fitted_to_the_configuration(backend: Backend) -> None:
    """New environments begin as configured, and those that are gone go; also in what is written next."""
    filled(backend.open(), 3)
    other = {"canary": {"active": "v2", "weights": {"v2": 1}}}

    async def scenario() -> None:
        chosen = paper_settings(environments=other, default_environment="canary")
        async with working(backend, chosen=chosen) as [worker]:
            assert (set(worker.state.environments), worker.generation) == ({"canary"}, 3)
            load = Load("paper:v3", "d" * 64, "paper:v3")
            await worker.change(lambda state: with_candidate(state, "v3", load))
            assert set((await worker.history())[0].state.environments) == {"canary"}

    in_time(scenario())


def test_a_change_is_adopted_at_once_by_its_worker_and_soon_by_the_others(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 3) as workers:
            changed = await workers[0].change(by="bob", why="better", action=Action.WEIGHTED)
            assert workers[0].adopted[-1] is changed is workers[0].entry
            assert (changed.generation, changed.at) == (2, NOW)
            assert (changed.by, changed.why, changed.action) == ("bob", "better", Action.WEIGHTED)
            await until(lambda: all(worker.generation == 2 for worker in workers))
            assert [worker.adopted[-1] for worker in workers] == [changed] * 3
            await workers[2].change()
            await until(lambda: all(worker.generation == 3 for worker in workers))
            assert [[one.generation for one in worker.adopted] for worker in workers] == [[1, 2, 3]] * 3

    in_time(scenario())


def test_a_change_starts_from_what_others_made_meanwhile(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [one, other]:
            await one.changes(3)
            assert other.generation == 1
            await other.change()
            assert (other.generation, other.weight) == (5, 24.0)
            assert [found.generation for found in other.adopted] == [1, 4, 5]

    in_time(scenario())


def test_a_change_for_another_generation_is_refused(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [one, other]:
            await one.change(if_match=1)
            for worker, wanted in ((one, 1), (one, 3), (other, 1)):
                with pytest.raises(GenerationConflict) as conflict:
                    await worker.change(if_match=wanted)
                assert (conflict.value.expected, conflict.value.found) == (wanted, 2)
            assert len(await one.history()) == 2
            assert (await other.change(if_match=2)).generation == 3

    in_time(scenario())


def test_a_change_for_a_generation_that_is_replaced_at_the_last_moment_is_refused(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [one, other]:
            made: list[int] = []

            def overtaken(state: RoutingState) -> RoutingState:
                made.append(state.generation)
                other.follower.store.append(entry(state.generation + 1), state.generation)
                return more(state)

            with pytest.raises(GenerationConflict):
                await one.change(overtaken, if_match=1)
            assert made == [1]
            assert (await one.history())[0] == entry(2)

    in_time(scenario())


def test_a_change_that_is_overtaken_is_made_anew(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [one, other]:
            made: list[int] = []

            def overtaken(state: RoutingState) -> RoutingState:
                made.append(state.generation)
                if len(made) < 4:
                    other.follower.store.append(entry(state.generation + 1), state.generation)
                return more(state)

            await one.change(overtaken)
            assert made == [1, 2, 3, 4]
            assert (one.generation, one.weight) == (5, 5.0)

    in_time(scenario())


def test_a_change_that_cannot_be_made_leaves_everything_as_it_was(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend) as [worker]:
            before = worker.entry

            def refuse(state: RoutingState) -> RoutingState:
                raise InvalidChange("no", "it makes no sense")

            with pytest.raises(InvalidChange):
                await worker.change(refuse)
            assert (worker.entry, await worker.history()) == (before, [before])
            assert (await worker.change()).generation == 2

    in_time(scenario())


def test_changes_of_several_workers_at_once_are_all_made_once(backend: Backend) -> None:
    async def scenario() -> None:
        async with working(backend, 4) as workers:
            names = [f"{number}-{turn}" for number in range(4) for turn in range(20)]
            made = await asyncio.gather(*(workers[int(name[0])].change(why=name) for name in names))
            assert sorted(one.generation for one in made) == list(range(2, 82))
            history = await workers[0].history()
            assert sorted(one.why for one in history[:-1]) == sorted(names)
            assert {one.generation: one for one in made} == {one.generation: one for one in history[:-1]}
            # None of them was made of an old state.
            assert [one.state.environments["production"].weights["v2"] for one in history] == list(range(100, 19, -1))
            await until(lambda: all(worker.generation == 81 for worker in workers))
            for worker in workers:
                generations = [one.generation for one in worker.adopted]
                assert generations == sorted(set(generations))

    in_time(scenario())


def test_nothing_older_is_adopted(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store is set back just after it told of something newer."""

    async def scenario() -> None:
        async with working(backend, 2, poll_every_s=NEVER_S) as [one, other]:
            await one.changes(2)
            await other.change()
            monkeypatch.setattr(one.follower.store, "read", lambda: entry(2))
            await one.follower._follow()
            assert (one.generation, one.adopted[-1]) == (3, one.entry)

    in_time(scenario())


class Gate:
    """Holds up a store's appends in their thread, after which they go on."""

    def __init__(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        append = worker.follower.store.append

        def hold(*arguments: Any) -> None:
            self.reached.set()
            assert self.open.wait(30)
            append(*arguments)

        monkeypatch.setattr(worker.follower.store, "append", hold)


def test_a_caller_that_is_cancelled_loses_neither_the_change_nor_the_lock(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with working(backend, 2) as [worker, other]:
            gate = Gate(worker, monkeypatch)
            tasks = [asyncio.create_task(worker.change(why=why)) for why in ("under way", "in line")]
            await until(gate.reached.is_set)
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in found] == [asyncio.CancelledError] * 2
            assert worker.generation == 1
            gate.open.set()
            assert (await worker.change(why="later")).generation == 4
            assert [one.why for one in await worker.history()] == ["later", "in line", "under way", ""]
            await until(lambda: other.generation == 4)

    in_time(scenario())


def test_changes_under_way_are_finished_before_the_end(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = Worker(backend)
        async with running(worker):
            gate = Gate(worker, monkeypatch)
            tasks = [asyncio.create_task(worker.change(why=why)) for why in ("under way", "in line")]
            await until(gate.reached.is_set)
            asyncio.get_running_loop().call_later(0.05, gate.open.set)
        assert [(await task).generation for task in tasks] == [2, 3]
        assert [one.why for one in backend.open().history(2)] == ["in line", "under way"]

    in_time(scenario())


def test_reports_appear_and_are_replaced_and_vanish_at_the_end(backend: Backend) -> None:
    store = backend.open()

    def reported() -> dict[str, Any]:
        return {one.worker: one for one in store.reports(NOW)}

    async def scenario() -> None:
        one, other = Worker(backend, "one"), Worker(backend, "other")
        async with running(one):
            async with running(other):
                await until(lambda: reported() == {name: report(name, generation=1) for name in ("one", "other")})
                # News are told at once, whatever the time.
                await one.change()
                await until(lambda: [found.generation for found in reported().values()] == [2, 2])
                one.said = {"versions": {"v1": VersionReport("d", "starting", None, 0)}}
                await until(lambda: reported()["one"].versions == one.said["versions"])
                one.said |= {"candidates": {"v1": VersionReport("d", "starting", "no", 0)}}
                await until(lambda: reported()["one"].candidates == one.said["candidates"])
            assert list(reported()) == ["one"]
        assert reported() == {}

    in_time(scenario())


def test_reports_without_news_are_refreshed_every_few_seconds(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with working(backend) as [worker]:
            told: list[float] = []
            tell = worker.follower.store.report

            def note(*arguments: Any) -> None:
                told.append(arguments[0].at)
                tell(*arguments)

            await until(lambda: worker.follower._reported)
            monkeypatch.setattr(worker.follower.store, "report", note)
            # When a version was used last is no news.
            worker.said = {"versions": {"v1": VersionReport("d", "ready", None, 1.0)}}
            await until(lambda: told)
            worker.said = {"versions": {"v1": VersionReport("d", "ready", None, 2.0)}}
            # The third is told after the clock was set back.
            for at in (NOW + 2.9, NOW + 3, NOW + 5.9, NOW - 100, NOW - 98, NOW - 97):
                worker.now, polls = at, Polls(worker)
                await until(polls.two_more)
            assert told == [NOW, NOW + 3, NOW - 100, NOW - 97]
            store, now = worker.follower.store, NOW - 97
            assert [len(store.reports(at)) for at in (now, now + 9.9, now + 10)] == [1, 1, 0]

    in_time(scenario())


class Polls:
    """Counts a worker's polls."""

    def __init__(self, worker: Worker) -> None:
        self._count = 0
        report = worker.follower._report

        def note() -> Any:
            self._count += 1
            return report()

        worker.follower._report = note

    def two_more(self) -> bool:
        return self._count >= 2


def test_the_memory_holds_the_newest_entry_for_nobody_else(backend: Backend, tmp_path: Path) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        async with working(backend, 2, memory=memory) as [one, other]:
            assert decode_entry(memory.read_bytes()) == one.entry
            assert stat.S_IMODE(memory.stat().st_mode) == 0o600
            await one.changes(2)
            assert decode_entry(memory.read_bytes()) == one.entry
            assert stat.S_IMODE(memory.stat().st_mode) == 0o600
            await until(lambda: other.generation == 3)
            assert decode_entry(memory.read_bytes()) == one.entry
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith("routing.json")] == ["routing.json"]

    in_time(scenario())


def test_the_memory_is_never_half_written(backend: Backend, tmp_path: Path) -> None:
    memory = tmp_path / "routing.json"
    over, seen = threading.Event(), list[Position]()

    def read() -> None:
        while not over.is_set():
            seen.append(decode_entry(memory.read_bytes()).position)

    async def scenario() -> None:
        async with working(backend, 2, memory=memory) as workers:
            reading = asyncio.create_task(asyncio.to_thread(read))
            await asyncio.gather(*(worker.changes(40) for worker in workers))
            over.set()
            await reading

    in_time(scenario())
    assert len({position.generation for position in seen}) > 3


def test_an_older_entry_does_not_replace_a_newer_one_in_the_memory(backend: Backend, tmp_path: Path) -> None:
    memory = tmp_path / "routing.json"

    async def scenario() -> None:
        async with working(backend, memory=memory) as [worker]:
            memory.write_bytes(encode_entry(entry(9)))
            await worker.change()
            assert decode_entry(memory.read_bytes()) == entry(9)
            memory.write_bytes(encode_entry(entry(3)))
            await worker.change()
            assert decode_entry(memory.read_bytes()) == worker.entry

    in_time(scenario())


@pytest.mark.parametrize("content", [b"", b"garbage", encode_entry(entry(9))[:50]])
def test_a_memory_that_cannot_be_read_is_as_good_as_none(backend: Backend, tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "routing.json"
    memory.write_bytes(content)

    async def scenario() -> None:
        async with working(backend, memory=memory) as [worker]:
            assert worker.generation == 1
            assert decode_entry(memory.read_bytes()) == worker.entry

    in_time(scenario())


def test_a_memory_that_cannot_be_written_is_said_and_done_without(
    backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = tmp_path / "nowhere" / "routing.json"

    async def scenario() -> None:
        async with working(backend, memory=memory) as [worker]:
            assert (await worker.change()).generation == 2

    in_time(scenario())
    assert f"{memory} cannot be written: " in caplog.text


def test_the_store_is_let_go_of_at_the_end(backend: Backend) -> None:
    async def scenario() -> None:
        worker = Worker(backend)
        async with running(worker):
            await worker.change()
        assert worker.follower._polling is not None
        assert worker.follower._polling.done()
        with pytest.raises(RuntimeError):
            await worker.follower.ask(worker.follower.store.position)

    in_time(scenario())


def test_a_worker_that_never_started_can_be_stopped(backend: Backend) -> None:
    in_time(Worker(backend).follower.stop())
