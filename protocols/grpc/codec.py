"""The codec of ModelInfer. In: one request message. Out: packed rows for the dispatcher, and the answer's bytes.

Inputs are one matrix of shape [rows, features], of any name, or a tensor of shape [rows] or [rows, 1] for each feature,
named after it. Outputs are `predictions` (FP32) and, for classifiers, `classes` (INT64 or BYTES).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dispatch.request import Prediction, PredictionRequest
from experiments.prediction_id import shown
from protocols.dialect import AnswerFacts
from protocols.grpc.open_inference_pb2 import ModelInferResponse
from protocols.head import RequestHead
from protocols.labels import classes_of
from protocols.problem import Problem, invalid
from protocols.signature import Signature
from runners.card import Card, Task

PREDICTIONS = "predictions"
CLASSES = "classes"


class Tensor(NamedTuple):
    """Name, datatype and shape, as metadata and answers show them; -1 is the number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class _Datatype(NamedTuple):
    dtype: str
    contents: str
    """The field of `InferTensorContents` that carries it; empty: raw contents only."""


_DATATYPES = {
    "BOOL": _Datatype("?", "bool_contents"),
    "INT8": _Datatype("<i1", "int_contents"),
    "INT16": _Datatype("<i2", "int_contents"),
    "INT32": _Datatype("<i4", "int_contents"),
    "INT64": _Datatype("<i8", "int64_contents"),
    "UINT8": _Datatype("<u1", "uint_contents"),
    "UINT16": _Datatype("<u2", "uint_contents"),
    "UINT32": _Datatype("<u4", "uint_contents"),
    "UINT64": _Datatype("<u8", "uint64_contents"),
    "FP16": _Datatype("<f2", ""),
    "FP32": _Datatype("<f4", "fp32_contents"),
    "FP64": _Datatype("<f8", "fp64_contents"),
}


def input_tensors(card: Card) -> list[Tensor]:
    """The layout that metadata names: one matrix."""
    return [Tensor("input", "FP32", (-1, len(card.features)))]


def output_tensors(card: Card) -> list[Tensor]:
    """What a model of this card answers."""
    scores = (-1, card.scores_per_row) if card.task is Task.MULTICLASS else (-1,)
    tensors = [Tensor(PREDICTIONS, "FP32", scores)]
    if card.task is not Task.REGRESSION:
        labels = "INT64" if all(isinstance(label, int) for label in card.classes) else "BYTES"
        tensors.append(Tensor(CLASSES, labels, (-1,)))
    return tensors


