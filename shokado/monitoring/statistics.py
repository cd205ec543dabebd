"""Statistics per version, from the files that all workers of this server count in (see `metrics.folder`).

In: the folder. Out: `Figures` since the server started, and over a recent window, as the difference of two snapshots.
Snapshots are taken every few seconds by `timeline.py`, off the event loop, and kept for as long as the longest window.
"""

import asyncio
import contextlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import not_
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shokado.monitoring.ended import collect
from shokado.monitoring.machine_use import MachineSample, MachineUse, machine_use, sample_machine
from shokado.monitoring.process_identity import machine_seconds, seconds_of

EVERY_S = 5.0
"""How often a snapshot is taken, which is how finely a window can be chosen."""
MAX_WINDOW_S = 300.0
"""The longest window: so many snapshots are kept."""

_READ = {
    f"shokado_{name}"
    for name in (
        "requests", "rows", "errors", "cancelled", "batches", "latency_seconds", "queue_wait_seconds", "batch_rows",
        "batch_seconds", "score", "predicted_class", "output_rows",
    )
}  # fmt: skip

_BETWEEN = "\n"
_Labelled = Mapping[str, float]
"""Values of one metric by its label besides the version, or by the empty string; of two, by both of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Frozen):
    """A measured quantity. Percentiles are interpolated within the buckets that it is counted in, see `quantile`."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Bucket(_Frozen):
    """How many rows had a score above the bucket before, and up to `up_to`; None: no bound."""

    up_to: float | None
    rows: int


class Scores(_Frozen):
    """What was predicted: scores of one number a row by bucket, or rows by their likeliest class."""

    rows: int
    mean: float | None = None
    buckets: list[Bucket] = []
    classes: dict[str, int] = {}
    outputs: dict[str, list[Bucket]] = Field(
        default={}, exclude_if=not_, description="Of several values a row, the first ones by bucket."
    )


class Figures(_Frozen):
    """What happened to one version in all workers of this server."""

    seconds: float = Field(description="Real length of the window; since the start, how long the server has run.")
    requests: int = Field(description="Answered with a prediction.")
    request_rate_per_s: float
    rows: int = Field(description="Scored.")
    errors: int = Field(
        description="Requests that were assigned to the version and answered with an error that was not the client's "
        "fault; of kind fell_back, with a prediction of the active version in its place."
    )
    errors_by_kind: dict[str, int]
    error_rate: float | None = Field(description="Errors per answer of either kind.")
    cancelled: int = Field(description="Requests whose client left before the answer.")
    latency_ms: Spread = Field(description="Request received to answer written.")
    queue_wait_ms: Spread = Field(description="Time a request waited for its batch.")
    batch_rows: Spread
    batches_by_release: dict[str, int] = Field(description="Batches, by why they were sent off when they were.")
    engine_seconds: float = Field(description="Time the engine took for all batches.")
    engine_utilization: float = Field(description="Engine seconds per second, over all workers.")
    predictions: Scores


class Process(_Frozen):
    """A worker process of this server on this machine."""

    pid: int
    memory_bytes: int = Field(description="Resident, with what it shares with other processes.")
    cpu_seconds: float = Field(description="User and system time since it started.")
    cpu_utilization: float = Field(
        description="CPU seconds per second of the recent window, or since it started where it is newer."
    )


class VersionStatistics(_Frozen):
    """One version's figures, and what the processes that serve it take."""

    since_start: Figures
    recent: Figures = Field(description="Since the server started, where the worker has just begun.")
    processes: list[Process] = Field(description="Workers; all embedded versions share them.")
    machine: MachineUse


