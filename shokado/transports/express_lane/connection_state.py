"""The state of a connection: what becomes of its next request."""

from enum import StrEnum


class ConnectionState(StrEnum):
    """How far a connection is, between its beginning and its last answer.

    OPEN --> RETIRING --> DRAINING --> ENDING     Any of them may be left out, and none is come back to.
    """

    OPEN = "open"
    """Requests are answered, and the connection is kept."""
    RETIRING = "retiring"
    """The next request that begins gets the last answer, which says so."""
    DRAINING = "draining"
    """As RETIRING; and the connection is closed once nothing is under way, as the server stops."""
    ENDING = "ending"
    """No further request is answered: the last answer is under way, or written. What still arrives is dropped."""

    def may_become(self, other: "ConnectionState") -> bool:
        """Whether a connection that is in this state may be in that one next."""
        return other is self or other in _NEXT[self]


_NEXT: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.OPEN: frozenset({ConnectionState.RETIRING, ConnectionState.DRAINING, ConnectionState.ENDING}),
    ConnectionState.RETIRING: frozenset({ConnectionState.DRAINING, ConnectionState.ENDING}),
    ConnectionState.DRAINING: frozenset({ConnectionState.ENDING}),
    ConnectionState.ENDING: frozenset(),
}
