"""The codec of ModelInfer. In: one request message. Out: packed rows for the dispatcher, and the answer's bytes.

What tensors mean is `shokado.dialects.tensors`' and `shokado.dialects.model_tensors`' to say, as over REST.
"""

from typing import Any, TypeVar

import msgspec

from runners.inputs.datatypes import BYTES, to_bytes
from runners.inputs.rows import RowReader
from shokado.dialects.dialect import AnswerFacts
from shokado.dialects.head import RequestHead
from shokado.dialects.model_tensors import WantedOutput, chosen_outputs, flat_values
from shokado.dialects.parameters import InferParameters, InputParameters, OutputParameters
from shokado.dialects.problem import Problem
from shokado.dialects.tensors import Tensor, from_bytes, from_values, pack_tensors
from shokado.dispatch.request import Prediction, PredictionRequest
from shokado.transports.grpc.open_inference_pb2 import ModelInferResponse

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field of `InferTensorContents` that carries each datatype; what is not here comes in raw contents only."""

Parameters = TypeVar("Parameters", InferParameters, InputParameters, OutputParameters)


class ModelInfer:
    """One request's decode and encode, for its call."""

    path = "ModelInfer"

    def __init__(self, row_format: RowReader, request: Any) -> None:
        self._row_format = row_format
        self._request = request

    def decode(self, _body: bytes, _head: RequestHead, /) -> PredictionRequest:
        """The rows of the message. Raises `Problem` and `InputFault`."""
        request = self._request
        inputs, raw = request.inputs, request.raw_input_contents
        _parameters(request, InferParameters).refuse()
        for one in inputs:
            _parameters(one, InputParameters).refuse(one.name)
        if raw and len(raw) != len(inputs):
            message = f"{len(raw)} raw_input_contents for {len(inputs)} inputs; one for each belongs here"
            raise Problem("malformed_body", message)
        tensors = [_raw_tensor(*pair) for pair in zip(inputs, raw, strict=True)] if raw else list(map(_tensor, inputs))
        answer_options = tuple(map(_wanted, request.outputs))
        return PredictionRequest(*pack_tensors(tensors, self._row_format), answer_options=answer_options)

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts, /) -> tuple[bytes, bytes]:
        """No header lines, and the bytes of the answer; its contents are raw if the request's were."""
        request, origin = self._request, prediction.origin
        answer = ModelInferResponse(model_name=request.model_name, model_version=origin.version, id=request.id)
        parameters = answer.parameters
        parameters["request_id"].string_param = facts.request_id
        parameters["prediction_id"].string_param = facts.prediction_id
        parameters["reason"].string_param = prediction.reason
        parameters["generation"].int64_param = origin.generation
        for tensor in chosen_outputs(origin.card, facts.answer_options):
            shape, flat = flat_values(tensor, prediction)
            output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            if request.raw_input_contents:
                answer.raw_output_contents.append(to_bytes(tensor.datatype, flat))
            else:
                _fill(output.contents, tensor.datatype, flat)
        return b"", answer.SerializeToString()

    def refuse(self, problem: Problem, request_id: str) -> bytes:
        """The JSON that the transport makes a status of."""
        return problem.body(request_id)


def _wanted(output: Any) -> WantedOutput:
    """Raises `Problem` for what is not served."""
    how = _parameters(output, OutputParameters)
    how.refuse(output.name)
    return WantedOutput(output.name, how.classification)


def _parameters(of: Any, known: type[Parameters]) -> Parameters:
    """The parameters of a message, as over REST. Raises `Problem` for one of the wrong type."""
    if not of.parameters:
        return known()
    given = {name: _value(parameter) for name, parameter in of.parameters.items()}
    try:
        return msgspec.convert(given, known)
    except msgspec.ValidationError as error:
        raise Problem("malformed_body", f"parameters of {_owner(of, known)}: {error}") from None


def _owner(of: Any, known: type[Parameters]) -> str:
    """Whose the parameters are, as it is said to who has sent them."""
    if known is InferParameters:
        return "the request"
    return f"{'input' if known is InputParameters else 'output'} {of.name[:100]!r}"


def _value(parameter: Any) -> Any:
    """What a parameter says, if anything."""
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _raw_tensor(tensor: Any, raw: bytes) -> Tensor:
    return from_bytes(tensor.name, tensor.datatype, tensor.shape, raw)


def _tensor(tensor: Any) -> Tensor:
    """The tensor of typed contents. Raises `Problem`."""
    field = _CONTENTS.get(tensor.datatype)
    if field is None and tensor.datatype in ("FP16", "BF16"):
        message = f"input {tensor.name[:100]!r}: {tensor.datatype} has no contents of its own; send raw_input_contents"
        raise Problem("malformed_body", message)
    values = getattr(tensor.contents, field) if field is not None else ()
    return from_values(tensor.name, tensor.datatype, tensor.shape, values)


def _fill(contents: Any, datatype: str, values: Any) -> None:
    if datatype == BYTES:
        contents.bytes_contents.extend(text.encode() for text in values)
    elif datatype == "INT64":
        contents.int64_contents.extend(values)
    else:
        contents.fp32_contents.extend(values.tolist())
