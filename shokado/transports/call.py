"""A call: one prediction request from its body to its answer, the same behind all transports.

body --decode--> request --dispatch--> prediction --encode--> answer
  |                                      `--(its version failed)--> prediction of the active version --encode--> answer
  `--(anything wrong)--> problem --------------------------------^
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from runners.batching.job import Job
from runners.errors import RunnerError
from shokado.dialects.compression import inflate
from shokado.dialects.dialect import AnswerFacts, Codec
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, conflicting_version, parted, problem_of
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.fault import FELL_BACK
from shokado.dispatch.observers import Observers
from shokado.dispatch.request import Origin, Prediction
from shokado.dispatch.request_span import RequestSpan, Sampler
from shokado.experiments.prediction_id import PredictionIds
from shokado.transports.exchange import Exchange, new_id, reply_problem, trace_line
from shokado.transports.failure_log import FailureLog

_CLIENT_GONE = 499
"""nginx's status for a client that left before its answer."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """What every call of this worker needs."""

    dispatcher: Dispatcher
    observers: Observers
    ids: PredictionIds
    max_body_bytes: int = 16 * 2**20
    """Size of what a compressed body becomes."""
    sampler: Sampler | None = None
    """Begins the spans of requests; None where none are made: then contexts are only passed on."""
    failures: FailureLog = field(default_factory=FailureLog)


class PredictionHandler:
    """Answers a prediction route in one dialect, or one message of gRPC's."""

    def __init__(self, entrance: Entrance, dialect: Codec) -> None:
        self.path = dialect.path
        self.dialect = dialect
        """Another one of the same route takes its place when versions come that take other features."""
        self._entrance = entrance

    def judge(self, head: RequestHead, peer: str) -> Problem | None:  # noqa: ARG002  # who asks is the concern of admission
        dispatcher = self._entrance.dispatcher
        if head.problem is not None:
            return head.problem
        if time.monotonic() < dispatcher.full_until:
            return problem_of(dispatcher.overload)
        try:
            for name in head.pins:
                dispatcher.resolve(name)
            # Without a body nothing can be answered, but a wrong content type is what is found first.
            self.dialect.decode(b"", head)
        except Exception as error:
            problem = problem_of(parted(error))
            return problem if problem.status in (404, 415) else None
        return None

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> "Call":
        call = Call(self._entrance, self.dialect, head, exchange, new_id(), time.monotonic())
        call.start(body)
        return call

    @property
    def is_full(self) -> bool:
        """Whether no version would take a request now, so that none need be read."""
        return time.monotonic() < self._entrance.dispatcher.full_until

    def begin_filled(
        self,
        head: RequestHead,
        body: bytes,
        exchange: Exchange,
        received_at: float,
        blame: Callable[[Problem], Problem],
    ) -> "Call":
        """Begin with a body that was completed here; `blame` says of a problem whether what was added is at fault."""
        call = self._call(head, exchange, received_at)
        call.blame = blame
        call.start(body)
        return call

    def begin_failed(self, head: RequestHead, exchange: Exchange, received_at: float, error: Exception) -> "Call":
        """Answer what went wrong before there was a body to begin with."""
        call = self._call(head, exchange, received_at)
        call.start_failed(error)
        return call

    def _call(self, head: RequestHead, exchange: Exchange, received_at: float) -> "Call":
        return Call(self._entrance, self.dialect, head, exchange, new_id(), received_at)


