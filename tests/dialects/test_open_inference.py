"""The Open Inference Protocol by itself: bodies to requests, predictions to answers, in JSON and in binary."""

import gc
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.artefacts.card import Card, Task
from runners.inputs.datatypes import to_bytes
from shokado.dialects.dialect import AnswerFacts
from shokado.dialects.head import BINARY, RequestHead
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import problem_of
from tests.support.cards import NAMES, TEXT, make_card, toy_card
from tests.support.garbage import NOISE, uncollected
from tests.support.problems import REFUSALS, refused_input
from tests.support.rows import dense_format, text_format
from tests.transports.predictions import FACTS, prediction

ROW_FORMAT = dense_format(NAMES, max_rows=3)
DIALECT = OpenInference(ROW_FORMAT)
TEXTS = OpenInference(text_format("message", max_rows=3, max_text_characters=100))
PACKED = np.arange(6, dtype="<f4").tobytes()
MATRIX = {"name": "input", "datatype": "FP32", "shape": [2, 3], "data": [[0, 1, 2], [3, 4, 5]]}


def binary(name: str = "input", datatype: str = "FP32", shape: Any = (2, 3), size: Any = 24) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


def decode(content: Any, *parts: bytes, dialect: OpenInference = DIALECT, **head: Any) -> Any:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    if parts:
        head = {"json_bytes": len(text), "content_type": BINARY} | head
    return dialect.decode(text + b"".join(parts), RequestHead(**head))


def encode(content: Any, scores: list[Any], of: Card | None = None) -> tuple[Any, bytes, bytes]:
    """The answer's JSON, its header lines and its binary data, for a request of these fields."""
    answer_options = decode({"inputs": [MATRIX]} | content).answer_options
    facts = AnswerFacts(FACTS.request_id, FACTS.prediction_id, FACTS.latency_ms, answer_options)
    lines, body = DIALECT.encode(prediction(of or toy_card(), scores), RequestHead(), facts)
    if b"inference-header-content-length" not in lines:
        return json.loads(body), lines, b""
    size = int(lines.split(b"inference-header-content-length: ")[1])
    return json.loads(body[:size]), lines, body[size:]


def test_rows_come_out_packed_and_counted() -> None:
    flat = MATRIX | {"data": [0, 1, 2, 3, 4, 5]}
    columns = [{"name": name, "datatype": "INT8", "shape": [2], "data": [at, at + 3]} for at, name in enumerate(NAMES)]
    for content in ([MATRIX], [flat], columns, columns[::-1]):
        request = decode({"inputs": content})
        assert (bytes(request.rows), request.row_count, request.version, request.split) == (PACKED, 2, None, True)


def test_a_binary_matrix_comes_out_as_a_view_of_the_body() -> None:
    text = json.dumps({"inputs": [binary()]}).encode()
    body = text + PACKED
    request = DIALECT.decode(body, RequestHead(json_bytes=len(text)))
    assert (bytes(request.rows), request.row_count) == (PACKED, 2)
    assert np.shares_memory(np.frombuffer(request.rows, "u1"), np.frombuffer(body, "u1"))


def test_binary_and_json_inputs_may_be_mixed() -> None:
    halves = np.array([1, 2], "<f2").tobytes()
    inputs = [
        binary("width", "FP16", [2], 4),
        {"name": "depth", "datatype": "FP64", "shape": [2, 1], "data": [[3], [4]]},
        binary("height", "INT64", [2], 16),
    ]
    request = decode({"inputs": inputs}, halves, np.array([5, 6], "<i8").tobytes())
    assert np.frombuffer(request.rows, "<f4").tolist() == [5, 1, 3, 6, 2, 4]


def test_a_body_that_is_all_binary_is_one_matrix() -> None:
    request = DIALECT.decode(PACKED, RequestHead(json_bytes=0, content_type=BINARY))
    assert (request.rows, request.row_count, request.answer_options.binary) == (PACKED, 2, (True,))


def test_texts_come_in_both_forms() -> None:
    made = {"name": "message", "datatype": "BYTES", "shape": [2]}
    assert decode({"inputs": [made | {"data": ["a", "\u6771"]}]}, dialect=TEXTS).rows == ["a", "\u6771"]
    raw = b"\1\0\0\0a\3\0\0\0\xe6\x9d\xb1"
    content = {"inputs": [made | {"parameters": {"binary_data_size": len(raw)}}]}
    assert decode(content, raw, dialect=TEXTS).rows == ["a", "\u6771"]


