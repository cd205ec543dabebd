"""Effects over time: each point is what a look had told then, and the last one is that of now."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentMetric, Guardrail
from shokado.dispatch.experiment import Experiment, ExperimentStage
from shokado.experiments.effects_over_time import MAX_POINTS, effects_over_time
from shokado.experiments.experiment_counts import REQUESTS, labelled_scope, one_observation, sums_named
from shokado.experiments.experiment_stages import policy_of, stages_of
from shokado.experiments.experiment_verdict import Effect, judge_experiment
from shokado.stores.evidence import CountedEvidence, Evidence

BEGIN = 1_790_000_000
COHORT_S = 5
NOW = BEGIN + 10_000.0
VERSIONS = ("v1", "v2", "v3")


def experiment_of(metric: ExperimentMetric, *generations: int, **plan: Any) -> Experiment:
    shares = {"v1": 0.5, "v2": 0.3, "v3": 0.2}
    stages = tuple(ExperimentStage(generation, shares, is_sticky=True) for generation in generations)
    content = ExperimentPlan(
        metric=metric, smallest_effect=0.05, max_duration_s=COHORT_S * 200, label_delay_s=900, **plan
    )
    return Experiment("e1", "v1", ("v2", "v3"), content, float(BEGIN), stages)


def observed(metric: ExperimentMetric, means: Mapping[str, float], cohorts: int, each: int, seed: int = 0) -> Any:
    """So many observations of each version in each cohort; the first half of the cohorts in stage 2, others in 7."""
    random, rows = np.random.default_rng(seed), dict[Evidence, float]()
    for index in range(cohorts):
        stage = 2 if index < cohorts / 2 else 7
        for version, mean in means.items():
            values = random.random(each) < mean if metric.bounded else random.lognormal(np.log(mean), 0.5, each)
            sums = one_observation(metric, 0.0)
            for value in values.tolist():
                for name, number in one_observation(metric, float(value)).items():
                    sums[name] += number
            sums[sums_named(metric)[0]] = float(each)
            for name, number in (sums | {REQUESTS: float(each)}).items():
                rows[Evidence(stage, version, BEGIN + index * COHORT_S, name)] = number
    return rows


def effect_at(experiment: Experiment, evidence: CountedEvidence, end: float, candidate: str) -> Effect:
    """What a look at the evidence up to then had told."""
    gathered = evidence.before(end)
    stages = stages_of(experiment, gathered, gathered)
    judgement = judge_experiment(policy_of(experiment.plan, gathered), "v1", ("v2", "v3"), stages)
    return judgement.candidates[candidate].effect


def told(number: float) -> float | None:
    return number if np.isfinite(number) else None


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(
    metric=st.sampled_from([ExperimentMetric.REWARD, ExperimentMetric.LATENCY]),
    cohorts=st.integers(1, 12),
    each=st.sampled_from([1, 40, 300]),
    seed=st.integers(0, 5),
    halved=st.booleans(),
    guarded=st.booleans(),
)
def test_each_point_is_what_a_look_had_told(
    metric: ExperimentMetric, cohorts: int, each: int, seed: int, *, halved: bool, guarded: bool
) -> None:
    rails = (Guardrail(metric=ExperimentMetric.ERROR_RATE, margin=0.1),) if guarded else ()
    experiment = experiment_of(metric, 2, 7, guardrails=rails)
    rows = observed(metric, {"v1": 0.3, "v2": 0.5, "v3": 0.3}, cohorts, each, seed)
    halvings = {labelled_scope(metric): 1} if halved else {}
    evidence = CountedEvidence(rows, halvings)
    found = effects_over_time(experiment, evidence, np.inf, NOW)
    ends = [BEGIN + (index + 1) * COHORT_S for index in range(cohorts)]
    assert list(found.at) == ends
    for candidate in ("v2", "v3"):
        curve = found.candidates[candidate]
        for index, end in enumerate(ends):
            effect = effect_at(experiment, evidence, end, candidate)
            expected = [told(number) for number in (effect.estimate, effect.low, effect.high)]
            assert [curve.estimate[index], curve.low[index], curve.high[index]] == pytest.approx(expected, abs=1e-9)
            assert curve.observations[index] == effect.observations


def test_cohorts_whose_labels_had_no_time_to_come_are_left_out() -> None:
    experiment = experiment_of(ExperimentMetric.REWARD, 2, 7)
    evidence = CountedEvidence(observed(ExperimentMetric.REWARD, {"v1": 0.3, "v2": 0.5}, 4, 10), {})
    found = effects_over_time(experiment, evidence, BEGIN + 2 * COHORT_S, NOW)
    assert list(found.at) == [BEGIN + COHORT_S, BEGIN + 2 * COHORT_S]
    assert found.candidates["v2"].observations == (10, 20)
    assert found.candidates["v3"].estimate == (None, None), "nobody has asked it"


def test_a_cohort_that_goes_on_ends_now() -> None:
    experiment = experiment_of(ExperimentMetric.LATENCY, 2)
    evidence = CountedEvidence(observed(ExperimentMetric.LATENCY, {"v1": 9.0}, 2, 10), {})
    found = effects_over_time(experiment, evidence, np.inf, BEGIN + COHORT_S + 1.5)
    assert list(found.at) == [BEGIN + COHORT_S, BEGIN + COHORT_S + 1.5]


def test_of_many_cohorts_some_are_told_and_the_last_one_always() -> None:
    experiment = experiment_of(ExperimentMetric.REWARD, 2, 7)
    evidence = CountedEvidence(observed(ExperimentMetric.REWARD, {"v1": 0.5, "v2": 0.5, "v3": 0.5}, 200, 1), {})
    found = effects_over_time(experiment, evidence, np.inf, NOW)
    assert len(found.at) == MAX_POINTS
    assert found.at == tuple(sorted(set(found.at)))
    assert found.at[-1] == BEGIN + 200 * COHORT_S
    assert found.candidates["v2"].observations[-1] == 200


def test_what_was_counted_in_no_stage_that_is_known_says_nothing() -> None:
    evidence = CountedEvidence(observed(ExperimentMetric.REWARD, {"v1": 0.5, "v2": 0.5}, 2, 9), {})
    found = effects_over_time(experiment_of(ExperimentMetric.REWARD), evidence, np.inf, NOW)
    assert found.candidates["v2"].observations == (0, 0)
    assert found.candidates["v2"].estimate == (None, None)


@pytest.mark.parametrize("generations", [(), (2,)])
def test_nothing_is_told_of_what_nobody_has_counted(generations: tuple[int, ...]) -> None:
    found = effects_over_time(experiment_of(ExperimentMetric.REWARD, *generations), CountedEvidence({}, {}), 1e12, NOW)
    assert found.at == ()
    assert {name: curve.low for name, curve in found.candidates.items()} == {"v2": (), "v3": ()}
