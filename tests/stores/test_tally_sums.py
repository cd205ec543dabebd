"""Sums that are kept are those of all tallies, whatever was added, forgotten, lost or set back meanwhile."""

import itertools
from collections import defaultdict
from collections.abc import Collection
from contextlib import closing
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shokado.stores.store import MinuteTallies, Store, Tally, minute_of
from shokado.stores.tally_sums import TallySums
from tests.stores.backends import MODEL, Backend, RedisBackend, SqliteBackend
from tests.stores.entries import NOW, REQUESTS, ROWS, settlement

KEYS = map(str, itertools.count())
step = st.tuples(st.sampled_from(["add", "settle", "forget", "look"]), st.integers(0, 45), st.integers(1, 9))


def expected(store: Store, at: float) -> dict[tuple[int, Tally], float]:
    """All tallies, added up here."""
    sums: defaultdict[tuple[int, Tally], float] = defaultdict(float)
    for (_, tally), value in store.tallies(at).items():
        sums[minute_of(at), tally] += value
    return sums


def expected_pieces(store: Store, begin: int, length_s: int) -> dict[tuple[int, Tally], float]:
    """All tallies, added up here by piece of time."""
    sums: defaultdict[tuple[int, Tally], float] = defaultdict(float)
    for (minute, tally), value in store.tallies(begin).items():
        sums[begin + (minute - begin) // length_s * length_s, tally] += value
    return sums


class Watched:
    """A store that remembers how many minutes were read at a time."""

    def __init__(self, store: Store) -> None:
        self.tally_marks = store.tally_marks
        self.read: list[int] = []
        self._store = store

    def tallies_of(self, minutes: Collection[int]) -> dict[int, MinuteTallies]:
        self.read.append(len(minutes))
        return self._store.tallies_of(minutes)


@given(steps=st.lists(step, max_size=15))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_sums_are_those_of_all_tallies(store: Store, steps: list[tuple[str, int, int]]) -> None:
    """In windows of any length, also where minutes that are long over are added to."""
    store.forget(NOW + 86_400, NOW)
    sums = TallySums(store)
    for what, minute, number in steps:
        at = NOW + 60 * minute
        counts = {REQUESTS: float(number), ROWS._replace(name=f"rows{number % 2}"): 1.0}
        if what == "add":
            store.add(counts, at)
        elif what == "settle":
            store.settle([settlement(next(KEYS), counts)], at)
        elif what == "forget":
            store.forget(before=at, now=NOW)
        assert sums.since(at - 60 * number) == expected(store, at - 60 * number)
        length_s = 60 * number
        begin = int(at - 600) // length_s * length_s
        assert sums.pieces_since(begin, length_s) == expected_pieces(store, begin, length_s)


def test_only_what_others_have_changed_is_read_again(store: Store, backend: Backend) -> None:
    other, watched = backend.open(), Watched(store)
    for minute in range(100):
        other.add({REQUESTS: 1.0, ROWS: 2.0}, NOW + 60 * minute)
    sums = TallySums(cast("Store", watched))
    assert sums.since(NOW) == {(minute_of(NOW), REQUESTS): 100.0, (minute_of(NOW), ROWS): 200.0}
    sums.since(NOW)
    assert watched.read == [100]
    other.add({REQUESTS: 1.0}, NOW + 60 * 99)
    other.settle([settlement("late")], NOW + 60 * 7)
    assert sums.since(NOW)[minute_of(NOW), REQUESTS] == 102.0
    assert len(watched.read) == 2
    assert watched.read[1] <= 20, "ten minutes for each one that has changed"


def test_of_pieces_too_only_what_others_have_changed_is_read_again(store: Store, backend: Backend) -> None:
    other, watched = backend.open(), Watched(store)
    begin = minute_of(NOW) // 1800 * 1800
    for minute in range(90):
        other.add({REQUESTS: 1.0}, begin + 60 * minute)
    sums = TallySums(cast("Store", watched))
    assert sums.pieces_since(begin, 1800) == {(begin + 1800 * piece, REQUESTS): 30.0 for piece in range(3)}
    sums.since(begin)
    for length_s in (60, 300, 600, 1800):
        sums.pieces_since(begin, length_s)
    assert watched.read == [90] * 5, "each length once"
    other.add({REQUESTS: 1.0}, begin + 60 * 45)
    assert sums.pieces_since(begin, 1800)[begin + 1800, REQUESTS] == 31.0
    assert watched.read[5:] == [30]
    sums.pieces_since(begin, 900)
    assert len(sums.pieces_since(begin, 60)) == 90
    assert watched.read[6:] == [90, 90], "of five lengths the one asked for longest ago is forgotten"


def test_minutes_have_marks_that_every_addition_replaces(store: Store) -> None:
    marks = []
    for _ in range(3):
        store.add({REQUESTS: 1.0}, NOW)
        store.settle([settlement(next(KEYS), {ROWS: 1.0})], NOW)
        marks += list(store.tally_marks(NOW).values())
    assert len(set(marks)) == 3
    assert None not in marks
    store.settle([settlement("nothing", {})], NOW + 600)
    assert store.tallies_of([minute_of(NOW + 600)]) == {}
    (minute,) = store.tallies_of([minute_of(NOW), minute_of(NOW) + 60]).items()
    assert minute == (minute_of(NOW), MinuteTallies(marks[-1], {REQUESTS: 3.0, ROWS: 3.0}))


def test_a_store_that_was_lost_or_set_back_has_other_sums(backend: Backend) -> None:
    store = backend.open()
    sums = TallySums(store)
    store.add({REQUESTS: 1.0}, NOW)
    backend.keep_copy()
    for number in (2.0, 4.0):
        store.add({REQUESTS: number}, NOW)
        assert sums.since(NOW) == expected(store, NOW)
    backend.set_back()
    assert sums.since(NOW) == {(minute_of(NOW), REQUESTS): 1.0}
    backend.wipe()
    assert sums.since(NOW) == {}
    store.add({REQUESTS: 8.0}, NOW)
    assert sums.since(NOW) == {(minute_of(NOW), REQUESTS): 8.0}


def test_tallies_of_an_older_release_are_in_the_sums(backend: Backend) -> None:
    """It gives minutes no marks."""
    for minute in range(3):
        backend.open().add({REQUESTS: 1.0, ROWS: 1.0}, NOW + 60 * minute)
    backend.close()
    forget_marks(backend)
    store = backend.open()
    sums = TallySums(store)
    for _ in range(2):
        assert sums.since(NOW) == expected(store, NOW) == {(minute_of(NOW), REQUESTS): 3.0, (minute_of(NOW), ROWS): 3.0}
    store.add({REQUESTS: 1.0}, NOW + 60)
    assert sums.since(NOW) == expected(store, NOW)


def forget_marks(backend: Backend) -> None:
    if isinstance(backend, SqliteBackend):
        with closing(backend.connect()) as connection:
            connection.execute("DROP TABLE tally_marks")
            connection.commit()
        return
    assert isinstance(backend, RedisBackend)
    with backend.server.client() as client:
        assert client.delete(f"shokado:{{{MODEL}}}:tally_marks") == 1
