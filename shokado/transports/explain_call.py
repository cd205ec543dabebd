"""A call for an explanation: one request from its body to its answer, up to the scores as a prediction's.

body --decode--> request --dispatch--> scored prediction --explainer--> contributions --encode--> answer

What is explained was answered to nobody: it counts for no experiment, has no shadow, and is in no log of requests.
"""

import time
from dataclasses import replace
from typing import cast

from runners.batching.job import Job
from shokado.dialects.dialect import AnswerFacts, Codec
from shokado.dialects.explaining import ExplanationDialect
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, parted, problem_of
from shokado.dispatch.explainer import Explainer, ExplanationJob
from shokado.dispatch.observers import Observers
from shokado.dispatch.request import Prediction
from shokado.transports.call import Call, Entrance, PredictionHandler, lines_of
from shokado.transports.exchange import Exchange, new_id


class _NobodyObserves(Observers):
    """Keeps nothing: nobody is told."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None)
        self.started = lambda _: None

    def answered(self, prediction: Prediction) -> None: ...

    def failed(self, *_: object) -> None: ...

    def cancelled(self, prediction: Prediction) -> None: ...


class ExplanationHandler(PredictionHandler):
    """Answers the route of explanations."""

    def __init__(self, entrance: Entrance, dialect: Codec, explainer: Explainer) -> None:
        """`dialect` is an `ExplanationDialect`."""
        super().__init__(replace(entrance, observers=_NobodyObserves()), dialect)
        self._explainer = explainer

    def judge(self, head: RequestHead, peer: str) -> Problem | None:
        if head.problem is None:
            try:
                self._explainer.check()
            except Exception as error:
                return problem_of(parted(error))
        return super().judge(head, peer)

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> "ExplanationCall":
        call = ExplanationCall(
            self._entrance, self.dialect, head, exchange, new_id(), time.monotonic(), explainer=self._explainer
        )
        call.start(body)
        return call

    def _call(self, head: RequestHead, exchange: Exchange, received_at: float) -> "ExplanationCall":
        return ExplanationCall(
            self._entrance, self.dialect, head, exchange, new_id(), received_at, explainer=self._explainer
        )


class ExplanationCall(Call, eq=False, kw_only=True):
    """One request for an explanation in flight."""

    explainer: Explainer
    job: ExplanationJob | None = None

    def start(self, body: bytes) -> None:
        """Decode and dispatch, unless nothing more would be explained."""
        if self.head.problem is None:
            try:
                self.explainer.check()
            except Exception as error:
                self._fail(error)
                return
        Call.start(self, body)

    def cancel(self) -> None:
        job, self.job = self.job, None
        if job is not None:
            job.cancelled = True
        Call.cancel(self)

    def _finish(self, job: Job) -> None:
        """The prediction has its scores, or none."""
        if job.error is not None:
            Call._finish(self, job)
            return
        prediction, self.prediction = self.prediction, None
        assert prediction is not None
        self.job = ExplanationJob(prediction, self._explained, prediction.deadline)
        try:
            self.explainer.submit(self.job)
        except Exception as error:
            self.job = None
            self._fail(error, prediction)

    def _explained(self, job: ExplanationJob) -> None:
        self.job = None
        prediction = job.prediction
        if job.error is not None:
            self._fail(job.error, prediction)
            return
        assert job.found is not None
        request_id = self.head.request_id or self.id
        facts = AnswerFacts(request_id, "", int((time.monotonic() - self.received_at) * 1e6) / 1000)
        try:
            dialect = cast("ExplanationDialect", self.dialect)
            own_lines, body = dialect.encode_explanation(prediction, job.found, facts)
        except Exception as error:
            self._fail(error, prediction)
            return
        lines = b"%b%bx-request-id: %b\r\n" % (lines_of(prediction.origin), own_lines, request_id.encode())
        self.exchange.reply(200, lines, body)
