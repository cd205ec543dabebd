"""What the split was, generation by generation, as `GET /v1/traffic-split/history` tells."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Generation:
    """Of one environment: the probability of each version, and whether a unit keeps its version."""

    shares: dict[str, float]
    sticky: bool


class NotAHistory(Exception):
    """What came is no history."""


class _Content(msgspec.Struct):
    active: str
    shares: dict[str, float]
    strategy: str
    enabled: bool


class _Entry(msgspec.Struct):
    generation: int
    environments: dict[str, _Content]


class _History(msgspec.Struct):
    entries: list[_Entry]


def read_history(body: bytes, environment: str) -> dict[int, Generation]:
    """By number, the generations of a page of the history. Raises `NotAHistory`."""
    try:
        entries = msgspec.json.decode(body, type=_History).entries
    except msgspec.MsgspecError as error:
        raise NotAHistory(str(error)) from error
    return {entry.generation: _generation(entry.environments[environment]) for entry in entries}


def _generation(content: _Content) -> Generation:
    if not content.enabled:
        return Generation({content.active: 1.0}, sticky=True)
    return Generation(content.shares, content.strategy == "hash")