def test_what_is_not_known_is_ignored_and_what_is_null_is_not_there() -> None:
    content = {
        "id": None, "outputs": None, "colour": 1, "parameters": {"timeout": 5, "priority": 1},
        "inputs": [MATRIX | {"parameters": {"content_type": "np", "binary_data_size": None}, "colour": 1}],
    }  # fmt: skip
    assert decode(content).row_count == 2
    assert decode({"inputs": [MATRIX | {"parameters": None}], "parameters": None}).row_count == 2


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "truncated"),
        (b"[" * 100_000, 400, "object"),
        (b'{"inputs": [{"data": ' + b"[" * 100_000, 400, "nested too deeply"),
        (b"\xff", 400, "malformed"),
        ([], 400, "object"),
        ({}, 400, "inputs"),
        ({"inputs": {}}, 400, "array"),
        ({"inputs": []}, 422, "no input tensors"),
        ({"inputs": [{"name": "x"}]}, 400, "shape"),
        ({"inputs": [MATRIX | {"shape": [2, True]}]}, 400, "bool"),
        ({"inputs": [MATRIX | {"shape": [2, 1.5]}]}, 400, "float"),
        ({"inputs": [MATRIX | {"shape": [2**62, 2**62]}]}, 400, "'input'"),
        ({"inputs": [MATRIX | {"shape": [-2, -3]}]}, 400, "'input'"),
        ({"inputs": [MATRIX | {"shape": [9] * 50_000}]}, 400, "is no shape: one to 8 sides"),
        ({"inputs": [MATRIX | {"data": 7}]}, 400, "array"),
        ({"inputs": [MATRIX | {"data": None}]}, 400, "'input'"),
        ({"inputs": [MATRIX | {"parameters": {"binary_data_size": 0}}]}, 400, "one of both"),
        ({"inputs": [binary()]}, 400, "0 bytes are left"),
        ({"inputs": [MATRIX | {"data": [0, 1, 2, 3, None, 5]}]}, 422, "row 1, feature 'width'"),
        ({"inputs": [MATRIX | {"shape": [4, 3], "data": [0] * 12}]}, 413, "at most 3"),
        ({"inputs": [MATRIX], "id": 7}, 400, "id"),
        (b'{"inputs": [], "id": "\\ud800"}', 422, "id: the text holds half a surrogate pair"),
    ],
)
def test_a_bad_body_is_a_problem(content: Any, status: int, says: str) -> None:
    with refused_input(says) as refused:
        decode(content)
    assert refused.value.status == status
    assert set(json.loads(DIALECT.refuse(refused.value, "r"))) == {"error"}


@pytest.mark.parametrize(
    ("inputs", "data", "says"),
    [
        ([binary(size=20)], PACKED[:20], "'input'.*20 bytes"),
        ([binary(size=24)], PACKED[:20], "'input'.*20 bytes are left"),
        ([binary(size=24)], PACKED + b"x", "there are 25"),
        ([binary(size=20)], PACKED, "'input'.*20 bytes"),
        ([binary(size=-1)], PACKED, "'input': binary_data_size is -1"),
        ([binary(size=2**62)], PACKED, "'input'"),
        ([binary(shape=(2**62, 3), size=24)], PACKED, "'input'"),
        ([binary(), binary("other", size=1)], PACKED, "'other'.*0 bytes are left"),
        ([binary(size="24")], PACKED, "int"),
        ([MATRIX], b"x", "there are 1"),
    ],
)
def test_binary_parts_that_do_not_add_up_are_refused_by_name(inputs: Any, data: bytes, says: str) -> None:
    with refused_input(says) as refused:
        decode({"inputs": inputs}, data)
    assert refused.value.status == 400


@pytest.mark.parametrize("length", [1, 10, 10**17])
def test_a_header_length_that_cannot_be_is_refused(length: int) -> None:
    whole = json.dumps({"inputs": [MATRIX]}).encode()
    for body in (b'{"inputs"', whole):
        with refused_input() as refused:
            DIALECT.decode(body, RequestHead(json_bytes=length))
        assert refused.value.status == 400


def test_another_content_type_is_told_which_are_understood() -> None:
    with refused_input("application/json or application/octet-stream") as refused:
        decode({"inputs": [MATRIX]}, content_type=b"text/csv")
    assert refused.value.status == 415


def test_an_answer_says_all_that_the_contract_names() -> None:
    content, lines, _ = encode({"id": "7"}, [0.25, 0.75])
    assert lines == b"content-type: application/json\r\n"
    assert content == {
        "model_name": "toy", "model_version": "v1", "id": "7",
        "parameters": {
            "request_id": "request-1", "prediction_id": "prediction-1", "reason": "SPLIT", "generation": 7,
        },
        "outputs": [
            {"name": "predictions", "datatype": "FP32", "shape": [2], "data": [0.25, 0.75]},
            {"name": "classes", "datatype": "INT64", "shape": [2], "data": [0, 1]},
        ],
    }  # fmt: skip
    assert "id" not in encode({}, [0.25])[0]


