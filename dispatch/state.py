"""The routing state: who gets which share of the traffic, as one immutable value with a generation.

It is replaced whole, never changed, so every reader sees one generation or the other. Here it is made from the
configuration; stores that share it between workers and machines belong beside this file.
"""

from dataclasses import dataclass, field
from itertools import accumulate

from configuration.settings import Settings, Strategy


@dataclass(frozen=True, slots=True)
class Environment:
    """The routing of one environment: production, staging."""

    name: str
    active: str
    """Answers when the split is off or the assigned version is not ready."""
    weights: dict[str, float]
    """Shares of the traffic, relative to their sum; versions of weight 0 get none."""
    strategy: Strategy = Strategy.RANDOM
    enabled: bool = True
    thresholds: tuple[tuple[float, str], ...] = field(init=False)
    """(upper end of its slice of [0, 1], version), ascending; the last end is 1."""
    shares: dict[str, float] = field(init=False)
    """Part of the traffic, between 0 and 1, of each version that gets any."""

    def __post_init__(self) -> None:
        # In units of the largest, so that the sum of huge weights is a number.
        largest = max(self.weights.values())
        drawn = {version: weight / largest for version, weight in self.weights.items() if weight > 0}
        ends = list(accumulate(drawn.values()))
        thresholds = tuple((end / ends[-1], version) for end, version in zip(ends, drawn, strict=True))
        shares = {version: weight / ends[-1] for version, weight in drawn.items()}
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "shares", shares)


@dataclass(frozen=True, slots=True)
class RoutingState:
    generation: int
    environments: dict[str, Environment]
    default_environment: str


def initial_state(settings: Settings) -> RoutingState:
    """Generation 1: what the configuration says."""
    return RoutingState(
        generation=1,
        environments={
            name: Environment(name, spec.active, spec.weights, spec.strategy, spec.enabled)
            for name, spec in settings.environments.items()
        },
        default_environment=settings.default_environment,
    )
