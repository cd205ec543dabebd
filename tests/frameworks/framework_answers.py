"""What a framework itself answers: its own model as MLflow brings it back, asked for rows of a DataFrame."""

import json
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import onnx
import onnxruntime
import xgboost
from numpy.typing import NDArray
from scipy.special import softmax

from runners.artefacts.card import Task
from shokado.lifecycle.importing.onnx_files import OnnxFile
from tests.frameworks.samples import TEXT
from tests.frameworks.tried_model import FILES, TriedModel

_KINDS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(bool)": bool,
    "tensor(string)": object,
}


@dataclass(frozen=True)
class OwnAnswers:
    """The answers to some rows.

    Attributes:
        scores: as a card's task has them.
        labels: None where there are none.
        by_mlflow: whether MLflow's own server answers as well. It gives vectorizers a table where they take texts, and
            of an ONNX file's labels beside a list of probabilities it can make no records.
    """

    scores: NDArray[np.float64]
    labels: list[Any] | None
    by_mlflow: bool


def own_answers(tried: TriedModel, uri: str, frame: Any) -> OwnAnswers:
    by_mlflow = TEXT not in frame
    is_file = tried.flavor in FILES
    model = onnx.load(OnnxFile(uri).path) if is_file else getattr(mlflow, tried.flavor).load_model(uri)
    if is_file or tried.flavor == "onnx":
        scores, labels, by_mlflow = _of_onnx(model, frame)
        by_mlflow = by_mlflow and not is_file
    elif isinstance(model, xgboost.Booster):
        scores, labels = _of_booster(model, xgboost.DMatrix(frame))
    else:
        rows = frame.get(TEXT, frame)
        predicted = model.predict(rows) if TEXT in frame else mlflow.pyfunc.load_model(uri).predict(frame)
        asked = next((name for name in ("predict_proba", "decision_function") if hasattr(model, name)), None)
        scores = predicted if asked is None else getattr(model, asked)(rows)
        has_labels = tried.outcome in (Task.MULTILABEL, Task.MULTILABEL_MARGIN)
        labels = None if asked is None else np.asarray(predicted if has_labels else np.ravel(predicted)).tolist()
        if isinstance(scores, list):  # of several labels, each with both of its classes
            scores = np.column_stack([both[:, 1] for both in scores])
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores.ravel() if scores.shape[1:] == (1,) else scores
    if tried.outcome is Task.BINARY and scores.ndim > 1:
        scores = scores[:, 1]
    return OwnAnswers(scores, labels, by_mlflow)


def _of_booster(model: xgboost.Booster, rows: xgboost.DMatrix) -> tuple[Any, list[Any] | None]:
    """What it predicts; where that are labels, the probabilities of its margins besides."""
    predicted = model.predict(rows)
    if json.loads(model.save_config())["learner"]["objective"]["name"] != "multi:softmax":
        return predicted, None
    return softmax(model.predict(rows, output_margin=True), axis=1), predicted.astype(int).tolist()


def _of_onnx(model: Any, frame: Any) -> tuple[Any, list[Any] | None, bool]:
    """The file in ONNX Runtime; see `OwnAnswers`."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    feeds = {each.name: frame[[each.name]].to_numpy(dtype=_KINDS[each.type]) for each in inputs if each.name in frame}
    *labels, scores = session.run(None, feeds or {inputs[0].name: frame.to_numpy(dtype=_KINDS[inputs[0].type])})
    are_maps = isinstance(scores, list)
    scores = np.asarray([list(row.values()) for row in scores] if are_maps else scores)
    scores = scores.ravel() if scores.shape[1:] == (1,) else scores
    # Of a DataFrame, MLflow makes vectors for several inputs, where these take columns.
    return scores, labels[0].tolist() if labels else None, (are_maps or not labels) and not feeds
