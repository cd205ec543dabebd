"""Metrics of experiments say how the last one of each environment stands, and forget what is not known any more."""

import math
from dataclasses import replace

from configuration.experiment_plan import AtEnd, ExperimentPlan
from configuration.experiment_policy import ExperimentMetric
from shokado.dispatch.experiment import Experiment, ExperimentStage, VersionResult
from shokado.monitoring.metrics.experiment_figures import VERDICTS, ExperimentFigures, ExperimentMetrics
from shokado.monitoring.metrics.metric_registry import MetricRegistry

PLAN = ExperimentPlan(metric=ExperimentMetric.REWARD, smallest_effect=0.1, at_end=AtEnd.PROMOTE)
STAGES = tuple(ExperimentStage(generation, {"v1": 0.5, "v2": 0.5}, is_sticky=True) for generation in (2, 5))
EXPERIMENT = Experiment("e1", "v1", ("v2",), PLAN, 1_790_000_000.0, STAGES)
INFO = ("info", "production", "v1", "reward", "promote")
FIGURES = ExperimentFigures(
    "INVALID",
    {"v1": VersionResult(400, 100, 0.25), "v2": VersionResult(420, 90, 0.5, 0.25, 0.125, None)},
    sample_ratio_p_value=0.03125,
)


def told(registry: MetricRegistry) -> dict[tuple[str, ...], float]:
    """Each value by the metric's name, without its prefix, and its labels."""
    return {
        (sample.name.removeprefix("shokado_experiment_"), *sample.labels.values()): sample.value
        for family in registry._registry.collect()
        for sample in family.samples
    }


def known(registry: MetricRegistry) -> dict[tuple[str, ...], float]:
    """Those that are numbers, and hold."""
    return {key: value for key, value in told(registry).items() if value and not math.isnan(value)}


def test_all_that_is_known_is_told() -> None:
    registry = MetricRegistry(["v1", "v2"])
    ExperimentMetrics(registry).told("production", EXPERIMENT, FIGURES)
    assert known(registry) == {
        INFO: 1,
        ("verdict", "production", "INVALID"): 1,
        ("effect", "production", "v2", "estimate"): 0.25,
        ("effect", "production", "v2", "low"): 0.125,
        ("units", "production", "v1"): 400,
        ("units", "production", "v2"): 420,
        ("observations", "production", "v1"): 100,
        ("observations", "production", "v2"): 90,
        ("sample_ratio_p_value", "production"): 0.03125,
        ("stages", "production"): 2,
    }
    found = told(registry)
    assert math.isnan(found["effect", "production", "v2", "high"])
    assert math.isnan(found["arrival_p_value", "production"])
    assert {key[2] for key in found if key[0] == "verdict"} == set(VERDICTS)


def test_another_experiment_takes_the_place_of_the_last_one() -> None:
    registry = MetricRegistry(["v1", "v2"])
    metrics = ExperimentMetrics(registry)
    metrics.told("production", EXPERIMENT, FIGURES)
    other = replace(EXPERIMENT, id="e2", control="v2", candidates=("v3",), stages=STAGES[:1])
    metrics.told("production", other, ExperimentFigures("RUNNING", {}))
    assert known(registry) == {
        ("info", "production", "v2", "reward", "promote"): 1,
        ("verdict", "production", "RUNNING"): 1,
        ("stages", "production"): 1,
    }


def test_each_environment_is_forgotten_by_itself() -> None:
    registry = MetricRegistry(["v1", "v2"])
    metrics = ExperimentMetrics(registry)
    metrics.told("production", EXPERIMENT, FIGURES)
    metrics.told("staging", EXPERIMENT, FIGURES)
    before = known(registry)
    metrics.unknown(["staging"])
    assert known(registry) == {key: value for key, value in before.items() if key[1] == "staging"}
    metrics.without("staging")
    assert known(registry) == {}
    metrics.unknown([])
    metrics.told("staging", EXPERIMENT, FIGURES)
    assert known(registry) == {key: value for key, value in before.items() if key[1] == "staging"}


def test_where_there_is_none_no_verdict_holds() -> None:
    registry = MetricRegistry(["v1"])
    ExperimentMetrics(registry).without("production")
    assert told(registry) == {("verdict", "production", verdict): 0 for verdict in VERDICTS}
