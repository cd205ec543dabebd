"""The verdict on an experiment, pure: a policy and what was seen at one look go in, a judgement comes out.

It may be asked as often as anybody likes, and the first verdict that is not RUNNING may be acted on at once. It then
stands: later looks may say less, as a sequence of intervals is allowed to.

- **INVALID**: units or labels did not come as they should have (see `sample_ratio`), so that no effect is to be
  believed.
- **ROLLBACK**: a guardrail is broken for sure (also where the rest is invalid, as users come first), or the whole
  confidence sequence of the effect says that the candidate is worse.
- **PROMOTE**: the whole sequence says that it is better, and all guardrails are kept for sure (see `guardrails`).
  A shadow that is asked for its `agreement` need not be better: it is promoted where it surely disagrees on fewer rows
  than the bound, and rolled back where it surely does on more.
- **HOLD**: the whole sequence lies within the smallest effect that matters, on both sides, and all guardrails are kept
  for sure; or the experiment has ended and nothing else can be said.

**Error rates.** Candidates that are as good as the control, and keep all guardrails, are promoted or rolled back with a
chance of at most `policy.error_rate`, over all looks, candidates and guardrails together. Where there are guardrails
they have `GUARDRAIL_PART` of it, in equal parts for each of each candidate. What is left is shared equally by the
candidates (Bonferroni). Holm's method would find a little more, but then a sequence that is told would not be the one
that decided. A candidate that does not keep a guardrail is promoted, or held before the end, with a chance of at most
`policy.error_rate` as well, over all looks and candidates, however much better it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from configuration.experiment_policy import ExperimentDesign, ExperimentMetric, ExperimentPolicy
from shokado.experiments.agreement import Agreement, comparison_of_pairs
from shokado.experiments.comparisons import VersionComparison, compared
from shokado.experiments.experiment_evidence import StageEvidence, VersionEvidence, pairs_of, sums_of
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.guardrails import GuardrailFinding, guardrail_finding
from shokado.experiments.mixtures import beta_log_e_above
from shokado.experiments.sample_ratio import arrival_p_value, sample_ratio_p_value

GUARDRAIL_PART = 0.2
"""The part of the error rate that guardrails have."""
MAX_UNSCORED = 0.01
"""The share of a shadow's requests that may have no error, because it could not score them."""


class ExperimentVerdict(StrEnum):
    """What is to be done."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    ROLLBACK = "ROLLBACK"
    INVALID = "INVALID"
    RUNNING = "RUNNING"


@dataclass(frozen=True, slots=True)
class Effect:
    """The candidate's mean less the control's, in units of the metric."""

    estimate: float
    """NaN where one of the two was not observed."""
    low: float
    high: float
    """The effect lies from `low` to `high` at every look, but with the chance `alpha`. Infinite where nothing is known.
    """
    alpha: float
    """The candidate's part of the error rate."""
    p_value: float
    """Against no effect: at most `alpha` where 0 lies outside. With `agreement`: against just the bound."""
    observations: int
    """How many the candidate has; a shadow has pairs."""
    control_observations: int
    method: str
    """`exact` or `asymptotic`, and `in pairs` where both answered the same requests."""


@dataclass(frozen=True, slots=True)
class CandidateJudgement:
    """What is to be said of one candidate; `reason` is for people."""

    verdict: ExperimentVerdict
    reason: str
    effect: Effect
    guardrails: tuple[GuardrailFinding, ...]


@dataclass(frozen=True, slots=True)
class ExperimentJudgement:
    """The verdict on the whole, and what it rests on."""

    verdict: ExperimentVerdict
    """INVALID where it is; PROMOTE once any candidate is; ROLLBACK when all are; HOLD when all are decided."""
    reason: str
    winner: str | None
    """The candidate to promote: of several the one with the largest effect."""
    candidates: Mapping[str, CandidateJudgement]
    sample_ratio_p_value: float
    arrival_p_value: float
    """The same for labels; 1 where the metric needs none."""


def judge_experiment(
    policy: ExperimentPolicy,
    control: str,
    candidates: Sequence[str],
    stages: Sequence[StageEvidence],
    *,
    ended: bool = False,
) -> ExperimentJudgement:
    """Judge an experiment by what was seen up to one look.

    Args:
        policy: what it is judged by.
        control: the version that candidates are compared with.
        candidates: all that the experiment began with, also those that have been taken out since: they have their part
            of the error rate for good.
        stages: what was seen, in order; at least one.
        ended: whether there will be no other look, so that what is not decided is held.
    """
    ratio = arrival = 1.0
    # What both versions answered has no shares, and its label comes for both or for none.
    if policy.design is ExperimentDesign.SPLIT:
        ratio = sample_ratio_p_value([(stage.shares, _units(stage)) for stage in stages])
        arrival = arrival_p_value(_arrivals(policy.metric, stages)) if policy.metric.from_feedback else 1.0
    invalid = _invalid(policy, ratio, arrival, stages) or _unscored(policy, candidates, stages)
    found = {
        candidate: _judge(policy, control, candidate, len(candidates), stages, invalid, ended=ended)
        for candidate in candidates
    }
    verdict, winner = _of_all(found, invalid)
    reasons = (f"{candidate}: {one.reason}" for candidate, one in found.items() if winner in (None, candidate))
    return ExperimentJudgement(verdict, invalid or "; ".join(reasons), winner, found, ratio, arrival)


