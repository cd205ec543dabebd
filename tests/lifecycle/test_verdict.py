"""The verdict: sure of what it says, and silent for as long as it cannot be."""

from datetime import UTC, datetime, timedelta
from math import exp, lgamma, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.canary_policy import CanaryPolicy
from shokado.client.answers import ExperimentAnswer, ExperimentVersion, GuardrailAnswer
from shokado.lifecycle.rollout.verdict import Observed, Verdict, followed, is_in_favour, judge

POLICY = CanaryPolicy()
STABLE = Observed(answered=9000, p99_ms=8.0)
COUNTS = st.integers(0, 3000)
BEGAN = datetime(2026, 5, 4, tzinfo=UTC)
SEVERITY = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}


def verdict(
    canary: Observed, stable: Observed = STABLE, seconds: float = 120, policy: CanaryPolicy = POLICY
) -> Verdict:
    return judge(policy, canary, stable, seconds).verdict


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (Observed(answered=1000, p99_ms=9.0), Verdict.PASS),
        (Observed(answered=99), Verdict.INCONCLUSIVE),
        (Observed(), Verdict.INCONCLUSIVE),
        (Observed(answered=2, errors=1), Verdict.INCONCLUSIVE),
        (Observed(answered=199, errors=1), Verdict.PASS),
        (Observed(answered=97, errors=3), Verdict.INCONCLUSIVE),
        (Observed(errors=4), Verdict.FAIL),
        (Observed(answered=900, errors=100), Verdict.FAIL),
        (Observed(answered=900, fallbacks=100), Verdict.FAIL),
        (Observed(fallbacks=4), Verdict.FAIL),
        (Observed(answered=1000, p99_ms=30.0), Verdict.FAIL),
        (Observed(answered=1000, p99_ms=17.9), Verdict.PASS),
        (Observed(answered=999, p99_ms=30.0), Verdict.PASS),
    ],
)
def test_cases(canary: Observed, expected: Verdict) -> None:
    assert verdict(canary) is expected


def test_a_step_has_its_time() -> None:
    assert verdict(Observed(answered=1000), seconds=59) is Verdict.INCONCLUSIVE
    assert verdict(Observed(errors=1000), seconds=1) is Verdict.FAIL, "what fails for sure fails at once"


def test_a_rate_below_the_limit_fails_when_the_active_version_does_much_better() -> None:
    policy = CanaryPolicy(max_error_rate=0.05, max_error_increase=0.005)
    worse = Observed(answered=9700, errors=300)
    assert verdict(worse, Observed(answered=90_000), policy=policy) is Verdict.FAIL
    assert verdict(worse, Observed(answered=87_300, errors=2700), policy=policy) is Verdict.PASS
    assert verdict(worse, Observed(), policy=policy) is Verdict.PASS, "nothing to compare with"


def test_the_reason_names_what_decided() -> None:
    judgement = judge(POLICY, Observed(answered=900, fallbacks=100), STABLE, 120)
    assert judgement.why.startswith("100 fallbacks in 1000 requests (at most 1.00%)")
    assert "errors in" not in judgement.why


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_failure_more_never_helps_and_an_answer_more_never_hurts(
    answered: int, errors: int, stable_answered: int, stable_errors: int
) -> None:
    canary, stable = Observed(answered, errors), Observed(stable_answered, stable_errors)
    better, worse = Observed(answered + 1, errors), Observed(answered, errors + 1)
    assert SEVERITY[verdict(better, stable)] <= SEVERITY[verdict(canary, stable)]
    if canary.requests >= POLICY.min_requests:
        assert SEVERITY[verdict(canary, stable)] <= SEVERITY[verdict(worse, stable)]


@given(COUNTS, COUNTS, COUNTS)
def test_a_fallback_counts_like_an_error(answered: int, failed: int, stable_answered: int) -> None:
    stable = Observed(stable_answered)
    assert verdict(Observed(answered, failed, 0), stable) is verdict(Observed(answered, 0, failed), stable)


