"""How many bytes of bodies this process keeps that have not wholly arrived: what is counted here is bounded.

Who is admitted may still send slowly, and from many connections at once. A body that comes in one piece with its head
is never counted: it is decoded at once.
"""

from shokado.dialects.problem import Problem


class Receiving:
    """Make one per process; every door counts what it keeps."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, of all bodies together."""
        self.limit = limit
        self.kept = 0

    def keep(self, more: int) -> Problem | None:
        """Count `more` bytes of a body; the problem (503) if there is no room for them, which are then not counted."""
        if self.kept + more > self.limit:
            message = f"{self.limit} bytes of request bodies are on their way already; try again later"
            return Problem(503, "too_many_bodies", message, {"limit": self.limit}, retry_after_s=1)
        self.kept += more
        return None

    def let_go(self, count: int) -> None:
        """Give back what was counted of a body that is here, or was refused."""
        self.kept -= count
