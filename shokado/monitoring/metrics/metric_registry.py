"""The metrics of a worker process: what groups declare here is added up off the path of requests.

    group, told of something --> pending sums and values --(`flush`, twice a second)--> files of the folder

`prometheus_client` takes some 2 us for an observation; to note one for a flush takes a twentieth of that. Its files
make the workers' numbers one (see `folder`). Labels are bounded: versions come from the routing, all else from code.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLUSH_EVERY_S = 0.5
"""How often counts go into the files: no request writes there, and no scrape misses more than this."""
NO_VERSION = "none"
"""Label of what failed before a version was assigned, and of what no version is to blame for."""


class PendingCounter:
    """A counter, and what is to be added to it at the next flush."""

    def __init__(self, counter: Any) -> None:
        self.pending: defaultdict[tuple[str, ...], float] = defaultdict(float)
        """By the values of its labels, in their order."""
        self._counter = counter

    def add(self, *labels: str, number: float = 1) -> None:
        self.pending[labels] += number

    def flush(self) -> None:
        pending, self.pending = self.pending, defaultdict(float)
        for labels, number in pending.items():
            (self._counter.labels(*labels) if labels else self._counter).inc(number)


class PendingHistogram:
    """A histogram by version, or by another label, and what it is to observe at the next flush."""

    def __init__(self, histogram: Any) -> None:
        self.pending: defaultdict[str, list[float]] = defaultdict(list)
        """By version, or by what the label says."""
        self._histogram = histogram

    def observe(self, label: str, values: Sequence[float] | NDArray[np.float32]) -> None:
        """Observe these at once."""
        self._histogram.labels(label).observe_all(values)

    def flush(self) -> None:
        pending, self.pending = self.pending, defaultdict(list)
        for version, values in pending.items():
            self.observe(version, values)


class MetricRegistry:
    """The metrics of this process. Make one per process, after `prepare_folder`."""

    def __init__(self, versions: Iterable[str]) -> None:
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()
        self._versions = {*versions, NO_VERSION}
        self._by_version: list[Any] = []
        """Metrics that show a zero for each version from the start."""
        self._pending: list[PendingCounter | PendingHistogram] = []
        self._before: list[Callable[[], None]] = []

    def counter(self, name: str, meaning: str, labels: Sequence[str], *, zeros: bool = False) -> PendingCounter:
        """Declare a counter; with `zeros`, its only label is the version, and each version has a series at once."""
        from prometheus_client import Counter

        counter = Counter(name, meaning, labels, registry=self._registry)
        pending = PendingCounter(counter)
        self._declare(counter, zeros=zeros)
        self._pending.append(pending)
        return pending

    def histogram(
        self, name: str, meaning: str, buckets: Sequence[float], *, zeros: bool = False, label: str = "version"
    ) -> PendingHistogram:
        """Declare a histogram by version, or by what another label says; `buckets` are upper bounds, ascending."""
        histogram = tallied_histogram()(name, meaning, [label], registry=self._registry, buckets=buckets)
        pending = PendingHistogram(histogram)
        self._declare(histogram, zeros=zeros)
        self._pending.append(pending)
        return pending

    def gauge(self, name: str, meaning: str, mode: Any, labels: Sequence[str] = (), *, zeros: bool = False) -> Any:
        """Declare a gauge of `prometheus_client`, which is set at once; `mode` says how workers' values become one."""
        from prometheus_client import Gauge

        gauge = Gauge(name, meaning, labels, registry=self._registry, multiprocess_mode=mode)
        self._declare(gauge, zeros=zeros)
        return gauge

    def before_flush(self, work: Callable[[], None]) -> None:
        """Have this done at the beginning of each flush."""
        self._before.append(work)

    def add_version(self, version: str) -> None:
        """Show this version as well from now on."""
        if version not in self._versions:
            self._versions.add(version)
            for metric in self._by_version:
                metric.labels(version)

    def flush(self) -> None:
        """Add what is pending to the shared files."""
        for work in self._before:
            work()
        for pending in self._pending:
            pending.flush()

    def _declare(self, metric: Any, *, zeros: bool) -> None:
        if zeros:
            self._by_version.append(metric)
            for version in sorted(self._versions):
                metric.labels(version)


def tallied_histogram() -> type:
    """A histogram that takes many observations at the price of one; made lazily, as `prometheus_client` looks
    at its folder when it is imported.
    """
    from prometheus_client import Histogram

    class TalliedHistogram(Histogram):
        def observe_all(self, values: Sequence[float] | NDArray[np.float32]) -> None:
            # prometheus_client has no public call for this; its buckets are not cumulative until they are collected.
            numbers = np.asarray(values, dtype=np.float64)
            buckets = np.searchsorted(self._upper_bounds, numbers)
            for bucket, number in enumerate(np.bincount(buckets).tolist()):
                if number:
                    self._buckets[bucket].inc(number)
            self._sum.inc(float(numbers.sum()))

    return TalliedHistogram
