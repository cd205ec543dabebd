"""Guardrails: whether a candidate does for sure what it must not do, however often one looks. Pure.

A limit is tested by the one-sided beta-binomial mixture, which is exact at any number of requests, also for a share
that changes over time; a margin by the one-sided test of the difference to the control (see `comparisons`). Two tests
of one guardrail share its alpha.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from configuration.experiment_policy import ExperimentMetric, Guardrail
from shokado.experiments.comparisons import compared, compared_in_pairs
from shokado.experiments.experiment_evidence import StageEvidence, sums_of
from shokado.experiments.mixtures import beta_log_e_above
from shokado.experiments.moments import Moments


class GuardrailState(StrEnum):
    """What is to be said of one guardrail."""

    BROKEN = "broken"
    """The candidate is beyond it for sure."""
    BEYOND = "beyond"
    """It was observed beyond it, which may be chance."""
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class GuardrailFinding:
    """One guardrail of one candidate; `text` is for people."""

    metric: ExperimentMetric
    state: GuardrailState
    p_value: float
    """The chance that it ever looks as bad as this, where it is kept; 1 where nothing can be said."""
    text: str


@dataclass(frozen=True, slots=True)
class _Tested:
    beyond: bool
    p_value: float
    text: str


def guardrail_finding(
    guardrail: Guardrail, control: str, candidate: str, stages: Sequence[StageEvidence], alpha: float
) -> GuardrailFinding:
    """Judge one guardrail of one candidate.

    Args:
        guardrail: what it must not do.
        control: the version it is compared with.
        candidate: the version it is about.
        stages: what was seen, in order.
        alpha: the chance at most with which it is ever found broken where it is kept.
    """
    both = guardrail.limit is not None and guardrail.margin is not None
    part = alpha / 2 if both else alpha
    tests = []
    if guardrail.limit is not None:
        tests.append(_against_limit(guardrail.metric, guardrail.limit, candidate, stages, part))
    if guardrail.margin is not None:
        tests.append(_against_control(guardrail.metric, guardrail.margin, control, candidate, stages, part))
    p_value = min(test.p_value for test in tests) * len(tests)
    state = GuardrailState.BEYOND if any(test.beyond for test in tests) else GuardrailState.KEPT
    if p_value <= alpha:
        state = GuardrailState.BROKEN
    return GuardrailFinding(guardrail.metric, state, min(p_value, 1.0), "; ".join(test.text for test in tests))


def _against_limit(
    metric: ExperimentMetric, limit: float, candidate: str, stages: Sequence[StageEvidence], alpha: float
) -> _Tested:
    observed = sums_of(metric, candidate, stages)
    count, total = (float(np.sum(part)) for part in (observed.count, observed.total))
    text = f"{metric} {total / count if count else 0:.4g} of {count:,.0f} (at most {limit:g})"
    if isinstance(observed, Moments):
        p_value = math.exp(-max(float(beta_log_e_above(total, count - total, limit)), 0.0))
    else:
        mean = compared_in_pairs(observed, answers=False)
        p_value = float(mean.p_value_above(alpha, resolution=limit, effect=limit))
    return _Tested(total > limit * count, p_value, text)


def _against_control(
    metric: ExperimentMetric,
    margin: float,
    control: str,
    candidate: str,
    stages: Sequence[StageEvidence],
    alpha: float,
) -> _Tested:
    ours, theirs = (sums_of(metric, version, stages) for version in (candidate, control))
    better, worse = (theirs, ours) if not metric.higher_is_better else (ours, theirs)
    excess = compared(worse, better, bounded=metric.bounded)
    by, at_least = float(excess.estimate), float(excess.at_least(alpha, resolution=margin))
    text = f"{metric} not compared yet"
    if math.isfinite(by):
        surely = f", and surely by {at_least:.4g}," if at_least > 0 else ""
        text = f"{metric} worse by {by:.4g}{surely} (at most {margin:g})"
    return _Tested(by > margin, float(excess.p_value_above(alpha, resolution=margin, effect=margin)), text)