@dataclass(frozen=True, slots=True)
class _Use:
    memory_bytes: int
    cpu_seconds: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was counted since the server started, up to `at`."""

    at: float
    values: Mapping[tuple[str, str, str], float]
    """By (sample, version, label besides the version)."""
    processes: Mapping[int, _Use]
    machine: MachineSample

    def since(self, earlier: "Snapshot") -> dict[tuple[str, str, str], float]:
        return {key: value - earlier.values.get(key, 0.0) for key, value in self.values.items()}


class Statistics:
    """Methods belong to the event loop."""

    def __init__(
        self, folder: Path, clock: Callable[[], float] = machine_seconds, disk_folder: Path | None = None
    ) -> None:
        """`folder` is named after the server as `prepare_folder` does; `clock` is that of the server's start.

        `disk_folder` is where the server writes what it keeps; None: `folder`.
        """
        self._disk_folder = disk_folder or folder
        server, ticks = folder.name.split("-")[-2:]
        self._folder = folder
        self._server = int(server)
        self._started_at = seconds_of(int(ticks))
        self._clock = clock
        self._start = Snapshot(self._started_at, {}, {}, MachineSample(0.0, 0.0))
        """Nothing was counted then."""
        self._snapshots: deque[Snapshot] = deque(maxlen=math.ceil(MAX_WINDOW_S / EVERY_S) + 1)
        self._keys: dict[tuple[str, str, str], tuple[str, str, str]] = {}

    def now(self) -> float:
        """By the clock of snapshots."""
        return self._clock()

    async def observe(self) -> Snapshot:
        """Take one snapshot, and keep it for windows that begin with it. Every `EVERY_S` is how often."""
        snapshot = await self.take()
        self._snapshots.append(snapshot)
        return snapshot

    async def of(self, version: str, window_s: float = 60.0) -> VersionStatistics:
        """The figures of a version up to now; the recent ones are of the last `window_s`, as far as they are known."""
        now = await self.take()
        before = self.before(now.at - window_s, now)
        return VersionStatistics(
            since_start=figures(now.values, version, now.at - self._started_at),
            recent=figures(now.since(before), version, now.at - before.at),
            processes=processes_of(now, before),
            machine=await asyncio.to_thread(machine_use, now.machine, before.machine, self._disk_folder),
        )

    def before(self, at: float, now: Snapshot) -> Snapshot:
        """The last snapshot up to `at`, or else the oldest one before `now`, or else what there was when the server
        started.

        One that took long to read may stand behind a later one.
        """
        earlier = [snapshot for snapshot in self._snapshots if snapshot.at < now.at]
        oldest = min(earlier, key=_time_of, default=self._start)
        return max((snapshot for snapshot in earlier if snapshot.at <= at), key=_time_of, default=oldest)

    async def take(self) -> Snapshot:
        """What is counted now. Raises `OSError` where the files cannot be read."""
        # Before the files are read: what is counted meanwhile belongs to the time after it.
        at = self._clock()
        values, processes, machine = await asyncio.to_thread(
            lambda: (read_values(self._folder), _read_uses(self._folder, self._server), sample_machine())
        )
        # One key for all snapshots: there are many of both.
        values = {self._keys.setdefault(key, key): value for key, value in values.items()}
        return Snapshot(at, values, processes, machine)


def _time_of(snapshot: Snapshot) -> float:
    return snapshot.at


def processes_of(now: Snapshot, before: Snapshot) -> list[Process]:
    """The processes of a snapshot by their number, with what they took since an earlier one."""
    return [
        Process(
            pid=pid,
            memory_bytes=use.memory_bytes,
            cpu_seconds=round(use.cpu_seconds, 3),
            cpu_utilization=_utilization(use, before.processes.get(pid), now.at - before.at),
        )
        for pid, use in sorted(now.processes.items())
    ]


def read_values(folder: Path) -> dict[tuple[str, str, str], float]:
    """All samples of the metrics that `figures` are made of, by (sample, version, other label)."""
    values: dict[tuple[str, str, str], float] = {}
    for family in collect(folder):
        for sample in family.samples if family.name in _READ else ():
            others = [value for label, value in sample.labels.items() if label not in ("version", "fault")]
            values[sample.name, sample.labels["version"], _BETWEEN.join(others)] = sample.value
    return values


def figures(values: Mapping[tuple[str, str, str], float], version: str, seconds: float) -> Figures:
    """Figures of one version; `values` are as in a snapshot of a server that has run for `seconds` (above 0), or
    differences of two that lie `seconds` apart.
    """
    metrics: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (name, of, label), value in values.items():
        if of == version:
            metrics[name.removeprefix("shokado_")][label] = value
    requests = _total(metrics["requests_total"])
    errors = _total(metrics["errors_total"])
    engine_seconds = _total(metrics["batch_seconds_sum"])
    return Figures(
        seconds=seconds,
        requests=round(requests),
        request_rate_per_s=requests / seconds,
        rows=round(_total(metrics["rows_total"])),
        errors=round(errors),
        errors_by_kind=_counts(metrics["errors_total"]),
        error_rate=errors / (errors + requests) if errors + requests else None,
        cancelled=round(_total(metrics["cancelled_total"])),
        latency_ms=_spread(metrics, "latency_seconds", unit=1000),
        queue_wait_ms=_spread(metrics, "queue_wait_seconds", unit=1000),
        batch_rows=_spread(metrics, "batch_rows", shown=math.ceil),
        batches_by_release=_counts(metrics["batches_total"]),
        engine_seconds=engine_seconds,
        engine_utilization=engine_seconds / seconds,
        predictions=_scores(metrics),
    )


def quantile(part: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The value that `part` of the observations do not exceed, by linear interpolation within its bucket.

    `buckets` are (upper bound, observations up to it), ascending, the last bound infinite; no observation is negative.
    None without observations. As `histogram_quantile` of Prometheus does for classic histograms
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile): beyond the last finite bound
    it is that bound.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank = part * total
    lower = below = 0.0
    for upper, up_to in buckets:
        if up_to >= rank:
            return lower + (upper - lower) * (rank - below) / (up_to - below) if upper < math.inf else lower
        lower, below = upper, up_to
    return lower


def _spread(
    metrics: Mapping[str, _Labelled], name: str, unit: float = 1, shown: Callable[[float], float] = float
) -> Spread:
    """`shown` turns percentiles into what can be: those of whole numbers are whole."""
    buckets = _buckets(metrics[f"{name}_bucket"])
    count = buckets[-1][1] if buckets else 0.0
    if count <= 0:
        return Spread(count=0)
    p50, p95, p99 = (shown(unit * (quantile(part, buckets) or 0.0)) for part in (0.5, 0.95, 0.99))
    return Spread(count=round(count), mean=unit * _total(metrics[f"{name}_sum"]) / count, p50=p50, p95=p95, p99=p99)


def _scores(metrics: Mapping[str, _Labelled]) -> Scores:
    if outputs := _outputs(metrics["output_rows_total"]):
        return Scores(rows=sum(bucket.rows for bucket in next(iter(outputs.values()))), outputs=outputs)
    classes = _counts(metrics["predicted_class_total"])
    cumulative = _buckets(metrics["score_bucket"])
    rows = cumulative[-1][1] if cumulative else 0.0
    if rows <= 0:
        return Scores(rows=sum(classes.values()), classes=classes)
    below = [0.0, *(count for _, count in cumulative)]
    buckets = [
        Bucket(up_to=bound if bound < math.inf else None, rows=round(count - before))
        for (bound, count), before in zip(cumulative, below, strict=False)
    ]
    return Scores(rows=round(rows), mean=_total(metrics["score_sum"]) / rows, buckets=buckets, classes=classes)


def _outputs(labelled: _Labelled) -> dict[str, list[Bucket]]:
    """Buckets in ascending order by the output's name; only those that have rows."""
    found: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for label, rows in labelled.items():
        output, _, bound = label.rpartition(_BETWEEN)
        if round(rows):
            found[output].append((float(bound), round(rows)))
    return {
        output: [Bucket(up_to=bound if bound < math.inf else None, rows=rows) for bound, rows in sorted(buckets)]
        for output, buckets in sorted(found.items())
    }


