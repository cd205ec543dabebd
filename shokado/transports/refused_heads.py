"""What answers requests that are refused for their heads alone, and reach no route: in the shape of its errors."""

from collections.abc import Callable

from shokado.dialects.error_shapes import error_body
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem
from shokado.transports.exchange import Exchange, new_id, reply_problem
from shokado.transports.failure_log import FailureLog
from shokado.transports.routes import Routes, without_prefix


def answer_heads(
    routes: Routes, prefix: str, note: Callable[[str], None]
) -> Callable[[Exchange, bytes, Problem], None]:
    """`routes` are all prediction routes, and `prefix` is what may stand before any path.

    `note` is told the address of who has sent what is for no route, as no route counts it.
    """

    failures = FailureLog()

    def answer(exchange: Exchange, path: bytes, problem: Problem) -> None:
        route = without_prefix(path.decode("latin-1"), prefix)
        if (found := routes.find(route.encode("latin-1"))) is not None:
            found.handler.begin(RequestHead(problem=problem), b"", exchange)
            return
        if problem.status < 500:
            note(exchange.peer)
        request_id = new_id()
        failures.tell(problem, problem, request_id)
        reply_problem(exchange, problem, request_id, error_body(route, problem, request_id))

    return answer
