"""What came back for a request, read and checked: right, refused, or an error.

An answer is right when its shape is that of the request's rows, scores are finite and probabilities lie in [0, 1], and
the headers name the version and the generation that the body names. Out: an `Answer`, or `WrongAnswer`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from load_tests.traffic.target_model import TargetModel

Score = float | list[float]
Label = int | str | list[int | str]
Body = TypeVar("Body")
_ROUNDING = 1e-4
"""How far probabilities, which are float32, may leave [0, 1], or their sum 1."""
_BINARY_LENGTH = "inference-header-content-length"


class WrongAnswer(Exception):
    """The message says what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    """An answer that was found right."""

    version: str
    generation: int
    reason: str | None = None
    """Why that version; not every dialect tells."""
    prediction_id: str = ""
    classes: Sequence[Label] = ()
    scores: Sequence[Score] = ()


class _Native(msgspec.Struct):
    predictions: list[Score]
    version: str
    reason: str
    generation: int
    prediction_id: str
    classes: list[Label] = []


class _Single(msgspec.Struct):
    prediction: Score
    model_version: str
    prediction_id: str
    prediction_class: Label | None = None


class _Size(msgspec.Struct):
    binary_data_size: int


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[float | int | str] | None = None
    parameters: _Size | None = None


class _Origin(msgspec.Struct):
    reason: str
    generation: int
    prediction_id: str


class _Inferred(msgspec.Struct):
    model_version: str
    outputs: list[_Output]
    parameters: _Origin


def read_native(model: TargetModel, rows: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read the answer of `POST /v1/models/predict`, as JSON."""
    found = _decode(body, _Native)
    _check_scores(model, rows, found.predictions)
    _check_classes(model, rows, found.classes)
    _check_headers(headers, found.version, found.generation)
    return Answer(found.version, found.generation, found.reason, found.prediction_id, found.classes, found.predictions)


def read_packed(model: TargetModel, rows: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read the answer of `POST /v1/models/predict`, as packed float32 scores."""
    if len(body) != 4 * rows * model.scores:
        raise WrongAnswer(f"{len(body)} bytes of scores for {rows} rows")
    _check_scores(model, rows, _nested(model, np.frombuffer(body, "<f4").astype(np.float64)))
    return _by_headers(headers)


def read_single(model: TargetModel, rows: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read the answer of `POST /predict` and the routes that answer like it."""
    found = _decode(body, _Single)
    _check_scores(model, rows, [found.prediction])
    _check_classes(model, rows, [] if found.prediction_class is None else [found.prediction_class])
    answer = _by_headers(headers)
    _check_headers(headers, found.model_version, answer.generation)
    return answer


def read_inferred(model: TargetModel, rows: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read the answer of the Open Inference Protocol, with outputs in JSON or in binary after it."""
    length = headers.get(_BINARY_LENGTH)
    text, binary = (body, b"") if length is None else (body[: int(length)], body[int(length) :])
    found = _decode(text, _Inferred)
    origin = found.parameters
    scores = _scores_of(found.outputs, binary)
    if len(scores) != rows * model.scores:
        raise WrongAnswer(f"{len(scores)} scores for {rows} rows")
    _check_scores(model, rows, _nested(model, scores))
    _check_headers(headers, found.model_version, origin.generation)
    return Answer(found.model_version, origin.generation, origin.reason, origin.prediction_id)


def _scores_of(outputs: Sequence[_Output], binary: bytes) -> NDArray[np.float64]:
    """The output `predictions`, flat."""
    offset = 0
    for output in outputs:
        size = output.parameters.binary_data_size if output.parameters is not None else 0
        if output.name == "predictions":
            if output.parameters is None:
                return np.array(output.data, np.float64)
            return np.frombuffer(binary, "<f4", size // 4, offset).astype(np.float64)
        offset += size
    raise WrongAnswer("there is no output named predictions")


def _nested(model: TargetModel, scores: NDArray[np.float64]) -> list[Score]:
    found: list[Score] = (scores.reshape(-1, model.scores) if model.scores > 1 else scores).tolist()
    return found


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise WrongAnswer(f"not an answer of this route: {error}") from error


def _check_scores(model: TargetModel, rows: int, scores: Sequence[Score]) -> None:
    if len(scores) != rows:
        raise WrongAnswer(f"{len(scores)} predictions for {rows} rows")
    for score in scores:
        values = score if isinstance(score, list) else [score]
        if len(values) != model.scores:
            raise WrongAnswer(f"a row has {len(values)} scores, not {model.scores}")
        if not all(map(math.isfinite, values)):
            raise WrongAnswer(f"a score is not finite: {values}")
        if model.task not in ("binary", "multiclass", "multilabel"):
            continue
        if min(values) < -_ROUNDING or max(values) > 1 + _ROUNDING:
            raise WrongAnswer(f"a probability lies outside 0 to 1: {values}")
        if model.task == "multiclass" and abs(sum(values) - 1) > _ROUNDING * len(values):
            raise WrongAnswer(f"probabilities add up to {sum(values)}")


def _check_classes(model: TargetModel, rows: int, classes: Sequence[Label]) -> None:
    if len(classes) != (rows if model.classes else 0):
        raise WrongAnswer(f"{len(classes)} classes for {rows} rows")
    labels = [label if isinstance(label, list) else [label] for label in classes]
    if any(len(row) != (len(model.outputs) or 1) for row in labels):
        raise WrongAnswer(f"a row has other than {len(model.outputs) or 1} labels")
    if unknown := {label for row in labels for label in row} - set(model.classes):
        raise WrongAnswer(f"classes that the model does not have: {sorted(map(str, unknown))}")


def _check_headers(headers: Mapping[str, str], version: str, generation: int) -> None:
    told = _by_headers(headers)
    if told.version != version or told.generation != generation:
        raise WrongAnswer(
            f"the headers say version {told.version}, generation {told.generation}; "
            f"the body says {version}, {generation}"
        )


def _by_headers(headers: Mapping[str, str]) -> Answer:
    version, generation = headers.get("x-model-version"), headers.get("x-generation")
    if version is None or generation is None or not generation.isdigit():
        raise WrongAnswer(f"the headers do not name version and generation: {version!r}, {generation!r}")
    return Answer(version, int(generation))
