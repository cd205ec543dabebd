"""`python -m load_tests.bench.observer_costs`: what each observer of a worker costs, as it is wired there.

A worker is made as a server makes it, but serves nobody: its observers are told of made-up predictions and batches. The
fastest of several turns counts, as whatever else the machine does only makes it slower. All happens after the answers,
but the making of prediction ids: it takes from the throughput, and nothing from the latency of the request itself. The
request log is on, and what its thread takes for writing is measured as well, in processor time.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from configuration.segment_settings import MAX_FEATURES, SegmentSettings
from load_tests.bench.hardware import this_machine
from load_tests.bench.launch import ROOT
from runners.artefacts.card import Card
from runners.batching.observer import EndedBatch, ReleaseReason
from runners.engines.engine import example_rows
from runners.inputs.columns import Boolean, Category
from shokado.dispatch.observers import Observers, PredictionObserver
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.dispatch.shadow import ShadowCopier
from shokado.dispatch.state import initial_state
from shokado.experiments.prediction_id import PredictionIds
from shokado.experiments.segment_counts import Segmenting
from shokado.monitoring.request_logger import RequestLogger
from shokado.worker.process import configured
from shokado.worker.worker import Worker

LUMPS = (1, 16, 128)
"""How many predictions an observer is told of at once: of a client alone, and of more and more at the same time."""
BATCH_ROWS = (1, 64, 1000)
WRITTEN = 16_384
"""Requests that the request log writes at once, as it does some times a second of a worker with much to do."""
MAX_WRITINGS = 10
"""Turns of that: each writes some megabytes."""
SHORTEST_S = 0.002
"""A shorter turn would measure the clock, a longer one whatever else wants the processor."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    turns: Annotated[int, typer.Option(min=1, max=1000, help="How often each is measured; the fastest counts.")] = 100,
) -> None:
    """Time each observer of a worker: nanoseconds a request or a batch, by how many it is told of at once."""
    with TemporaryDirectory() as folder:
        # A worker of its own: that of a running server goes on with its own store.
        os.environ["SHOKADO_STORE"] = f"sqlite:///{folder}/routing.db"
        os.environ |= {"SHOKADO_LOG__SHARE": "1", "SHOKADO_LOG__FOLDER": f"{folder}/log"}
        requests, batches = asyncio.run(measure(turns))
    console = Console(highlight=False)
    console.print(str(this_machine()))
    console.print(_table("ns a request", [f"{lump} at once" for lump in LUMPS], requests))
    console.print(_table("ns a batch", [f"{rows} rows" for rows in BATCH_ROWS], batches))


