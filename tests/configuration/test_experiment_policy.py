"""The policy of an experiment refuses what cannot be judged."""

import pytest
from pydantic import ValidationError

from configuration.experiment_policy import ExperimentMetric, ExperimentPolicy, Guardrail


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
        ExperimentMetric.ACCURACY, ExperimentMetric.REWARD,
    }  # fmt: skip
    assert {metric.value for metric in ExperimentMetric if not metric.bounded} == {
        "squared_error", "absolute_error", "latency",
    }  # fmt: skip
