"""Known answers: rows of a version, and what it must answer for them.

In: a running server, and the model store of this machine. Out: all rows of the version's card where the store here has
its artefact, by digest, and else the two that the server itself tells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runners.artefacts import repository
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card
from runners.artefacts.scores import tolerance_of
from shokado.client import operations
from shokado.client.answers import Version
from shokado.lifecycle.errors import SmokeTestRefused
from shokado.lifecycle.rollout.gateway_client import GatewayClient

ROUNDING = 1e-6
"""Share of a score that its way through float32 may take."""


@dataclass(frozen=True)
class KnownAnswers:
    """Rows by feature name, their predictions, and by how much those may differ, for each number of a prediction."""

    rows: Sequence[Mapping[str, Any]]
    predictions: Sequence[Any]
    tolerance: Sequence[float]
    told_by: str
    """Who says so, in words."""

    def largest_difference(self, answered: Sequence[Any]) -> float:
        """The largest distance of numbers from what they must be, in units of what they may differ: 1 is just allowed.

        It is infinite where they are not alike at all.
        """
        if len(answered) != len(self.predictions):
            return math.inf
        return max(self._difference(one, must) for one, must in zip(answered, self.predictions, strict=True))

    def _difference(self, answered: Any, must: Any) -> float:
        found, expected = _numbers(answered), _numbers(must)
        if len(found) != len(expected):
            return math.inf
        allowed = [*self.tolerance] if len(self.tolerance) == len(expected) else [max(self.tolerance)] * len(expected)
        parts = [
            abs(one - other) / (most + ROUNDING * abs(other))
            for one, other, most in zip(found, expected, allowed, strict=True)
        ]
        return max((math.inf if math.isnan(part) else part for part in parts), default=math.inf)


def known_answers(gateway: GatewayClient, version: Version) -> KnownAnswers:
    """Those of a version as the server lists it. Raises `SmokeTestRefused` where nobody knows them."""
    stored = _stored(version)
    if stored is not None:
        return _of_card(stored.card)
    told = gateway.ask(operations.examples(version.version))
    if told.predictions is None:
        raise SmokeTestRefused(
            f"What version {version.version} must answer is known neither to the server nor to the model store here."
        )
    return KnownAnswers(told.rows, told.predictions, told.tolerance, "the server's card")


def _stored(version: Version) -> Artefact | None:
    """The same artefact in the store of this machine."""
    found = repository.artefacts(version.model) if version.model else []
    return next((one for one in found if isinstance(one, Artefact) and one.digest == version.digest), None)


def _of_card(card: Card) -> KnownAnswers:
    rows = [card.row_format.named(row) for row in card.examples.rows]
    tolerance = tolerance_of(card, 0.0).reshape(-1).tolist()
    return KnownAnswers(rows, card.examples.scores, tolerance, "the card in the model store here")


def _numbers(prediction: Any) -> list[float]:
    return [float(one) for one in prediction] if isinstance(prediction, list | tuple) else [float(prediction)]
