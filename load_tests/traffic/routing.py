"""What the split was, generation by generation, as `GET /v1/traffic-split/history` tells."""

from collections.abc import Iterable
from dataclasses import dataclass

from shokado.client.answers import EnvironmentContent, HistoryEntry


@dataclass(frozen=True)
class Generation:
    """A generation of one environment: the probability of each version, and whether a unit keeps its version."""

    shares: dict[str, float]
    sticky: bool


def generations_of(entries: Iterable[HistoryEntry], environment: str) -> dict[int, Generation]:
    """What a page of the history says of an environment, by generation."""
    return {entry.generation: _generation(entry.environments[environment]) for entry in entries}


def _generation(content: EnvironmentContent) -> Generation:
    if not content.enabled:
        return Generation({content.active: 1.0}, sticky=True)
    return Generation(dict(content.shares), content.strategy == "hash")