def test_outputs_are_chosen_and_each_is_sent_as_it_is_asked_for() -> None:
    chosen = [{"name": "classes", "parameters": {"binary_data": True}}, {"name": "predictions"}]
    content, lines, data = encode({"outputs": chosen}, [0.25, 0.75], toy_card(classes=("no", "yes")))
    labels, scores = content["outputs"]
    assert labels == {"name": "classes", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 13}}
    assert data == b"\2\0\0\0no\3\0\0\0yes"
    assert scores["data"] == [0.25, 0.75]
    assert lines.startswith(b"content-type: application/octet-stream\r\ninference-header-content-length: ")


def test_all_outputs_are_binary_where_the_request_says_so_and_an_output_does_not() -> None:
    many = toy_card(Task.MULTICLASS, (5, 6, 7))
    content, _, data = encode({"parameters": {"binary_data_output": True}}, [[0.5, 0.25, 0.25]], many)
    assert [output["parameters"]["binary_data_size"] for output in content["outputs"]] == [12, 8]
    assert data == np.array([0.5, 0.25, 0.25], "<f4").tobytes() + np.array([5], "<i8").tobytes()
    assert content["outputs"][0]["shape"] == [1, 3]
    said = [{"name": "predictions", "parameters": {"binary_data": False}}, {"name": "classes", "parameters": {}}]
    content, _, data = encode({"parameters": {"binary_data_output": True}, "outputs": said}, [[0.5, 0.25, 0.25]], many)
    assert content["outputs"][0]["data"] == [0.5, 0.25, 0.25]
    assert len(data) == 8


def test_several_values_are_a_matrix_in_json_and_in_binary() -> None:
    several, scores = toy_card(Task.MULTIOUTPUT, ()), [[0.5, 2000.0], [-1.0, 0.0]]
    content, _, _ = encode({}, scores, several)
    assert content["outputs"] == [
        {"name": "predictions", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 2000.0, -1.0, 0.0]}
    ]
    content, _, data = encode({"parameters": {"binary_data_output": True}}, scores, several)
    assert (content["outputs"][0]["shape"], data) == ([2, 2], np.array(scores, "<f4").tobytes())


@pytest.mark.parametrize(
    ("classes", "kind", "data"), [((0, 1), "INT64", [0, 1, 1, 0]), (("n", "y"), "BYTES", [*"nyyn"])]
)
def test_several_labels_are_a_matrix_in_json_and_in_binary(classes: Any, kind: str, data: list[Any]) -> None:
    labels, scores = toy_card(Task.MULTILABEL, classes), [[0.25, 0.75], [1.0, 0.0]]
    content, _, _ = encode({}, scores, labels)
    assert [output["data"] for output in content["outputs"]] == [[0.25, 0.75, 1.0, 0.0], data]
    assert [(output["datatype"], output["shape"]) for output in content["outputs"]] == [
        ("FP32", [2, 2]),
        (kind, [2, 2]),
    ]
    wanted = {"outputs": [{"name": "classes", "parameters": {"binary_data": True}}]}
    content, _, found = encode(wanted, scores, labels)
    assert (content["outputs"][0]["shape"], found) == ([2, 2], to_bytes(kind, data))


def test_a_classification_comes_in_json_and_in_binary() -> None:
    many = toy_card(Task.MULTICLASS, ("a", "b", "c"))
    scores = [[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]]
    best: list[dict[str, Any]] = [{"name": "predictions", "parameters": {"classification": 2}}, {"name": "classes"}]
    content, _, _ = encode({"outputs": best}, scores, many)
    texts = ["0.5:1:b", "0.25:0:a", "0.75:0:a", "0.25:2:c"]
    assert content["outputs"][0] == {"name": "predictions", "datatype": "BYTES", "shape": [2, 2], "data": texts}
    assert content["outputs"][1]["data"] == ["b", "a"]
    best[0]["parameters"] = {"classification": 2, "binary_data": True}
    content, _, data = encode({"outputs": best}, scores, many)
    assert content["outputs"][0]["parameters"] == {"binary_data_size": len(data)}
    assert data == to_bytes("BYTES", texts)


