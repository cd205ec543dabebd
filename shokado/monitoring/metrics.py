"""Prometheus metrics per version, over all worker processes of a server.

The hot path only appends to lists and adds to integers (`Recorder`); twice a second `Metrics.flush` adds them up into
`prometheus_client`, whose files in one folder per server make the workers' numbers one. Label values are bounded:
versions come from the configuration, kinds and reasons from code.
"""

import contextlib
import math
import os
import shutil
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configuration.temporary import temporary_folder
from runners.artefacts.scores import PROBABILITY_BOUNDS, likeliest
from shokado.monitoring import files
from shokado.monitoring.ended import collect, keep_ended
from shokado.monitoring.process_identity import start_ticks

FLUSH_EVERY_S = 0.5
NO_VERSION = "none"
"""Label of what failed before a version was assigned, and of what no version is to blame for."""
FELL_BACK = "fell_back"
"""Kind of error that no client saw: the version failed, or was not ready, and the active one answered instead."""

_LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_ROW_BUCKETS = tuple(float(2**power) for power in range(15))
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER_PREFIX = "shokado-metrics-"


class Fault(StrEnum):
    """Whose fault an error is. One that is the client's never counts against a version, whoever looks at it."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(slots=True)
class Recorder:
    """What happened to one version since the last flush, in the cheapest form."""

    latencies_s: list[float] = field(default_factory=list)
    rows: int = 0
    """Of the requests that were answered."""
    waits_s: list[float] = field(default_factory=list)
    batch_rows: list[int] = field(default_factory=list)
    batch_seconds: list[float] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    releases: Tally[str] = field(default_factory=Tally)
    errors: Tally[str] = field(default_factory=Tally)
    """By kind: the server's fault."""
    client_errors: Tally[str] = field(default_factory=Tally)
    cancelled: int = 0
    in_flight: int = 0
    """Not reset by a flush."""

    def on_batch(
        self,
        waits_s: Iterable[float],
        rows: int,
        release: str,
        seconds: float,
        scores: NDArray[np.float32] | None,
    ) -> None:
        self.waits_s.extend(waits_s)
        self.batch_rows.append(rows)
        self.batch_seconds.append(seconds)
        self.releases[release] += 1
        if scores is not None:
            self.scores.append(scores)


@dataclass(slots=True)
class Outcomes:
    """How a version's requests ended, since `Metrics.take_outcomes` was last asked."""

    requests: int = 0
    """Answered with a prediction."""
    rows: int = 0
    on_time: int = 0
    """Of `requests`: answered within the latency target."""
    failed: int = 0
    """Assigned to the version, and answered with an error that was not the client's fault."""