@given(st.integers(0, 200), st.integers(0, 10_000))
def test_fail_means_that_such_a_count_is_hardly_ever_seen_at_the_limit(errors: int, answered: int) -> None:
    """The chance of as many errors at the limit itself is what the confidence leaves."""
    policy = CanaryPolicy(max_error_increase=1)
    failed = judge(policy, Observed(answered, errors), Observed(), 120).verdict is Verdict.FAIL
    trials = answered + errors
    fewer = sum(_chance(n, trials, policy.max_error_rate) for n in range(min(errors, trials + 1)))
    assert failed == (1 - fewer < 1 - policy.confidence) or abs(1 - fewer - 0.001) < 1e-9


def experiment(verdict: str, ended_after_h: float | None = None, guardrail: str = "kept") -> ExperimentAnswer:
    """One of two hours, under way unless it ended after some."""
    seen = ExperimentVersion(100, 100, 0.5, 0.0, -1.0, 1.0, guardrails=(GuardrailAnswer("latency", guardrail, ""),))
    ended_at = None if ended_after_h is None else BEGAN + timedelta(hours=ended_after_h)
    return ExperimentAnswer(
        id="e1", environment="production", control="v1", candidates=("v2",), started_at=BEGAN,
        ends_at=BEGAN + timedelta(hours=2), ended_at=ended_at, running=ended_at is None, verdict=verdict, reason="so",
        winner=None, versions={"v2": seen},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "in_between", "before_all"),
    [
        (experiment("RUNNING"), Verdict.PASS, Verdict.INCONCLUSIVE),
        (experiment("RUNNING", guardrail="beyond"), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (experiment("RUNNING", guardrail="broken"), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        # Steps are how anything is learned of it.
        (experiment("RUNNING", guardrail="unknown"), Verdict.PASS, Verdict.INCONCLUSIVE),
        # What a look says before the end is not acted upon.
        (experiment("PROMOTE"), Verdict.PASS, Verdict.INCONCLUSIVE),
        (experiment("ROLLBACK"), Verdict.PASS, Verdict.INCONCLUSIVE),
        (experiment("PROMOTE", 1), Verdict.PASS, Verdict.PASS),
        (experiment("HOLD", 1), Verdict.PASS, Verdict.PASS),
        (experiment("HOLD", 2), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (experiment("STOPPED", 1), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (experiment("ROLLBACK", 1), Verdict.FAIL, Verdict.FAIL),
        (experiment("INVALID", 1), Verdict.FAIL, Verdict.FAIL),
    ],
)
def test_an_experiment_is_followed(told: ExperimentAnswer, in_between: Verdict, before_all: Verdict) -> None:
    assert followed(told, must_end=False).verdict is in_between
    assert followed(told, must_end=True).verdict is before_all
    assert is_in_favour(told) == (not told.running and before_all is Verdict.PASS)


def test_an_experiment_counts_among_the_limits() -> None:
    good, bad = Observed(answered=1000), Observed(errors=1000)
    ended, under_way = (followed(experiment(*which), must_end=True) for which in (("INVALID", 1), ("RUNNING",)))
    judgement = judge(POLICY, good, STABLE, 120, [ended])
    assert (judgement.verdict, judgement.why) == (Verdict.FAIL, "experiment e1 ended in INVALID: so")
    judgement = judge(POLICY, good, STABLE, 120, [under_way])
    assert (judgement.verdict, judgement.why) == (Verdict.INCONCLUSIVE, "experiment e1 is under way: so")
    assert judge(POLICY, bad, STABLE, 120, [under_way]).verdict is Verdict.FAIL


def _chance(events: int, trials: int, rate: float) -> float:
    if events > trials:
        return 0.0
    ways = lgamma(trials + 1) - lgamma(events + 1) - lgamma(trials - events + 1)
    return exp(ways + events * log(rate) + (trials - events) * log(1 - rate))
