"""Ejection by a clock that is moved by hand: what is one failure too many, and how long it counts."""

from runners.placements.ejection import FORGIVEN_AFTER_S, MAX_PAUSE_S, MIN_CALLS, WINDOW_S, Ejection
from tests.support.clock import HandClock


def ejection(clock: HandClock, in_a_row: int = 1000, share: float = 1.0) -> Ejection:
    return Ejection(in_a_row, share, 5.0, clock)


def test_failures_in_a_row_eject_and_a_success_between_them_does_not_let_it() -> None:
    verdict = ejection(HandClock(), in_a_row=3)
    assert [verdict.failed() for _ in range(2)] == [False, False]
    verdict.succeeded()
    assert [verdict.failed() for _ in range(3)] == [False, False, True]


def test_a_share_of_failures_ejects_once_there_were_enough_calls() -> None:
    verdict = ejection(HandClock(), share=0.5)
    verdicts = []
    for _ in range(MIN_CALLS // 2):
        verdict.succeeded()
        verdicts.append(verdict.failed())
    assert verdicts == [False] * (MIN_CALLS // 2 - 1) + [True]


def test_fewer_failures_than_the_share_never_eject() -> None:
    verdict = ejection(HandClock(), share=0.5)
    for _ in range(100):
        verdict.succeeded()
        verdict.succeeded()
        assert not verdict.failed()


def test_failures_of_an_earlier_window_do_not_count() -> None:
    clock = HandClock()
    verdict = ejection(clock, share=0.5)
    for _ in range(MIN_CALLS - 1):
        assert not verdict.failed()
    clock.advance(WINDOW_S)
    verdict.succeeded()
    assert not verdict.failed()


def test_what_returns_starts_anew() -> None:
    verdict = ejection(HandClock(), in_a_row=2)
    assert [verdict.failed(), verdict.failed()] == [False, True]
    verdict.returned()
    assert [verdict.failed(), verdict.failed()] == [False, True]


def test_each_pause_is_twice_as_long_up_to_a_bound() -> None:
    clock = HandClock()
    verdict = ejection(clock)
    pauses = []
    for _ in range(9):
        pauses.append(verdict.pause_s())
        clock.advance(pauses[-1])
        verdict.returned()
        clock.advance(FORGIVEN_AFTER_S / 2)
    assert pauses == [5, 10, 20, 40, 80, 160, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]


def test_what_has_served_for_a_while_is_forgiven() -> None:
    clock = HandClock()
    verdict = ejection(clock)
    assert [verdict.pause_s(), verdict.pause_s()] == [5, 10]
    verdict.returned()
    clock.advance(FORGIVEN_AFTER_S)
    assert verdict.pause_s() == 5
