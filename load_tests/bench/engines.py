"""The engines alone: the same model called in this process, without a server. The limit for large requests."""

import time
from pathlib import Path

import numpy as np

from load_tests.bench.contenders.scoring import Scorer, load_scorer
from load_tests.bench.load import LoadResult
from load_tests.bench.measurements import Measurements
from load_tests.bench.reference_model import FloatArray, ReferenceModel, draw_rows

PREFIX = "engine-"
TITLES = {
    "engine-xgboost": "XGBoost alone, in process",
    "engine-onnxruntime": "ONNX Runtime alone, in process",
    "engine-auto": "Shokado's engine auto, in process",
}
SETTINGS = {
    "engine-xgboost": "Booster.inplace_predict, one thread, one call after the other.",
    "engine-onnxruntime": "InferenceSession.run, one thread, one call after the other.",
    "engine-auto": "What a Shokado runner opens for this artefact: each batch goes to the faster of the two.",
}


def open_engine(name: str, model: ReferenceModel) -> Scorer:
    """One of `TITLES`. Raises ValueError when the folder is not an artefact that Shokado can open."""
    if name != "engine-auto":
        return load_scorer(name.removeprefix(PREFIX), model.folder, threads=1)
    return _auto(model.folder)


def _auto(folder: Path) -> Scorer:
    from configuration.settings import EngineChoice
    from runners.artefacts.card import CardError, read_card
    from runners.engines.engine import open_engine as open_shokado

    try:
        engine = open_shokado(folder, read_card(folder), EngineChoice.AUTO)
    except CardError as error:
        raise ValueError(f"not an artefact: {error}") from error
    return engine.predict


def time_engine(score: Scorer, row_counts: tuple[int, ...], seconds: float) -> Measurements:
    """Call the engine for `seconds` with each number of rows, after a warm-up of a tenth of that."""
    loads = []
    for count in row_counts:
        rows = draw_rows(count, seed=11).astype(np.float32)
        _time_calls(score, rows, seconds / 10)
        loads.append(_load(_time_calls(score, rows, seconds), count))
    return Measurements(many_rows=tuple(loads))


def _time_calls(score: Scorer, rows: FloatArray, seconds: float) -> list[float]:
    """Seconds of each call."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        score(rows)
        taken.append(time.perf_counter() - started)
    return taken


def _load(taken: list[float], rows: int) -> LoadResult:
    p50, p99 = np.percentile(taken, (50, 99)) * 1e3
    return LoadResult(1, rows, len(taken), len(taken) / sum(taken), float(p50), float(p99), 0, 0)
