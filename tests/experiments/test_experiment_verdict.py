"""The verdict on an experiment: what is promoted, held, rolled back and called invalid, and why."""

import numpy as np
import pytest

from configuration.experiment_policy import ExperimentDesign, ExperimentMetric, ExperimentPolicy, Guardrail
from shokado.experiments.experiment_evidence import StageEvidence, VersionEvidence
from shokado.experiments.experiment_verdict import (
    GUARDRAIL_PART,
    ExperimentJudgement,
    ExperimentVerdict,
    judge_experiment,
)
from shokado.experiments.guardrail_state import GuardrailState
from shokado.experiments.moments import Moments

ACCURACY = ExperimentMetric.ACCURACY
ERRORS = ExperimentMetric.ERROR_RATE
EVEN = {"v1": 0.5, "v2": 0.5}
POLICY = ExperimentPolicy(metric=ACCURACY, smallest_effect=0.02)


def seen(labels: float, right: float, units: float | None = None, errors: float = 0) -> VersionEvidence:
    """A version with a label for each answer, unless there are more units than labels."""
    units = labels if units is None else units
    return VersionEvidence(
        units, units, {ACCURACY: Moments.of_events(right, labels), ERRORS: Moments.of_events(errors, units)}
    )


def judge(
    control: VersionEvidence, candidate: VersionEvidence, policy: ExperimentPolicy = POLICY, *, ended: bool = False
) -> ExperimentJudgement:
    stage = StageEvidence(EVEN, {"v1": control, "v2": candidate})
    return judge_experiment(policy, "v1", ["v2"], [stage], ended=ended)


def test_a_better_candidate_is_promoted() -> None:
    found = judge(seen(5000, 4000), seen(5000, 4250))
    assert (found.verdict, found.winner) == (ExperimentVerdict.PROMOTE, "v2")
    effect = found.candidates["v2"].effect
    assert effect.estimate == pytest.approx(0.05)
    assert 0 < effect.low < effect.estimate < effect.high
    assert effect.p_value <= effect.alpha == 0.05
    assert (effect.method, effect.observations, effect.control_observations) == ("asymptotic", 5000, 5000)
    assert found.reason.startswith("v2: it is better: accuracy +0.05 (+0.0")


def test_a_worse_one_is_rolled_back() -> None:
    found = judge(seen(5000, 4250), seen(5000, 4000))
    assert (found.verdict, found.winner) == (ExperimentVerdict.ROLLBACK, None)
    assert "it is worse" in found.reason


def test_of_errors_less_is_better() -> None:
    policy = ExperimentPolicy(metric=ExperimentMetric.SQUARED_ERROR, smallest_effect=0.1)

    def erring(mean: float) -> VersionEvidence:
        sums = {policy.metric: Moments(5000, 5000 * mean, 5000 * 3 * mean**2)}
        return VersionEvidence(5000, 5000, sums)

    assert judge(erring(2.0), erring(1.5), policy).verdict is ExperimentVerdict.PROMOTE
    assert judge(erring(1.5), erring(2.0), policy).verdict is ExperimentVerdict.ROLLBACK


def test_an_equivalent_one_is_held() -> None:
    found = judge(seen(50_000, 40_000), seen(50_000, 40_030))
    assert found.verdict is ExperimentVerdict.HOLD
    assert "equivalent" in found.reason


def test_too_little_goes_on_until_the_end() -> None:
    going, ended = (judge(seen(500, 400), seen(500, 410), ended=ended) for ended in (False, True))
    assert (going.verdict, ended.verdict) == (ExperimentVerdict.RUNNING, ExperimentVerdict.HOLD)
    assert "too little" in going.reason
    assert "the experiment has ended" in ended.reason
    nothing = judge(VersionEvidence(), VersionEvidence())
    assert nothing.verdict is ExperimentVerdict.RUNNING


def test_a_routing_that_is_broken_makes_a_better_one_invalid() -> None:
    """A tenth of the candidate's units were answered by the control, which its accuracy does not show."""
    found = judge(seen(5250, 4200), seen(4750, 4400))
    assert found.verdict is ExperimentVerdict.INVALID
    assert found.candidates["v2"].verdict is ExperimentVerdict.INVALID
    assert "did not get their shares" in found.reason
    assert "v1 5,250 for 5,000, v2 4,750 for 5,000" in found.reason


def test_labels_that_are_missing_make_a_better_one_invalid() -> None:
    """The candidate's wrong answers get fewer labels."""
    found = judge(seen(4000, 3200, units=5000), seen(3500, 3200, units=5000))
    assert found.verdict is ExperimentVerdict.INVALID
    assert "v1 80.00% of 5,000, v2 70.00% of 5,000" in found.reason


def test_answers_that_are_not_due_do_not_count() -> None:
    """Units of both versions came alike; of the candidate fewer are due, and of those as many have a label."""
    control = VersionEvidence(5000, 4000, {ACCURACY: Moments.of_events(3000, 3900)})
    candidate = VersionEvidence(5000, 3990, {ACCURACY: Moments.of_events(3000, 3890)})
    assert judge(control, candidate).verdict is not ExperimentVerdict.INVALID
    with pytest.raises(ValueError, match="3900 labels of accuracy for 3000 answers that are due"):
        judge(VersionEvidence(5000, 3000, control.sums), candidate)


