"""Feedback: what became of a prediction, joined to the version that made it.

In: labels and rewards with the ids of their predictions. Out: a ruling on each, and for the good ones a settlement,
which adds to the version's tallies (`shokado.experiments.figures.Counted`), and to the evidence of an experiment, once,
however often it arrives.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from configuration.experiment_policy import ExperimentMetric
from runners.artefacts.card import Card
from runners.artefacts.scores import (
    Label,
    UnfitLabel,
    absolute_error_of,
    is_right,
    outcomes_per_row,
    said_by,
    squared_error_of,
)
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.experiments.experiment_counts import MAX_LABELLED_UNITS, labelled_scope, one_observation
from shokado.experiments.figures import Counted, Tallies
from shokado.experiments.pair_evidence import paired_label
from shokado.experiments.prediction_id import BadPredictionId, IdFault, PredictionIds, Provenance, carried_rows
from shokado.experiments.segment_counts import NO_SEGMENTS, Segmenting, UnknownSegment, segment_counts
from shokado.stores.evidence import Evidence, Sighting
from shokado.stores.follower import Follower
from shokado.stores.store import Settlement, StoreUnavailable, Tally

_CLOCKS_APART_S = 3600.0
"""How far the clocks of two machines may differ before one takes what the other has forgotten."""
_SLICE = 64
"""Entries that are joined in one go: about a millisecond."""
_REFUSED_PREFIX = "feedback_"
_MAX_LOOKS = 40
"""Four times as many as it takes when the store does not lose anything meanwhile."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """One entry as it was received; a label, a reward, or both."""

    prediction_id: str
    index: int = 0
    """The row's position in its request."""
    label: Label | None = None
    """What would have been right: a class, the value of a regression, or several of either, by name or in order."""
    reward: float | None = None
    """How well it went, from 0 to 1; a conversion is 1."""
    segments: Mapping[str, Any] = field(default_factory=dict)
    """Levels of the row by features that no version takes."""


class FeedbackStatus(StrEnum):
    """What became of an entry."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    FORGED = "forged"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """The version is not known any more, or the request had no such row."""
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Ruling:
    status: FeedbackStatus
    reason: str = ""
    """Why it was not accepted, for people; empty when it was."""
    version: str = ""
    """The version that made the prediction, as far as it is known."""
    settlement: Settlement | None = None
    """What is to be counted of an entry that can be accepted."""


_FAULTS = {
    IdFault.MALFORMED: FeedbackStatus.MALFORMED,
    IdFault.FORGED: FeedbackStatus.FORGED,
    IdFault.EXPIRED: FeedbackStatus.EXPIRED,
}
_OBSERVED = {
    ExperimentMetric.REWARD: Counted.REWARD_SUM,
    ExperimentMetric.ACCURACY: Counted.CORRECT,
    ExperimentMetric.SQUARED_ERROR: Counted.SQUARED_ERROR,
}
"""Under which name one entry's value of a metric is counted in any case."""
_DUPLICATE = "feedback for this row of this prediction was counted before"


class _Unfit(Exception):
    """There is no label or reward that could be counted; the message says why."""


