"""All groups of metrics of a worker. One more is a file beside this one, and a line here."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from runners.artefacts.scores import PROBABILITY_BOUNDS
from shokado.monitoring.metrics.access import AccessMetrics
from shokado.monitoring.metrics.batches import BatchMetrics
from shokado.monitoring.metrics.cache_use import CacheMetrics
from shokado.monitoring.metrics.drifted_columns import DriftMetrics
from shokado.monitoring.metrics.experiment_figures import ExperimentMetrics
from shokado.monitoring.metrics.explanations import ExplanationMetrics
from shokado.monitoring.metrics.feature_lookups import FeatureMetrics
from shokado.monitoring.metrics.log_shipping import LogShippingMetrics
from shokado.monitoring.metrics.metric_registry import MetricRegistry
from shokado.monitoring.metrics.predictions import PredictionMetrics
from shokado.monitoring.metrics.request_records import RequestLogMetrics
from shokado.monitoring.metrics.retraining_calls import RetrainingMetrics
from shokado.monitoring.metrics.routing_state import RoutingMetrics
from shokado.monitoring.metrics.runners import RunnerMetrics
from shokado.monitoring.metrics.shadows import ShadowMetrics
from shokado.monitoring.metrics.storage import StorageMetrics
from shokado.monitoring.metrics.system import MachineMetrics
from shokado.monitoring.metrics.trace_spans import TraceMetrics


class Metrics:
    """Make one per process, after `prepare_folder`."""

    def __init__(
        self,
        versions: Iterable[str],
        score_buckets: tuple[float, ...] = PROBABILITY_BOUNDS,
        classes: tuple[str, ...] = (),
        output_buckets: Mapping[str, tuple[float, ...]] | None = None,
        disk_folder: Path = Path(),
    ) -> None:
        """`disk_folder` as of `MachineMetrics`, all else as of `BatchMetrics`."""
        self.registry = MetricRegistry(versions)
        self.storage = StorageMetrics(self.registry)
        self.predictions = PredictionMetrics(self.registry)
        self.batches = BatchMetrics(self.registry, score_buckets, classes, output_buckets)
        self.routing = RoutingMetrics(self.registry)
        self.shadows = ShadowMetrics(self.registry)
        self.cache = CacheMetrics(self.registry)
        self.runners = RunnerMetrics(self.registry)
        self.access = AccessMetrics(self.registry)
        self.request_log = RequestLogMetrics(self.registry)
        self.drift = DriftMetrics(self.registry)
        self.experiments = ExperimentMetrics(self.registry)
        self.retraining = RetrainingMetrics(self.registry)
        self.explanations = ExplanationMetrics(self.registry)
        self.features = FeatureMetrics(self.registry)
        self.log_shipping = LogShippingMetrics(self.registry)
        self.machine = MachineMetrics(self.registry, disk_folder)
        self.traces = TraceMetrics(self.registry)
        self.registry.flush()
