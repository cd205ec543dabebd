"""Real runners, with their batchers and executors, over engine doubles; and a dispatcher over them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from configuration.settings import BatchingSettings, VersionSettings
from runners.artefacts.card import Task
from runners.artefacts.scores import Scores
from runners.engines.engine import Engine
from runners.inputs.rows import Rows
from runners.placements.executor import BatchScores, EmbeddedExecutor, Executor
from runners.runner import Runner
from shokado.dispatch.cache import Cache
from shokado.dispatch.dispatcher import Dispatcher
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.dispatch.state import Environment, RoutingState
from tests.runners.engine_doubles import Obliging
from tests.support.cards import make_card

EXAMPLES = np.array([[0.25, 0], [0.0, 0]], dtype=np.float32)


@dataclass
class OffBy(Obliging):
    """Scores everything, `offset` too high; `meanwhile` is called during each batch."""

    offset: float = 0.0
    meanwhile: Callable[[], None] = lambda: None

    def predict(self, rows: Rows) -> Scores:
        self.meanwhile()
        return super().predict(rows) + np.float32(self.offset)


class LosableExecutor(EmbeddedExecutor):
    """Fails outright once it is lost."""

    lost = False

    def run(
        self,
        rows: Rows,
        expected_s: float,
        done: Callable[[BatchScores | Exception], None],
        _deadline: float = inf,
        _trace: object = None,
    ) -> None:
        if self.lost:
            done(ConnectionResetError("gone"))
        else:
            super().run(rows, expected_s, done)


class DoubleRunner(Runner):
    """Over an engine double. Its batches run on the event loop."""

    executor: LosableExecutor

    def __init__(self, version: str, engine: Engine, task: Task = Task.BINARY, files: str = "0") -> None:
        """`files` is the digit that the digest of its file consists of."""
        examples = {"rows": EXAMPLES.tolist(), "scores": engine.predict(EXAMPLES).tolist()}
        described = {"onnx": {"sha256": files * 64, "size_bytes": 10}}
        card = make_card(task, version=version, examples=examples, files=described)
        batching = BatchingSettings(max_batch_rows=64, inline_ms=1000)
        super().__init__(version, card, Path("nowhere"), VersionSettings(), batching)
        self.double = engine

    async def _open_executor(self) -> Executor:
        self.executor = LosableExecutor(self.double, self.card.scores_per_row, inline_s=inf)
        return self.executor

    def batch(self, *_: object) -> None:
        """It is its own observer, and does not listen."""


async def started(*runners: DoubleRunner) -> dict[str, Runner]:
    for runner in runners:
        await runner.start(runner)
    return {runner.version: runner for runner in runners}


def routed(runners: Mapping[str, Runner], shadow: str | None = None, cache: Cache | None = None) -> Dispatcher:
    """Production is answered by v1 and shadowed as told; staging is answered by v1 and has no shadow."""
    production = Environment("production", "v1", {"v1": 1.0}, shadow=shadow)
    environments = {"production": production, "staging": Environment("staging", "v1", {"v1": 1.0})}
    return Dispatcher(runners, {}, RoutingState(1, environments, "production"), cache)


def packed(*values: float) -> bytes:
    """A row for each value, which is its first feature."""
    return np.array([[value, 0.0] for value in values], dtype=np.float32).tobytes()


AnyCache = TypeVar("AnyCache", bound=Cache)


@dataclass
class Larder(Generic[AnyCache]):
    """A dispatcher with a cache; `sizes` has the batches of v1."""

    dispatcher: Dispatcher
    cache: AnyCache
    sizes: list[int]

    async def answer(self, *values: float, **asked: Any) -> Prediction:
        return await answer(self.dispatcher, *values, **asked)


async def answer(dispatcher: Dispatcher, *values: float, rows: bytes = b"", **asked: Any) -> Prediction:
    """Have a row for each value, or the packed ones, answered."""
    answered = asyncio.Event()
    content = rows or packed(*values)
    features = len(dispatcher.runners["v1"].card.features)
    request = PredictionRequest(content, len(content) // (4 * features), **asked)
    prediction = dispatcher.dispatch(request, lambda _: answered.set())
    assert not answered.is_set(), "nothing is answered before the caller knows its prediction"
    await answered.wait()
    return prediction