class FeedbackCollector:
    """Takes feedback on behalf of one worker. Methods belong to the event loop."""

    def __init__(
        self,
        follower: Follower,
        ids: PredictionIds,
        cards: Callable[[], Mapping[str, Card]],
        max_age_s: float,
        look_again: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
        accepted: Callable[[str, int, Label | None, float | None], None] | None = None,
        segmenting: Segmenting | None = None,
    ) -> None:
        """`cards` gives those of all versions that are known now; `max_age_s` is that of `ids`.

        `look_again` is awaited where an id seems forged: see `shokado.experiments.seals.Seals`. `accepted` is told of
        each entry that counts: id, index, label and reward. `segmenting` finds the levels that rows are told apart by.
        """
        self._follower = follower
        self._ids = ids
        self._cards = cards
        self._max_age_s = max_age_s
        self._clock = clock
        self._look_again = look_again
        self._accepted = accepted
        self._segmenting = segmenting or NO_SEGMENTS

    async def take(self, entries: Sequence[Feedback]) -> list[Ruling]:
        """Count what can be counted, once; a ruling for each entry, in order.

        Raises `StoreUnavailable`: then it is not known whether anything was counted, and all may be sent again.
        """
        now = self._clock()
        rulings = await self._join_all(entries, now)
        await self._reconsider(entries, rulings, now)
        settlements = [ruling.settlement for ruling in rulings if ruling.settlement is not None]
        if settlements:
            counted = iter(await self._follower.ask(self._follower.store.settle, settlements, now))
            rulings = [
                Ruling(FeedbackStatus.DUPLICATE, _DUPLICATE, ruling.version)
                if ruling.settlement is not None and not next(counted)
                else ruling
                for ruling in rulings
            ]
        if self._accepted is not None:
            for entry, ruling in zip(entries, rulings, strict=True):
                if ruling.status is FeedbackStatus.ACCEPTED:
                    self._accepted(entry.prediction_id, entry.index, entry.label, entry.reward)
        await self._count_refused(rulings, now)
        return rulings

    async def _join_all(self, entries: Sequence[Feedback], now: float) -> list[Ruling]:
        rulings: list[Ruling] = []
        for start in range(0, len(entries), _SLICE):
            cards, state = self._cards(), self._follower.state
            running = state.running if state is not None else {}
            rulings += (
                join(entry, self._ids.read, cards, now, self._max_age_s, running, self._segmenting)
                for entry in entries[start : start + _SLICE]
            )
            # A long list must not hold up predictions.
            await asyncio.sleep(0)
        return rulings

    async def _reconsider(self, entries: Sequence[Feedback], rulings: list[Ruling], now: float) -> None:
        """Rule again on what seems forged, until it is known of every secret that others make ids with."""
        for _ in range(_MAX_LOOKS):
            forged = [position for position, ruling in enumerate(rulings) if ruling.status is FeedbackStatus.FORGED]
            if not forged:
                return
            complete = await self._look_again()
            again = await self._join_all([entries[position] for position in forged], now)
            for position, ruling in zip(forged, again, strict=True):
                rulings[position] = ruling
            if complete:
                return
        raise StoreUnavailable("the store keeps losing what tells real ids from forged ones")

    async def _count_refused(self, rulings: Sequence[Ruling], now: float) -> None:
        """Count the refused in the store, where all workers' are seen together; a failure is not worth an error."""
        numbers = Counter(
            (ruling.version, ruling.status) for ruling in rulings if ruling.status is not FeedbackStatus.ACCEPTED
        )
        if numbers:
            counts = {
                Tally(version, "", _REFUSED_PREFIX + status): number for (version, status), number in numbers.items()
            }
            with contextlib.suppress(StoreUnavailable):
                await self._follower.ask(self._follower.store.add, counts, now)


def refused(tallies: Tallies) -> dict[FeedbackStatus, int]:
    """How many entries were not accepted, by status."""
    sums: dict[FeedbackStatus, int] = {status: 0 for status in FeedbackStatus if status is not FeedbackStatus.ACCEPTED}
    names = {_REFUSED_PREFIX + status: status for status in sums}
    for (_, tally), value in tallies.items():
        if tally.name in names:
            sums[names[tally.name]] += round(value)
    return sums


def join(
    entry: Feedback,
    read: Callable[[str], Provenance],
    cards: Mapping[str, Card],
    now: float,
    max_age_s: float,
    experiments: Mapping[str, Experiment] = MappingProxyType({}),
    segmenting: Segmenting = NO_SEGMENTS,
) -> Ruling:
    """Rule on one entry: `ACCEPTED` with a settlement, which may still turn out to be known already, or refused.

    `read` raises `BadPredictionId`; `now` is in Unix seconds; `experiments` are those under way, by environment.
    """
    try:
        origin = read(entry.prediction_id)
    except BadPredictionId as error:
        return Ruling(_FAULTS[error.fault], str(error))
    card = cards.get(origin.version)
    if card is None:
        reason = f"the prediction was made by version {origin.version}, which is not known here any more"
        return Ruling(FeedbackStatus.UNKNOWN, reason)
    if not 0 <= entry.index < origin.row_count:
        reason = f"the request had {origin.row_count} rows, counted from 0; there is no row {entry.index}"
        return Ruling(FeedbackStatus.UNKNOWN, reason, origin.version)
    try:
        observed = _observed(entry, origin, card)
        levels = segmenting.levels(card, origin.levels, entry.index, entry.segments)
        experiment = experiments.get(origin.environment)
        stage = _stage_of(origin, experiment, now)
        sightings: tuple[Sighting, ...] = ()
        paired = None
        if experiment is not None and stage is not None:
            values = _values(entry, origin, card, observed)
            if not experiment.is_shadowed:
                sightings = _sightings(experiment, stage, origin, values, levels)
            elif entry.label is not None and (control := values.get(experiment.plan.metric)) is not None:
                said = said_by(card, entry.label)
                paired = paired_label(experiment, stage, origin, entry.index, control, said, now)
    except (_Unfit, UnfitLabel, UnknownSegment) as unfit:
        return Ruling(FeedbackStatus.INVALID, str(unfit), origin.version)
    observed |= {Counted.FEEDBACK: 1, Counted.DELAY_S: max(now - origin.at, 0.0)}
    outcomes = _outcomes(entry.index, origin, card) if levels and entry.label is not None else ()
    settlement = Settlement(
        key=f"{origin.key}:{entry.index}",
        expires_at=origin.at + max_age_s + _CLOCKS_APART_S,
        counts={Tally(origin.version, origin.environment, name): value for name, value in observed.items()},
        sightings=sightings,
        paired=paired,
        levels=segment_counts(card, origin.version, levels, outcomes, entry.label, observed) if levels else {},
    )
    return Ruling(FeedbackStatus.ACCEPTED, version=origin.version, settlement=settlement)