GUARDED = ExperimentPolicy(
    metric=ACCURACY, smallest_effect=0.02, guardrails=(Guardrail(metric=ERRORS, limit=0.01, margin=0.005),)
)


def test_a_broken_guardrail_takes_back_a_better_one() -> None:
    found = judge(seen(5000, 4000), seen(5000, 4250, errors=150), GUARDED)
    assert found.verdict is ExperimentVerdict.ROLLBACK
    assert "a guardrail is broken: error_rate 0.03 of 5,000 (at most 0.01)" in found.reason


def test_a_guardrail_that_was_seen_beyond_holds_up_a_promotion() -> None:
    found = judge(seen(5000, 4000, errors=50), seen(5000, 4250, errors=54), GUARDED)
    assert found.candidates["v2"].guardrails[0].state is GuardrailState.BEYOND
    assert found.verdict is ExperimentVerdict.RUNNING
    assert "seen beyond a guardrail" in found.reason
    few = judge(seen(5000, 4000, errors=50), seen(5000, 4250, errors=50), GUARDED)
    assert (few.verdict, few.candidates["v2"].guardrails[0].state) == (
        ExperimentVerdict.RUNNING,
        GuardrailState.UNKNOWN,
    )
    assert judge(seen(5000, 4000), seen(5000, 4250), GUARDED).verdict is ExperimentVerdict.PROMOTE


def test_an_equivalent_one_waits_for_its_guardrails_as_well() -> None:
    """A canary gets all of the traffic after that verdict too."""
    policy = ExperimentPolicy(
        metric=ERRORS, smallest_effect=0.02, guardrails=(Guardrail(metric=ACCURACY, margin=0.02),)
    )
    without, with_labels = (
        judge(seen(labels, 0.9 * labels, 50_000), seen(labels, 0.9 * labels, 50_000), policy) for labels in (0, 50_000)
    )
    assert (without.verdict, with_labels.verdict) == (ExperimentVerdict.RUNNING, ExperimentVerdict.HOLD)
    assert "it is equivalent, by less than 0.02, but is not sure to keep a guardrail yet: accuracy" in without.reason


@pytest.mark.parametrize("labels", [0, 1, 40])
@pytest.mark.parametrize("beside", [0, 5000])
def test_nobody_is_promoted_before_its_guardrails_are_known_to_be_kept(labels: int, beside: int) -> None:
    """Latency is known at once, and labels are not due yet, or those of the control alone, or too few to say anything:
    all of them were right.
    """
    latency = ExperimentMetric.LATENCY
    policy = ExperimentPolicy(metric=latency, smallest_effect=1, guardrails=(Guardrail(metric=ACCURACY, margin=0.02),))

    def answering(ms: float, labels: float) -> VersionEvidence:
        sums = {latency: Moments(5000, 5000 * ms, 5000 * 2 * ms**2), ACCURACY: Moments.of_events(labels, labels)}
        return VersionEvidence(5000, 0, sums)

    def judged(ms: float, *, ended: bool = False) -> ExperimentJudgement:
        return judge(answering(20, beside), answering(ms, labels), policy, ended=ended)

    better = judged(10)
    assert better.candidates["v2"].guardrails[0].state is GuardrailState.UNKNOWN
    assert (better.verdict, better.winner) == (ExperimentVerdict.RUNNING, None)
    assert "it is better, but is not sure to keep a guardrail yet: accuracy" in better.reason
    ended = judged(10, ended=True)
    assert ended.verdict is ExperimentVerdict.HOLD
    assert (
        "the experiment has ended, and it is better, but is not sure to keep a guardrail yet: accuracy" in ended.reason
    )
    assert judged(30).verdict is ExperimentVerdict.ROLLBACK, "what is worse waits for nothing"


def test_users_come_before_an_invalid_experiment() -> None:
    found = judge(seen(5250, 4200), seen(4750, 4400, errors=150), GUARDED)
    assert found.verdict is ExperimentVerdict.INVALID
    assert found.candidates["v2"].verdict is ExperimentVerdict.ROLLBACK


def test_candidates_and_guardrails_share_the_error_rate() -> None:
    shares = {"v1": 0.4, "v2": 0.2, "v3": 0.2, "v4": 0.2}
    stage = StageEvidence(shares, {version: seen(10_000 * share, 8_000 * share) for version, share in shares.items()})
    plain = judge_experiment(POLICY, "v1", ["v2", "v3", "v4"], [stage])
    assert plain.candidates["v3"].effect.alpha == pytest.approx(0.05 / 3)
    guarded = judge_experiment(GUARDED, "v1", ["v2", "v3", "v4"], [stage])
    assert guarded.candidates["v3"].effect.alpha == pytest.approx(0.05 / 3 * (1 - GUARDRAIL_PART))


