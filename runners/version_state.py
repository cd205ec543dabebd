"""The state of a version in one process: what may be asked of it, and what it may become."""

from enum import StrEnum


class VersionState(StrEnum):
    """What one worker may do with a version, from its first word of it to the last.

    LOADING, UNLOADED --> STARTING --> READY <--> AWAY    READY or AWAY --> DRAINING --> CLOSED
                             `-------> FAILED
    """

    LOADING = "loading"
    """A candidate, which is no version before all workers have it."""
    UNLOADED = "unloaded"
    """It is known, but not in memory."""
    STARTING = "starting"
    READY = "ready"
    """The only one in which it gets requests."""
    AWAY = "away"
    """It does not answer, and comes back by itself: others answer in its place meanwhile."""
    DRAINING = "draining"
    """It answers what it has, and takes nothing more."""
    CLOSED = "closed"
    FAILED = "failed"
    """It cannot be served, and says why. What is elsewhere may be mended there, and come back."""

    @property
    def word(self) -> str:
        """What the Open Inference Protocol's model repository calls it; the words are Triton's."""
        return _WORDS.get(self, "UNAVAILABLE")

    def is_excused(self, *, elsewhere: bool) -> bool:
        """Whether a worker may be ready although a version with traffic, but not the active one, is in this state.

        What is away comes back by itself, and what failed `elsewhere`, in no process of the worker's own, may be mended
        there: one canary elsewhere must not take every server out of its load balancer.
        """
        return self is VersionState.AWAY or (elsewhere and self is VersionState.FAILED)

    def may_become(self, other: "VersionState") -> bool:
        """Whether a runner that is in this state may be in that one next."""
        return other is self or other in _NEXT[self]


# Bound here, as each request asks for it: an enum's members are found through its metaclass.
READY = VersionState.READY
READY_SOON = frozenset({VersionState.STARTING, VersionState.READY})
"""A worker that has a version so is no reason to keep traffic from it: new workers come all the time."""
_WORDS = {
    VersionState.LOADING: "LOADING",
    VersionState.STARTING: "LOADING",
    VersionState.READY: "READY",
    VersionState.DRAINING: "UNLOADING",
}
_NEXT: dict[VersionState, frozenset[VersionState]] = {
    VersionState.LOADING: frozenset({VersionState.STARTING}),
    VersionState.UNLOADED: frozenset({VersionState.STARTING}),
    VersionState.STARTING: frozenset({VersionState.READY, VersionState.AWAY, VersionState.FAILED, VersionState.CLOSED}),
    VersionState.READY: frozenset({VersionState.AWAY, VersionState.DRAINING}),
    VersionState.AWAY: frozenset({VersionState.READY, VersionState.FAILED, VersionState.DRAINING, VersionState.CLOSED}),
    VersionState.FAILED: frozenset({VersionState.READY, VersionState.AWAY, VersionState.DRAINING, VersionState.CLOSED}),
    VersionState.DRAINING: frozenset({VersionState.CLOSED}),
    VersionState.CLOSED: frozenset(),
}
