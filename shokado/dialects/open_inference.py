"""The Open Inference Protocol (V2) over HTTP: `POST /v2/models/{model}/infer`, also with `/versions/{version}`.

In: tensors in JSON, `{"inputs": [{"name", "shape", "datatype", "data"}], "id"?, "outputs"?, "parameters"?}`, and in
binary after the JSON whose length `Inference-Header-Content-Length` says; `shokado.dialects.tensors` has what they are.
A length of 0: the whole body is one matrix of packed values, of the model's datatype. Out: `{"model_name",
"model_version", "id"?, "parameters", "outputs"}`, and binary data after it where they were asked for. Errors:
`{"error": ".."}`. Source: https://github.com/kserve/open-inference-protocol, and Triton's "Binary Tensor Data
Extension".
"""

from dataclasses import replace
from typing import Any, Generic, TypeVar

import msgspec

from runners.artefacts.card import Card
from runners.inputs.columns import Boolean, Category, Text
from runners.inputs.datatypes import BYTES, to_bytes
from runners.inputs.faults import InputFault
from runners.inputs.matrix import read_tensor
from runners.inputs.union import UnionRows
from shokado.dialects.dialect import BINARY_LINES, JSON_LINES, AnswerFacts, Content, Description, Dialect
from shokado.dialects.examples import json_examples
from shokado.dialects.head import BINARY, JSON, RequestHead
from shokado.dialects.json_rows import refuse_excess
from shokado.dialects.json_text import read_leniently, refusal
from shokado.dialects.model_tensors import WantedOutput, chosen_outputs, flat_values, input_tensors
from shokado.dialects.native import unsupported_type
from shokado.dialects.parameters import InferParameters, InputParameters, OutputParameters
from shokado.dialects.problem import Problem, malformed, problem_of
from shokado.dialects.tensors import Tensor, from_bytes, from_json, pack_tensors
from shokado.dispatch.request import Prediction, PredictionRequest

Data = TypeVar("Data")
"""An input's data: a list, flat or nested as the shape says, or None; or its JSON as it came."""


class InferInput(msgspec.Struct, Generic[Data]):
    """One input tensor, whose data are here, or in binary after the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: Data = None  # type: ignore[assignment]  # a list, or none
    parameters: InputParameters | None = None


class InferOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters | None = None


class InferBody(msgspec.Struct, Generic[Data]):
    """The JSON of a request."""

    inputs: list[InferInput[Data]]
    id: str | None = None
    outputs: list[InferOutput] | None = None
    """All, unless some are named."""
    parameters: InferParameters | None = None


class BinaryParameters(msgspec.Struct):
    """Parameters of an output that is sent in binary."""

    binary_data_size: int


class InferredOutput(msgspec.Struct, omit_defaults=True):
    """One output tensor, whose data are here, flat, or in binary after the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[float | int | str] | None = None
    parameters: BinaryParameters | None = None


class AnswerParameters(msgspec.Struct):
    """What this server says of every answer."""

    request_id: str
    prediction_id: str
    reason: str
    generation: int


class InferAnswer(msgspec.Struct, omit_defaults=True):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    outputs: list[InferredOutput]
    parameters: AnswerParameters
    id: str | None = None


class InferError(msgspec.Struct):
    """The JSON of an error."""

    error: str


class AnswerOptions(msgspec.Struct, frozen=True, gc=False):
    """What a client wants of the answer."""

    id: str | None
    outputs: tuple[WantedOutput, ...]
    """The outputs that the client names; it gets all of them where it names none."""
    binary: tuple[bool, ...]
    """Whether each output that is named goes as binary data; where none is named, one value for all."""


_PLAIN = AnswerOptions(None, (), (False,))
_PACKED = AnswerOptions(None, (), (True,))
_BINARY_BODY = Content({"type": "string", "format": "binary", "description": "JSON, then the binary tensor data."})
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Inference-Header-Content-Length": (
        "Bytes of the JSON that binary data follow. Of a request, 0: the whole body is rows of the model's datatype.",
        {"type": "integer", "minimum": 0},
    )
}
_HOW = OutputParameters()
_EACH = "a tensor for each feature"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(InferBody[list[Any] | None]).decode
_decode_large = msgspec.json.Decoder(InferBody[msgspec.Raw]).decode