def test_of_several_the_best_one_wins() -> None:
    shares = {"v1": 0.25, "v2": 0.25, "v3": 0.25, "v4": 0.25}
    right = {"v1": 4000, "v2": 4300, "v3": 4500, "v4": 3600}
    stage = StageEvidence(shares, {version: seen(5000, number) for version, number in right.items()})
    found = judge_experiment(POLICY, "v1", ["v2", "v3", "v4"], [stage])
    assert (found.verdict, found.winner) == (ExperimentVerdict.PROMOTE, "v3")
    assert [found.candidates[version].verdict.value for version in ("v2", "v3", "v4")] == [
        "PROMOTE", "PROMOTE", "ROLLBACK",
    ]  # fmt: skip
    assert found.reason.startswith("v3: ")


def test_shares_that_change_while_rates_change_promote_nobody() -> None:
    """The candidate looks far better over all labels together, as it has more of the good times."""
    first = StageEvidence({"v1": 0.9, "v2": 0.1}, {"v1": seen(9000, 4500), "v2": seen(1000, 500)})
    second = StageEvidence({"v1": 0.1, "v2": 0.9}, {"v1": seen(1000, 900), "v2": seen(9000, 8100)})
    found = judge_experiment(POLICY, "v1", ["v2"], [first, second])
    assert found.candidates["v2"].effect.estimate == pytest.approx(0)
    assert found.verdict is ExperimentVerdict.RUNNING


def test_a_shadow_is_compared_in_pairs_and_has_no_share() -> None:
    stage = StageEvidence({"v1": 1.0}, {"v1": seen(1000, 800)}, {"v2": Moments(1000, 60, 100)})
    found = judge_experiment(POLICY, "v1", ["v2"], [stage])
    assert found.verdict is ExperimentVerdict.PROMOTE
    assert found.candidates["v2"].effect.method == "asymptotic in pairs"
    assert found.candidates["v2"].effect.observations == 1000


def shadowed(metric: ExperimentMetric, pairs: Moments, failed: float = 0) -> ExperimentJudgement:
    """A shadow with these differences, as the store's evidence has it."""
    policy = ExperimentPolicy(metric=metric, design=ExperimentDesign.SHADOW, smallest_effect=0.1)
    count = float(pairs.count)
    sums, rows = {metric: Moments(count, count, count)}, Moments.of_events(failed, count + failed)
    versions = {"v1": VersionEvidence(9, count, sums), "v2": VersionEvidence(0, count, {**sums, ERRORS: rows})}
    stage = StageEvidence({"v1": 1.0}, versions, {"v2": pairs})
    return judge_experiment(policy, "v1", ["v2"], [stage])


def test_labels_of_a_shadow_are_those_of_the_control_and_have_no_shares() -> None:
    found = shadowed(ACCURACY, Moments(1000, 60, 100))
    assert (found.verdict, found.sample_ratio_p_value, found.arrival_p_value) == (ExperimentVerdict.PROMOTE, 1, 1)
    assert shadowed(ACCURACY, Moments(1000, -60, 100)).verdict is ExperimentVerdict.ROLLBACK


def test_errors_of_a_shadow_that_fails_on_many_rows_are_not_to_be_believed() -> None:
    """It is better on those that it can score, which may be the easier ones."""
    better = Moments(4000.0, -800.0, 1000.0)
    squared = ExperimentMetric.SQUARED_ERROR
    assert shadowed(squared, better, failed=20).verdict is ExperimentVerdict.PROMOTE, "half a per cent may be chance"
    found = shadowed(squared, better, failed=100)
    assert found.verdict is ExperimentVerdict.INVALID
    assert "v2 has no errors of the requests that it could not score, 100 of 4,100" in found.reason
    assert shadowed(ACCURACY, Moments(4000, 300, 400), failed=100).verdict is ExperimentVerdict.PROMOTE, (
        "there they count as wrong"
    )


def test_stages_that_contradict_each_other_decide_nothing() -> None:
    """So few events that they are compared exactly: all right and all wrong, and then the other way round."""
    one = StageEvidence(EVEN, {"v1": seen(29, 0), "v2": seen(29, 29)})
    other = StageEvidence(EVEN, {"v1": seen(29, 29), "v2": seen(29, 0)})
    found = judge_experiment(POLICY, "v1", ["v2"], [one, other])
    effect = found.candidates["v2"].effect
    assert (effect.method, found.verdict) == ("exact", ExperimentVerdict.RUNNING)


@pytest.mark.slow
def test_what_is_looked_at_all_the_time_is_rarely_decided_wrongly() -> None:
    """Of 60 experiments with equal versions and 25 looks, with 20 % allowed, more than 22 are one in 1,000 cases."""
    random = np.random.default_rng(12)
    policy = ExperimentPolicy(metric=ACCURACY, smallest_effect=0.05, error_rate=0.2)
    wrong = 0
    for _ in range(60):
        right = np.cumsum(random.binomial(100, 0.7, size=(25, 2)), axis=0)
        looks = (
            judge(seen(100 * n, first), seen(100 * n, second), policy).verdict
            for n, (first, second) in enumerate(right.tolist(), 1)
        )
        wrong += any(look in (ExperimentVerdict.PROMOTE, ExperimentVerdict.ROLLBACK) for look in looks)
    assert wrong <= 22
