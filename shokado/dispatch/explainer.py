"""The explainer: what each feature contributed to scores that were given, with no more than its share of the time.

    scored rows --(fits in the queue)--> waiting --(its turn)--> pieces --(each followed by a rest)--> contributions
               `--(does not)--> Overloaded

One request is explained at a time, in pieces of some milliseconds: rows that its version's runner scores beside the
live batches, or that XGBoost takes apart in a thread. Between two pieces there is a rest, so long that explanations
take their share of this worker's time and no more, whatever is asked for; and a live batch meets one piece at most.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TypeVar

import msgspec
import numpy as np

from configuration.explanation_settings import ExplanationSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import read_background, rows_of
from runners.artefacts.card import CardError, read_card
from runners.artefacts.identity import identity_of
from runners.artefacts.integrity import DamagedFile
from runners.engines.thread import in_own_thread
from runners.errors import (
    DeadlineExceeded,
    ModelFailure,
    NoScore,
    NotExplainable,
    NotReady,
    Overloaded,
    RunnerError,
    Unreachable,
)
from runners.explanations.contributions import Contributions, ExplanationMethod, ExplanationScale, Values, joined
from runners.explanations.shapley import RowContributions, SamplingPlan, TooManyFeatures, explain_row
from runners.explanations.trees import TreeExplainer, open_trees
from runners.inputs.datatypes import BYTES
from runners.inputs.rows import Rows
from runners.runner import Runner
from shokado.dispatch.request import Prediction

PIECE_S = 0.005
"""How long a live batch may have to wait for a piece that is under way."""

Result = TypeVar("Result")
logger = logging.getLogger("bentoml.shokado")


class ExplanationJob(msgspec.Struct, eq=False):
    """A prediction that has its scores, on its way to an explanation.

    `done` is called exactly once, on the event loop, unless the job was cancelled: with `found`, or with an `error`.
    """

    prediction: Prediction
    done: "Callable[[ExplanationJob], None]"
    deadline: float = inf
    found: Contributions | None = None
    error: Exception | None = None
    cancelled: bool = False
    alarm: asyncio.TimerHandle | None = None
    submitted_at: float = 0.0
    """By the explainer's clock."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.cancelled or self.found is not None or self.error is not None


@dataclass(slots=True)
class ExplanationCounts:
    """What became of explanations of a version since the last flush."""

    explained_rows: int = 0
    failed_rows: int = 0
    """Rows of requests that got an error."""
    scored_rows: int = 0
    """Rows that were made up for them, and scored."""
    busy_s: float = 0.0
    """Seconds that these took, and what XGBoost took."""
    waits_s: list[float] = field(default_factory=list)
    """Seconds from the scores of a request to their explanation, or to its deadline."""


