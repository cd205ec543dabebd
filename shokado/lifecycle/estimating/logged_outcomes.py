"""Logged outcomes: the requests of a log that were dealt out at random, with what became of them, for an estimate.

log --(window, environment)--> requests --(dealt out?)--> outcomes by feedback -> `DealtOutcomes`
                                    `--> left out, by reason
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configuration.experiment_policy import ExperimentMetric
from runners.artefacts.card import Card
from runners.artefacts.scores import UnfitLabel, absolute_error_of, positions_of, positions_said, squared_error_of
from shokado.dispatch.reason import STICKY
from shokado.experiments.off_policy import DealtOutcomes
from shokado.request_log.logged_rows import feedback_in, requests_in, unpacked
from shokado.request_log.records import DEALT, LoggedFeedback, LoggedRequest, LoggedRequests
from shokado.request_log.segments import Folder

NOT_DEALT = "not dealt out: they named a version, were not to be split, outside of a layer, or another version stood in"
NO_CHANCE = "written by a release that did not tell the chance"
NO_UNIT = "of units that the log does not have (log.unit: drop)"
TOO_YOUNG = "too young for their labels"
UNFIT = "with a label that says nothing of such a model"

Said = Mapping[str, Sequence[LoggedFeedback]]
"""What was said, by prediction id."""


@dataclass(frozen=True, slots=True)
class OutcomeOrder:
    """What is read of a log.

    Attributes:
        since: Unix seconds, of the answer.
        until: likewise, and before.
        environment: None: the one there is.
        label_delay_s: how long after the answer feedback counts, and how old answers must be at `until`; None: all.
    """

    metric: ExperimentMetric
    since: float
    until: float
    environment: str | None = None
    label_delay_s: float | None = None


@dataclass
class GenerationCounts:
    """What was dealt out by one split.

    Attributes:
        position: among `outcomes.splits`.
        generation: of the routing. A store that lost its last ones has two of the same number.
        shares: chances, by version.
        first_at: when the first of its requests was answered, in Unix seconds.
        last_at: the last one.
        requests: how many there are.
        draws: by version, how many draws there were, each where it was seen first.
        observed: of those, how many have an outcome.
    """

    position: int
    generation: int
    shares: Mapping[str, float]
    first_at: float
    last_at: float
    requests: int = 0
    draws: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)


@dataclass
class LoggedOutcomes:
    """What a window of a log tells.

    Attributes:
        generations: as they came, of which `outcomes.splits` has the shares.
        left_out: requests by why they do not count.
        models: by version, how many imports have answered under its name.
    """

    environment: str
    outcomes: DealtOutcomes
    generations: Sequence[GenerationCounts]
    left_out: Mapping[str, int]
    models: Mapping[str, int]


class SeveralEnvironments(Exception):
    """The window has requests of several environments, and none was named."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def outcomes_in(folder: Folder, order: OutcomeOrder) -> LoggedOutcomes:
    """Read the requests of a window, and what was said of them.

    Raises `SeveralEnvironments`, `SegmentDamaged`, and `OSError`.
    """
    said: defaultdict[str, list[LoggedFeedback]] = defaultdict(list)
    for one in feedback_in(folder):
        said[one.prediction_id].append(one)
    reading = _Reading(order, said)
    environments: set[str] = set()
    for logged, record in requests_in(folder, order.since, order.until):
        if order.environment in (None, record.environment):
            environments.add(record.environment)
            reading.add(logged.card, record)
    if len(environments) > 1:
        raise SeveralEnvironments(sorted(environments))
    return LoggedOutcomes(
        next(iter(environments), order.environment or ""),
        reading.outcomes(),
        list(reading.generations.values()),
        reading.left_out,
        {version: len(cards) for version, cards in reading.cards_of.items()},
    )


