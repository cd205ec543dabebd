"""How the experiment of each environment stands, as all workers counted it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan

from shokado.dispatch.experiment import Experiment, Result, VersionResult
from shokado.monitoring.metrics.metric_registry import MetricRegistry

RUNNING = "RUNNING"
VERDICTS = (RUNNING, *(result.value for result in Result))
_BOUNDS = ("low", "estimate", "high")


@dataclass(frozen=True, slots=True)
class ExperimentFigures:
    """What is known of an experiment; None where nothing is."""

    verdict: str
    """One of `VERDICTS`."""
    versions: Mapping[str, VersionResult]
    sample_ratio_p_value: float | None = None
    arrival_p_value: float | None = None


class ExperimentMetrics:
    """Metrics of experiments, by environment: of all machines that share the store, so not to be added up over them.

    Labels are names of the routing and words of the code. An experiment's id is none of them, as there are ever more: a
    series is of the environment's last experiment. What is not known any more becomes NaN, which no alert is above, and
    a verdict that does not hold is 0.
    """

    def __init__(self, registry: MetricRegistry) -> None:
        self._info = registry.gauge(
            "shokado_experiment_info",
            "1 for what an environment's experiment compares, and by what.",
            "livemostrecent",
            ["environment", "control", "metric", "at_end"],
        )
        self._verdict = registry.gauge(
            "shokado_experiment_verdict",
            "1 for the verdict on an environment's experiment, 0 for all others.",
            "livemostrecent",
            ["environment", "verdict"],
        )
        self._effect = registry.gauge(
            "shokado_experiment_effect",
            "A candidate's mean less the control's, in units of the metric, with its confidence sequence.",
            "livemostrecent",
            ["environment", "version", "bound"],
        )
        by_version = ["environment", "version"]
        self._units = registry.gauge(
            "shokado_experiment_units",
            "Units or requests assigned, of a sample where many.",
            "livemostrecent",
            by_version,
        )
        self._observations = registry.gauge(
            "shokado_experiment_observations", "Values of the metric, such as labels.", "livemostrecent", by_version
        )
        self._sample_ratio = registry.gauge(
            "shokado_experiment_sample_ratio_p_value",
            "Sequential p-value of units having come by the shares.",
            "livemostrecent",
            ["environment"],
        )
        self._arrival = registry.gauge(
            "shokado_experiment_arrival_p_value",
            "Sequential p-value of labels having come alike for all versions.",
            "livemostrecent",
            ["environment"],
        )
        self._stages = registry.gauge(
            "shokado_experiment_stages", "Times with shares of their own so far.", "livemostrecent", ["environment"]
        )
        self._told: dict[str, Experiment | None] = {}
        """The experiment that was told last of each environment."""

    def told(self, environment: str, experiment: Experiment, figures: ExperimentFigures) -> None:
        """Tell how the environment's experiment stands."""
        before = self._told.get(environment)
        if before is not None and before.id != experiment.id:
            self._forget(environment, before)
        self._told[environment] = experiment
        self._info.labels(*_info_of(environment, experiment)).set(1)
        for verdict in VERDICTS:
            self._verdict.labels(environment, verdict).set(verdict == figures.verdict)
        for version, result in figures.versions.items():
            self._units.labels(environment, version).set(result.assigned)
            self._observations.labels(environment, version).set(result.observations)
        for version in experiment.candidates:
            for bound, value in zip(_BOUNDS, _effect_of(figures.versions.get(version)), strict=True):
                self._effect.labels(environment, version, bound).set(_number(value))
        self._sample_ratio.labels(environment).set(_number(figures.sample_ratio_p_value))
        self._arrival.labels(environment).set(_number(figures.arrival_p_value))
        self._stages.labels(environment).set(len(experiment.stages))

    def without(self, environment: str) -> None:
        """Tell that the environment has no experiment to tell of."""
        before = self._told.get(environment)
        if before is not None:
            self._forget(environment, before)
        self._told[environment] = None
        for verdict in VERDICTS:
            self._verdict.labels(environment, verdict).set(0)

    def unknown(self, known: Iterable[str]) -> None:
        """Tell that of the environments that were told once, only these are known."""
        for environment in self._told.keys() - set(known):
            self.without(environment)
            del self._told[environment]

    def _forget(self, environment: str, experiment: Experiment) -> None:
        self._info.labels(*_info_of(environment, experiment)).set(0)
        for version in experiment.versions:
            self._units.labels(environment, version).set(nan)
            self._observations.labels(environment, version).set(nan)
        for version in experiment.candidates:
            for bound in _BOUNDS:
                self._effect.labels(environment, version, bound).set(nan)
        for gauge in (self._sample_ratio, self._arrival, self._stages):
            gauge.labels(environment).set(nan)


def _info_of(environment: str, experiment: Experiment) -> tuple[str, str, str, str]:
    return environment, experiment.control, experiment.plan.metric.value, experiment.plan.at_end.value


def _effect_of(result: VersionResult | None) -> tuple[float | None, float | None, float | None]:
    """In the order of `_BOUNDS`."""
    return (None, None, None) if result is None else (result.low, result.effect, result.high)


def _number(value: float | None) -> float:
    return nan if value is None else value
