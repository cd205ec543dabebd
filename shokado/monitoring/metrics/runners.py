"""Runners: engines that take too long, and versions that are elsewhere."""

from collections.abc import Mapping

from runners.remote_runner import RemoteRunner
from runners.runner import Runner
from shokado.monitoring.metrics.metric_registry import MetricRegistry


class RunnerMetrics:
    """Metrics of the versions in memory."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._overruns = registry.counter(
            "shokado_engine_overruns",
            "Batches that took an engine too long: moved from the event loop to its thread, failed, or lost with the "
            "thread.",
            ["version", "outcome"],
        )
        self._remote_batches = registry.counter(
            "shokado_remote_batches",
            "Batches sent to another server, by what became of them.",
            ["version", "outcome"],
        )
        self._remote_retries = registry.counter(
            "shokado_remote_retries", "Batches sent once more after their connection was cut.", ["version"]
        )
        self._remote_ejections = registry.counter(
            "shokado_remote_ejections",
            "Times that a worker left a version elsewhere alone for its failures.",
            ["version"],
        )
        self._remote_up = registry.gauge(
            "shokado_remote_up", "1 while a version elsewhere is ready in all workers.", "livemin", ["version"]
        )

    def look(self, runners: Mapping[str, Runner]) -> None:
        """Add what happened since this last looked."""
        for version, runner in runners.items():
            for outcome, number in runner.take_overruns().items():
                self._overruns.add(version, outcome, number=number)
            if isinstance(runner, RemoteRunner):
                self._look_elsewhere(version, runner)

    def _look_elsewhere(self, version: str, runner: RemoteRunner) -> None:
        counts = runner.flush()
        self._remote_batches.add(version, "scored", number=counts.scored)
        self._remote_batches.add(version, "refused", number=counts.refused)
        self._remote_batches.add(version, "failed", number=counts.failed)
        self._remote_batches.add(version, "overloaded", number=counts.overloaded)
        self._remote_batches.add(version, "late", number=counts.late)
        self._remote_retries.add(version, number=counts.retries)
        self._remote_ejections.add(version, number=counts.ejections)
        self._remote_up.labels(version).set(runner.ready)
