"""Rows out of messages, and answers into them."""

from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from runners.inputs.datatypes import to_bytes
from shokado.dialects.dialect import AnswerFacts
from shokado.dialects.head import RequestHead
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction, PredictionRequest
from shokado.transports.grpc.codec import ModelInfer
from shokado.transports.grpc.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.support.cards import NAMES, toy_card
from tests.support.problems import refused_input
from tests.support.rows import dense_format, text_format

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
FIELDS = {
    "BOOL": (np.bool_, "bool_contents"),
    "INT8": (np.int8, "int_contents"),
    "INT16": (np.int16, "int_contents"),
    "INT32": (np.int32, "int_contents"),
    "INT64": (np.int64, "int64_contents"),
    "UINT8": (np.uint8, "uint_contents"),
    "UINT16": (np.uint16, "uint_contents"),
    "UINT32": (np.uint32, "uint_contents"),
    "UINT64": (np.uint64, "uint64_contents"),
    "FP16": (np.float16, ""),
    "FP32": (np.float32, "fp32_contents"),
    "FP64": (np.float64, "fp64_contents"),
}


def message(*tensors: tuple[str, str, Any], raw: bool = False, **fields: Any) -> Any:
    """A request; each tensor is its name, its datatype and its values."""
    request = ModelInferRequest(**fields)
    for name, datatype, values in tensors:
        dtype, field = FIELDS[datatype]
        array: Any = np.asarray(values, dtype=dtype)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(array.tobytes())
        else:
            getattr(tensor.contents, field).extend(array.ravel().tolist())
    return request


def codec(request: Any) -> ModelInfer:
    return ModelInfer(dense_format(NAMES, 10, booleans=NAMES), request)


def decode(request: Any) -> PredictionRequest:
    return codec(request).decode(b"", RequestHead())


def rows_of(request: Any) -> list[list[float]]:
    decoded = decode(request)
    assert not isinstance(decoded.rows, list)
    rows: list[list[float]] = np.frombuffer(decoded.rows, "<f4").reshape(decoded.row_count, len(NAMES)).tolist()
    return rows


WAYS = [(datatype, raw) for datatype, (_, field) in FIELDS.items() for raw in ((False, True) if field else (True,))]


@pytest.mark.parametrize(("datatype", "raw"), WAYS)
def test_every_datatype_in_both_layouts_gives_the_rows_that_numpy_would(datatype: str, raw: bool) -> None:
    expected = ROWS.astype(FIELDS[datatype][0]).astype(np.float32).tolist()
    assert rows_of(message(("x", datatype, ROWS), raw=raw)) == expected
    columns = [(name, datatype, ROWS[:, index]) for index, name in enumerate(NAMES)]
    assert rows_of(message(*reversed(columns), raw=raw)) == expected
    thin = [(name, datatype, values.reshape(-1, 1)) for name, datatype, values in columns]
    assert rows_of(message(*thin, raw=raw)) == expected


def test_a_raw_matrix_of_floats_is_not_copied() -> None:
    request = message(("x", "FP32", ROWS), raw=True)
    rows = decode(request).rows
    assert isinstance(rows, memoryview)
    assert isinstance(rows.obj, np.ndarray)
    assert not rows.obj.flags.owndata


BAD: list[tuple[str, Any, int, str]] = [
    ("no inputs", ModelInferRequest(), 422, "no_rows"),
    ("no rows", message(("x", "FP32", np.empty((0, 3)))), 422, "no_rows"),
    ("too many rows", message(("x", "FP32", np.zeros((11, 3)))), 413, "too_many_rows"),
    ("too wide", message(("x", "FP32", np.zeros((1, 4)))), 422, "wrong_feature_count"),
    ("one dimension", message(("x", "FP32", np.zeros(3))), 422, "wrong_feature_count"),
    ("three dimensions", message(("x", "FP32", np.zeros((1, 3, 1)))), 422, "wrong_feature_count"),
    ("not a number", message(("x", "FP32", [[1, np.nan, 3]])), 422, "not_finite"),
    ("beyond float32", message(("x", "FP64", [[1, 1e300, 3]]), raw=True), 422, "not_finite"),
    ("a feature is missing", message(("height", "FP32", [1]), ("width", "FP32", [1])), 422, "missing_feature"),
    ("an unknown feature", message(*[(name, "FP32", [1]) for name in (*NAMES, "colour")]), 422, "unknown_feature"),
    ("a feature twice", message(*[(name, "FP32", [1]) for name in (*NAMES, "width")]), 400, "malformed_body"),
    ("uneven columns", message(*[(name, "FP32", [1] * n) for n, name in enumerate(NAMES, 1)]), 422, "wrong_shape"),
]


