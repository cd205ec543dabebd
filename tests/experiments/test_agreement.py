"""Agreement: the share of rows on which a shadow disagrees, and how rarely a bound on it is judged wrongly."""

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentDesign, ExperimentMetric, ExperimentPolicy, Guardrail
from shokado.experiments.agreement import Agreement, comparison_of_pairs
from shokado.experiments.comparisons import VersionComparison
from shokado.experiments.confidence_sequences import proportion_sequence
from shokado.experiments.experiment_evidence import StageEvidence, VersionEvidence
from shokado.experiments.experiment_verdict import ExperimentJudgement, ExperimentVerdict, judge_experiment
from shokado.experiments.moments import Moments

AGREEMENT = ExperimentMetric.AGREEMENT
POLICY = ExperimentPolicy(metric=AGREEMENT, design=ExperimentDesign.SHADOW, smallest_effect=0.02)


def pairs(*stages: tuple[float, float]) -> Moments:
    """Rows of each stage, and those of them on which the versions disagree."""
    rows, apart = np.array(stages, dtype=float).T
    return Moments(rows, -apart, apart)


def judge(*stages: tuple[float, float], policy: ExperimentPolicy = POLICY, failed: float = 0) -> ExperimentJudgement:
    seen = []
    for rows, apart in stages:
        sums = {AGREEMENT: Moments(rows, rows - apart, rows - apart)}
        own = {**sums, ExperimentMetric.ERROR_RATE: Moments.of_events(failed, rows)}
        versions = {"v1": VersionEvidence(rows, rows, sums), "v2": VersionEvidence(0, rows, own)}
        seen.append(StageEvidence({"v1": 1.0}, versions, {"v2": Moments(rows, -apart, apart)}))
    return judge_experiment(policy, "v1", ["v2"], seen)


def test_the_sequence_is_that_of_the_share_of_disagreements_over_all_stages() -> None:
    found = comparison_of_pairs(AGREEMENT, pairs((300, 7), (700, 3)))
    low, high = proportion_sequence(10, 990, 0.05)
    assert isinstance(found, Agreement)
    assert found.estimate == pytest.approx(-0.01)
    assert found.bounds(0.05, 0.02) == pytest.approx((-high, -low))
    assert found.method == "exact"


def test_the_p_value_is_small_just_where_the_bound_lies_outside() -> None:
    for apart in range(60):
        found = comparison_of_pairs(AGREEMENT, pairs((1000, apart)))
        low, high = found.bounds(0.05, 0.02)
        assert (found.p_value(0.05, 0.02) <= 0.05) == (not low <= -0.02 <= high), apart


def test_nothing_seen_says_nothing() -> None:
    found = comparison_of_pairs(AGREEMENT, pairs((0, 0)))
    assert np.isnan(found.estimate)
    assert found.bounds(0.05, 0.02) == pytest.approx((-1, 0))
    assert found.p_value(0.05, 0.02) == 1


def test_other_metrics_are_compared_by_their_differences() -> None:
    for metric in (ExperimentMetric.ACCURACY, ExperimentMetric.SQUARED_ERROR):
        found = comparison_of_pairs(metric, pairs((300, 7)))
        assert isinstance(found, VersionComparison)
        assert (found.exact is not None) == (metric is ExperimentMetric.ACCURACY)


def test_who_surely_disagrees_on_fewer_rows_than_the_bound_is_promoted() -> None:
    found = judge((2000, 4))
    effect = found.candidates["v2"].effect
    assert (found.verdict, found.winner) == (ExperimentVerdict.PROMOTE, "v2")
    assert "it agrees, but for less than 0.02 of the rows: agreement -0.002" in found.reason
    assert -0.02 < effect.low < effect.estimate == -0.002
    assert effect.p_value <= effect.alpha
    assert (effect.method, effect.observations) == ("exact in pairs", 2000)


def test_who_surely_disagrees_on_more_is_rolled_back() -> None:
    found = judge((1000, 50))
    assert found.verdict is ExperimentVerdict.ROLLBACK
    assert "it disagrees: agreement -0.05" in found.reason


@pytest.mark.parametrize("apart", [0, 6, 9])
def test_what_is_near_the_bound_or_rarely_seen_goes_on(apart: int) -> None:
    assert judge((250, apart)).verdict is ExperimentVerdict.RUNNING


def test_a_guardrail_on_its_failures_takes_back_who_agrees() -> None:
    rail = Guardrail(metric=ExperimentMetric.ERROR_RATE, limit=0.001)
    policy = POLICY.model_copy(update={"guardrails": (rail,)})
    assert judge((2000, 4), policy=policy, failed=40).verdict is ExperimentVerdict.ROLLBACK
    too_few = judge((2000, 4), policy=policy)
    assert (too_few.verdict, too_few.candidates["v2"].guardrails[0].state.value) == (
        ExperimentVerdict.RUNNING,
        "unknown",
    )
    assert judge((10_000, 20), policy=policy).verdict is ExperimentVerdict.PROMOTE
    seen = StageEvidence({"v1": 1.0}, {"v1": VersionEvidence()}, {"v2": Moments(2000.0, -4.0, 4.0)})
    unscored = judge_experiment(policy, "v1", ["v2"], [seen])
    assert (unscored.verdict, unscored.candidates["v2"].guardrails[0].text) == (
        ExperimentVerdict.RUNNING,
        "error_rate of nothing yet (at most 0.001)",
    )


def test_who_is_just_at_the_bound_is_rarely_decided_however_often_one_looks() -> None:
    """Of 300 experiments with 100 looks, with 20 % allowed, more than 82 are one in 1,000 cases."""
    random = np.random.default_rng(5)
    apart = np.cumsum(random.binomial(50, 0.02, (100, 300)), axis=0)
    rows = 50.0 * np.arange(1, 101)[:, np.newaxis]
    found = comparison_of_pairs(AGREEMENT, Moments(rows[np.newaxis], -apart[np.newaxis], apart[np.newaxis]))
    wrong = (found.p_value(0.2, 0.02) <= 0.2).any(axis=0).sum()
    assert 0 < wrong <= 82
