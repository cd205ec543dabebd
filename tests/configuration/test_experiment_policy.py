"""The policy of an experiment refuses what cannot be judged."""

import pytest
from pydantic import ValidationError

from configuration.experiment_plan import ExperimentPlan
from configuration.experiment_policy import ExperimentDesign, ExperimentMetric, ExperimentPolicy, Guardrail


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metric": "error_rate"}, "neither limit nor margin"),
        ({"metric": "accuracy", "limit": 0.9}, "give a margin"),
        ({"metric": "latency", "limit": 0.9}, "give a margin"),
        ({"metric": "error_rate", "limit": 1.0}, "less than 1"),
        ({"metric": "error_rate", "margin": 0.0}, "greater than 0"),
        ({"metric": "speed", "margin": 1.0}, "Input should be"),
    ],
)
def test_a_guardrail_that_says_nothing_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Guardrail.model_validate(fields)


def test_an_effect_that_matters_must_be_given() -> None:
    with pytest.raises(ValidationError, match="smallest_effect"):
        ExperimentPolicy.model_validate({"metric": "accuracy"})
    with pytest.raises(ValidationError, match="greater than 0"):
        ExperimentPolicy(metric=ExperimentMetric.ACCURACY, smallest_effect=0)


def test_two_guardrails_of_one_metric_are_refused() -> None:
    one = Guardrail(metric=ExperimentMetric.ERROR_RATE, limit=0.01)
    with pytest.raises(ValidationError, match="the same metric"):
        ExperimentPolicy(metric=ExperimentMetric.ACCURACY, smallest_effect=0.01, guardrails=(one, one))


def test_each_metric_says_what_it_is() -> None:
    assert {metric for metric in ExperimentMetric if metric.higher_is_better} == {
        ExperimentMetric.ACCURACY, ExperimentMetric.REWARD, ExperimentMetric.AGREEMENT,
    }  # fmt: skip
    assert {metric.value for metric in ExperimentMetric if not metric.bounded} == {
        "squared_error", "absolute_error", "latency",
    }  # fmt: skip


SHADOW = ExperimentDesign.SHADOW


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metric": "agreement"}, "give design: shadow"),
        ({"metric": "accuracy", "guardrails": [{"metric": "agreement", "margin": 0.1}]}, "give design: shadow"),
        ({"metric": "agreement", "design": SHADOW, "smallest_effect": 1}, "must be below 1"),
        ({"metric": "reward", "design": SHADOW}, "there is no reward of it; accuracy, squared_error, absolute_error"),
        ({"metric": "latency", "design": SHADOW}, "there is no latency of it"),
        (
            {"metric": "accuracy", "design": SHADOW, "guardrails": [{"metric": "latency", "margin": 1}]},
            "is a limit of its error_rate",
        ),
        (
            {"metric": "accuracy", "design": SHADOW, "guardrails": [{"metric": "error_rate", "margin": 0.1}]},
            "is a limit of its error_rate",
        ),
        ({"metric": "accuracy", "design": "mirror"}, "design"),
    ],
)
def test_what_cannot_be_said_of_a_shadow_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ExperimentPolicy.model_validate({"smallest_effect": 0.01} | fields)


def test_a_shadow_can_be_asked_for_its_agreement_and_its_failures() -> None:
    rail = {"metric": "error_rate", "limit": 0.01}
    policy = ExperimentPolicy.model_validate(
        {"metric": "agreement", "design": "shadow", "smallest_effect": 0.01, "guardrails": [rail]}
    )
    assert (policy.design, policy.metric) == (SHADOW, ExperimentMetric.AGREEMENT)
    assert policy.metric.higher_is_better
    assert policy.metric.bounded
    assert not policy.metric.from_feedback


@pytest.mark.parametrize("sample", [0, 1.01, -1])
def test_a_sample_is_a_part(sample: float) -> None:
    with pytest.raises(ValidationError, match="sample"):
        ExperimentPlan(metric=ExperimentMetric.AGREEMENT, design=SHADOW, smallest_effect=0.01, sample=sample)
