"""A request that is arriving: what is known of its head, and what is here of its body."""

from shokado.dialects.problem import Problem, body_too_large
from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.heads import ExpressHead


class Arrival:
    """One request of the parser's, from its first byte to its last. One that is in the cache of heads needs none."""

    __slots__ = ("_judged", "_quota", "_reserved_bytes", "body", "express", "stalled_bytes")

    def __init__(self, quota: BodyQuota) -> None:
        """`quota` counts what is kept of the body until all of it is here."""
        self.express: ExpressHead | None = None
        """The request's head, once that is parsed, if the lane answers it."""
        self.body: bytes | bytearray = b""
        self.stalled_bytes = 0
        """How much has come since the parser last had something to report."""
        self._quota = quota
        self._reserved_bytes = 0
        self._judged = False
        """Whether the head was found to be admitted."""

    def add(self, body: bytes) -> None:
        """Put more of the body to what is here."""
        if self.body:
            # Not a list of parts: a chunk may be a single byte.
            self.body = self.body if isinstance(self.body, bytearray) else bytearray(self.body)
            self.body += body
        else:
            self.body = body

    def keep(self, express: ExpressHead, peer: str, max_body_bytes: int) -> Problem | None:
        """Keep what is here until more comes, if the head is admitted and there is room; else say why not."""
        problem = None
        if not self._judged:
            self._judged = True
            problem = judge(express, peer, max_body_bytes)
        more = len(self.body) - self._reserved_bytes
        if problem is None and (problem := self._quota.reserve(more)) is None:
            self._reserved_bytes += more
        return problem

    def drop_body(self) -> None:
        """Let go of the body, as it was answered, refused, or its client is gone."""
        self.body = b""
        if self._reserved_bytes:
            self._quota.release(self._reserved_bytes)
            self._reserved_bytes = 0


def judge(express: ExpressHead, peer: str, max_body_bytes: int) -> Problem | None:
    """What its head alone says against a request."""
    problem = express.handler.judge(express.head, peer)
    if problem is None and express.body_bytes > max_body_bytes:
        problem = body_too_large(max_body_bytes)
    return problem