def _buckets(labelled: _Labelled) -> list[tuple[float, float]]:
    return sorted((float(bound), count) for bound, count in labelled.items())


def _counts(labelled: _Labelled) -> dict[str, int]:
    return {label: round(value) for label, value in sorted(labelled.items()) if round(value)}


def _total(labelled: _Labelled) -> float:
    return sum(labelled.values())


def _read_uses(folder: Path, server: int) -> dict[int, _Use]:
    """The processes that count in the folder, and live: children of the server."""
    import psutil

    uses: dict[int, _Use] = {}
    for pid in {int(path.stem.rpartition("_")[2].partition("-")[0]) for path in folder.glob("counter_[0-9]*.db")}:
        # Those that are gone; the number of one may have been given to another program.
        with contextlib.suppress(psutil.Error):
            process: Any = psutil.Process(pid)
            with process.oneshot():
                if process.ppid() == server:
                    times = process.cpu_times()
                    age_s = time.time() - process.create_time()
                    uses[pid] = _Use(process.memory_info().rss, times.user + times.system, age_s)
    return uses


def _utilization(use: _Use, before: _Use | None, seconds: float) -> float:
    if before is None:
        # The kernel counts in hundredths of a second, of which a process that was just begun has none yet.
        return use.cpu_seconds / max(use.age_s, 0.01)
    return (use.cpu_seconds - before.cpu_seconds) / seconds