def _of_all(found: Mapping[str, CandidateJudgement], invalid: str | None) -> tuple[ExperimentVerdict, str | None]:
    verdicts = {one.verdict for one in found.values()}
    if invalid is not None:
        return ExperimentVerdict.INVALID, None
    promoted = [name for name, one in found.items() if one.verdict is ExperimentVerdict.PROMOTE]
    if promoted:
        return ExperimentVerdict.PROMOTE, max(promoted, key=lambda name: abs(found[name].effect.estimate))
    if ExperimentVerdict.RUNNING in verdicts:
        return ExperimentVerdict.RUNNING, None
    return ExperimentVerdict.ROLLBACK if verdicts == {ExperimentVerdict.ROLLBACK} else ExperimentVerdict.HOLD, None


def _judge(
    policy: ExperimentPolicy,
    control: str,
    candidate: str,
    number: int,
    stages: Sequence[StageEvidence],
    invalid: str | None,
    *,
    ended: bool,
) -> CandidateJudgement:
    alpha = effect_alpha(policy, number)
    for_guardrails = policy.error_rate / number - alpha
    guardrails = tuple(
        guardrail_finding(
            guardrail,
            control,
            candidate,
            stages,
            alpha=for_guardrails / len(policy.guardrails),
            kept_alpha=policy.error_rate / number,
        )
        for guardrail in policy.guardrails
    )
    effect = _effect(policy, control, candidate, stages, alpha)
    verdict, reason = _verdict(policy, effect, guardrails, invalid)
    if verdict is ExperimentVerdict.RUNNING and ended:
        verdict, reason = ExperimentVerdict.HOLD, f"the experiment has ended, and {reason}"
    return CandidateJudgement(verdict, reason, effect, guardrails)


def effect_alpha(policy: ExperimentPolicy, candidates: int) -> float:
    """The part of the error rate that the effect of each of so many candidates has."""
    rate = policy.error_rate / candidates
    return rate * (1 - GUARDRAIL_PART) if policy.guardrails else rate


def _verdict(
    policy: ExperimentPolicy, effect: Effect, guardrails: Sequence[GuardrailFinding], invalid: str | None
) -> tuple[ExperimentVerdict, str]:
    if broken := _texts(guardrails, GuardrailState.BROKEN):
        return ExperimentVerdict.ROLLBACK, f"a guardrail is broken: {broken}"
    if invalid is not None:
        return ExperimentVerdict.INVALID, invalid
    seen = _seen(policy.metric, effect)
    # Nobody agrees more than the control with itself: what is asked there is whether it is enough.
    agreement = policy.metric is ExperimentMetric.AGREEMENT
    zero = -policy.smallest_effect if agreement else 0.0
    # Where stages contradict each other there is no effect that they have in common.
    up, down = (effect.low > zero, effect.high < zero) if effect.low <= effect.high else (False, False)
    good = f"agrees, but for less than {policy.smallest_effect:g} of the rows" if agreement else "is better"
    better, worse = (up, down) if policy.metric.higher_is_better else (down, up)
    if worse:
        return ExperimentVerdict.ROLLBACK, f"it {'disagrees' if agreement else 'is worse'}: {seen}"
    equivalent = not agreement and -policy.smallest_effect <= effect.low <= effect.high <= policy.smallest_effect
    if not better and not equivalent:
        return ExperimentVerdict.RUNNING, f"too little was seen to tell: {seen}"
    what = f"it {good}" if better else f"it is equivalent, by less than {policy.smallest_effect:g}"
    if held_up := _held_up(guardrails):
        return ExperimentVerdict.RUNNING, f"{what}, but {held_up}"
    return ExperimentVerdict.PROMOTE if better else ExperimentVerdict.HOLD, f"{what}: {seen}"


def _held_up(guardrails: Sequence[GuardrailFinding]) -> str:
    """What guardrails a candidate that is good enough waits for; empty where all are kept."""
    waits = {
        "was seen beyond a guardrail": GuardrailState.BEYOND,
        "is not sure to keep a guardrail yet": GuardrailState.UNKNOWN,
    }
    found = ((words, _texts(guardrails, state)) for words, state in waits.items())
    return "; and ".join(f"{words}: {texts}" for words, texts in found if texts)


def _texts(guardrails: Sequence[GuardrailFinding], state: GuardrailState) -> str:
    return "; ".join(one.text for one in guardrails if one.state is state)