@pytest.mark.parametrize(("request_", "status", "code"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_tensors_are_refused_by_name(request_: Any, status: int, code: str) -> None:
    with refused_input() as caught:
        decode(request_)
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
@pytest.mark.parametrize("shape", [[3, 3], [2**62, 2**62], [-1, 3], [-2, -3], [2**62, 0]], ids=str)
def test_a_shape_that_its_values_do_not_fill_allocates_nothing(shape: list[int], raw: bool) -> None:
    request = message(("x", "FP32", ROWS), raw=raw)
    request.inputs[0].shape[:] = shape
    with refused_input("'x'") as caught:
        decode(request)
    assert caught.value.code == "malformed_tensor"


def test_raw_contents_belong_to_all_inputs_or_none() -> None:
    request = message(("x", "FP32", ROWS), raw=True)
    request.raw_input_contents.append(b"")
    with refused_input("2 raw_input_contents for 1 inputs"):
        decode(request)


@pytest.mark.parametrize("datatype", ["", "fp32", "STRING"])
def test_another_datatype_is_refused(datatype: str) -> None:
    request = message(("x", "FP32", ROWS))
    request.inputs[0].datatype = datatype
    with refused_input("is not known") as caught:
        decode(request)
    assert caught.value.code == "malformed_tensor"


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_contents_of_their_own(datatype: str) -> None:
    request = message(("x", "FP16", ROWS), raw=True)
    request.inputs[0].datatype = datatype
    del request.raw_input_contents[:]
    with refused_input("raw_input_contents"):
        decode(request)


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_texts_come_out_as_they_are(raw: bool) -> None:
    request = ModelInferRequest()
    tensor = request.inputs.add(name="message", datatype="BYTES", shape=[2])
    if raw:
        request.raw_input_contents.append(to_bytes("BYTES", ["hé", ""]))
    else:
        tensor.contents.bytes_contents.extend(["hé".encode(), b""])
    decoded = ModelInfer(text_format("message", 10, 100), request).decode(b"", RequestHead())
    assert (decoded.rows, decoded.row_count) == (["hé", ""], 2)


def answer(request: Any, task: Task, classes: tuple[int | str, ...], scores: Any) -> Any:
    made = codec(request)
    decoded = made.decode(b"", RequestHead())
    origin = Origin("v1", "production", 3, toy_card(task, classes))
    prediction = Prediction(decoded.rows, 2, lambda _: None, origin=origin, reason=Reason.SPLIT)
    prediction.scores = np.array(scores, dtype=np.float32)
    lines, body = made.encode(prediction, RequestHead(), AnswerFacts("mine", "AQID", 1.0, decoded.answer_options))
    assert lines == b""
    return ModelInferResponse.FromString(body)


def test_an_answer_says_who_answered_and_why() -> None:
    found = answer(message(("x", "FP32", ROWS), model_name="toy", id="7"), Task.BINARY, (0, 1), [0.25, 0.75])
    assert (found.model_name, found.model_version, found.id) == ("toy", "v1", "7")
    texts = {name: parameter.string_param for name, parameter in found.parameters.items() if name != "generation"}
    assert texts == {"request_id": "mine", "prediction_id": "AQID", "reason": "SPLIT"}
    assert found.parameters["generation"].int64_param == 3
    scores, classes = found.outputs
    assert (scores.name, scores.datatype, list(scores.shape)) == ("predictions", "FP32", [2])
    assert list(scores.contents.fp32_contents) == [0.25, 0.75]
    assert (classes.name, classes.datatype, list(classes.shape)) == ("classes", "INT64", [2])
    assert list(classes.contents.int64_contents) == [0, 1]


def test_labels_that_are_texts_are_bytes() -> None:
    scores = [[0.5, 0.25, 0.25], [0, 0.25, 0.75]]
    found = answer(message(("x", "FP32", ROWS)), Task.MULTICLASS, ("a", "bé", "c"), scores)
    assert [list(output.shape) for output in found.outputs] == [[2, 3], [2]]
    assert list(found.outputs[1].contents.bytes_contents) == [b"a", b"c"]
    raw = answer(message(("x", "FP32", ROWS), raw=True), Task.MULTICLASS, ("a", "bé", "c"), scores)
    assert np.frombuffer(raw.raw_output_contents[0], "<f4").reshape(2, 3).tolist() == scores
    assert raw.raw_output_contents[1] == b"\x01\0\0\0a\x01\0\0\0c"
    assert not raw.outputs[0].HasField("contents")


def test_an_output_that_is_not_there_is_refused() -> None:
    request = message(("x", "FP32", ROWS), outputs=[{"name": "logits"}])
    with refused_input("there are predictions, classes") as caught:
        answer(request, Task.BINARY, (0, 1), [0.25, 0.75])
    assert (caught.value.status, caught.value.code) == (400, "unknown_output")


def test_only_the_outputs_that_were_asked_for_are_answered() -> None:
    request = message(("x", "FP32", ROWS), outputs=[{"name": "classes"}])
    assert [output.name for output in answer(request, Task.BINARY, (0, 1), [0.25, 0.75]).outputs] == ["classes"]


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_a_classification_is_texts(raw: bool) -> None:
    best = {"name": "predictions", "parameters": {"classification": {"int64_param": 2}}}
    request = message(("x", "FP32", ROWS), raw=raw, outputs=[best])
    found = answer(request, Task.MULTICLASS, ("a", "bé", "c"), [[0.25, 0.5, 0.25], [0.75, 0, 0.25]])
    (output,) = found.outputs
    texts = ["0.5:1:bé", "0.25:0:a", "0.75:0:a", "0.25:2:c"]
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
    if raw:
        assert list(found.raw_output_contents) == [to_bytes("BYTES", texts)]
    else:
        assert [text.decode() for text in output.contents.bytes_contents] == texts


REGION = {"shared_memory_region": {"string_param": "mine"}}
NOT_SERVED: list[tuple[dict[str, Any], str]] = [
    ({"outputs": [{"name": "p", "parameters": {"classification": {"int64_param": 0}}}]}, "'p': classification is 0"),
    ({"outputs": [{"name": "p", "parameters": {"classification": {"string_param": "2"}}}]}, "output 'p'.*int"),
    ({"outputs": [{"name": "p", "parameters": {"argmax": {"bool_param": True}}}]}, "output 'p'.*`argmax`"),
    ({"outputs": [{"name": "p", "parameters": REGION}]}, "output 'p': shared memory is not served"),
    ({"inputs": [{"name": "x", "parameters": REGION}]}, "input 'x': shared memory is not served"),
    ({"parameters": {"sequence_id": {"int64_param": 7}}}, "sequence_id is not served"),
]


@pytest.mark.parametrize(("fields", "says"), NOT_SERVED)
def test_parameters_that_would_change_the_answer_are_not_ignored(fields: dict[str, Any], says: str) -> None:
    with refused_input(says) as refused:
        decode(ModelInferRequest(**fields))
    assert refused.value.status == 400


def test_parameters_that_change_nothing_are_ignored() -> None:
    harmless = {"priority": {"uint64_param": 1}, "sequence_id": {"int64_param": 0}, "nothing": {}}
    assert decode(message(("x", "FP32", ROWS), parameters=harmless)).row_count == 2


def test_a_regression_has_values_only() -> None:
    found = answer(message(("x", "FP32", ROWS)), Task.REGRESSION, (), [7, -1])
    assert [output.name for output in found.outputs] == ["predictions"]


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_several_values_are_a_matrix(raw: bool) -> None:
    found = answer(message(("x", "FP32", ROWS), raw=raw), Task.MULTIOUTPUT, (), [[7, -1], [0.5, 2000]])
    (output,) = found.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("predictions", "FP32", [2, 2])
    values = np.frombuffer(found.raw_output_contents[0], "<f4") if raw else output.contents.fp32_contents
    assert list(values) == [7, -1, 0.5, 2000]


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_several_labels_are_a_matrix(raw: bool) -> None:
    found = answer(message(("x", "FP32", ROWS), raw=raw), Task.MULTILABEL, (0, 1), [[0.25, 0.75], [1, 0]])
    _, labels = found.outputs
    assert (labels.name, labels.datatype, list(labels.shape)) == ("classes", "INT64", [2, 2])
    values = np.frombuffer(found.raw_output_contents[1], "<i8") if raw else labels.contents.int64_contents
    assert list(values) == [0, 1, 1, 0]
