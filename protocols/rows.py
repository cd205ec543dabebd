"""The far side of the hop: a version's own service answers `POST /rows` with scores; see `runners.hop`."""

import logging

from protocols.door import Exchange, new_id, reply_problem
from protocols.head import RequestHead
from protocols.problem import invalid
from runners.engine import Engine
from runners.hop import FAILURES_HEADER, ROUTE, answer_rows

logger = logging.getLogger("shokado.protocols")


class RowsHandler:
    """Scores a whole batch on the event loop: this process has nothing else to do."""

    path = ROUTE

    def __init__(self, engine: Engine, features: int, scores_per_row: int) -> None:
        self._engine = engine
        self._features = features
        self._scores_per_row = scores_per_row

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> None:
        problem = head.problem
        try:
            scores, failures = answer_rows(self._engine, self._features, self._scores_per_row, body)
        except ValueError as error:
            problem = problem or invalid("wrong_feature_count", str(error))
        if problem is not None:
            reply_problem(exchange, problem, new_id())
            return
        lines = b"content-type: application/octet-stream\r\n"
        if failures is not None:
            lines += b"%b: %b\r\n" % (FAILURES_HEADER.encode(), failures)
        exchange.reply(200, lines, scores)