class OpenInference(Dialect):
    """Decode and encode of the route for the model by its name, which the split routes, or for a version's."""

    path = "/v2/models/{model}/infer"

    def decode(self, body: bytes, head: RequestHead) -> PredictionRequest:
        if head.content_type not in (JSON, BINARY):
            raise unsupported_type(head, JSON, BINARY)
        if head.json_bytes is None:
            return self._decode(body, memoryview(b""))
        if head.json_bytes == 0:
            rows, count = self.row_format.pack_bytes(body, head.packed_as, head.columns)
            return PredictionRequest(rows, count, answer_options=_PACKED)
        if head.json_bytes > len(body):
            message = f"inference-header-content-length is {head.json_bytes}, and the body has {len(body)} bytes"
            raise malformed(message)
        view = memoryview(body)
        return self._decode(view[: head.json_bytes], view[head.json_bytes :])

    def _decode(self, text: bytes | memoryview, binary: memoryview) -> PredictionRequest:
        refuse_excess(self.row_format, text, lists_per_row=len(self.row_format.feature_names))
        if len(text) >= self.row_format.large_bytes and not binary and (found := self._decode_large(text)) is not None:
            return found
        try:
            content = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(bytes(text), binary, error) from None
        rows, count = pack_tensors(_tensors(content.inputs, binary), self.row_format)
        return PredictionRequest(rows, count, answer_options=_answer_options(content))

    def _explain(self, text: bytes, binary: memoryview, error: Exception) -> Problem:
        """Why a body was refused: by row and feature, if it is for a number that JSON has not."""
        try:
            content = msgspec.convert(read_leniently(text), InferBody[list[Any] | None])
            rows, _ = pack_tensors(_tensors(content.inputs, binary), self.row_format)
            self.row_format.check_finite(rows)
        except (msgspec.ValidationError, RecursionError, UnicodeEncodeError):
            pass
        except (Problem, InputFault) as refused:
            if "row" in refused.detail:
                return problem_of(refused)
        return refusal(text, error)

    def _decode_large(self, text: bytes | memoryview) -> PredictionRequest | None:
        """Decode a body of a single matrix of floats; None if it is another, or anything is wrong with it."""
        try:
            content = _decode_large(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        one = content.inputs[0] if len(content.inputs) == 1 else None
        if one is None or one.data is None or one.parameters is not None:
            return None
        if one.datatype not in ("FP32", "FP64") or len(one.shape) != 2:
            return None
        values = read_tensor(bytes(one.data), one.shape)
        if values is None:
            return None
        try:
            rows, count = pack_tensors([Tensor(one.name, tuple(one.shape), values)], self.row_format)
        except (Problem, InputFault):
            return None
        return PredictionRequest(rows, count, answer_options=_answer_options(content))

    def encode(self, prediction: Prediction, _head: RequestHead, facts: AnswerFacts) -> tuple[bytes, bytes]:
        answer_options: AnswerOptions = facts.answer_options
        chosen = chosen_outputs(prediction.card, answer_options.outputs)
        binary = answer_options.binary if answer_options.outputs else answer_options.binary * len(chosen)
        outputs, parts = [], []
        for tensor, is_binary in zip(chosen, binary, strict=True):
            shape, flat = flat_values(tensor, prediction)
            if is_binary:
                part = to_bytes(tensor.datatype, flat)
                parts.append(part)
                size = BinaryParameters(len(part))
                outputs.append(InferredOutput(tensor.name, tensor.datatype, shape, parameters=size))
            else:
                data = flat if isinstance(flat, list) else flat.tolist()
                outputs.append(InferredOutput(tensor.name, tensor.datatype, shape, data))
        origin = prediction.origin
        parameters = AnswerParameters(facts.request_id, facts.prediction_id, prediction.reason, origin.generation)
        text = _encode(InferAnswer(origin.card.model, origin.version, outputs, parameters, answer_options.id))
        if not parts:
            return JSON_LINES, text
        lines = b"%binference-header-content-length: %d\r\n" % (BINARY_LINES, len(text))
        return lines, b"".join((text, *parts))

    def refuse(self, problem: Problem, _request_id: str) -> bytes:
        return _encode(InferError(problem.message))

    def describe(self, card: Card) -> Description:
        named, _ = json_examples(card, self.row_format)
        columns = [self._column(name, value) for name, value in named.items()]
        inputs = columns
        examples: dict[str, Any] = {_EACH: {"inputs": columns}}
        if not isinstance(self.row_format, UnionRows) and not self.row_format.schema.is_typed:
            inputs = [_matrix(card)]
            only: dict[str, Any] = {"one tensor": {"inputs": inputs}}
            examples = only | examples if self.row_format.text_field is None else only
        examples |= {"one output, with an id": {"id": "7", "inputs": inputs, "outputs": [{"name": "predictions"}]}}
        if card.task.has_probabilities and not card.task.has_labels:
            best = {"name": "predictions", "parameters": {"classification": 2}}
            examples |= {"the best two classes": {"inputs": inputs, "outputs": [best]}}
        return Description(
            "Score tensors (Open Inference Protocol)",
            {
                "application/json": Content(InferBody[list[Any] | None], examples),
                "application/octet-stream": _BINARY_BODY,
            },
            {"application/json": Content(InferAnswer), "application/octet-stream": _BINARY_BODY},
            error=InferError,
            headers=_HEADERS,
            answer_headers=_HEADERS,
        )

    def _column(self, name: str, value: Any) -> dict[str, Any]:
        """The tensor of one feature, with the value of one row as JSON says it."""
        (column,) = (column for column in self.row_format.schema.columns if column.name == name)
        datatype = BYTES if isinstance(column, Category | Text) else "FP64"
        if isinstance(column, Boolean) and value in (0, 1):
            datatype, value = "BOOL", bool(value)
        return {"name": name, "datatype": datatype, "shape": [1], "data": [value]}


def _matrix(card: Card) -> dict[str, Any]:
    """The first example row as one tensor with all features."""
    (tensor,) = input_tensors(card)
    data = card.row_format.batch(card.examples.rows[:1]).ravel().tolist()
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [1, *tensor.shape[1:]], "data": data}


