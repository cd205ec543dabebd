"""All groups of metrics of a worker. One more is a file beside this one, and a line here."""

from collections.abc import Iterable, Mapping

from runners.artefacts.scores import PROBABILITY_BOUNDS
from shokado.monitoring.metrics.access import AccessMetrics
from shokado.monitoring.metrics.batches import BatchMetrics
from shokado.monitoring.metrics.cache_use import CacheMetrics
from shokado.monitoring.metrics.metric_registry import MetricRegistry
from shokado.monitoring.metrics.predictions import PredictionMetrics
from shokado.monitoring.metrics.routing_state import RoutingMetrics
from shokado.monitoring.metrics.runners import RunnerMetrics
from shokado.monitoring.metrics.shadows import ShadowMetrics
from shokado.monitoring.metrics.storage import StorageMetrics


class Metrics:
    """Make one per process, after `prepare_folder`."""

    def __init__(
        self,
        versions: Iterable[str],
        score_buckets: tuple[float, ...] = PROBABILITY_BOUNDS,
        classes: tuple[str, ...] = (),
        output_buckets: Mapping[str, tuple[float, ...]] | None = None,
    ) -> None:
        """`score_buckets`, `classes` and `output_buckets` as of `BatchMetrics`."""
        self.registry = MetricRegistry(versions)
        self.storage = StorageMetrics(self.registry)
        self.predictions = PredictionMetrics(self.registry)
        self.batches = BatchMetrics(self.registry, score_buckets, classes, output_buckets)
        self.routing = RoutingMetrics(self.registry)
        self.shadows = ShadowMetrics(self.registry)
        self.cache = CacheMetrics(self.registry)
        self.runners = RunnerMetrics(self.registry)
        self.access = AccessMetrics(self.registry)
        self.registry.flush()
