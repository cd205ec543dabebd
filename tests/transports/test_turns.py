"""Turns: so many requests begin in one, the others later and in order."""

from shokado.transports.turns import PER_TURN, Turns
from tests.runners.scripted_place import HandLoop
from tests.support.clock import HandClock
from tests.support.raw_http import Connection, request
from tests.transports.lane_server import lane_server


def test_what_comes_after_as_many_as_may_begins_in_the_next_turns_in_order() -> None:
    loop, turns = HandLoop(HandClock()), Turns()
    begun: list[int] = []

    def come(number: int) -> None:
        if not turns.left:
            turns.wait(begun.append, number)
            return
        if turns.left == PER_TURN:
            turns.await_next(loop.call_soon)
        turns.left -= 1
        begun.append(number)

    total = 2 * PER_TURN + 10
    for number in range(total):
        come(number)
    assert begun == list(range(PER_TURN))
    loop.turn()
    assert begun == list(range(2 * PER_TURN))
    come(total)
    loop.turn()
    assert begun == list(range(total + 1)), "none overtakes those that wait"
    loop.turn()
    assert not loop.scheduled, "a loop without requests has nothing to do"
    come(total + 1)
    assert begun[-1] == total + 1


def test_requests_that_come_at_once_are_all_answered_in_order() -> None:
    total = 3 * PER_TURN
    with lane_server() as server:
        server.handler.echo = True
        with Connection(server) as connection:
            connection.send(b"".join(request(b"%d" % number, path=server.handler.path) for number in range(total)))
            assert [connection.read().body for _ in range(total)] == [b"%d" % number for number in range(total)]
