"""Where the workers keep what they count."""

from shokado.monitoring import files
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class StorageMetrics:
    """Metrics of the files of the metrics themselves."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._renewal = files.Renewal()
        self._in_memory = registry.gauge(
            "shokado_metrics_in_memory",
            "Workers that count in their memory, as the folder of temporary files is full or cannot be written.",
            "livesum",
        )
        registry.before_flush(self._look)

    def _look(self) -> None:
        self._renewal.look()
        self._in_memory.set(files.MetricsFile.lost is not None)