@dataclass(slots=True)
class _PieceSize:
    """How many rows take about `PIECE_S`."""

    rows: int = 1

    def observe(self, rows: int, seconds: float) -> None:
        if seconds > PIECE_S:
            self.rows = max(1, self.rows // 2)
        elif seconds < PIECE_S / 4 and rows >= self.rows:
            self.rows *= 2


@dataclass(eq=False)
class _Opened:
    """What scores of a version are explained by."""

    artefact: Artefact
    trees: TreeExplainer | None
    background: Rows | None
    damage: str = ""
    """Why a background that there is cannot be used."""
    background_scores: Values | None = None
    scored: _PieceSize = field(default_factory=_PieceSize)
    taken_apart: _PieceSize = field(default_factory=_PieceSize)


class _Over(Exception):
    """Nobody waits for the explanation any more."""


class Explainer:
    """Explains for one worker. All methods belong to the event loop."""

    def __init__(
        self,
        settings: ExplanationSettings,
        artefacts: Callable[[], Mapping[str, Artefact]],
        runners: Callable[[], Mapping[str, Runner]],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`artefacts` and `runners` give those of the versions of this worker, as they are when they are asked for."""
        self.settings = settings
        self._rest = 1 / settings.share - 1 if settings.share else inf
        """Seconds of rest for each second of work."""
        self._artefacts = artefacts
        self._runners = runners
        self._clock = clock
        self._sleep = sleep
        self._waiting: deque[ExplanationJob] = deque()
        self._under_way: ExplanationJob | None = None
        self._rests_until = -inf
        self._row_s = 0.0
        """Seconds that explaining a row takes, rests included: a moving average."""
        self._opened: dict[str, _Opened] = {}
        self._counts: dict[str, ExplanationCounts] = {}
        self._refused = 0
        self._task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raise why nothing more would be explained now: `NotExplainable`, `Overloaded`."""
        if not self.settings.share:
            raise NotExplainable("explanations are off here: explanations.share is 0")
        if len(self._waiting) >= self.settings.max_queue_requests:
            raise self._refusal(self._expected_wait())

    def submit(self, job: ExplanationJob) -> None:
        """Queue a job. Raises what `check` does, and `Overloaded` where its turn would be too late."""
        self.check()
        wait, now = self._expected_wait(), self._clock()
        if now + wait > job.deadline:
            raise self._refusal(wait)
        job.submitted_at = now
        self._waiting.append(job)
        loop = asyncio.get_running_loop()
        if job.deadline < inf:
            job.alarm = loop.call_later(job.deadline - now, self._end, job, None, DeadlineExceeded())
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())

    def flush(self) -> dict[str, ExplanationCounts]:
        """Hand over what was counted since the last time, by version."""
        counts, self._counts = self._counts, {}
        return counts

    def take_refused(self) -> int:
        """Hand over how many requests were `Overloaded` since the last time."""
        refused, self._refused = self._refused, 0
        return refused

    async def stop(self) -> None:
        """Tell everybody who waits that there will be no explanation."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for job in self._jobs():
            self._end(job, error=NotReady("the server is stopping"))
        self._waiting.clear()

    def _jobs(self) -> list[ExplanationJob]:
        return [*filter(None, (self._under_way,)), *self._waiting]

    def _refusal(self, wait: float) -> Overloaded:
        self._refused += 1
        return Overloaded(wait)

    def _expected_wait(self) -> float:
        return self._row_s * sum(job.prediction.row_count for job in self._jobs() if not job.is_over)

    async def _work(self) -> None:
        while self._waiting:
            job = self._under_way = self._waiting.popleft()
            if job.is_over:
                continue
            started = self._clock()
            try:
                found = await self._explain(job)
            except _Over:
                continue
            except Exception as error:
                # Its traceback knows this frame, and so itself: a cycle.
                self._end(job, error=error.with_traceback(None))
                continue
            per_row = (self._clock() - started) / job.prediction.row_count
            self._row_s += (per_row - self._row_s) * (0.2 if self._row_s else 1)
            self._end(job, found)
        self._under_way = None

    def _end(self, job: ExplanationJob, found: Contributions | None = None, error: Exception | None = None) -> None:
        if job.alarm is not None:
            job.alarm.cancel()
            job.alarm = None
        if job.is_over:
            return
        job.found, job.error = found, error
        counts, rows = self._counts_of(job), job.prediction.row_count
        if error is None:
            counts.explained_rows += rows
        else:
            counts.failed_rows += rows
        if error is None or isinstance(error, DeadlineExceeded):
            counts.waits_s.append(self._clock() - job.submitted_at)
        job.done(job)

    def _counts_of(self, job: ExplanationJob) -> ExplanationCounts:
        return self._counts.setdefault(job.prediction.version, ExplanationCounts())

    async def _explain(self, job: ExplanationJob) -> Contributions:
        prediction = job.prediction
        opened = await self._open(job)
        rows = prediction.origin.row_format.join([prediction.rows], prediction.row_count)
        assert prediction.scores is not None
        scores = prediction.scores.astype(np.float64).reshape(prediction.row_count, -1)
        if opened.trees is not None:
            found = await self._by_trees(job, opened, opened.trees, rows)
            if opened.trees.agrees(found, scores):
                return found
        return await self._by_scores(job, opened, rows, scores)

    async def _open(self, job: ExplanationJob) -> _Opened:
        """What the version's artefact has to explain by. Raises `NotReady` when another one has taken its place."""
        version, card = job.prediction.version, job.prediction.card
        artefacts = self._artefacts()
        for gone in self._opened.keys() - artefacts.keys():
            del self._opened[gone]
        artefact = artefacts.get(version)
        if artefact is None or artefact.card is not card:
            raise _replaced(version)
        found = self._opened.get(version)
        if found is None or found.artefact is not artefact:
            found = self._opened[version] = await self._paced(job, lambda: in_own_thread(_open, artefact))
        elif found.background is None:
            # Somebody may have given it one since.
            found.background, found.damage = await self._paced(job, lambda: in_own_thread(_background, artefact))
        return found

    async def _by_trees(self, job: ExplanationJob, opened: _Opened, trees: TreeExplainer, rows: Rows) -> Contributions:
        """Contributions to the margins, as XGBoost finds them."""
        parts: list[Contributions] = []
        done = 0
        while done < len(rows):
            piece = rows[done : done + opened.taken_apart.rows]
            explain = partial(in_own_thread, trees.explain, piece)
            parts.append(await self._paced(job, explain, opened.taken_apart, len(piece)))
            done += len(piece)
        return joined(parts)

    async def _by_scores(self, job: ExplanationJob, opened: _Opened, rows: Rows, scores: Values) -> Contributions:
        """Contributions to the scores themselves, against background rows."""
        version, card = job.prediction.version, job.prediction.card
        if opened.background is None:
            raise NotExplainable(_why_without_background(version, opened))
        try:
            plan = SamplingPlan.within(self.settings.max_scored_rows, len(card.features), len(opened.background))
        except TooManyFeatures as error:
            raise NotExplainable(f"version {version}: {error}") from None
        if opened.background_scores is None:
            opened.background_scores = await self._scored(job, opened, opened.background)
        background = opened.background[: plan.background_rows]
        background_scores = opened.background_scores[: plan.background_rows]
        found: list[RowContributions] = []
        for at, (row, score) in enumerate(zip(rows, scores, strict=True)):
            explaining = explain_row(row, score, background, background_scores, plan)
            try:
                batch = next(explaining)
                while True:
                    batch = explaining.send(await self._scored(job, opened, batch, at))
            except StopIteration as end:
                found.append(end.value)
        return Contributions(
            ExplanationMethod.ENUMERATED if plan.is_exact else ExplanationMethod.SAMPLED,
            ExplanationScale.of_scores(card),
            background_scores.mean(axis=0),
            scores,
            np.stack([one.contributions for one in found]),
            None if plan.is_exact else np.stack([one.errors for one in found if one.errors is not None]),
            background_rows=plan.background_rows,
        )

    async def _scored(self, job: ExplanationJob, opened: _Opened, rows: Rows, explained: int | None = None) -> Values:
        """Scores, (rows, outputs), of rows that were made for the row `explained`, or of the background.

        Raises `NoScore` for that row, `NotExplainable` for the background, `NotReady` and `Unreachable`.
        """
        version, parts, done = job.prediction.version, [], 0
        while done < len(rows):
            runner = self._runners().get(version)
            if runner is None or runner.card is not job.prediction.card:
                raise _replaced(version)
            piece = rows[done : done + min(opened.scored.rows, runner.max_batch_rows)]
            try:
                scores = await self._paced(job, partial(runner.score_beside, piece), opened.scored, len(piece))
            except ModelFailure as failure:
                if explained is None:
                    words = f"version {version} cannot score a row of its background: {failure.reason}"
                    raise NotExplainable(words) from None
                beside = " with values of the background in place of some of its own"
                raise NoScore(version, explained, failure.reason, beside) from None
            except (RunnerError, _Over):
                raise
            except Exception as error:
                raise Unreachable(error) from None
            self._counts_of(job).scored_rows += len(piece)
            parts.append(scores.astype(np.float64).reshape(len(piece), -1))
            done += len(piece)
        return np.concatenate(parts)

    async def _paced(
        self,
        job: ExplanationJob,
        work: Callable[[], Awaitable[Result]],
        size: _PieceSize | None = None,
        rows: int = 0,
    ) -> Result:
        """The outcome of a piece of work, after the rest that is due for the last one; `size` learns how long it took.

        Raises `_Over` instead where nobody waits for it any more.
        """
        started = self._clock()
        if self._rests_until > started:
            await self._sleep(self._rests_until - started)
            started = self._clock()
        if job.is_over:
            raise _Over
        try:
            return await work()
        finally:
            now = self._clock()
            self._rests_until = now + (now - started) * self._rest
            self._counts_of(job).busy_s += now - started
            if size is not None:
                size.observe(rows, now - started)


def _open(artefact: Artefact) -> _Opened:
    try:
        trees, damage = open_trees(artefact.folder, artefact.card), ""
    except DamagedFile as error:
        trees, damage = None, str(error)
    background, also = _background(artefact)
    return _Opened(artefact, trees, background, also or damage)


def _background(artefact: Artefact) -> tuple[Rows | None, str]:
    """The background's rows, and why they cannot be used where that is so: those of the card that is there by now."""
    if not artefact.card.files:
        return None, ""
    try:
        card = read_card(artefact.folder)
        if identity_of(card) != artefact.digest:
            return None, f"{artefact.tag} in the model store is another model by now"
        found = read_background(artefact.folder, card)
    except (CardError, DamagedFile) as error:
        return None, str(error)
    return (None, "") if found is None else (rows_of(found, card), "")


def _replaced(version: str) -> NotReady:
    return NotReady(f"version {version} was replaced or unloaded before its score was explained")


def _why_without_background(version: str, opened: _Opened) -> str:
    artefact, card = opened.artefact, opened.artefact.card
    if len(card.features) == 1 and card.input_datatype == BYTES:
        return f"version {version} takes a text alone, which has no parts that could be left out"
    if opened.damage:
        return f"version {version}: {opened.damage}"
    if not card.files:
        return f"version {version} is another server's, and this one has no rows to explain it by: ask {artefact.tag}"
    if card.needs_python:
        return f"version {version} is scored by a server with Python, and no rows are kept of such models"
    ends = "; its trees alone do not explain a score that they do not give" if opened.trees is not None else ""
    command = f"shokado models reference {artefact.tag} <file of rows>"
    return f"version {version} has no background rows to explain its scores by; give it some with: {command}{ends}"
