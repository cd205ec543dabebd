"""The verdict on a replay by its limits, and the lines that tell how far one is."""

import pytest

from shokado.experiments.clustered_intervals import Estimate, IntervalMethod
from shokado.lifecycle.replaying.candidate import ReplayedCall
from shokado.lifecycle.replaying.replay_figures import GroupFigures, LatencyFigures, QualityFigures
from shokado.lifecycle.replaying.replay_order import ReplayLimits
from shokado.lifecycle.replaying.replay_progress import ReplayProgress
from shokado.lifecycle.replaying.replay_verdict import judge_replay
from shokado.lifecycle.rollout.verdict import Verdict


def figures(value: float, low: float | None, high: float | None) -> GroupFigures:
    """All of the same estimate; accuracy falls by as much."""
    one = Estimate(value, low, high, IntervalMethod.CLUSTERED_T)
    fallen = Estimate(-value, None if high is None else -high, None if low is None else -low, one.method)
    return GroupFigures(
        group="all", requests=10, failed=0, rows=10, units=10, difference=one, shifts={"score": one}, disagreement=one,
        quality=QualityFigures(labels=10, original=0.9, candidate=0.8, difference=fallen), errors=one,
        original_latency=LatencyFigures(p50=1, p95=2, p99=3), candidate_latency=None, p95_ms=one, slower_ms=None,
    )  # fmt: skip


LIMITS = [
    ReplayLimits(difference=0.1),
    ReplayLimits(disagreement=0.1),
    ReplayLimits(errors=0.1),
    ReplayLimits(accuracy_loss=0.1),
    ReplayLimits(p95_ms=0.1),
]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_limit_is_kept_or_exceeded_by_the_whole_interval(limits: ReplayLimits) -> None:
    assert judge_replay(limits, figures(0.05, 0.02, 0.1)).verdict is Verdict.PASS
    assert judge_replay(limits, figures(0.05, 0.02, 0.11)).verdict is Verdict.INCONCLUSIVE
    assert judge_replay(limits, figures(0.15, 0.1, 0.2)).verdict is Verdict.INCONCLUSIVE
    assert judge_replay(limits, figures(0.15, 0.11, 0.2)).verdict is Verdict.FAIL


def test_what_has_no_interval_is_not_within_one() -> None:
    limits = ReplayLimits(difference=0.1)
    assert judge_replay(limits, figures(0.0, None, None)).verdict is Verdict.INCONCLUSIVE
    assert judge_replay(limits, figures(0.2, 0.15, None)).verdict is Verdict.FAIL
    nothing = figures(0.0, 0.0, 0.0).model_copy(update={"difference": None})
    judged = judge_replay(limits, nothing)
    assert (judged.verdict, judged.why) == (
        Verdict.INCONCLUSIVE,
        "mean difference of scores: nothing was seen (at most 0.1)",
    )


def test_one_limit_that_is_exceeded_is_enough() -> None:
    judged = judge_replay(ReplayLimits(difference=1, errors=0.1, p95_ms=0.2), figures(0.15, 0.11, 0.3))
    assert judged.verdict is Verdict.FAIL
    assert [one.verdict for one in judged.findings] == [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert judged.why == "requests that failed: 15.000%, 11.000% to 30.000% (at most 10.000%)"


def test_what_the_candidate_does_not_answer_is_not_passed_over() -> None:
    """Figures are of answered requests: a candidate that fails on what is hard would be the better for it."""
    failing = figures(0.05, 0.02, 0.1).model_copy(update={"failed": 4})
    judged = judge_replay(ReplayLimits(difference=0.1), failing)
    assert (judged.verdict, "4 of 10" in judged.why) == (Verdict.INCONCLUSIVE, True)
    assert judge_replay(ReplayLimits(difference=0.01), failing).verdict is Verdict.FAIL
    assert judge_replay(ReplayLimits(difference=0.1, errors=0.1), failing).verdict is Verdict.PASS


def test_a_long_replay_tells_every_few_seconds_how_far_it_is() -> None:
    now, told = [0.0], list[str]()
    progress = ReplayProgress(10, lambda: now[0], told.append)
    for at in range(10):
        now[0] += 3
        progress.told([ReplayedCall(fault="no_score" if at == 1 else "")])
    assert told == [
        "2 of 10 requests, 1 failed; 24 s to go", "4 of 10 requests, 1 failed; 18 s to go",
        "6 of 10 requests, 1 failed; 12 s to go", "8 of 10 requests, 1 failed; 6 s to go",
    ]  # fmt: skip
    assert progress.in_words == "10 requests in 30.0 s, 1 failed"