class Call(msgspec.Struct, eq=False):
    """One prediction request in flight.

    It and its prediction know each other until the answer. Then they are parted, as are the lane's exchange and its
    work: cycles would wait for the garbage collector, which stalls the loop for some 30 ms when there are many.
    """

    entrance: Entrance
    dialect: Codec
    head: RequestHead
    exchange: Exchange
    id: str
    """Names the request and what it sticks to, where the client names neither."""
    received_at: float
    prediction: Prediction | None = None
    answer_options: Any = None
    span: RequestSpan | None = None
    """None where requests are not traced."""
    blame: Callable[[Problem], Problem] | None = None
    """Says whether what the server has added to the rows is at fault; None where it has added nothing."""

    def start_failed(self, error: Exception) -> None:
        """Answer what went wrong before there was anything to decode."""
        entrance = self.entrance
        if entrance.sampler is not None:
            self.span = entrance.sampler.begin(self.head.trace, self.received_at, self.dialect.path)
        self._fail(error)

    def start(self, body: bytes) -> None:
        """Decode and dispatch."""
        head, entrance = self.head, self.entrance
        if entrance.sampler is not None:
            self.span = entrance.sampler.begin(head.trace, self.received_at, self.dialect.path)
        if head.problem is not None:
            self._fail(head.problem)
            return
        if self.received_at < entrance.dispatcher.full_until:
            self._fail(entrance.dispatcher.overload)
            return
        try:
            if head.coding:
                body = inflate(body, head.coding, entrance.max_body_bytes)
            request = self.dialect.decode(body, head)
            if head.pins:
                request.version = self._pinned(request.version)
            self.answer_options = request.answer_options
            request.environment = head.environment
            request.unit = head.unit or request.unit or head.id_unit or self.id
            request.trace = self.span or head.trace
            if head.deadline_s is not None:
                request.deadline = self.received_at + head.deadline_s
            prediction = self.prediction = entrance.dispatcher.dispatch(request, self._finish)
        except Exception as error:
            self._fail(error)
        else:
            entrance.observers.started(prediction.origin.version)

    def _pinned(self, version: str | None) -> str:
        """The version that the head names, with which the one of the body must agree. Raises what `resolve` raises."""
        first, *others = self.head.pins
        resolve = self.entrance.dispatcher.resolve
        if version is not None:
            others.append(version)
        if any(resolve(other) != resolve(first) for other in others):
            raise conflicting_version(first)
        return first

    def cancel(self) -> None:
        prediction, self.prediction = self.prediction, None
        if prediction is not None:
            prediction.cancelled = True
            self._end_span(_CLIENT_GONE, self.head.request_id or self.id)
            self.entrance.observers.cancelled(prediction)

    def _finish(self, job: Job) -> None:
        prediction, self.prediction = self.prediction, None
        assert prediction is job
        if job.error is not None:
            if not self._falls_back(prediction):
                self._fail(job.error, prediction)
            return
        seconds = prediction.latency_s = time.monotonic() - self.received_at
        head, entrance = self.head, self.entrance
        request_id = prediction.request_id = head.request_id or self.id
        try:
            prediction_id = prediction.prediction_id = entrance.ids.make(prediction)
            facts = AnswerFacts(request_id, prediction_id, int(seconds * 1e6) / 1000, self.answer_options)
            own_lines, body = self.dialect.encode(prediction, head, facts)
        except Exception as error:
            self._fail(error, prediction)
            return
        entrance.observers.answered(prediction)
        lines = b"%b%bx-request-id: %b\r\n" % (lines_of(prediction.origin), own_lines, request_id.encode())
        if head.binary_answer:
            lines += b"x-prediction-id: %b\r\n" % prediction_id.encode()
        if self.span is not None:
            lines += trace_line(self.span)
        self.exchange.reply(200, lines, body)

    def _falls_back(self, failed: Prediction) -> bool:
        """Whether another version has been asked in place of the one that failed, against which it counts."""
        entrance = self.entrance
        try:
            prediction = entrance.dispatcher.fall_back(failed, self._finish)
        except RunnerError:
            return False
        if prediction is None:
            return False
        self.prediction = prediction
        entrance.observers.failed(failed, failed.version, FELL_BACK)
        entrance.observers.started(prediction.version)
        return True

    def _fail(self, error: BaseException, prediction: Prediction | None = None) -> None:
        """`prediction` is None for what failed before a version was assigned."""
        problem = problem_of(error)
        if self.blame is not None:
            problem = self.blame(problem)
        request_id = self.head.request_id or self.id
        version = prediction.version if prediction is not None else None
        span, entrance = self.span, self.entrance
        entrance.failures.tell(error, problem, request_id, version, span or self.head.trace)
        self._end_span(problem.status, request_id)
        feature = problem.detail.get("feature")
        entrance.observers.failed(prediction, version, problem.code, problem.fault, feature, span)
        reply_problem(self.exchange, problem, request_id, self.dialect.refuse(problem, request_id), span)

    def _end_span(self, status: int, request_id: str) -> None:
        """Note the end of a request that got no answer; of the others, their predictions know it."""
        span = self.span
        if span is not None:
            span.ended_at, span.status, span.request_id = time.monotonic(), status, request_id


@lru_cache(maxsize=256)
def lines_of(origin: Origin) -> bytes:
    """The header lines that are the same for all answers of an origin."""
    return b"x-model-version: %b\r\nx-generation: %d\r\n" % (origin.version.encode(), origin.generation)