class ModelInfer:
    """One request's decode and encode, for its call; `outputs` are all that there are."""

    def __init__(self, signature: Signature, outputs: list[Tensor], request: Any) -> None:
        self._signature = signature
        self._request = request
        self._outputs = outputs

    def decode(self, _body: bytes, _head: RequestHead, /) -> PredictionRequest:
        """The rows of the message. Raises `Problem`."""
        request = self._request
        if request.outputs:
            self._outputs = self._chosen([output.name for output in request.outputs])
        if not request.inputs:
            raise invalid("no_rows", "there are no input tensors")
        raw = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            message = f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs; one for each belongs here"
            raise Problem(400, "malformed_body", message)
        parts = raw or [None] * len(request.inputs)
        tensors = [(tensor, _values(tensor, part)) for tensor, part in zip(request.inputs, parts, strict=True)]
        packed = self._matrix(*tensors[0]) if self._is_matrix() else self._columns(tensors)
        return PredictionRequest(packed, self._signature.check_binary(packed))

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts, /) -> tuple[bytes, bytes]:
        """No header lines, and the bytes of the answer; its contents are raw if the request's were."""
        request, origin, scores = self._request, prediction.origin, prediction.scores
        assert scores is not None
        answer = ModelInferResponse(model_name=request.model_name, model_version=origin.version, id=request.id)
        parameters = answer.parameters
        parameters["request_id"].string_param = facts.request_id
        parameters["prediction_id"].string_param = shown(facts.prediction_id)
        parameters["reason"].string_param = prediction.reason
        parameters["generation"].int64_param = origin.generation
        for tensor in self._outputs:
            output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype)
            values = scores if tensor.name == PREDICTIONS else classes_of(origin.card, scores.tolist())
            output.shape.extend(scores.shape if tensor.name == PREDICTIONS else scores.shape[:1])
            if request.raw_input_contents:
                answer.raw_output_contents.append(_raw(tensor.datatype, values))
            else:
                _fill(output.contents, tensor.datatype, values)
        return b"", answer.SerializeToString()

    def refuse(self, problem: Problem, request_id: str) -> bytes:
        """The JSON that the door makes a status of."""
        return problem.body(request_id)

    def _chosen(self, names: list[str]) -> list[Tensor]:
        known = {tensor.name: tensor for tensor in self._outputs}
        for name in names:
            if name not in known:
                message = f"there is no output {name[:100]!r}; there are {', '.join(known)}"
                raise Problem(400, "unknown_output", message)
        return [known[name] for name in names]

    def _is_matrix(self) -> bool:
        """A single feature may come as a column, too."""
        inputs = self._request.inputs
        return len(inputs) == 1 and not (len(inputs[0].shape) == 1 and len(self._signature.feature_names) == 1)

    def _matrix(self, tensor: Any, values: NDArray[Any]) -> bytes | memoryview:
        expected = len(self._signature.feature_names)
        if len(tensor.shape) != 2 or tensor.shape[1] != expected:
            message = f"input {tensor.name[:100]!r} has shape {list(tensor.shape)}; [rows, {expected}] belongs here"
            raise invalid("wrong_feature_count", message, expected=expected)
        return _packed(values)

    def _columns(self, tensors: list[tuple[Any, NDArray[Any]]]) -> bytes | memoryview:
        names = self._signature.feature_names
        columns = {tensor.name: values for tensor, values in tensors}
        for name in columns:
            if name not in names:
                message = f"there is no feature {name[:100]!r}; known are {', '.join(names)}"
                raise invalid("unknown_feature", message, feature=name[:100])
        for name in names:
            if name not in columns:
                raise invalid("missing_feature", f"the input of feature {name!r} is missing", feature=name)
        if len(columns) < len(tensors):
            raise Problem(400, "malformed_body", "two inputs have the same name")
        rows = len(columns[names[0]])
        for tensor, values in tensors:
            if list(tensor.shape) not in ([len(values)], [len(values), 1]) or len(values) != rows:
                message = f"input {tensor.name!r} has shape {list(tensor.shape)}; [{rows}] or [{rows}, 1] belongs here"
                raise invalid("wrong_shape", message, feature=tensor.name)
        with np.errstate(over="ignore", invalid="ignore"):
            return _packed(np.stack([columns[name].astype("<f4") for name in names], axis=1))


def _values(tensor: Any, raw: bytes | None) -> NDArray[Any]:
    """The flat values of one input. Raises `Problem` when they are not as many as its shape says."""
    name, datatype = tensor.name[:100], _DATATYPES.get(tensor.datatype)
    if datatype is None:
        message = f"input {name!r}: datatype {tensor.datatype[:20]!r} is not taken; {', '.join(_DATATYPES)} are"
        raise Problem(400, "unknown_datatype", message)
    size = math.prod(tensor.shape)
    if any(side < 0 for side in tensor.shape):
        raise Problem(400, "wrong_shape", f"input {name!r}: a side of shape {list(tensor.shape)} is negative")
    if raw is None:
        if not datatype.contents:
            message = f"input {name!r}: {tensor.datatype} has no contents of its own; send raw_input_contents"
            raise Problem(400, "malformed_body", message)
        values = np.array(getattr(tensor.contents, datatype.contents), dtype="<f8")
        got, expected = len(values), size
    else:
        expected, got = size * np.dtype(datatype.dtype).itemsize, len(raw)
        values = np.frombuffer(raw, datatype.dtype) if got == expected else np.empty(0)
    if got != expected:
        unit = "values" if raw is None else "bytes"
        message = f"input {name!r} has {got} {unit}; shape {list(tensor.shape)} of {tensor.datatype} takes {expected}"
        raise Problem(400, "wrong_shape", message)
    return values


def _packed(values: NDArray[Any]) -> bytes | memoryview:
    """As float32, without a copy where that is what they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.ascontiguousarray(values, dtype="<f4")
    return floats.data.cast("B") if floats.size else b""


def _raw(datatype: str, values: Any) -> bytes:
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.asarray(values, dtype=_DATATYPES[datatype].dtype).tobytes()


def _fill(contents: Any, datatype: str, values: Any) -> None:
    if datatype == "BYTES":
        contents.bytes_contents.extend(str(value).encode() for value in values)
    elif datatype == "INT64":
        contents.int64_contents.extend(values)
    else:
        contents.fp32_contents.extend(values.ravel().tolist())