class OpenInferenceVersion(OpenInference):
    """Decode and encode of the route for the version that the path names."""

    path = "/v2/models/{model}/versions/{version}/infer"

    def describe(self, card: Card) -> Description:
        return replace(super().describe(card), summary="Score tensors with a version (Open Inference Protocol)")


def _tensors(inputs: list[InferInput[list[Any] | None]], binary: memoryview) -> list[Tensor]:
    """The inputs, whose binary data lie one after the other in `binary`."""
    tensors, offset = [], 0
    for one in inputs:
        size = one.parameters.binary_data_size if one.parameters is not None else None
        name = one.name[:100]
        if one.parameters is not None:
            one.parameters.refuse(one.name)
        if (size is None) == (one.data is None):
            raise malformed(f"input {name!r}: data or the parameter binary_data_size, one of both, belongs here")
        if size is None:
            tensors.append(from_json(one.name, one.datatype, one.shape, one.data or []))
        elif 0 <= size <= len(binary) - offset:
            tensors.append(from_bytes(one.name, one.datatype, one.shape, binary[offset : offset + size]))
            offset += size
        else:
            left = len(binary) - offset
            raise malformed(f"input {name!r}: binary_data_size is {size}, and {left} bytes are left of the body")
    if offset != len(binary):
        raise malformed(f"the inputs take {offset} bytes of binary data; there are {len(binary)}")
    return tensors


def _answer_options(content: InferBody[Any]) -> AnswerOptions:
    """What is wanted of the answer. Raises `Problem` for what is not served."""
    parameters = content.parameters
    if parameters is not None:
        parameters.refuse()
    by_default = parameters is not None and parameters.binary_data_output
    if not content.outputs:
        return _PLAIN if content.id is None and not by_default else AnswerOptions(content.id, (), (by_default,))
    wanted, binary = [], []
    for output in content.outputs:
        how = output.parameters or _HOW
        how.refuse(output.name)
        wanted.append(WantedOutput(output.name, how.classification))
        binary.append(by_default if how.binary_data is None else how.binary_data)
    return AnswerOptions(content.id, tuple(wanted), tuple(binary))
