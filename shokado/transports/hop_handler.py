"""Handlers at the far side of the hop: a version's own service answers `POST /rows` with scores, or why it has none.

See `runners.placements.hop`.
"""

import logging
import time
from math import inf

from runners.artefacts.card import Card
from runners.engines.engine import Engine, Interrupted
from runners.engines.watchdog import Watched
from runners.errors import Overran
from runners.placements.hop import ROUTE, UNSERVABLE, answer_rows, times_line
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, invalid
from shokado.transports.exchange import Exchange, new_id, reply_problem

logger = logging.getLogger("bentoml.shokado")


class HopHandler(Watched):
    """Scores a whole batch on the event loop: this process has nothing else to do."""

    path = ROUTE

    def __init__(self, engine: Engine, card: Card, version: str = "", max_run_s: float = inf) -> None:
        super().__init__(version, engine, max_run_s, inline_s=max_run_s)
        self._card = card

    def judge(self, head: RequestHead, peer: str) -> Problem | None:  # noqa: ARG002  # the gateway alone asks here
        return head.problem

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> None:
        problem = head.problem
        if head.coding:
            problem = Problem("unsupported_encoding", "batches are sent as they are")
        started_at = time.monotonic()
        self.turn += 1
        try:
            scores, failure_lines = answer_rows(self._engine, self._card, body)
        except ValueError as error:
            problem = problem or invalid("wrong_feature_count", str(error))
        except Interrupted:
            problem = Problem("overran", str(Overran(self.max_run_s)))
        finally:
            self.turn += 1
        if problem is not None:
            reply_problem(exchange, problem, new_id())
            return
        lines = b"content-type: application/octet-stream\r\n" + failure_lines
        if head.trace is not None and head.trace.sampled:
            lines += times_line(started_at, time.monotonic())
        exchange.reply(200, lines, scores)


class UnservableHandler:
    """Answers every batch with the reason why the version cannot be served."""

    path = ROUTE

    def __init__(self, reason: str) -> None:
        self._reason = reason.encode(errors="replace")

    def judge(self, head: RequestHead, peer: str) -> Problem | None:  # noqa: ARG002  # the gateway alone asks here
        return head.problem

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> None:  # noqa: ARG002  # whatever is asked
        exchange.reply(UNSERVABLE, b"content-type: text/plain; charset=utf-8\r\n", self._reason)
