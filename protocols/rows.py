"""The far side of the hop: a version's own service answers `POST /rows` with scores; see `runners.hop`."""

import logging

from protocols.door import Exchange, new_id, reply_problem
from protocols.head import RequestHead
from protocols.problem import Problem, invalid
from runners.card import Card
from runners.engine import Engine
from runners.hop import FAILURES_HEADER, ROUTE, answer_rows

logger = logging.getLogger("shokado.protocols")


class RowsHandler:
    """Scores a whole batch on the event loop: this process has nothing else to do."""

    path = ROUTE

    def __init__(self, engine: Engine, card: Card) -> None:
        self._engine = engine
        self._card = card

    def judge(self, head: RequestHead, peer: str) -> Problem | None:  # noqa: ARG002  # the gateway alone asks here
        return head.problem

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> None:
        problem = head.problem
        if head.coding:
            problem = Problem(415, "unsupported_encoding", "batches are sent as they are")
        try:
            scores, failures = answer_rows(self._engine, self._card, body)
        except ValueError as error:
            problem = problem or invalid("wrong_feature_count", str(error))
        if problem is not None:
            reply_problem(exchange, problem, new_id())
            return
        lines = b"content-type: application/octet-stream\r\n"
        if failures is not None:
            lines += b"%b: %b\r\n" % (FAILURES_HEADER.encode(), failures)
        exchange.reply(200, lines, scores)
