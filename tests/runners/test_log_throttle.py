"""Some lines of each thing are written in a while, and how many are not is known."""

from runners.log_throttle import LogThrottle
from tests.support.clock import HandClock


def test_one_line_a_minute_is_written_of_each_thing() -> None:
    clock = HandClock()
    throttle = LogThrottle(clock=clock)
    assert [throttle.left_out("disk") for _ in range(4)] == [0, None, None, None]
    assert throttle.left_out("sink") == 0
    clock.advance(59.5)
    assert throttle.left_out("disk") is None
    clock.advance(0.5)
    assert throttle.left_out("disk") == 4
    assert throttle.left_out("disk") is None
    clock.advance(60)
    assert throttle.left_out("disk") == 1
    assert throttle.left_out("sink") == 0


def test_several_lines_may_be_written_in_a_window() -> None:
    clock = HandClock()
    throttle = LogThrottle(2, 1, clock)
    assert [throttle.left_out() for _ in range(3)] == [0, 0, None]
    clock.advance(1)
    assert [throttle.left_out() for _ in range(3)] == [1, 0, None]


def test_what_is_over_is_told_once_and_the_next_line_is_written() -> None:
    throttle = LogThrottle(clock=HandClock())
    assert not throttle.is_over()
    assert throttle.left_out() == 0
    assert throttle.left_out() is None
    assert throttle.is_over()
    assert not throttle.is_over()
    assert throttle.left_out() == 0