def _observed(entry: Feedback, origin: Provenance, card: Card) -> dict[Counted, float]:
    """What the entry adds to the version's counts. Raises `_Unfit` and `UnfitLabel`."""
    observed: dict[Counted, float] = {}
    if entry.label is None and entry.reward is None:
        raise _Unfit("neither a label nor a reward is given")
    if entry.reward is not None:
        # Also refuses what is not a number.
        if not 0 <= entry.reward <= 1:
            raise _Unfit(f"the reward is {entry.reward!r}; rewards are numbers from 0 to 1")
        observed |= {Counted.REWARDS: 1, Counted.REWARD_SUM: float(entry.reward)}
    if entry.label is not None:
        outcomes = _outcomes(entry.index, origin, card)
        if card.classes:
            correct = is_right(card, outcomes, entry.label)
            observed |= {Counted.CLASS_LABELS: 1, Counted.CORRECT: float(correct)}
        else:
            squared = squared_error_of(card, outcomes, entry.label)
            observed |= {Counted.VALUE_LABELS: 1, Counted.SQUARED_ERROR: squared}
            observed |= {Counted.SQUARED_ERROR_SQUARED: squared**2}
    return observed


def _stage_of(origin: Provenance, experiment: Experiment | None, now: float) -> ExperimentStage | None:
    """The stage that feedback of now counts in: that of its prediction, if that was of a unit of the split, in time."""
    if experiment is None or not origin.unit or now - origin.at > experiment.plan.label_delay_s:
        return None
    return experiment.stage_of(origin.generation)


def _sightings(
    experiment: Experiment,
    stage: ExperimentStage,
    origin: Provenance,
    values: Mapping[ExperimentMetric, float],
    levels: Mapping[str, str],
) -> tuple[Sighting, ...]:
    """What the values of an entry say for an experiment of the split, and for its guardrails of the row's segments."""
    cohort, plan = experiment.cohort_of(origin.at), experiment.plan
    rows = {metric: [one.rows for one in plan.guardrails if one.metric is metric and one.rows] for metric in values}
    return tuple(
        Sighting(
            experiment.id,
            labelled_scope(metric),
            origin.unit,
            MAX_LABELLED_UNITS,
            {
                Evidence(stage.generation, origin.version, cohort, name): number
                for name, number in one_observation(
                    metric, value, [of for of in rows[metric] if levels.get(of[0]) == of[1]]
                ).items()
            },
        )
        for metric, value in values.items()
        if metric in plan.metrics
    )


def _values(
    entry: Feedback, origin: Provenance, card: Card, observed: Mapping[Counted, float]
) -> dict[ExperimentMetric, float]:
    """The observation of each metric."""
    values = {metric: observed[counted] for metric, counted in _OBSERVED.items() if counted in observed}
    if entry.label is not None and not card.classes:
        outcomes = _outcomes(entry.index, origin, card)
        values[ExperimentMetric.ABSOLUTE_ERROR] = absolute_error_of(card, outcomes, entry.label)
    return values


def _outcomes(index: int, origin: Provenance, card: Card) -> tuple[float, ...]:
    """What the id carries of a row. Raises `_Unfit` where that is nothing."""
    per_row, rows = outcomes_per_row(card), carried_rows(card)
    outcomes = origin.outcomes[index * per_row : (index + 1) * per_row]
    if len(outcomes) < per_row:
        several = f"{len(card.outputs)} {'labels' if card.classes else 'values'}"
        which = f"the first {rows} rows of a request" if rows else f"no row of {several}"
        raise _Unfit(f"labels can be joined to {which}; send a reward instead")
    return outcomes
