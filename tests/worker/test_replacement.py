"""Replacement: a worker gives way only where the others serve, one at a time, and not again and again."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shokado.dispatch.state import VersionReport
from shokado.stores.store import WorkerReport
from shokado.worker.replacement import MIN_INTERVAL_S, Replacement
from shokado.worker.stopping import Stopping

NOBODY = 2**22 + 1
"""No process has this id."""


class Noted(Stopping):
    """Notes that it was asked."""

    asked: str | None = None
    asked_for_another = 0

    def replace_worker(self, why: str) -> None:
        self.asked = why


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., tuple[Replacement, Noted]]:
    def make(worker: str, workers: int = 2, later_s: float = 0.0, comes: bool = True) -> tuple[Replacement, Noted]:
        stopping = Noted()

        def ask_for_another() -> bool:
            stopping.asked_for_another += 1
            return comes

        return Replacement(stopping, worker, workers, tmp_path, ask_for_another, lambda: 1000 + later_s), stopping

    return make


def report(worker: str, pid: int | None = None, machine: str | None = None, **states: str) -> WorkerReport:
    found = {version: VersionReport("0", state, None, 0.0) for version, state in states.items()}
    return WorkerReport(worker, machine or socket.gethostname(), pid or os.getpid(), 1, 0.0, found)


BOTH = [report("a", v1="ready", v2="failed"), report("b", v1="ready", v2="failed")]


def test_a_worker_that_lacks_nothing_stays(join: Callable[..., tuple[Replacement, Noted]]) -> None:
    replacement, stopping = join("a")
    replacement.consider(BOTH, {"v1"})
    assert stopping.asked is None


def test_a_worker_gives_way_when_those_beside_it_serve_what_it_serves(
    join: Callable[..., tuple[Replacement, Noted]],
) -> None:
    replacement, stopping = join("a")
    replacement.want("a thread is lost")
    replacement.consider(BOTH, {"v1", "v2"})
    assert stopping.asked == "a thread is lost"


@pytest.mark.parametrize(
    ("workers", "others"),
    [
        (1, []),
        (2, []),
        (2, [report("b", v1="starting")]),
        (2, [report("b", pid=NOBODY, v1="ready")]),
        (2, [report("b", machine="elsewhere", v1="ready")]),
        (3, [report("b", v1="ready")]),
    ],
)
def test_a_worker_stays_while_not_all_beside_it_serve(
    workers: int, others: list[WorkerReport], join: Callable[..., tuple[Replacement, Noted]]
) -> None:
    replacement, stopping = join("a", workers)
    replacement.want("a thread is lost")
    replacement.consider([report("a", v1="ready"), *others], {"v1"})
    assert stopping.asked is None


def test_a_single_worker_asks_for_another_one_and_gives_way_when_that_one_serves(
    join: Callable[..., tuple[Replacement, Noted]],
) -> None:
    replacement, stopping = join("a", 1)
    replacement.want("a thread is lost")
    for beside in ([], [report("b")], [report("b", v1="starting")]):
        replacement.consider([report("a", v1="ready"), *beside], {"v1"})
        assert (stopping.asked, stopping.asked_for_another) == (None, 1)
    replacement.consider([report("a", v1="ready"), report("b", v1="ready")], {"v1"})
    assert stopping.asked == "a thread is lost"


@pytest.mark.parametrize("room", [True, False])
def test_a_single_worker_gives_way_at_once_where_there_can_be_no_other_beside_it(
    room: bool, join: Callable[..., tuple[Replacement, Noted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    replacement, stopping = join("a", 1, comes=False)
    if not room:
        monkeypatch.setattr("shokado.worker.replacement.free_bytes", lambda: 1000)
    replacement.want("a thread is lost")
    replacement.consider([report("a", v1="ready")], {"v1"})
    assert (stopping.asked, stopping.asked_for_another) == ("a thread is lost", int(room))


def test_a_worker_that_cannot_answer_gives_way_even_if_it_is_alone(
    join: Callable[..., tuple[Replacement, Noted]],
) -> None:
    replacement, stopping = join("a", 1)
    replacement.consider([report("a", v1="away")], {"v1"}, ready=False)
    assert stopping.asked is None
    replacement.want("a thread is lost")
    replacement.consider([report("a", v1="away")], {"v1"}, ready=False)
    assert stopping.asked == "a thread is lost"


def test_one_at_a_time_and_the_next_one_a_while_later(join: Callable[..., tuple[Replacement, Noted]]) -> None:
    first, second, third = join("a"), join("b"), join("b", later_s=MIN_INTERVAL_S + 1)
    for replacement, _ in (first, second, third):
        replacement.want("a thread is lost")
        replacement.consider(BOTH, {"v1"})
    assert [stopping.asked is not None for _, stopping in (first, second, third)] == [True, False, False]
    # Its process has ended.
    first[0].__dict__["_holding"].close()
    for replacement, _ in (second, third):
        replacement.consider(BOTH, {"v1"})
    assert [stopping.asked is not None for _, stopping in (second, third)] == [False, True]


def test_the_clock_may_be_set_meanwhile(join: Callable[..., tuple[Replacement, Noted]], tmp_path: Path) -> None:
    """The time of day of the file says nothing."""
    first, _ = join("a")
    first.want("a thread is lost")
    first.consider(BOTH, {"v1"})
    first.__dict__["_holding"].close()
    for later_s, asked in ((1.0, False), (MIN_INTERVAL_S, True)):
        for set_to in (0, 2**32):
            os.utime(tmp_path / "replacement.lock", (set_to, set_to))
            replacement, stopping = join("b", later_s=later_s)
            replacement.want("a thread is lost")
            assert replacement._is_long_ago() is asked
    replacement.consider(BOTH, {"v1"})
    assert stopping.asked == "a thread is lost"