def _effect(
    policy: ExperimentPolicy, control: str, candidate: str, stages: Sequence[StageEvidence], alpha: float
) -> Effect:
    metric = policy.metric
    pairs = pairs_of(candidate, stages)
    comparison: VersionComparison | Agreement
    if pairs is not None:
        comparison = comparison_of_pairs(metric, pairs)
        counts = (pairs.count, pairs.count)
    else:
        ours, theirs = (sums_of(metric, version, stages) for version in (candidate, control))
        comparison = compared(ours, theirs, bounded=metric.bounded)
        counts = (ours.count, theirs.count)
    low, high = (float(bound) for bound in comparison.bounds(alpha, policy.smallest_effect))
    observations, control_observations = (round(float(np.sum(count))) for count in counts)
    return Effect(
        estimate=float(comparison.estimate),
        low=low,
        high=high,
        alpha=alpha,
        p_value=float(comparison.p_value(alpha, policy.smallest_effect)),
        observations=observations,
        control_observations=control_observations,
        method=comparison.method + (" in pairs" if pairs is not None else ""),
    )


def _seen(metric: ExperimentMetric, effect: Effect) -> str:
    counts = f"{effect.observations:,} observations, and {effect.control_observations:,} of the control"
    if np.isnan(effect.estimate) or not np.isfinite(effect.low):
        return f"{metric} of {counts}"
    return f"{metric} {effect.estimate:+.4g} ({effect.low:+.4g} to {effect.high:+.4g}) of {counts}"


def _invalid(policy: ExperimentPolicy, ratio: float, arrival: float, stages: Sequence[StageEvidence]) -> str | None:
    """Why no effect is to be believed; None where it is. Both checks have half of their error rate."""
    if ratio <= policy.integrity_error_rate / 2:
        shares = _shares_text(stages, lambda seen: seen.units)
        return (
            f"versions did not get their shares of the units (p = {ratio:.2g}): {shares}; look for"
            " fallbacks, refusals of one version, caches, redirects, and units that are counted more than once"
        )
    if arrival <= policy.integrity_error_rate / 2:
        return (
            f"labels did not come alike for all versions (p = {arrival:.2g}): {_coverage_text(policy.metric, stages)};"
            " look for feedback that depends on the answer, or is sent for one version only"
        )
    return None


def _unscored(policy: ExperimentPolicy, candidates: Sequence[str], stages: Sequence[StageEvidence]) -> str | None:
    """Why errors of a shadow are not to be believed; None where they are.

    An answer that is lacking is wrong, and agrees with nobody, but has no error: what is left may be the easier rows.
    """
    if policy.design is ExperimentDesign.SPLIT or policy.metric.bounded:
        return None
    for candidate in candidates:
        rows = sums_of(ExperimentMetric.ERROR_RATE, candidate, stages)
        failed, count = float(np.sum(rows.total)), float(np.sum(rows.count))
        log_e = float(beta_log_e_above(failed, count - failed, MAX_UNSCORED))
        if log_e >= -math.log(policy.integrity_error_rate):
            return (
                f"{candidate} has no errors of the requests that it could not score, {failed:,.0f} of {count:,.0f};"
                " look for features that they lack, and for its failures in the log"
            )
    return None


def _shares_text(stages: Sequence[StageEvidence], count_of: Callable[[VersionEvidence], float]) -> str:
    """How many of something each version has, for how many it should have by its shares."""
    counts, expected = dict[str, float](), dict[str, float]()
    for stage in stages:
        total = sum(count_of(seen) for seen in stage.versions.values())
        for version in stage.shares.keys() | stage.versions.keys():
            counts[version] = counts.get(version, 0) + count_of(stage.of(version))
            expected[version] = expected.get(version, 0) + stage.shares.get(version, 0) * total
    return ", ".join(f"{version} {counts[version]:,.0f} for {expected[version]:,.0f}" for version in sorted(counts))


def _coverage_text(metric: ExperimentMetric, stages: Sequence[StageEvidence]) -> str:
    due, labelled = dict[str, float](), dict[str, float]()
    for stage in stages:
        for version, seen in stage.versions.items():
            if seen.due is None:
                return _shares_text(stages, lambda one: one.labelled(metric))
            due[version] = due.get(version, 0) + seen.due
            labelled[version] = labelled.get(version, 0) + seen.labelled(metric)
    return ", ".join(
        f"{version} {labelled[version] / due[version]:.2%} of {due[version]:,.0f}"
        for version in sorted(due)
        if due[version]
    )


def _units(stage: StageEvidence) -> dict[str, float]:
    return {version: seen.units for version, seen in stage.versions.items()}


def _arrivals(
    metric: ExperimentMetric, stages: Sequence[StageEvidence]
) -> list[tuple[Mapping[str, float], dict[str, float], dict[str, float]]]:
    found = []
    for stage in stages:
        labelled = {version: seen.labelled(metric) for version, seen in stage.versions.items()}
        lacking = {
            version: seen.due - labelled[version] for version, seen in stage.versions.items() if seen.due is not None
        }
        found.append((stage.shares, labelled, lacking))
    return found
