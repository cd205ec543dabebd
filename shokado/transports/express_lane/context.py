"""What all connections of a process share: their routes and limits, and what is counted over all of them."""

from collections.abc import Callable
from dataclasses import dataclass

from shokado.dialects.problem import Problem
from shokado.transports.body_quota import BodyQuota
from shokado.transports.exchange import Exchange, new_id, reply_problem
from shokado.transports.express_lane.draining import Drain
from shokado.transports.express_lane.heads import HeadCache
from shokado.transports.loop_budget import LoopBudget
from shokado.transports.routes import Routes

DRAIN_S = 1.0
"""Seconds that an idle connection is kept at least when the server stops: a request may be on its way to it."""

RefuseHead = Callable[[Exchange, bytes, Problem], None]
"""Answers a request whose head is refused, or what is none; told its path, empty where it was not read."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one connection, and of their number."""

    max_body_bytes: int
    max_header_bytes: int
    idle_s: float = 75.0
    """How long a connection may rest between requests."""
    request_s: float = 30.0
    """How long a request may take from its first byte to its last, and how long an answer may find no taker."""
    max_connections: int = 10_000
    """Connections of this process."""
    drain_s: float | None = DRAIN_S
    """How long an idle connection is kept at least when the server stops; `None`: until the client closes it."""
    spread_s: float = 0.0
    """Within which time after that the idle connections are closed, one after the other."""
    max_age_s: float | None = None
    """Age after which a connection's next answer is its last, give or take a fifth; not of clients on this machine."""
    left_headers: frozenset[bytes] = frozenset()
    """Names of headers, in lower case, whose requests are left to uvicorn."""


def refuse_plainly(exchange: Exchange, _path: bytes, problem: Problem) -> None:
    """Refuse a head in the shape of the native dialect's errors, whatever it asks for."""
    reply_problem(exchange, problem, new_id())


class LaneContext:
    """The context of the connections of one process."""

    def __init__(
        self, routes: Routes, limits: LaneLimits, body_quota: BodyQuota, refuse_head: RefuseHead = refuse_plainly
    ) -> None:
        self.routes = routes
        self.limits = limits
        self.body_quota = body_quota
        self.refuse_head = refuse_head
        self.heads = HeadCache()
        self.budget = LoopBudget()
        self.drain = Drain(limits.drain_s or 0, limits.spread_s)
        self.retiring = False
        """Whether the next answer of every connection, also of those to come, is its last."""