REGION = {"shared_memory_region": "mine", "shared_memory_byte_size": 8}
NOT_SERVED: list[tuple[dict[str, Any], str]] = [
    ({"outputs": [{"name": "predictions", "parameters": {"classification": 0}}]}, "'predictions': classification is 0"),
    ({"outputs": [{"name": "predictions", "parameters": {"classification": -2}}]}, "'predictions'.* is -2; 1 or more"),
    ({"outputs": [{"name": "predictions", "parameters": {"classification": True}}]}, "int.*classification"),
    ({"outputs": [{"name": "predictions", "parameters": REGION}]}, "output 'predictions': shared memory is not served"),
    ({"outputs": [{"name": "predictions", "parameters": {"argmax": 1}}]}, "unknown field `argmax`"),
    ({"outputs": [{"name": "classes", "parameters": {"content_type": "base64"}}]}, "output 'classes'.*'base64'"),
    ({"inputs": [MATRIX | {"data": None, "parameters": REGION}]}, "input 'input': shared memory is not served"),
    ({"inputs": [MATRIX | {"parameters": {"content_type": "base64"}}]}, "input 'input'.*'base64'.*np, pd, str"),
    ({"parameters": {"content_type": "datetime"}}, "the request: the content_type 'datetime'"),
    ({"parameters": {"sequence_id": 7, "sequence_start": True}}, "sequence_id is not served"),
]


@pytest.mark.parametrize(("content", "says"), NOT_SERVED)
def test_parameters_that_would_change_the_answer_are_not_ignored(content: dict[str, Any], says: str) -> None:
    with refused_input(says) as refused:
        decode({"inputs": [MATRIX]} | content)
    assert refused.value.status == 400


@pytest.mark.parametrize("names", [["logits"], ["classes", "logits"], ["predictions", "predictions"]])
def test_an_output_that_is_not_there_or_twice_is_refused(names: list[str]) -> None:
    with refused_input() as refused:
        encode({"outputs": [{"name": name} for name in names]}, [0.25])
    assert refused.value.status == 400


def test_examples_are_understood_for_numbers_and_for_texts() -> None:
    for content in DIALECT.describe(toy_card()).takes["application/json"].examples.values():
        assert decode(content).row_count == 1
    of_texts = TEXTS.describe(make_card(**TEXT)).takes["application/json"].examples
    assert all(decode(content, dialect=TEXTS).row_count == 1 for content in of_texts.values())
    assert len(of_texts) == 3


def test_nothing_of_a_request_is_left_to_the_garbage_collector() -> None:
    inputs: list[Any] = [MATRIX, MATRIX | {"data": [None] * 6}, MATRIX | {"shape": [7]}, binary()]
    columns = [{"name": name, "datatype": "FP64", "shape": [1], "data": [1e39]} for name in NAMES]
    bodies = [json.dumps({"inputs": [one], "id": "7"}).encode() for one in inputs]
    bodies.append(json.dumps({"inputs": columns}).encode())
    heads = [RequestHead(json_bytes=len(text)) for text in bodies]
    scored = prediction(toy_card(), [0.25, 0.75])
    with uncollected():
        for _ in range(2 * NOISE):
            for text, head in zip(bodies, heads, strict=True):
                status_of(DIALECT, text + PACKED * (text == bodies[3]), head)
            request = DIALECT.decode(bodies[3] + PACKED, heads[3])
            facts = AnswerFacts("r", "prediction-1", 1.0, request.answer_options)
            DIALECT.encode(scored, heads[3], facts)
            del request, facts
        assert gc.collect() < NOISE


shapes = st.lists(st.one_of(st.integers(-2, 4), st.just(2**62)), max_size=3)
inputs = st.fixed_dictionaries(
    {"name": st.sampled_from([*NAMES, "x"]), "datatype": st.sampled_from(["FP32", "BOOL", "INT64", "BYTES", "BF16"])},
    optional={
        "shape": shapes,
        "data": st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False)), max_size=6),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30)}),
    },
)


@given(st.lists(inputs, max_size=4), st.binary(max_size=40), st.integers(-3, 3))
def test_any_body_is_rows_or_a_problem(made: list[Any], data: bytes, shift: int) -> None:
    text = json.dumps({"inputs": made}).encode()
    for dialect in (DIALECT, TEXTS):
        head = RequestHead(json_bytes=max(len(text) + shift, 0))
        assert status_of(dialect, text + data, head) in (200, 400, 413, 415, 422)


def status_of(dialect: OpenInference, body: bytes, head: RequestHead) -> int:
    try:
        dialect.decode(body, head)
    except REFUSALS as refused:
        # A name for the problem would outlive the block, with a traceback that knows it.
        msgspec.json.decode(dialect.refuse(problem_of(refused), "r"))
        return problem_of(refused).status
    return 200
