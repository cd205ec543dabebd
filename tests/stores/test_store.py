"""What every store keeps to, over an SQLite file and a real Redis."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shokado.dispatch.state import RoutingState, VersionReport
from shokado.stores.store import (
    BEFORE,
    GIVEN,
    Action,
    Binned,
    Entry,
    GenerationConflict,
    Position,
    Secret,
    Store,
    StoreUnavailable,
    Tally,
)
from tests.dispatch.test_change import STATE, changes
from tests.stores.backends import Backend
from tests.stores.entries import NOW, REQUESTS, ROWS, entry, filled, report, secret, settlement, total
from tests.stores.processes import in_processes
from tests.support.waiting import wait_until

ODD = ("", "a b", 'say "no"', "{x}:[1]", "версия-ü-🎉", "tab\tline\n", "zero\0zero", "back\\slash", "'; --")
amount = st.floats(-1e300, 1e300)


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.position() == Position(0, "")
    assert store.read() is None
    assert store.entry(1) is None
    assert store.history(10) == []
    assert store.reports(NOW) == []
    assert store.tallies(0) == {}
    assert store.settle([], NOW) == []
    assert store.durability == ""


def test_what_was_appended_is_the_newest_for_everybody(store: Store, backend: Backend) -> None:
    other = backend.open()
    for handle, generation in ((store, 1), (other, 2), (store, 3)):
        handle.append(entry(generation, why="because"), generation - 1)
        for reader in (store, other, backend.open()):
            assert reader.position() == (generation, f"id-{generation}")
            assert reader.read() == entry(generation, why="because")


def test_an_entry_comes_back_as_it_was(store: Store) -> None:
    written = [
        entry(1 + number, by=characters, why=characters, id=characters, action=action)
        for number, (characters, action) in enumerate(zip(ODD, itertools.cycle(Action), strict=False))
    ]
    for one in written:
        store.append(one, one.generation - 1)
    assert store.history(100) == written[::-1]
    assert [store.entry(one.generation) for one in written] == written


@pytest.mark.parametrize("expected", [0, 2, 4, 10])
def test_whoever_expects_another_generation_is_refused(store: Store, expected: int) -> None:
    filled(store, 3)
    with pytest.raises(GenerationConflict) as conflict:
        store.append(entry(11), expected)
    assert (conflict.value.expected, conflict.value.found) == (expected, 3)
    assert str(conflict.value) == f"the routing is at generation 3, not {expected}"
    assert store.position() == (3, "id-3")
    assert [one.generation for one in store.history(10)] == [3, 2, 1]


@pytest.mark.parametrize("generation", [3, 2])
def test_generations_only_grow(store: Store, generation: int) -> None:
    filled(store, 3)
    with pytest.raises(ValueError, match=f"generation {generation} cannot follow 3"):
        store.append(entry(generation, id="again"), 3)
    assert store.read() == entry(3)


def test_generations_may_be_left_out(store: Store) -> None:
    filled(store, 2)
    store.append(entry(7), 2)
    assert store.position() == (7, "id-7")
    assert [one.generation for one in store.history(10)] == [7, 2, 1]
    assert store.entry(5) is None


def test_history_comes_in_pages_newest_first(store: Store) -> None:
    filled(store, 25)
    assert [one.generation for one in store.history(10)] == list(range(25, 15, -1))
    assert [one.generation for one in store.history(10, before=16)] == list(range(15, 5, -1))
    assert store.history(10, before=6) == [entry(generation) for generation in (5, 4, 3, 2, 1)]
    assert store.history(10, before=1) == []
    assert store.history(0) == []
    assert len(store.history(1000)) == 25


def test_secrets_are_the_same_for_everybody_for_good(store: Store, backend: Backend) -> None:
    assert store.secrets() == []
    assert store.keep_secrets([], secret(1)) == [secret(1)]
    other = backend.open()
    assert other.keep_secrets([], secret(2)) == other.secrets() == [secret(1)], "a fresh one is for an empty store"
    assert by_value(other.keep_secrets([secret(3), secret(4, idle_s=0.25)])) == [
        secret(1),
        secret(3),
        secret(4, idle_s=0.25),
    ]
    store.close()
    other.close()
    for handle in (store, other, backend.open()):
        assert by_value(handle.secrets()) == [secret(1), secret(3), secret(4, idle_s=0.25)]


def test_a_secret_that_is_kept_stays_as_it_is_but_for_shorter_idleness(store: Store) -> None:
    store.keep_secrets([secret(1, idle_s=7.5)])
    assert store.keep_secrets([secret(1, idle_s=9.5, placed="again")]) == [secret(1, idle_s=7.5)]
    assert store.keep_secrets([secret(1, idle_s=2.25, placed="again")]) == [secret(1, idle_s=2.25)]


def test_where_all_secrets_are_given_by_configuration_a_fresh_one_is_kept_as_well(store: Store) -> None:
    given = secret(9, made_at=GIVEN)
    assert store.keep_secrets([given]) == [given]
    assert by_value(store.keep_secrets([], secret(1))) == [secret(1), given]
    assert by_value(store.keep_secrets([given], secret(2))) == [secret(1), given]


def test_the_one_secret_of_an_older_version_is_taken_over_and_stays(store: Store, backend: Backend) -> None:
    old = Secret(bytes(range(32)), BEFORE, 0.0, "")
    backend.put_older_secret(old.value)
    assert by_value(store.keep_secrets([secret(1, idle_s=3)], secret(2))) == [old, secret(1, idle_s=3)]
    assert backend.older_secret() == old.value
    store.age_secrets(10, 5, secret(1).value)
    store.age_secrets(10, 5, secret(1).value)
    assert store.keep_secrets([secret(1, idle_s=3)], secret(2)) == [secret(1, idle_s=3)], "its time is over"


def test_idle_secrets_are_dropped_when_it_could_be_read_for_a_while_that_they_will_be(store: Store) -> None:
    store.keep_secrets([secret(1), secret(2), secret(3, idle_s=0.1)])
    store.age_secrets(60.2, 60, secret(2).value)
    assert by_value(store.secrets()) == [secret(1, idle_s=60.2), secret(2), secret(3, idle_s=0.1 + 60.2)]
    store.keep_secrets([secret(3)])
    store.age_secrets(1, 60, secret(2).value)
    assert by_value(store.secrets()) == [secret(2), secret(3, idle_s=1)]
    for _ in range(3):
        store.age_secrets(1e9, 60, secret(2).value)
    assert store.secrets() == [secret(2)], "never the one that seals"


def test_a_closed_store_opens_again(store: Store) -> None:
    filled(store, 2)
    store.close()
    store.close()
    assert store.read() == entry(2)
    store.close()
    store.append(entry(3), 2)
    assert store.position() == (3, "id-3")


def test_reports_are_replaced_and_expire_and_are_withdrawn(store: Store, backend: Backend) -> None:
    other = backend.open()
    version = VersionReport("d" * 64, "failed", "no memory ü", NOW)
    told = report("b", versions={"v1": version}, candidates={"v2": replace(version, failure=None)})
    store.report(report("b", generation=2), 10)
    store.report(told, 10)
    other.report(report("a", NOW + 5), 10)
    assert other.reports(NOW) == [report("a", NOW + 5), told]
    assert store.reports(NOW + 9.9) == [report("a", NOW + 5), told]
    assert store.reports(NOW + 10) == [report("a", NOW + 5)]
    store.withdraw("a")
    assert other.reports(NOW) == [told]
    store.withdraw("nobody")
    store.withdraw("b")
    assert other.reports(NOW) == []


def test_a_report_of_before_a_clock_was_set_back_does_not_live_on(store: Store) -> None:
    """Its worker may be dead, and all would wait for it, or leave to it what only one does."""
    day_s = 86_400
    store.report(report("dead", NOW + day_s), 10)
    store.report(report("alive", NOW + day_s), 10)
    assert store.reports(NOW) == []
    store.report(report("alive", NOW), 10)
    assert [one.worker for one in store.reports(NOW)] == ["alive"]
    store.forget(before=0, now=NOW)
    assert store.reports(NOW + day_s) == [], "nor does it come back when the time comes again"
    store.report(report("ahead", NOW + 30), 10)
    assert "ahead" in [one.worker for one in store.reports(NOW)], "another machine's clock may be a little ahead"


def test_reports_of_workers_with_odd_names(store: Store) -> None:
    for name in ODD:
        store.report(report(name), 10)
    assert store.reports(NOW) == [report(name) for name in sorted(ODD, key=str.encode)]
    for name in ODD:
        store.withdraw(name)
    assert store.reports(NOW) == []


def test_a_settlement_counts_once(store: Store, backend: Backend) -> None:
    first, second = settlement("one", {REQUESTS: 1.0, ROWS: 2.5}), settlement("two", {REQUESTS: 4.0})
    assert store.settle([first, first, second], NOW) == [True, False, True]
    assert backend.open().settle([second, settlement("three", {}), first], NOW) == [False, True, False]
    assert total(store) == 5.0
    assert total(store, ROWS) == 2.5


def test_a_settlement_counts_again_when_its_key_has_expired(store: Store) -> None:
    assert store.settle([settlement("brief", keep_s=0.05), settlement("long")], NOW) == [True, True]
    wait_until(lambda: store.settle([settlement("brief", keep_s=60)], NOW + 1) == [True])
    assert store.settle([settlement("brief"), settlement("long")], NOW + 2) == [False, False]
    assert total(store) == 3.0


def test_a_settlement_that_has_expired_already_counts_once_in_its_list(store: Store) -> None:
    late = settlement("late", keep_s=-5)
    assert store.settle([late, late], NOW) == [True, False]


def test_thousands_of_settlements_at_once(store: Store) -> None:
    some = [settlement(f"prediction-{number}:0", {REQUESTS: 1.0, ROWS: 0.5}) for number in range(3_000)]
    assert store.settle(some[:1_000], NOW) == [True] * 1_000
    assert store.settle([*some, *some], NOW) == [False] * 1_000 + [True] * 2_000 + [False] * 3_000
    assert total(store) == 3_000.0
    assert total(store, ROWS) == 1_500.0


def test_settlements_with_odd_keys(store: Store) -> None:
    assert store.settle([settlement(key) for key in ODD], NOW) == [True] * len(ODD)
    assert store.settle([settlement(key) for key in ODD], NOW) == [False] * len(ODD)


def test_tallies_are_added_up_per_minute(store: Store, backend: Backend) -> None:
    minute = NOW // 60 * 60
    store.add({REQUESTS: 1.0, ROWS: 10.0}, minute)
    backend.open().add({REQUESTS: 2.0}, minute + 59.9)
    store.add({REQUESTS: 4.0}, minute + 60)
    store.settle([settlement("one", {ROWS: 5.0})], minute + 30)
    assert store.tallies(minute + 59) == {(minute, REQUESTS): 3.0, (minute, ROWS): 15.0, (minute + 60, REQUESTS): 4.0}
    assert store.tallies(minute + 60) == {(minute + 60, REQUESTS): 4.0}
    assert store.tallies(minute + 120) == {}


def test_nothing_to_add_is_nothing(store: Store) -> None:
    store.add({}, NOW)
    assert store.tallies(0) == {}


def test_tallies_with_odd_names(store: Store) -> None:
    counts = {Tally(*names): float(number) for number, names in enumerate(itertools.permutations(ODD, 3))}
    store.add(counts, NOW)
    assert store.tallies(NOW) == {(NOW // 60 * 60, tally): number for tally, number in counts.items()}


def test_sums_of_floats_are_what_python_makes_of_them(store: Store) -> None:
    store.add({REQUESTS: 0.1, ROWS: 1e-12}, NOW)
    store.add({REQUESTS: 1.5, ROWS: 1e-30}, NOW)
    store.settle([settlement("one", {REQUESTS: 0.1}), settlement("two", {ROWS: 1e-30})], NOW)
    assert total(store) == 0.1 + 1.5 + 0.1
    assert total(store, ROWS) == 1e-12 + 1e-30 + 1e-30


@given(numbers=st.lists(amount, min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_sums_of_any_floats_are_exact(store: Store, numbers: list[float]) -> None:
    store.forget(NOW + 3600, NOW)
    for number in numbers:
        store.add({REQUESTS: number}, NOW)
    assert total(store) == reduce(add, numbers, 0.0)


def test_what_is_old_is_forgotten(store: Store) -> None:
    minute = NOW // 60 * 60
    for minutes in range(5):
        store.add({REQUESTS: 1.0}, minute + 60 * minutes)
    store.report(report("early"), 10)
    store.report(report("late", NOW + 1), 10)
    store.settle([settlement("brief", {}, keep_s=10), settlement("long", {}, keep_s=11)], NOW)
    store.forget(before=minute + 125, now=NOW + 10)
    assert [found for found, _ in store.tallies(0)] == [minute + 120, minute + 180, minute + 240]
    assert [one.worker for one in store.reports(NOW)] == ["late"]
    assert store.settle([settlement("long", {})], NOW) == [False]
    store.forget(before=0, now=0)
    assert len(store.tallies(0)) == 3


def test_a_report_that_cannot_be_read_is_named(store: Store) -> None:
    # As a newer version might write it.
    store.report(report("new", pid="seven"), 10)
    with pytest.raises(StoreUnavailable, match=f"the store .*{store.name[-9:]} cannot be used: Expected `int`"):
        store.reports(NOW)
    store.withdraw("new")
    assert store.reports(NOW) == []


@pytest.mark.parametrize("content", [b"", b"\xff\0garbage", b"{}", b'{"state": {}}', b"[1]"])
def test_an_entry_that_cannot_be_read_is_named(store: Store, backend: Backend, content: bytes) -> None:
    filled(store, 3)
    backend.put(4, "id-4", content)
    assert store.position() == (4, "id-4")
    for ask in (store.read, lambda: store.entry(4), lambda: store.history(10)):
        with pytest.raises(StoreUnavailable, match="an entry of the history cannot be read") as failure:
            ask()
        assert store.name in str(failure.value)
    assert store.entry(3) == entry(3)
    assert len(store.history(10, before=4)) == 3


def race(backend: Backend, count: int) -> Callable[[int], list[int]]:
    """The generations that a process got, which had to be the first at each."""

    def run(number: int) -> list[int]:
        store, won = backend.open(), list[int]()
        while len(won) < count:
            newest = store.position().generation
            try:
                store.append(entry(newest + 1, by=f"racer {number}"), newest)
            except GenerationConflict:
                continue
            except StoreUnavailable as failure:
                # Waited for its turn as long as a change may, on a machine with other things to do.
                if "locked" not in str(failure):
                    raise
                continue
            won.append(newest + 1)
        return won

    return run


def test_processes_race_for_generations(backend: Backend) -> None:
    won = in_processes(race(backend, 250), 4)
    assert sorted(itertools.chain(*won)) == list(range(1, 1_001))
    history = backend.open().history(2_000)
    assert [one.generation for one in history] == list(range(1_000, 0, -1))
    by = {one.generation: one.by for one in history}
    assert all(by[generation] == f"racer {number}" for number, mine in enumerate(won) for generation in mine)


def test_processes_race_for_the_same_settlements(backend: Backend) -> None:
    keys = [f"key-{number}" for number in range(400)]

    def settle(number: int) -> list[bool]:
        store = backend.open()
        return [store.settle([settlement(key)], NOW)[0] for key in keys]

    counted = in_processes(settle, 3)
    assert [sum(each) for each in zip(*counted, strict=True)] == [1] * len(keys)
    assert total(backend.open()) == len(keys)


def test_processes_race_for_the_secret_and_the_first_entry(backend: Backend) -> None:
    """Twenty of them, none of which finds the store made already."""

    def begin(number: int) -> tuple[bytes, bool]:
        store = backend.open()
        (kept,) = store.keep_secrets([], secret(number))
        try:
            store.append(entry(1, id=f"by-{number}"), 0)
        except GenerationConflict:
            return kept.value, False
        return kept.value, True

    found = in_processes(begin, 20)
    assert [{value for value, _ in found}] == [{kept.value} for kept in backend.open().secrets()]
    assert Counter(first for _, first in found) == {True: 1, False: 19}
    assert backend.open().position() == (1, f"by-{[first for _, first in found].index(True)}")


def test_a_reader_never_sees_half_of_what_a_writer_writes(backend: Backend) -> None:
    """Neither a history with holes nor the tallies of half a settlement."""
    both = {REQUESTS: 1.0, ROWS: 1.0}

    def run(number: int) -> int:
        store = backend.open()
        if number == 0:
            for generation in range(1, 301):
                store.append(entry(generation), generation - 1)
                store.settle([settlement(f"key-{generation}", both)], NOW)
        seen = 0
        while number and seen < 300:
            history = store.history(1_000)
            assert [one.generation for one in history] == list(range(len(history), 0, -1))
            assert len(history) >= seen
            seen = len(history)
            tallies = list(store.tallies(0).values())
            assert len(set(tallies)) <= 1
            assert len(tallies) in {0, 2}
        return seen

    assert in_processes(run, 3) == [0, 300, 300]


def by_value(secrets: list[Secret]) -> list[Secret]:
    return sorted(secrets, key=lambda secret: secret.value)


Change = Callable[[RoutingState], RoutingState]


@given(steps=st.lists(changes, max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_the_newest_entry_is_the_state_and_history_replays_to_it(backend: Backend, steps: list[Change]) -> None:
    backend.wipe()
    writer, reader = backend.open(), backend.open()
    state, base, written = STATE, 0, list[Entry]()
    for step in [lambda state: state, *steps]:
        state = step(state)
        written.append(Entry(state, NOW, "ann", Action.SPLIT, "", f"id-{len(written)}"))
        writer.append(written[-1], base)
        base = state.generation
        assert reader.position() == written[-1].position
        newest = reader.read()
        assert newest is not None
        assert newest.state == state
    replayed = [one for page in pages(reader, 4) for one in page][::-1]
    assert replayed == written
    assert [one.state for one in replayed] == [one.state for one in written]
    backend.close()


def pages(store: Store, size: int) -> list[list[Entry]]:
    found, before = [], None
    while page := store.history(size, before):
        found.append(page)
        before = page[-1].generation
    return found


V1, V2 = Binned("v1", "bins-a"), Binned("v2", "bins-a")


def binned(store: Store, of: Binned, since: float = 0) -> dict[int, list[int]]:
    return {bucket: counts.tolist() for bucket, counts in store.binned(of, since).items()}


def test_binned_rows_are_added_up_over_five_minutes(store: Store, backend: Backend) -> None:
    bucket = int(NOW // 300 * 300)
    assert store.binned(V1, 0) == {}
    store.add_binned({V1: np.array([1, 0, 2**40, 0]), V2: np.array([0, 0])}, bucket)
    backend.open().add_binned({V1: np.array([1, 2, 3, 0])}, bucket + 299.9)
    store.add_binned({V1: np.array([0, 0, 0, 7])}, bucket + 300)
    store.add_binned({}, bucket)
    assert binned(store, V1) == {bucket: [2, 2, 2**40 + 3, 0], bucket + 300: [0, 0, 0, 7]}
    assert binned(store, V1, bucket + 299) == binned(store, V1)
    assert binned(store, V1, bucket + 300) == {bucket + 300: [0, 0, 0, 7]}
    assert binned(backend.open(), V2) == {bucket: [0, 0]}
    assert store.tallies(0) == {}


def test_counts_in_the_bins_of_another_reference_are_others(store: Store) -> None:
    store.add_binned({V1: np.array([1, 2])}, NOW)
    replaced = V1._replace(bins="bins-b")
    assert store.binned(replaced, 0) == {}
    store.add_binned({replaced: np.array([4, 4, 4])}, NOW)
    bucket = int(NOW // 300 * 300)
    assert (binned(store, V1), binned(store, replaced)) == ({bucket: [1, 2]}, {bucket: [4, 4, 4]})


def test_binned_rows_with_odd_names(store: Store) -> None:
    names = [Binned(*pair) for pair in itertools.permutations(ODD, 2)]
    store.add_binned({of: np.array([number]) for number, of in enumerate(names)}, NOW)
    assert [list(binned(store, of).values()) for of in names] == [[[number]] for number in range(len(names))]


def test_old_binned_rows_are_forgotten(store: Store) -> None:
    bucket = int(NOW // 300 * 300)
    for number in range(4):
        store.add_binned({V1: np.array([number])}, bucket + 300 * number)
    store.add({REQUESTS: 1.0}, bucket)
    store.forget_binned(bucket + 600 + 299)
    assert binned(store, V1) == {bucket + 600: [2], bucket + 900: [3]}
    store.add_binned({V1: np.array([5])}, bucket)
    assert binned(store, V1)[bucket] == [5], "what is forgotten is gone"
    assert total(store) == 1.0
    store.forget_binned(0)
    assert len(binned(store, V1)) == 3


def test_processes_add_to_the_same_bins(backend: Backend) -> None:
    def run(number: int) -> None:
        store = backend.open()
        for _ in range(50):
            store.add_binned({V1: np.array([1, number, 0])}, NOW)

    in_processes(run, 3)
    assert list(binned(backend.open(), V1).values()) == [[150, 50 * (0 + 1 + 2), 0]]
