"""The quota of request bodies that have not wholly arrived: how many bytes of them this process keeps at most.

Who is admitted may still send slowly, and from many connections at once. A body that comes in one piece with its head
is never counted: it is decoded at once.
"""

from shokado.dialects.problem import Problem


class BodyQuota:
    """Counts what all transports of a process keep of arriving bodies; make one per process."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, of all bodies together."""
        self.limit = limit
        self.reserved = 0

    def reserve(self, more: int) -> Problem | None:
        """Count `more` bytes of a body; the problem (503) if there is no room for them, which are then not counted."""
        if self.reserved + more > self.limit:
            message = f"{self.limit} bytes of request bodies are on their way already; try again later"
            return Problem("too_many_bodies", message, {"limit": self.limit})
        self.reserved += more
        return None

    def release(self, count: int) -> None:
        """Give back what was counted of a body that is here, or was refused."""
        self.reserved -= count
