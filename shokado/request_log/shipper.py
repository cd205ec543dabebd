"""The shipper: a process of its own that sends ended segments to a sink, in their order, each until it is taken.

    order on standard input -> `python -m shokado.request_log.shipper` -> reports on standard output, one a line

It tries again for as long as the segment is there: only the log's own limits give up on one. It ends when there was
nothing to send for a while, and when something hangs; whoever wants more starts another one.
"""

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from shokado.request_log.segments import Segment, SegmentDamaged
from shokado.request_log.sent import mark_sent, unsent_in
from shokado.request_log.sinks.cloud_events import EventSource
from shokado.request_log.sinks.sink import FailureReason, Sink, SinkFailure, Step

FIRST_REST_S = 1.0
MAX_REST_S = 60.0
"""How long nothing is sent after a failure: twice as long each time, up to a minute."""
LOOK_EVERY_S = 0.5
"""How often more is looked for."""
REPORT_EVERY_S = 0.5
HANGS_AFTER = 4
"""A step that takes so many times `timeout_s`, which a library should have seen to, ends the process."""
HUNG = os.EX_TEMPFAIL


class ShipOrder(msgspec.Struct, frozen=True):
    """What to send, and where."""

    folder: str
    url: str
    model: str
    namespace: str
    timeout_s: float
    max_batch_bytes: int
    linger_s: float
    """How long to look for more after the last one."""
    key_file: str | None = None


class ShipReport(msgspec.Struct):
    """What became of it since the last report."""

    segments: int = 0
    """Sent."""
    bytes: int = 0
    failures: dict[str, int] = {}
    """By `FailureReason`."""
    trouble: str | None = None
    """Why the last step was not taken; empty: it was; None: there was none."""


class Progress:
    """What was done and not told yet. For all threads."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._segments = self._bytes = 0
        self._failures: Counter[str] = Counter()
        self._trouble: str | None = None
        self._step_since: float | None = None

    def step(self, *, begins: bool) -> None:
        """A step begins, or has ended."""
        with self._lock:
            self._step_since = self._elapsed() if begins else None

    def step_lasts_s(self) -> float:
        """How long the step has lasted that is under way; 0 where none is."""
        with self._lock:
            return self._elapsed() - self._step_since if self._step_since is not None else 0.0

    def taken(self) -> None:
        with self._lock:
            self._trouble = ""

    def sent(self, segment: Segment) -> None:
        with self._lock:
            self._segments += 1
            self._bytes += segment.size_bytes

    def failed(self, reason: FailureReason, message: str) -> None:
        with self._lock:
            self._failures[reason] += 1
            self._trouble = message

    def take(self) -> ShipReport | None:
        """What to tell now; None: nothing is new."""
        with self._lock:
            report = ShipReport(self._segments, self._bytes, dict(self._failures), self._trouble)
            self._segments = self._bytes = 0
            self._failures, self._trouble = Counter(), None
        return report if report != ShipReport() else None


class Shipper:
    """Sends the segments of one folder. For one thread."""

    def __init__(
        self,
        folder: Path,
        sink: Sink,
        progress: Progress,
        rest: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._folder = folder
        self._sink = sink
        self._progress = progress
        self._rest = rest
        self._draw = draw

    def ship(self) -> int:
        """Send what is there, each segment until it is taken or removed, and return how many were there.

        Raises `OSError` where the folder cannot be read or written.
        """
        segments = unsent_in(self._folder)
        for segment in segments:
            try:
                for step in self._sink.steps(segment):
                    self._take(step, segment)
            except SegmentDamaged as damaged:
                # What comes before the damage was sent, and nobody will ever read what comes after it.
                self._progress.failed(FailureReason.DAMAGED, str(damaged))
            except FileNotFoundError:
                # The limits have removed it, which whoever did has counted.
                continue
            else:
                self._progress.sent(segment)
            mark_sent(self._folder, segment.path.name)
        return len(segments)

    def _take(self, step: Step, segment: Segment) -> None:
        """Take a step until it succeeds. Raises `FileNotFoundError` when its segment is removed meanwhile."""
        rest_s = FIRST_REST_S
        while True:
            self._progress.step(begins=True)
            try:
                step()
            except SinkFailure as failure:
                self._progress.failed(failure.reason, str(failure))
                longest_s = max(rest_s, failure.retry_after_s)
            else:
                self._progress.taken()
                return
            finally:
                self._progress.step(begins=False)
            # Servers that failed at once should not come back at once.
            self._rest(longest_s * (0.5 + self._draw() / 2) if longest_s == rest_s else longest_s)
            rest_s = min(2 * rest_s, MAX_REST_S)
            if not segment.path.exists():
                raise FileNotFoundError(segment.path)


def open_sink(order: ShipOrder) -> Sink:
    """The sink that an order names; only what it needs is imported."""
    if order.url.startswith(("http://", "https://")):
        from shokado.request_log.sinks.http_sink import HttpSink

        key_file = Path(order.key_file) if order.key_file is not None else None
        origin = EventSource(order.model, order.namespace)
        return HttpSink(order.url, origin, order.timeout_s, order.max_batch_bytes, key_file)
    from shokado.request_log.sinks.object_store import ObjectStore

    return ObjectStore(order.url)


def main() -> None:
    """Read an order from standard input, and carry it out."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=ShipOrder)
    progress = Progress()
    threading.Thread(target=_report, args=(progress, order.timeout_s), daemon=True).start()
    shipper = Shipper(Path(order.folder), open_sink(order), progress)
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < order.linger_s:
        if shipper.ship():
            idle_since = time.monotonic()
        else:
            time.sleep(LOOK_EVERY_S)
    _tell(progress)


def _report(progress: Progress, timeout_s: float) -> None:
    """Tell what is new, until a step hangs."""
    while progress.step_lasts_s() < HANGS_AFTER * timeout_s:
        _tell(progress)
        time.sleep(REPORT_EVERY_S)
    progress.failed(FailureReason.TIMEOUT, f"nothing came back for {HANGS_AFTER * timeout_s:g} s")
    _tell(progress)
    os._exit(HUNG)


def _tell(progress: Progress) -> None:
    if (report := progress.take()) is not None:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
