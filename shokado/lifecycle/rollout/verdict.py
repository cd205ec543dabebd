"""The verdict on a canary, pure: a policy and what was observed of both versions go in, a judgement comes out.

Limits on what was seen lately are judged here; what compares the two versions is the gateway's experiment, which is
followed.

A rate fails when it is above its limit for sure: when the limit lies below the lower bound of the rate's confidence
interval. It passes when it is observed at or below the limit, over enough requests. Between the two, more is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from configuration.canary_policy import CanaryPolicy
from shokado.client.answers import ExperimentAnswer
from shokado.dispatch.experiment import Result
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.proportions import clopper_pearson_lower, clopper_pearson_upper

_BEYOND = (GuardrailState.BEYOND, GuardrailState.BROKEN)


class Verdict(StrEnum):
    """What is to be done: give it more, take it back, or wait."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Observed:
    """What happened to the requests that were assigned to a version, within a window of time."""

    answered: int = 0
    """Requests answered with a prediction of the version."""
    errors: int = 0
    """Requests answered with an error that was not the client's fault."""
    fallbacks: int = 0
    """Requests answered by the active version in its place."""
    p99_ms: float | None = None
    """99th percentile of the latency of answered requests; None if there were none."""

    @property
    def requests(self) -> int:
        return self.answered + self.errors + self.fallbacks


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `text` is for people."""

    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and what it rests on."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def why(self) -> str:
        """The findings that decided, in one line."""
        return "; ".join(finding.text for finding in self.findings if finding.verdict is self.verdict)


def judge(
    policy: CanaryPolicy, canary: Observed, stable: Observed, seconds: float, more: Sequence[Finding] = ()
) -> Judgement:
    """Judge a step that has lasted for `seconds`; `stable` is the active version beside it, as far as it had traffic.

    `more` are findings of others.

    One finding that fails is enough to fail, however early; to pass, all must.
    """
    findings = [
        *more,
        _enough(policy, canary, seconds),
        _rate("errors", canary.errors, canary.requests, policy.max_error_rate, policy.confidence),
        _rate("fallbacks", canary.fallbacks, canary.requests, policy.max_fallback_share, policy.confidence),
        _increase(policy, canary, stable),
        _latency(policy, canary, stable),
    ]
    verdicts = {finding.verdict for finding in findings}
    worst = next(verdict for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if verdict in verdicts)
    return Judgement(worst, tuple(findings))


def followed(experiment: ExperimentAnswer | None, *, must_end: bool) -> Finding:
    """What an experiment with one candidate says of it.

    `must_end`: while it is under way it has not said enough; otherwise it stands in the way only where a guardrail was
    seen beyond its limit. What it says before it ends may still change, and only its end is acted upon.
    """
    if experiment is None:
        return Finding(Verdict.INCONCLUSIVE, "its experiment has not begun")
    if experiment.running:
        held = must_end or _is_beyond_a_guardrail(experiment)
        text = f"experiment {experiment.id} is under way: {experiment.reason}"
        return Finding(Verdict.INCONCLUSIVE if held else Verdict.PASS, text)
    text = f"experiment {experiment.id} ended in {experiment.verdict}: {experiment.reason}"
    if experiment.verdict in (Result.ROLLBACK, Result.INVALID):
        return Finding(Verdict.FAIL, text)
    return Finding(Verdict.PASS if is_in_favour(experiment) else Verdict.INCONCLUSIVE, text)


def is_in_favour(experiment: ExperimentAnswer) -> bool:
    """Whether it has ended, and the candidate is better or as good; not where it ended because its time was over."""
    ended_at = experiment.ended_at
    if ended_at is None:
        return False
    in_time = ended_at < experiment.ends_at
    return experiment.verdict == Result.PROMOTE or (experiment.verdict == Result.HOLD and in_time)


def _is_beyond_a_guardrail(experiment: ExperimentAnswer) -> bool:
    versions = experiment.versions.values()
    return any(guardrail.state in _BEYOND for version in versions for guardrail in version.guardrails or ())


def _enough(policy: CanaryPolicy, canary: Observed, seconds: float) -> Finding:
    text = f"{canary.requests} requests (at least {policy.min_requests})"
    text += f" in a step of {seconds:.0f} s (at least {policy.min_seconds:g})"
    enough = canary.requests >= policy.min_requests and seconds >= policy.min_seconds
    return Finding(Verdict.PASS if enough else Verdict.INCONCLUSIVE, text)


def _rate(name: str, events: int, trials: int, limit: float, confidence: float) -> Finding:
    text = f"{events} {name} in {trials} requests (at most {limit:.2%})"
    if clopper_pearson_lower(events, trials, confidence) > limit:
        return Finding(Verdict.FAIL, text)
    return Finding(Verdict.PASS if events <= limit * trials else Verdict.INCONCLUSIVE, text)


def _increase(policy: CanaryPolicy, canary: Observed, stable: Observed) -> Finding:
    """Errors and fallbacks against those of the active version.

    Fails when the two rates' intervals lie apart by more than the limit, which is stricter than a test of their
    difference would be.
    """
    if not stable.requests or not canary.requests:
        return Finding(Verdict.PASS, "errors are not compared: one of the versions had no requests")
    failed, stable_failed = canary.errors + canary.fallbacks, stable.errors + stable.fallbacks
    limit, confidence = policy.max_error_increase, policy.confidence
    rate, stable_rate = failed / canary.requests, stable_failed / stable.requests
    text = f"{rate:.2%} failed, and {stable_rate:.2%} of the active version's (at most {limit:.2%} more)"
    at_least = clopper_pearson_lower(failed, canary.requests, confidence)
    stable_at_most = clopper_pearson_upper(stable_failed, stable.requests, confidence)
    if at_least - stable_at_most > limit:
        return Finding(Verdict.FAIL, text)
    return Finding(Verdict.PASS if rate - stable_rate <= limit else Verdict.INCONCLUSIVE, text)


def _latency(policy: CanaryPolicy, canary: Observed, stable: Observed) -> Finding:
    if min(canary.answered, stable.answered) < policy.min_requests_p99 or not canary.p99_ms or not stable.p99_ms:
        return Finding(Verdict.PASS, f"p99 is not compared: fewer than {policy.min_requests_p99} answers of a version")
    text = f"p99 {canary.p99_ms:.1f} ms, and {stable.p99_ms:.1f} of the active version"
    text += f" (at most {policy.max_p99_ratio:g} times)"
    limit = max(policy.max_p99_ratio * stable.p99_ms, stable.p99_ms + policy.p99_allowance_ms)
    return Finding(Verdict.FAIL if canary.p99_ms > limit else Verdict.PASS, text)