async def measure(turns: int, root: Path = ROOT) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Nanoseconds by observer: of a request, for each of `LUMPS`; of a batch, for each of `BATCH_ROWS`."""
    server = configured(root)
    worker = Worker(server.settings, server.artefacts, {}, server.gate, server.secret)
    if worker.observing.drift is not None:
        await worker.observing.drift.follow(server.artefacts)
    version, environment = next(iter(server.settings.versions)), server.settings.default_environment
    # What is noted here is told by hand: the timer that does it in a server is one for many requests.
    told = Observers(lambda *_: None)
    told.subscribe(worker.observers.predictions, worker.observers.batches)
    requests: dict[str, list[float]] = {}
    batches: dict[str, list[float]] = {}
    log = worker.observing.request_log
    assert log is not None

    async def empty() -> None:
        worker.metrics.registry.flush()
        await log.flush()
        for path in server.settings.log_folder(root).glob("*.segment"):
            path.unlink()

    origin = Origin(version, environment, 1, server.card)
    for lump in LUMPS:
        predictions = [_prediction(origin) for _ in range(lump)]
        for observer in worker.observers.predictions:
            seconds = await _fastest(lambda: _tell(observer, version, predictions), turns, empty)  # noqa: B023
            requests.setdefault(type(observer).__name__, []).append(1e9 * seconds / lump)
        seconds = await _fastest(lambda: _note(told, predictions), turns, empty)  # noqa: B023
        requests.setdefault("all of these, and noting it", []).append(1e9 * seconds / lump)
        seconds = await _writing(log, version, predictions, turns)
        requests.setdefault(f"{RequestLogger.__name__}, writing", []).append(1e9 * seconds)
        await empty()
        for name, features in (("", {}), (f", with {MAX_FEATURES} segments", _segments(server.card))):
            segmenting = Segmenting(SegmentSettings.model_validate({"features": features}))
            make = PredictionIds(bytes(32), 3600.0, levels=segmenting.of).make
            seconds = await _fastest(lambda: [make(one) for one in predictions], turns, empty)  # noqa: B023
            requests.setdefault(f"{PredictionIds.__name__}{name}", []).append(1e9 * seconds / lump)
        shadowed = await _shadowed(worker, predictions, turns)
        requests.setdefault(f"{ShadowCopier.__name__}, with a shadow", []).append(1e9 * shadowed / lump)
    for rows in BATCH_ROWS:
        batch = _batch(version, server.card, rows)
        for listener in worker.observers.batches:
            seconds = await _fastest(lambda: listener.batch(batch), turns, empty)  # noqa: B023
            batches.setdefault(type(listener).__name__, []).append(1e9 * seconds)
    await log.stop()
    await worker.follower.stop()
    return requests, batches


def _segments(card: Card) -> dict[str, dict[str, list[float]]]:
    """As many features as figures may be told apart by."""
    columns = card.row_format.schema.columns[:MAX_FEATURES]
    return {column.name: {} if isinstance(column, Category | Boolean) else {"cuts": [0, 30, 50]} for column in columns}


def _tell(observer: PredictionObserver, version: str, predictions: Sequence[Prediction]) -> None:
    observer.started(version, len(predictions))
    observer.answered(version, predictions)


def _note(observers: Observers, predictions: Sequence[Prediction]) -> None:
    for prediction in predictions:
        observers.started(prediction.version)
        observers.answered(prediction)
    observers.tell()


async def _shadowed(worker: Worker, predictions: Sequence[Prediction], turns: int) -> float:
    """Seconds that the copier takes for these, as long as it has room for them."""
    state = initial_state(worker.settings)
    environment = state.environments[predictions[0].origin.environment]
    shadow = replace(environment, shadow="shadow")
    worker.dispatcher.adopt(replace(state, environments={environment.name: shadow}), {})
    fitting = max(worker.settings.shadow.max_waiting_rows // len(predictions), 1)
    fastest = float("inf")
    for _ in range(turns):
        started = time.perf_counter()
        for _ in range(fitting):
            worker.observing.shadow.answered(predictions[0].version, predictions)
        fastest = min(fastest, (time.perf_counter() - started) / fitting)
        await worker.observing.shadow.stop()
    worker.dispatcher.adopt(state, {})
    return fastest


async def _writing(log: RequestLogger, version: str, predictions: Sequence[Prediction], turns: int) -> float:
    """Seconds of the processor that writing one of these requests takes, by whichever thread."""
    lumps = WRITTEN // len(predictions)
    fastest = float("inf")
    for _ in range(min(turns, MAX_WRITINGS)):
        for _ in range(lumps):
            log.answered(version, predictions)
        started = time.process_time()
        await log.flush()
        fastest = min(fastest, (time.process_time() - started) / (lumps * len(predictions)))
    return fastest


async def _fastest(work: Callable[[], object], turns: int, empty: Callable[[], Awaitable[None]]) -> float:
    """Seconds of one call in the fastest turn; `empty` is done between them."""
    number, fastest = 1, float("inf")
    for _ in range(turns):
        while True:
            started = time.perf_counter()
            for _ in range(number):
                work()
            seconds = time.perf_counter() - started
            await empty()
            if seconds >= SHORTEST_S:
                break
            number *= 2
        fastest = min(fastest, seconds / number)
    return fastest


def _prediction(origin: Origin) -> Prediction:
    """An answered prediction of one row."""
    card = origin.card
    packed = card.row_format.pack([card.row_format.named(card.examples.rows[0])])
    return Prediction(
        packed, 1, lambda _: None, scores=_scores(card, 1), origin=origin, reason=Reason.SPLIT, latency_s=0.001
    )


def _batch(version: str, card: Card, rows: int) -> EndedBatch:
    """A batch of requests of one row each."""
    examples = example_rows(card)
    batch = examples[np.arange(rows) % len(examples)]
    return EndedBatch(version, batch, _scores(card, rows), {}, [0.0001] * rows, ReleaseReason.IDLE, 0.001)


def _scores(card: Card, rows: int) -> np.ndarray:
    return np.full((rows,) if card.scores_per_row == 1 else (rows, card.scores_per_row), 0.5, dtype=np.float32)


def _table(title: str, columns: Sequence[str], costs: dict[str, list[float]]) -> Table:
    table = Table(title=title, box=None)
    table.add_column("observer")
    for column in columns:
        table.add_column(column, justify="right")
    for name, nanoseconds in costs.items():
        table.add_row(name, *(f"{one:,.0f}" for one in nanoseconds))
    return table


if __name__ == "__main__":
    app()
