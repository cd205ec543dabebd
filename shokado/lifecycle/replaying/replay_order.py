"""What is replayed, how it is compared, and by which limits it is judged."""

from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class ReplayLimits:
    """What must not be exceeded; None: whatever it is.

    Attributes:
        difference: the mean absolute difference of scores, in the unit of `runners.artefacts.scores.differences_of`.
        disagreement: the share of rows with another label, or with values that differ.
        errors: the share of requests that the candidate does not answer.
        accuracy_loss: the accuracy of the versions that answered less the candidate's.
        p95_ms: the 95th percentile of the candidate's latency.
    """

    difference: float | None = None
    disagreement: float | None = None
    errors: float | None = None
    accuracy_loss: float | None = None
    p95_ms: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(getattr(self, each.name) is not None for each in fields(self))


@dataclass(frozen=True)
class ReplayOrder:
    """A replay.

    Attributes:
        since: when the requests that are replayed begin, in Unix seconds, and `until`: when they end, itself left out.
        version: whose requests; None: of all versions.
        by: features by whose values rows are told apart.
        most_rows: where the log has more, about so many are drawn.
        alpha: the chance at most with which an interval misses the true figure.
    """

    since: float
    until: float
    version: str | None = None
    by: tuple[str, ...] = ()
    most_rows: int = 20_000
    alpha: float = 0.05
    limits: ReplayLimits = field(default_factory=ReplayLimits)
