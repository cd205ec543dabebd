"""So many requests begin in one iteration of the loop, the others later and in order."""

from shokado.transports.loop_budget import PER_ITERATION, LoopBudget
from tests.runners.scripted_executor import HandLoop
from tests.support.clock import HandClock
from tests.support.raw_http import Connection, request
from tests.transports.lane_server import lane_server


def test_what_comes_after_as_many_as_may_begins_in_the_next_iterations_in_order() -> None:
    loop, budget = HandLoop(HandClock()), LoopBudget()
    begun: list[int] = []

    def come(number: int) -> None:
        if not budget.left:
            budget.defer(begun.append, number)
            return
        if budget.left == PER_ITERATION:
            budget.renew_soon(loop.call_soon)
        budget.left -= 1
        begun.append(number)

    total = 2 * PER_ITERATION + 10
    for number in range(total):
        come(number)
    assert begun == list(range(PER_ITERATION))
    loop.turn()
    assert begun == list(range(2 * PER_ITERATION))
    come(total)
    loop.turn()
    assert begun == list(range(total + 1)), "none overtakes those that wait"
    loop.turn()
    assert not loop.scheduled, "a loop without requests has nothing to do"
    come(total + 1)
    assert begun[-1] == total + 1


def test_requests_that_come_at_once_are_all_answered_in_order() -> None:
    total = 3 * PER_ITERATION
    with lane_server() as server:
        server.handler.echo = True
        with Connection(server) as connection:
            connection.send(b"".join(request(b"%d" % number, path=server.handler.path) for number in range(total)))
            assert [connection.read().body for _ in range(total)] == [b"%d" % number for number in range(total)]
