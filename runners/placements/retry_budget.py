"""The retry budget: how many calls may be sent once more, so that retries never become the load that breaks a server.

Pure. The idea is Finagle's and Envoy's: retries are a share of the calls, and so stop by themselves when all fail.
"""

SHARE = 0.2
"""Retries per call, in the long run: so few that they do not break a server that is in trouble."""
RESERVE = 5.0
"""Retries that may be saved up; as many are there at the beginning."""


class RetryBudget:
    """A budget into which each call pays a part of a retry."""

    def __init__(self, share: float = SHARE, reserve: float = RESERVE) -> None:
        self._share = share
        self._reserve = self._left = reserve

    def pay_in(self) -> None:
        self._left = min(self._reserve, self._left + self._share)

    def take(self) -> bool:
        """Whether a retry may be made now."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
