"""Whole experiments as they are drawn to simulate verdicts: what was seen of two versions up to each look, as sums.

Fields of moments have the shape (stages, looks, experiments).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shokado.experiments.experiment_evidence import Sums
from shokado.experiments.moments import Moments

PER_LOOK = 100
"""Answers between two looks."""

Numbers = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class SeenVersions:
    """What was seen of two versions up to each look, by experiment: fields of shape (stages, looks, experiments)."""

    treated: Moments
    control: Moments


def of_answers(random: Random, experiments: int, rates: tuple[Numbers, Numbers], share: float = 0.5) -> SeenVersions:
    """Answers that are right or wrong; rates of the control and of the candidate, at each look."""
    looks = len(rates[0])
    given = random.binomial(PER_LOOK, share, (looks, experiments))
    counts = (PER_LOOK - given, given)
    sums = [random.binomial(number, rate[:, np.newaxis]) for number, rate in zip(counts, rates, strict=True)]
    control, treated = (
        Moments.of_events(up_to(events), up_to(trials)) for trials, events in zip(counts, sums, strict=True)
    )
    return SeenVersions(treated, control)


def of_numbers(experiments: int, draws: Callable[[tuple[int, ...]], Numbers], looks: int, share: float) -> SeenVersions:
    """Numbers without bounds, of one distribution for both versions."""
    given = round(PER_LOOK * share)
    sums = []
    for number in (PER_LOOK - given, given):
        total, squares = np.empty((looks, experiments)), np.empty((looks, experiments))
        for look in range(looks):
            values = draws((number, experiments))
            total[look], squares[look] = values.sum(axis=0), (values**2).sum(axis=0)
        sums.append(Moments(up_to(np.full((looks, experiments), float(number))), up_to(total), up_to(squares)))
    return SeenVersions(sums[1], sums[0])


def pairs_of_answers(random: Random, experiments: int, looks: int, won: float, lost: float) -> Moments:
    """Differences of a shadow from the control; shares of rows that it alone has right, and of those that that has."""
    drawn = random.multinomial(PER_LOOK, [won, lost, 1 - won - lost], size=(looks, experiments))
    return Moments(
        up_to(np.full((looks, experiments), float(PER_LOOK))),
        up_to(drawn[..., 0] - drawn[..., 1]),
        up_to(drawn[..., 0] + drawn[..., 1]),
    )


def nothing_beside(pairs: Moments) -> Moments:
    """A control that differs from itself by nothing."""
    return Moments(pairs.count, np.zeros(np.shape(pairs.total)), np.zeros(np.shape(pairs.squares)))


def up_to(parts: NDArray[Any]) -> Numbers:
    """Sums up to each look, as of one stage."""
    return np.asarray(np.cumsum(parts, axis=0, dtype=np.float64)[np.newaxis])


def steady(rate: float, looks: int) -> Numbers:
    return np.full(looks, rate)


def at_looks(seen: Sums, looks: slice) -> Sums:
    """What was seen at some of the looks."""
    return type(seen)(*(np.asarray(getattr(seen, one.name))[:, looks] for one in fields(seen)))


def over_looks(seen: Sequence[Sums], version: int) -> Sums:
    """What was seen of one version, of fields with the shape (experiments, versions) at each look."""
    names = [one.name for one in fields(seen[0])]
    return type(seen[0])(*(np.array([getattr(one, name)[:, version] for one in seen])[np.newaxis] for name in names))


def joined(stages: list[Moments]) -> Moments:
    """Stages that follow each other: a look has what was seen in it, and all of those before."""
    looks = sum(np.shape(stage.count)[1] for stage in stages)
    sums, begin = [np.zeros((len(stages), looks, np.shape(stages[0].count)[2])) for _ in range(3)], 0
    for at, stage in enumerate(stages):
        end = begin + np.shape(stage.count)[1]
        for whole, part in zip(sums, (stage.count, stage.total, stage.squares), strict=True):
            whole[at, begin:end] = np.asarray(part)[0]
            whole[at, end:] = np.asarray(part)[0, -1]
        begin = end
    return Moments(*sums)


def added_up(stages: Moments) -> Moments:
    """All stages together, as if there were none."""
    return Moments(*(np.sum(part, axis=0)[np.newaxis] for part in (stages.count, stages.total, stages.squares)))


def later(seen: Moments, looks: int) -> Moments:
    """What was seen so many looks ago."""
    shifted = []
    for part in (seen.count, seen.total, seen.squares):
        moved = np.zeros(np.shape(part))
        moved[:, looks:] = np.asarray(part)[:, :-looks]
        shifted.append(moved)
    return Moments(*shifted)


def come_late(seen: Moments, looks: int) -> Moments:
    """Successes of now, and failures of so many looks ago."""
    failures = later(Moments.of_events(seen.count - seen.total, seen.count), looks).total
    return Moments.of_events(seen.total, np.add(seen.total, failures))
