"""Guardrails: whether a candidate does for sure what it must not do, or surely does not, however often one looks. Pure.

A limit is tested by the one-sided beta-binomial mixture, which is exact at any number of requests, also for a share
that changes over time; a margin by the one-sided test of the difference to the control (see `comparisons`). Two tests
of one guardrail share its alpha.

Whether it is kept is asked by the same tests from the other side, as of non-inferiority. A candidate has to pass all
of them, and one that it does not keep is enough to be found out, so each may have the whole rate of wrong promotions
(R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982: intersection-union
tests).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configuration.experiment_policy import ExperimentMetric, Guardrail
from shokado.experiments.comparisons import compared, compared_in_pairs
from shokado.experiments.experiment_evidence import StageEvidence, sums_of
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.mixtures import beta_log_e_above
from shokado.experiments.moments import Moments


@dataclass(frozen=True, slots=True)
class GuardrailFinding:
    """One guardrail of one candidate; `text` is for people."""

    metric: ExperimentMetric
    state: GuardrailState
    p_value: float
    """The chance that it ever looks as bad as this, where it is kept; 1 where nothing can be said."""
    text: str
    by: str | None = None
    level: str | None = None
    """Which feature and level its rows have; None where it is about all rows."""


@dataclass(frozen=True, slots=True)
class _Tested:
    beyond: bool
    kept: bool
    p_value: float
    text: str


def guardrail_finding(
    guardrail: Guardrail,
    control: str,
    candidate: str,
    stages: Sequence[StageEvidence],
    alpha: float,
    kept_alpha: float,
) -> GuardrailFinding:
    """Judge one guardrail of one candidate.

    Args:
        guardrail: what it must not do.
        control: the version it is compared with.
        candidate: the version it is about.
        stages: what was seen, in order.
        alpha: the chance at most with which it is ever found broken where it is kept.
        kept_alpha: the chance at most with which it is ever found kept where it is not.
    """
    both = guardrail.limit is not None and guardrail.margin is not None
    part = alpha / 2 if both else alpha
    tests = []
    if guardrail.limit is not None:
        tests.append(_against_limit(guardrail, guardrail.limit, candidate, stages, part, kept_alpha))
    if guardrail.margin is not None:
        tests.append(_against_control(guardrail, guardrail.margin, control, candidate, stages, part, kept_alpha))
    p_value = min(test.p_value for test in tests) * len(tests)
    state = GuardrailState.KEPT if all(test.kept for test in tests) else GuardrailState.UNKNOWN
    if any(test.beyond for test in tests):
        state = GuardrailState.BEYOND
    if p_value <= alpha:
        state = GuardrailState.BROKEN
    text = "; ".join(test.text for test in tests)
    return GuardrailFinding(guardrail.metric, state, min(p_value, 1.0), text, guardrail.by, guardrail.level)


def _against_limit(
    guardrail: Guardrail,
    limit: float,
    candidate: str,
    stages: Sequence[StageEvidence],
    alpha: float,
    kept_alpha: float,
) -> _Tested:
    observed, what = sums_of(guardrail.metric, candidate, stages, guardrail.rows), guardrail.what
    count, total = (float(np.sum(part)) for part in (observed.count, observed.total))
    text = f"{what} {total / count:.4g} of {count:,.0f}" if count else f"{what} of nothing yet"
    if isinstance(observed, Moments):
        p_value = math.exp(-max(float(beta_log_e_above(total, count - total, limit)), 0.0))
        # Its other side is a limit on what did not happen.
        kept = float(beta_log_e_above(count - total, total, 1 - limit)) >= -math.log(kept_alpha)
    else:
        mean = compared_in_pairs(observed, answers=False)
        p_value = float(mean.p_value_above(alpha, resolution=limit, effect=limit))
        kept = float(mean.at_most(kept_alpha, resolution=limit)) < limit
    return _Tested(total > limit * count, kept, p_value, f"{text} (at most {limit:g})")


def _against_control(
    guardrail: Guardrail,
    margin: float,
    control: str,
    candidate: str,
    stages: Sequence[StageEvidence],
    alpha: float,
    kept_alpha: float,
) -> _Tested:
    metric, what = guardrail.metric, guardrail.what
    ours, theirs = (sums_of(metric, version, stages, guardrail.rows) for version in (candidate, control))
    better, worse = (theirs, ours) if not metric.higher_is_better else (ours, theirs)
    excess = compared(worse, better, bounded=metric.bounded)
    by = float(excess.estimate)
    if not math.isfinite(by):
        of, beside = (float(np.sum(sums.count)) for sums in (ours, theirs))
        text = f"{what} not compared yet: {of:,.0f} observations, and {beside:,.0f} of the control"
        return _Tested(beyond=False, kept=False, p_value=1.0, text=text)
    p_value = float(excess.p_value_above(alpha, resolution=margin, effect=margin))
    # A bound may take some 30 milliseconds, so the one that says something is looked for.
    if p_value <= alpha:
        kept, bound = False, f", and surely by {float(excess.at_least(alpha, resolution=margin)):.4g}"
    else:
        at_most = float(excess.at_most(kept_alpha, resolution=margin))
        kept = at_most < margin
        bound = f", {'surely by less than' if kept else 'and perhaps by'} {at_most:.4g}" if at_most < math.inf else ""
    return _Tested(by > margin, kept, p_value, f"{what} worse by {by:.4g}{bound} (at most {margin:g})")
