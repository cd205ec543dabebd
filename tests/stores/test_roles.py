"""Roles: what only one worker should do is for one at a time, and for another soon after that one has gone."""

import time
from concurrent.futures import ThreadPoolExecutor

from shokado.stores.store import MAX_KEEP_S, Store
from tests.stores.backends import Backend
from tests.support.waiting import wait_until

ALL = "all"


def takes(store: Store, worker: str, role: str = ALL, for_s: float = 30) -> bool:
    return store.take_role(role, worker, for_s, time.time())


def test_a_role_is_for_one_worker_until_it_withdraws(store: Store, backend: Backend) -> None:
    other = backend.open()
    assert takes(store, "a")
    assert not takes(other, "b")
    assert takes(other, "b", role="machine ü")
    assert takes(store, "a")
    other.withdraw("b")
    other.withdraw("nobody")
    assert not takes(other, "b")
    assert takes(store, "a", role="machine ü")
    store.withdraw("a")
    assert takes(other, "b")
    assert takes(other, "b", role="machine ü")
    assert not takes(store, "a")


def test_a_role_is_for_another_when_its_worker_asks_no_more(store: Store, backend: Backend) -> None:
    other, began = backend.open(), time.monotonic()
    assert takes(store, "a", for_s=0.5)
    wait_until(lambda: takes(other, "b"))
    assert time.monotonic() - began > 0.45
    assert not takes(store, "a")


def test_who_asks_often_enough_keeps_a_role(store: Store, backend: Backend) -> None:
    other, began = backend.open(), time.monotonic()
    while time.monotonic() < began + 2:
        assert takes(store, "a", for_s=1)
        assert not takes(other, "b")
        time.sleep(0.05)


def test_of_many_who_ask_at_once_one_takes_it(backend: Backend) -> None:
    stores = [backend.open() for _ in range(8)]
    with ThreadPoolExecutor(len(stores)) as pool:
        for round_number in range(20):
            role = f"role {round_number}"
            told = pool.map(lambda number, role=role: takes(stores[number], f"w{number}", role), range(len(stores)))
            assert sum(told) == 1


def test_a_role_of_before_a_clock_was_set_back_is_for_anybody(store: Store, backend: Backend) -> None:
    """Its worker may be dead, and nobody would do its work for a day."""
    assert takes(store, "dead", for_s=86_400)
    assert takes(backend.open(), "alive")
    assert not takes(store, "dead")
    assert takes(store, "ahead", role="other", for_s=MAX_KEEP_S - 5)
    assert not takes(store, "alive", role="other")