class _Reading:
    """Adds up the records of a window."""

    def __init__(self, order: OutcomeOrder, said: Said) -> None:
        self._order = order
        self._said = said
        self._cards: dict[bytes, Card] = {}
        self._draws: dict[tuple[str, str], int] = {}
        self._found: list[tuple[float, float, str, int, int]] = []
        """Each: when it was answered, the value, the version, the position of its split, and the draw."""
        self.generations: dict[tuple[int, tuple[tuple[str, float], ...]], GenerationCounts] = {}
        self.left_out: Counter[str] = Counter()
        self.cards_of: defaultdict[str, set[bytes]] = defaultdict(set)

    def add(self, logged_card: bytes, record: LoggedRequests) -> None:
        card = self._cards.get(logged_card)
        if card is None:
            card = self._cards[logged_card] = Card.model_validate_json(logged_card)
        self.cards_of[card.version].add(logged_card)
        scores: NDArray[Any] | None = None
        generation: GenerationCounts | None = None
        starts = accumulate((request.row_count for request in record.requests), initial=0)
        for request, start in zip(record.requests, starts, strict=False):
            if (reason := self._why_left_out(record, request)) is not None:
                self.left_out[reason] += 1
                continue
            said = self._in_time(record, request)
            if said and scores is None and self._order.metric is not ExperimentMetric.REWARD:
                _, scores = unpacked(card, record)
            values = list(self._values(card, request, scores, start, said))
            generation = generation or self._generation_of(record)
            self._count(generation, record.at, request, card.version, values)

    def outcomes(self) -> DealtOutcomes:
        """All observations, in their order in time."""
        found = sorted(self._found)
        return DealtOutcomes(
            values=np.array([value for _, value, *_ in found], dtype=np.float64),
            versions=np.array([version for _, _, version, _, _ in found], dtype=np.str_),
            splits=[one.shares for one in self.generations.values()],
            split=np.array([split for *_, split, _ in found], dtype=np.int64),
            draws=np.array([draw for *_, draw in found], dtype=np.int64),
            bounded=self._order.metric.bounded,
        )

    def _why_left_out(self, record: LoggedRequests, request: LoggedRequest) -> str | None:
        if request.reason not in DEALT:
            return NOT_DEALT
        if not record.shares:
            return NO_CHANCE
        if request.reason == STICKY and not request.unit:
            return NO_UNIT
        if record.at + (self._order.label_delay_s or 0.0) > self._order.until:
            return TOO_YOUNG
        return None

    def _in_time(self, record: LoggedRequests, request: LoggedRequest) -> list[LoggedFeedback]:
        delay_s = self._order.label_delay_s
        said = self._said.get(request.prediction_id, ())
        return [one for one in said if delay_s is None or one.at <= record.at + delay_s]

    def _values(
        self,
        card: Card,
        request: LoggedRequest,
        scores: NDArray[Any] | None,
        start: int,
        said: Sequence[LoggedFeedback],
    ) -> Iterator[float]:
        """What was observed of the request's rows."""
        for one in said:
            if self._order.metric is ExperimentMetric.REWARD:
                if one.reward is not None:
                    yield one.reward
            elif one.label is not None and scores is not None and one.index < request.row_count:
                try:
                    yield self._quality(card, scores[start + one.index], json.loads(one.label))
                except UnfitLabel:
                    self.left_out[UNFIT] += 1

    def _quality(self, card: Card, scores: Any, label: Any) -> float:
        """Raises `UnfitLabel`, also where the metric is not one of such a model."""
        metric = self._order.metric
        if (metric is ExperimentMetric.ACCURACY) != bool(card.classes):
            raise UnfitLabel(f"{metric} is not of a {card.task}")
        if metric is ExperimentMetric.ACCURACY:
            (position,) = positions_of(card.task, np.asarray(scores)[np.newaxis], card.positive_from).tolist()
            return float(np.atleast_1d(position).tolist() == positions_said(card, label))
        error_of = squared_error_of if metric is ExperimentMetric.SQUARED_ERROR else absolute_error_of
        return error_of(card, np.atleast_1d(scores).tolist(), label)

    def _generation_of(self, record: LoggedRequests) -> GenerationCounts:
        key = record.generation, tuple(record.shares.items())
        if key not in self.generations:
            position = len(self.generations)
            self.generations[key] = GenerationCounts(position, record.generation, record.shares, record.at, record.at)
        return self.generations[key]

    def _count(
        self, generation: GenerationCounts, at: float, request: LoggedRequest, version: str, values: list[float]
    ) -> None:
        generation.first_at, generation.last_at = min(generation.first_at, at), max(generation.last_at, at)
        generation.requests += 1
        drawn = (STICKY, request.unit) if request.reason == STICKY else ("", request.prediction_id)
        if drawn not in self._draws:
            self._draws[drawn] = len(self._draws)
            generation.draws[version] += 1
            generation.observed[version] += bool(values)
        draw = self._draws[drawn]
        self._found += [(at, value, version, generation.position, draw) for value in values]
