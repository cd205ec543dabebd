"""Observers: who is told what became of predictions and of batches, and how they are told.

    call, dispatcher, batchers --> Observers --(some milliseconds later, together)--> each observer

By then the answers are on their way, so no observer can hold one up, and what a call costs is shared by all that is
told by it. What an observer raises reaches the log, and nobody else.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import msgspec

from runners.batching.job import Job
from runners.batching.observer import BatchObserver, EndedBatch
from runners.log_throttle import LogThrottle
from shokado.dispatch.fault import Fault
from shokado.dispatch.request import Prediction
from shokado.dispatch.request_span import RequestSpan

TELL_AFTER_S = 0.01
"""Long enough that under load a call tells of many predictions: it takes longer to begin than for one of them."""
MAX_ANSWERS = 128
"""About so many are told earlier, in the next turn of the event loop: keeping more costs more than it saves, as what
the path of a request has just used is in no cache of the processor any more.
"""

logger = logging.getLogger("bentoml.shokado")


class Failure(msgspec.Struct, frozen=True, eq=False):
    """A request that got no prediction of its version."""

    prediction: Prediction | None
    """None where none was started: the request failed before it was assigned, or its version was passed over."""
    version: str | None
    """The one that it was assigned to, if any."""
    kind: str
    """Code of the problem that was answered, or `FELL_BACK`."""
    fault: Fault = Fault.SERVER
    feature: str | None = None
    """The feature that the problem names, if it does."""
    span: RequestSpan | None = None
    """The request's, where requests are traced and this is its end."""


class PredictionObserver:
    """Hears what became of predictions, on the event loop. What an observer does not need, it inherits.

    A prediction that was started is later answered, failed or cancelled, exactly once. Each call is part of what every
    request costs: it neither waits nor reads nor writes files, and what it keeps is bounded. Rows and scores may be
    views of a whole request or batch: whoever keeps some copies them.
    """

    def started(self, version: str, number: int, /) -> None:
        """So many predictions were assigned to the version and handed to it."""

    def answered(self, version: str, predictions: Sequence[Prediction], /) -> None:
        """They have their scores and `latency_s`, and their answers were written."""

    def failed(self, failures: Sequence[Failure], /) -> None:
        """Requests were answered with an error, or by the active version in place of theirs."""

    def cancelled(self, version: str, predictions: Sequence[Prediction], /) -> None:
        """Their clients left before the answer."""


class Observers:
    """Notes what happens for the cost of an append, and tells it to all who listen. Belongs to the event loop."""

    def __init__(
        self, call_later: Callable[[float, Callable[[], None]], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call_later = call_later
        self._throttle = LogThrottle(clock=clock)
        self._scheduled = False
        self._started: list[str] = []
        self.started = self._started.append
        """Note that a prediction was handed to this version; it is told with the next end of one."""
        self._answered: defaultdict[str, list[Prediction]] = defaultdict(list)
        self._failed: list[Failure] = []
        self._cancelled: defaultdict[str, list[Prediction]] = defaultdict(list)
        self._batches: list[EndedBatch] = []
        self._answers: float = 0
        """Jobs that these finished, or minus infinity once all is to be told soon."""
        self.subscribe()

    def subscribe(self, predictions: Sequence[PredictionObserver] = (), batches: Sequence[BatchObserver] = ()) -> None:
        """Let these hear of everything from now on, and nobody else."""
        self.predictions, self.batches = tuple(predictions), tuple(batches)
        self._hear_started = _overridden(predictions, "started")
        self._hear_answered = _overridden(predictions, "answered")
        self._hear_failed = _overridden(predictions, "failed")
        self._hear_cancelled = _overridden(predictions, "cancelled")
        self._hear_batch = tuple(observer.batch for observer in batches)

    def answered(self, prediction: Prediction) -> None:
        prediction.done = _parted
        self._answered[prediction.origin.version].append(prediction)
        if not self._scheduled:
            self._schedule()

    def failed(
        self,
        prediction: Prediction | None,
        version: str | None,
        kind: str,
        fault: Fault = Fault.SERVER,
        feature: str | None = None,
        span: RequestSpan | None = None,
    ) -> None:
        """See `Failure`."""
        self._failed.append(Failure(prediction, version, kind, fault, feature, span))
        if not self._scheduled:
            self._schedule()

    def cancelled(self, prediction: Prediction) -> None:
        self._cancelled[prediction.origin.version].append(prediction)
        if not self._scheduled:
            self._schedule()

    def batch(self, batch: EndedBatch) -> None:
        self._batches.append(batch)
        self._answers += len(batch.waits_s)
        if not self._scheduled:
            self._schedule()
        elif self._answers >= MAX_ANSWERS:
            self._answers = -inf
            self._call_later(0, self.tell)

    def tell(self) -> None:
        """Tell now what has happened so far."""
        self._scheduled = False
        self._answers = 0
        if self._batches:
            batches, self._batches = self._batches, []
            self._tell_batches(batches)
        if self._started:
            started = self._started.copy()
            self._started.clear()
            for version in set(started):
                self._tell(self._hear_started, version, started.count(version))
        if self._answered:
            answered, self._answered = self._answered, defaultdict(list)
            for version, predictions in answered.items():
                self._tell(self._hear_answered, version, predictions)
        if self._failed:
            failures, self._failed = self._failed, []
            self._tell(self._hear_failed, failures)
        if self._cancelled:
            cancelled, self._cancelled = self._cancelled, defaultdict(list)
            for version, predictions in cancelled.items():
                self._tell(self._hear_cancelled, version, predictions)

    def _schedule(self) -> None:
        self._scheduled = True
        self._call_later(TELL_AFTER_S, self.tell)

    def _tell(self, listeners: Sequence[Callable[..., None]], *what: object) -> None:
        for hear in listeners:
            try:
                hear(*what)
            except Exception:
                self._report(type(hear.__self__).__name__)  # type: ignore[attr-defined]  # a bound method

    def _tell_batches(self, batches: Sequence[EndedBatch]) -> None:
        for hear in self._hear_batch:
            try:
                for batch in batches:
                    hear(batch)
            except Exception:
                self._report(type(hear.__self__).__name__)  # type: ignore[attr-defined]  # a bound method

    def _report(self, name: str) -> None:
        """Log the exception that is being handled: an observer that fails does so for every request."""
        left_out = self._throttle.left_out(name)
        if left_out is not None:
            words = "observer %s failed and missed what it was told, as it did %d times since this was last logged"
            logger.exception(words, name, left_out)


def _parted(_: Job) -> None:
    """What an answered prediction calls when it is done: it no longer knows its request, which need not be kept."""


def _overridden(observers: Sequence[PredictionObserver], name: str) -> tuple[Any, ...]:
    """The method of that name, of each observer that has one of its own."""
    inherited = getattr(PredictionObserver, name)
    return tuple(getattr(observer, name) for observer in observers if getattr(type(observer), name) is not inherited)
