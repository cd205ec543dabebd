"""The model call that the Python contenders share, so that they differ in their serving and in nothing else.

In: float32 rows [n, features]. Out: the probability of the positive class as float32 [n].
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Scorer = Callable[[Rows], Scores]


def load_scorer(engine: str = "", folder: Path | None = None, threads: int | None = None) -> Scorer:
    """Load the model once. Engine, folder and threads come from `BENCH_ENGINE`, `BENCH_MODEL_DIR`, `BENCH_THREADS`."""
    engine = engine or os.environ.get("BENCH_ENGINE", "xgboost")
    folder = folder or Path(os.environ["BENCH_MODEL_DIR"])
    threads = threads or int(os.environ.get("BENCH_THREADS", "1"))
    return {"xgboost": _xgboost, "onnxruntime": _onnxruntime}[engine](folder, threads)


def _xgboost(folder: Path, threads: int) -> Scorer:
    from xgboost import Booster

    booster = Booster(model_file=folder / "model.ubj")
    booster.set_param({"nthread": threads})

    def score(rows: Rows) -> Scores:
        return np.asarray(booster.inplace_predict(rows), dtype=np.float32)

    return score


def _onnxruntime(folder: Path, threads: int) -> Scorer:
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def score(rows: Rows) -> Scores:
        return np.ascontiguousarray(session.run(["probabilities"], {name: rows})[0][:, 1])

    return score


def score_together(score: Scorer, batch: list[Rows]) -> list[list[float]]:
    """One model call for the rows of several requests, split back into one list of scores per request."""
    scores = score(batch[0] if len(batch) == 1 else np.concatenate(batch))
    ends = np.cumsum([len(rows) for rows in batch])[:-1]
    return [part.tolist() for part in np.split(scores, ends)]
