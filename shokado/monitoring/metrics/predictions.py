"""How requests ended, and how long they took."""

from collections import defaultdict
from collections.abc import Sequence

from shokado.dispatch.fault import Fault
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.request import Prediction
from shokado.monitoring.metrics.buckets import SECONDS
from shokado.monitoring.metrics.metric_registry import NO_VERSION, MetricRegistry


class PredictionMetrics(PredictionObserver):
    """Metrics of predictions, by version."""

    def __init__(self, registry: MetricRegistry) -> None:
        self.requests = registry.counter(
            "shokado_requests", "Requests answered with a prediction.", ["version"], zeros=True
        )
        self.latency = registry.histogram(
            "shokado_latency_seconds", "Request received to answer written.", SECONDS, zeros=True
        )
        self.errors = registry.counter(
            "shokado_errors",
            "Requests answered with an error; of kind fell_back, with a prediction of the active version instead. "
            "What is the fault of the client counts for no version.",
            ["version", "kind", "fault"],
        )
        self.left = registry.counter(
            "shokado_cancelled", "Requests whose client left before the answer.", ["version"], zeros=True
        )
        self.in_flight: defaultdict[str, int] = defaultdict(int)
        self._in_flight = registry.gauge(
            "shokado_in_flight", "Requests being answered.", "livesum", ["version"], zeros=True
        )
        registry.before_flush(self._set_in_flight)

    def started(self, version: str, number: int) -> None:
        self.in_flight[version] += number

    def answered(self, version: str, predictions: Sequence[Prediction]) -> None:
        self.in_flight[version] -= len(predictions)
        self.requests.add(version, number=len(predictions))
        self.latency.pending[version] += [prediction.latency_s for prediction in predictions]

    def failed(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            if failure.prediction is not None:
                self.in_flight[failure.prediction.version] -= 1
            version = failure.version if failure.fault is not Fault.CLIENT else None
            self.errors.add(version or NO_VERSION, failure.kind, failure.fault)

    def cancelled(self, version: str, predictions: Sequence[Prediction]) -> None:
        self.in_flight[version] -= len(predictions)
        self.left.add(version, number=len(predictions))

    def _set_in_flight(self) -> None:
        for version, number in self.in_flight.items():
            self._in_flight.labels(version).set(number)
