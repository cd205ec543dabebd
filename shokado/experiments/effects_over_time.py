"""How the effects of an experiment became what they are: what was known of each candidate by cohort after cohort. Pure.

Each point is of all that was predicted up to its time, as a look at that evidence would have told it. All of them are
one confidence sequence: the true effect lies within every one of them, but with the chance that the plan allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shokado.dispatch.experiment import Experiment
from shokado.experiments.agreement import Agreement, comparison_of_pairs
from shokado.experiments.comparisons import VersionComparison, compared
from shokado.experiments.experiment_evidence import StageEvidence, Sums, pairs_of, sums_of
from shokado.experiments.experiment_stages import policy_of, stages_of
from shokado.experiments.experiment_verdict import effect_alpha
from shokado.stores.evidence import CountedEvidence

MAX_POINTS = 60
"""Points of a curve: each costs as much as a look, and more are hardly told apart on a screen."""


@dataclass(frozen=True, slots=True)
class EffectCurve:
    """A candidate's mean less the control's at each time; None where nothing can be said."""

    estimate: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    observations: tuple[int, ...]
    """How many the candidate has, up to each time."""


@dataclass(frozen=True, slots=True)
class EffectsOverTime:
    """The curves of all candidates."""

    at: tuple[float, ...]
    """Unix seconds, ascending: what was predicted before counts."""
    candidates: dict[str, EffectCurve]


def effects_over_time(experiment: Experiment, evidence: CountedEvidence, before: float, now: float) -> EffectsOverTime:
    """The effects at the ends of cohorts, at most `MAX_POINTS` of them; the last one is that of now.

    Args:
        experiment: whose evidence it is.
        evidence: all that was counted for it.
        before: when cohorts must have begun to be looked at, in Unix seconds.
        now: in Unix seconds; a cohort that is not over ends then.
    """
    cohorts = sorted({of.cohort for of in evidence.rows if of.cohort < before})
    ends = _some_of([cohort + experiment.plan.cohort_s for cohort in cohorts])
    if not ends:
        return EffectsOverTime((), {candidate: EffectCurve((), (), (), ()) for candidate in experiment.candidates})
    seen = [evidence.before(end) for end in ends]
    # A sample that was halved since has less of the error rate, at all times that it is looked at for.
    policy = policy_of(experiment.plan, seen[-1])
    looks = [stages_of(experiment, gathered, gathered) or [StageEvidence({}, {})] for gathered in seen]
    alpha = effect_alpha(policy, len(experiment.candidates))
    curves = {
        candidate: _curve(experiment, candidate, looks, alpha, policy.smallest_effect)
        for candidate in experiment.candidates
    }
    return EffectsOverTime(tuple(min(float(end), now) for end in ends), curves)


def _some_of(ends: Sequence[int]) -> list[int]:
    """As many as are told, evenly, with the last one."""
    if len(ends) <= MAX_POINTS:
        return list(ends)
    return [ends[round(index)] for index in np.linspace(0, len(ends) - 1, MAX_POINTS)]


def _curve(
    experiment: Experiment,
    candidate: str,
    looks: Sequence[Sequence[StageEvidence]],
    alpha: float,
    resolution: float,
) -> EffectCurve:
    metric = experiment.plan.metric
    comparison: VersionComparison | Agreement
    if pairs_of(candidate, looks[-1]) is not None:
        observed = _side_by_side(looks, lambda stages: pairs_of(candidate, stages))
        comparison = comparison_of_pairs(metric, observed)
    else:
        observed = _side_by_side(looks, lambda stages: sums_of(metric, candidate, stages))
        control = _side_by_side(looks, lambda stages: sums_of(metric, experiment.control, stages))
        comparison = compared(observed, control, bounded=metric.bounded)
    low, high = comparison.bounds(alpha, resolution)
    counts = np.sum(np.asarray(observed.count), axis=0)
    return EffectCurve(
        _finite(comparison.estimate), _finite(low), _finite(high), tuple(round(count) for count in counts.tolist())
    )


def _side_by_side(
    looks: Sequence[Sequence[StageEvidence]], sums: Callable[[Sequence[StageEvidence]], Sums | None]
) -> Sums:
    """The sums of all looks, with fields of shape (stages, looks)."""
    found: list[Any] = [sums(stages) for stages in looks]
    kind: type[Sums] = type(found[-1])
    nothing = np.zeros(len(looks[-1]))
    columns = [
        np.stack([nothing if one is None else getattr(one, name.name) for one in found], axis=-1)
        for name in fields(kind)
    ]
    return kind(*columns)


def _finite(numbers: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(number if np.isfinite(number) else None for number in numbers.tolist())