class Metrics:
    """The metrics of this worker process. Make one per process, after `prepare_folder`."""

    def __init__(
        self,
        versions: Iterable[str],
        score_buckets: tuple[float, ...] = PROBABILITY_BOUNDS,
        classes: tuple[str, ...] = (),
        on_time_s: float = math.inf,
    ) -> None:
        """`score_buckets` are the upper bounds that scores of one number a row are counted by; `classes` are named by
        the columns of scores that have several. An answer within `on_time_s` is on time.
        """
        from prometheus_client import CollectorRegistry, Counter, Gauge

        registry = CollectorRegistry()
        self.recorders: dict[str, Recorder] = {}
        self._outcomes: dict[str, Outcomes] = {}
        self._classes = classes
        self._on_time_s = on_time_s
        self._shares: set[tuple[str, str]] = set()
        self._requests = Counter(
            "shokado_requests", "Requests answered with a prediction.", ["version"], registry=registry
        )
        self._rows = Counter("shokado_rows", "Rows scored.", ["version"], registry=registry)
        self._errors = Counter(
            "shokado_errors",
            "Requests answered with an error; of kind fell_back, with a prediction of the active version instead. "
            "What is the fault of the client counts for no version.",
            ["version", "kind", "fault"],
            registry=registry,
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
        self._score = tallied(
            "shokado_score", "Scores of single rows.", ["version"], registry=registry,
            buckets=score_buckets,
        )  # fmt: skip
        self._predicted = Counter(
            "shokado_predicted_class", "Rows by their likeliest class.", ["version", "class"], registry=registry
        )
        self._generation = Gauge(
            "shokado_generation", "Routing generation of each worker.", registry=registry, multiprocess_mode="liveall"
        )
        self._store_up = Gauge(
            "shokado_store_up",
            "1 while every worker reaches the store.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._share = Gauge(
            "shokado_traffic_share",
            "Part of an environment's traffic that the routing gives a version.",
            ["environment", "version"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        compared = ["environment", "version", "shadow"]
        self._shadow_rows = Counter(
            "shokado_shadow_rows", "Answered rows that the shadow scored as well.", compared, registry=registry
        )
        self._shadow_disagreements = Counter(
            "shokado_shadow_disagreements",
            "Of these rows: the shadow's answer is another.",
            compared,
            registry=registry,
        )
        self._shadow_differences = Counter(
            "shokado_shadow_differences", "Sum of their scores' absolute differences.", compared, registry=registry
        )
        self._shadow_largest = Gauge(
            "shokado_shadow_largest_difference", "The largest of these.", compared,
            registry=registry, multiprocess_mode="max",
        )  # fmt: skip
        self._largest_differences: dict[tuple[str, str, str], float] = {}
        self._shadow_lost = Counter(
            "shokado_shadow_lost_rows", "Answered rows that were not compared, by why.", [*compared, "why"],
            registry=registry,
        )  # fmt: skip
        self._cache = Counter(
            "shokado_cache_requests", "Requests by what the cache had for them.", ["version", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._remote_batches = Counter(
            "shokado_remote_batches", "Batches sent to another server, by what became of them.", ["version", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._remote_retries = Counter(
            "shokado_remote_retries", "Batches sent once more after their connection was cut.", ["version"],
            registry=registry,
        )  # fmt: skip
        self._remote_ejections = Counter(
            "shokado_remote_ejections", "Times that a worker left a version elsewhere alone for its failures.",
            ["version"], registry=registry,
        )  # fmt: skip
        self._remote_up = Gauge(
            "shokado_remote_up", "1 while a version elsewhere is ready in all workers.", ["version"], registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._overruns = Counter(
            "shokado_engine_overruns", "Batches that took an engine too long: moved from the event loop to its thread, "
            "failed, or lost with the thread.", ["version", "outcome"], registry=registry,
        )  # fmt: skip
        self._renewal = files.Renewal()
        self._in_memory = Gauge(
            "shokado_metrics_in_memory",
            "Workers that count in their memory, as the folder of temporary files is full or cannot be written.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        for version in (*versions, NO_VERSION):
            self.add_version(version)
        self.flush()

    def add_version(self, version: str) -> None:
        """Count for this version as well from now on."""
        if version not in self.recorders:
            self.recorders[version] = Recorder()
            self._outcomes[version] = Outcomes()

    def routing(self, generation: int, shares: Mapping[tuple[str, str], float]) -> None:
        """Tell of a new generation; `shares` are parts of the traffic by (environment, version)."""
        self._generation.set(generation)
        for gone in self._shares - set(shares):
            self._share.labels(*gone).set(0)
        self._shares |= set(shares)
        for labels, share in shares.items():
            self._share.labels(*labels).set(share)

    def store(self, *, reached: bool) -> None:
        """Tell whether the store could be reached."""
        self._store_up.set(reached)

    def add_shadow(
        self,
        environment: str,
        version: str,
        shadow: str,
        *,
        shadow_rows: int,
        shadow_disagreements: int,
        shadow_difference_sum: float,
        shadow_difference_max: float,
        shadow_dropped_rows: int,
        shadow_failed_rows: int,
    ) -> None:
        """Add comparisons of a version's answers with its shadow's."""
        labels = environment, version, shadow
        self._shadow_rows.labels(*labels).inc(shadow_rows)
        self._shadow_disagreements.labels(*labels).inc(shadow_disagreements)
        self._shadow_differences.labels(*labels).inc(shadow_difference_sum)
        largest = max(shadow_difference_max, self._largest_differences.get(labels, 0.0))
        self._largest_differences[labels] = largest
        self._shadow_largest.labels(*labels).set(largest)
        self._shadow_lost.labels(*labels, "dropped").inc(shadow_dropped_rows)
        self._shadow_lost.labels(*labels, "failed").inc(shadow_failed_rows)

    def add_cache(self, version: str, *, hits: int, misses: int, errors: int) -> None:
        """Add what became of requests at the cache."""
        for outcome, number in (("hit", hits), ("miss", misses), ("error", errors)):
            self._cache.labels(version, outcome).inc(number)

    def add_remote(
        self,
        version: str,
        *,
        up: bool,
        scored: int,
        refused: int,
        failed: int,
        overloaded: int,
        late: int,
        retries: int,
        ejections: int,
    ) -> None:
        """Add what became of batches of a version that is not in the workers, and tell whether it is ready."""
        outcomes = {
            "scored": scored, "refused": refused, "failed": failed, "overloaded": overloaded, "late": late,
        }  # fmt: skip
        for outcome, number in outcomes.items():
            self._remote_batches.labels(version, outcome).inc(number)
        self._remote_retries.labels(version).inc(retries)
        self._remote_ejections.labels(version).inc(ejections)
        self._remote_up.labels(version).set(up)

    def add_overruns(self, version: str, overruns: Mapping[str, int]) -> None:
        """Add batches that took a version's engine too long, by what became of them."""
        for outcome, number in overruns.items():
            self._overruns.labels(version, outcome).inc(number)

    def started(self, version: str) -> None:
        self.recorders[version].in_flight += 1

    def answered(self, version: str, seconds: float, rows: int) -> None:
        recorder = self.recorders[version]
        recorder.in_flight -= 1
        recorder.rows += rows
        recorder.latencies_s.append(seconds)

    def failed(self, version: str | None, kind: str, fault: Fault = Fault.SERVER) -> None:
        """`version` is none for what failed before one was assigned, and was therefore never `started`."""
        recorder = self.recorders[version or NO_VERSION]
        recorder.in_flight -= version is not None
        if fault is Fault.CLIENT:
            self.recorders[NO_VERSION].client_errors[kind] += 1
        else:
            recorder.errors[kind] += 1

    def passed_over(self, version: str, requests: int) -> None:
        """Of requests that were assigned to the version, and given to the active one as it was not ready."""
        self.add_version(version)
        self.recorders[version].errors[FELL_BACK] += requests

    def cancelled(self, version: str) -> None:
        recorder = self.recorders[version]
        recorder.in_flight -= 1
        recorder.cancelled += 1

    def batch(
        self,
        version: str,
        waits_s: Iterable[float],
        rows: int,
        release: str,
        seconds: float,
        scores: NDArray[np.float32] | None,
    ) -> None:
        self.recorders[version].on_batch(waits_s, rows, release, seconds, scores)

    def flush(self) -> None:
        """Add what was recorded to the shared files."""
        self._renewal.look()
        self._in_memory.set(files.MetricsFile.lost is not None)
        for version, recorder in self.recorders.items():
            self.recorders[version] = Recorder(in_flight=recorder.in_flight)
            self._add_outcomes(version, recorder)
            self._requests.labels(version).inc(len(recorder.latencies_s))
            self._rows.labels(version).inc(sum(recorder.batch_rows))
            self._cancelled.labels(version).inc(recorder.cancelled)
            self._in_flight.labels(version).set(recorder.in_flight)
            for fault, errors in ((Fault.SERVER, recorder.errors), (Fault.CLIENT, recorder.client_errors)):
                for kind, number in errors.items():
                    self._errors.labels(version, kind, fault).inc(number)
            for release, number in recorder.releases.items():
                self._releases.labels(version, release).inc(number)
            self._latency.labels(version).observe_all(recorder.latencies_s)
            self._wait.labels(version).observe_all(recorder.waits_s)
            self._batch_rows.labels(version).observe_all(recorder.batch_rows)
            self._batch_seconds.labels(version).observe_all(recorder.batch_seconds)
            self._add_scores(version, recorder.scores)

    def take_outcomes(self) -> dict[str, Outcomes]:
        """How requests ended since this was last asked, up to the last flush; versions without any are left out."""
        taken = {version: outcomes for version, outcomes in self._outcomes.items() if outcomes != Outcomes()}
        self._outcomes = {version: Outcomes() for version in self._outcomes}
        return taken

    def _add_outcomes(self, version: str, recorder: Recorder) -> None:
        outcomes = self._outcomes[version]
        outcomes.requests += len(recorder.latencies_s)
        outcomes.rows += recorder.rows
        outcomes.on_time += int(np.count_nonzero(np.asarray(recorder.latencies_s) <= self._on_time_s))
        outcomes.failed += recorder.errors.total()

    def _add_scores(self, version: str, batches: list[NDArray[np.float32]]) -> None:
        if not batches:
            return
        scores = np.concatenate(batches)
        if scores.ndim == 1:
            self._score.labels(version).observe_all(scores[np.isfinite(scores)])
            return
        for index, number in enumerate(np.bincount(likeliest(scores)).tolist()):
            if number:
                self._predicted.labels(version, self._classes[index]).inc(number)


def _tallied_histogram() -> type:
    """A histogram that takes many observations at the price of one; made lazily, see `prepare_folder`."""
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


def prepare_folder() -> Path:
    """Give all processes of this server, and no other server, one folder for their numbers; call before `Metrics`.

    BentoML's own folder is shared by all servers of a BENTOML_HOME, and wiped when one of them starts.
    """
    parent = os.getppid()
    root = temporary_folder()
    folder = root / f"{_FOLDER_PREFIX}{os.getuid()}-{parent}-{start_ticks(parent)}"
    _remove_folders_of_dead_servers(root)
    # A full disk is no reason not to start: see `shokado.monitoring.files`.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    os.environ[_FOLDER_VARIABLE] = str(folder)
    files.use()
    keep_ended(folder)
    return folder


def exposition(folder: Path) -> tuple[str, bytes]:
    """Content type and Prometheus text of all workers that share `folder`; it is empty while they make it again."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Shared(folder))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Shared:
    """What `prometheus_client` calls a collector."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> list[Any]:
        return collect(self._folder)


def _remove_folders_of_dead_servers(root: Path) -> None:
    for folder in root.glob(f"{_FOLDER_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(ValueError):
            pid, started = (int(part) for part in folder.name.rsplit("-", 2)[1:])
            if start_ticks(pid) != started:
                shutil.rmtree(folder, ignore_errors=True)
