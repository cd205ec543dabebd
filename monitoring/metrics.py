"""Prometheus metrics per version, over all worker processes of a server.

The hot path only appends to lists and adds to integers (`Recorder`); twice a second `Metrics.flush` adds them up into
`prometheus_client`, whose files in one folder per server make the workers' numbers one. Label values are bounded:
versions come from the configuration, kinds and reasons from code.
"""

import contextlib
import os
import shutil
import tempfile
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FLUSH_EVERY_S = 0.5
NO_VERSION = "none"
"""Label of what failed before a version was assigned."""

_LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_ROW_BUCKETS = tuple(float(2**power) for power in range(15))
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER_PREFIX = "shokado-metrics-"


@dataclass(slots=True)
class Recorder:
    """What happened to one version since the last flush, in the cheapest form."""

    latencies_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    batch_rows: list[int] = field(default_factory=list)
    batch_seconds: list[float] = field(default_factory=list)
    releases: Tally[str] = field(default_factory=Tally)
    errors: Tally[str] = field(default_factory=Tally)
    cancelled: int = 0
    in_flight: int = 0
    """Not reset by a flush."""

    def on_batch(self, waits_s: Iterable[float], rows: int, release: str, seconds: float) -> None:
        self.waits_s.extend(waits_s)
        self.batch_rows.append(rows)
        self.batch_seconds.append(seconds)
        self.releases[release] += 1


class Metrics:
    """The metrics of this worker process. Make one per process, after `prepare_folder`."""

    def __init__(self, versions: Iterable[str]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        registry = CollectorRegistry()
        self.recorders = {version: Recorder() for version in (*versions, NO_VERSION)}
        self._requests = Counter(
            "shokado_requests", "Requests answered with a prediction.", ["version"], registry=registry
        )
        self._rows = Counter("shokado_rows", "Rows scored.", ["version"], registry=registry)
        self._errors = Counter(
            "shokado_errors", "Requests answered with an error.", ["version", "kind"], registry=registry
        )
        self._cancelled = Counter(
            "shokado_cancelled", "Requests whose client left before the answer.", ["version"], registry=registry
        )
        self._releases = Counter(
            "shokado_batches",
            "Batches, by why they were sent off when they were.",
            ["version", "release"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "shokado_in_flight", "Requests being answered.", ["version"], registry=registry, multiprocess_mode="livesum"
        )
        tallied = _tallied_histogram()
        self._latency = tallied(
            "shokado_latency_seconds", "Request received to answer written.", ["version"],
            registry=registry, buckets=_LATENCY_BUCKETS_S,
        )  # fmt: skip
        self._wait = tallied(
            "shokado_queue_wait_seconds", "Time a request waited for its batch.", ["version"],
            registry=registry, buckets=_LATENCY_BUCKETS_S,
        )  # fmt: skip
        self._batch_rows = tallied(
            "shokado_batch_rows", "Rows of a batch.", ["version"], registry=registry, buckets=_ROW_BUCKETS
        )
        self._batch_seconds = tallied(
            "shokado_batch_seconds", "Time the engine took for a batch.", ["version"],
            registry=registry, buckets=_LATENCY_BUCKETS_S,
        )  # fmt: skip
        self.flush()

    def started(self, version: str) -> None:
        self.recorders[version].in_flight += 1

    def answered(self, version: str, seconds: float) -> None:
        recorder = self.recorders[version]
        recorder.in_flight -= 1
        recorder.latencies_s.append(seconds)

    def failed(self, version: str | None, kind: str) -> None:
        """`version` is none for what failed before one was assigned, and was therefore never `started`."""
        recorder = self.recorders[version or NO_VERSION]
        recorder.in_flight -= version is not None
        recorder.errors[kind] += 1

    def cancelled(self, version: str) -> None:
        recorder = self.recorders[version]
        recorder.in_flight -= 1
        recorder.cancelled += 1

    def batch(self, version: str, waits_s: Iterable[float], rows: int, release: str, seconds: float) -> None:
        self.recorders[version].on_batch(waits_s, rows, release, seconds)

    def flush(self) -> None:
        """Add what was recorded to the shared files."""
        for version, recorder in self.recorders.items():
            self.recorders[version] = Recorder(in_flight=recorder.in_flight)
            self._requests.labels(version).inc(len(recorder.latencies_s))
            self._rows.labels(version).inc(sum(recorder.batch_rows))
            self._cancelled.labels(version).inc(recorder.cancelled)
            self._in_flight.labels(version).set(recorder.in_flight)
            for kind, number in recorder.errors.items():
                self._errors.labels(version, kind).inc(number)
            for release, number in recorder.releases.items():
                self._releases.labels(version, release).inc(number)
            self._latency.labels(version).observe_all(recorder.latencies_s)
            self._wait.labels(version).observe_all(recorder.waits_s)
            self._batch_rows.labels(version).observe_all(recorder.batch_rows)
            self._batch_seconds.labels(version).observe_all(recorder.batch_seconds)


def _tallied_histogram() -> type:
    """A histogram that takes many observations at the price of one; made lazily, see `prepare_folder`."""
    from prometheus_client import Histogram

    class TalliedHistogram(Histogram):
        def observe_all(self, values: list[float]) -> None:
            # prometheus_client has no public call for this; its buckets are not cumulative until they are collected.
            buckets = np.searchsorted(self._upper_bounds, np.asarray(values, dtype=np.float64))
            for bucket, number in enumerate(np.bincount(buckets).tolist()):
                if number:
                    self._buckets[bucket].inc(number)
            self._sum.inc(sum(values))

    return TalliedHistogram


def prepare_folder() -> Path:
    """Give all processes of this server, and no other server, one folder for their numbers; call before `Metrics`.

    BentoML's own folder is shared by all servers of a BENTOML_HOME, and wiped when one of them starts.
    """
    parent = os.getppid()
    root = Path(tempfile.gettempdir())
    folder = root / f"{_FOLDER_PREFIX}{os.getuid()}-{parent}-{_start_ticks(parent)}"
    _remove_folders_of_dead_servers(root)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return folder


def exposition(folder: Path) -> tuple[str, bytes]:
    """Content type and Prometheus text of all workers that share `folder`."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if _start_ticks(pid) is None:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def _remove_folders_of_dead_servers(root: Path) -> None:
    for folder in root.glob(f"{_FOLDER_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(ValueError):
            pid, started = (int(part) for part in folder.name.rsplit("-", 2)[1:])
            if _start_ticks(pid) != started:
                shutil.rmtree(folder, ignore_errors=True)


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; none when there is no such process.

    Together with the pid it names a process for good, which a time of day would not: the clock may be set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
