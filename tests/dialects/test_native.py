"""The native dialect by itself: bodies to requests, predictions to answers."""

import json
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from shokado.dialects.head import BINARY, RequestHead
from shokado.dialects.native import Native
from tests.support.cards import NAMES, toy_card
from tests.support.problems import refused_input
from tests.support.rows import dense_format
from tests.transports.predictions import FACTS, prediction

ROW_FORMAT = dense_format(NAMES, max_rows=3)
NATIVE = Native(ROW_FORMAT)


def decode(content: Any, head: RequestHead = RequestHead()) -> Any:  # noqa: B008  # frozen
    return NATIVE.decode(content if isinstance(content, bytes) else json.dumps(content).encode(), head)


def test_rows_come_out_packed_and_counted() -> None:
    request = decode({"instances": [[1, 2, 3], {"depth": 6, "height": 4, "width": 5}], "version": "v2"})
    assert (request.row_count, request.version, request.split) == (2, "v2", True)
    assert np.frombuffer(request.rows, "<f4").tolist() == [1, 2, 3, 4, 5, 6]


def test_packed_rows_come_out_as_they_are() -> None:
    body = np.arange(6, dtype="<f4").tobytes()
    request = decode(body, RequestHead(content_type=BINARY))
    assert (bytes(request.rows), request.row_count, request.version) == (body, 2, None)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"{", 400, "malformed_body"),
        (b"[" * 100_000, 400, "malformed_body"),
        ({}, 422, "missing_field"),
        ({"instances": []}, 422, "no_rows"),
        ({"instances": [[1, 2, 3]] * 4}, 413, "too_many_rows"),
        ({"instances": [[1, 2, 3]], "versoin": "v1"}, 422, "wrong_type"),
        ({"instances": [[1, 2, 3]], "version": 1}, 422, "wrong_type"),
    ],
)
def test_a_bad_body_is_a_problem(content: Any, status: int, code: str) -> None:
    with refused_input() as refused:
        decode(content)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_misspelled_field_is_named() -> None:
    with refused_input("versoin"):
        decode({"instances": [[1, 2, 3]], "versoin": "v1"})


def test_another_content_type_is_told_which_are_understood() -> None:
    with refused_input("application/json or application/octet-stream") as refused:
        decode({}, RequestHead(content_type=b"text/csv"))
    assert refused.value.status == 415


def test_an_answer_says_all_that_the_contract_names() -> None:
    lines, body = NATIVE.encode(prediction(toy_card(classes=("no", "yes")), [0.25, 0.75]), RequestHead(), FACTS)
    assert lines == b"content-type: application/json\r\n"
    assert json.loads(body) == {
        "predictions": [0.25, 0.75], "classes": ["no", "yes"], "version": "v1", "reason": "SPLIT", "generation": 7,
        "request_id": "request-1", "prediction_id": "prediction-1", "latency_ms": 1.25,
    }  # fmt: skip


def test_many_classes_have_a_list_of_probabilities_and_values_have_no_classes() -> None:
    many = prediction(toy_card(Task.MULTICLASS, ("a", "b", "c")), [[0.5, 0.25, 0.25]])
    content = json.loads(NATIVE.encode(many, RequestHead(), FACTS)[1])
    assert (content["predictions"], content["classes"]) == ([[0.5, 0.25, 0.25]], ["a"])
    value = prediction(toy_card(Task.REGRESSION, ()), [-12.5])
    content = json.loads(NATIVE.encode(value, RequestHead(), FACTS)[1])
    assert content["predictions"] == [-12.5]
    assert "classes" not in content
    several = prediction(toy_card(Task.MULTIOUTPUT, ()), [[0.5, 2000.0], [-1.0, 0.0]])
    content = json.loads(NATIVE.encode(several, RequestHead(), FACTS)[1])
    assert content["predictions"] == [[0.5, 2000.0], [-1.0, 0.0]]
    assert "classes" not in content
    labels = prediction(toy_card(Task.MULTILABEL), [[0.25, 0.75], [0.5, 0.0]])
    content = json.loads(NATIVE.encode(labels, RequestHead(), FACTS)[1])
    assert (content["predictions"], content["classes"]) == ([[0.25, 0.75], [0.5, 0.0]], [[0, 1], [0, 0]])


@pytest.mark.parametrize("scores", [[0.25, 0.75], [[0.5, 0.25, 0.25]]])
def test_a_packed_answer_is_the_scores_alone(scores: list[Any]) -> None:
    task, classes = (Task.MULTICLASS, (0, 1, 2)) if isinstance(scores[0], list) else (Task.BINARY, (0, 1))
    head = RequestHead(binary_answer=True)
    lines, body = NATIVE.encode(prediction(toy_card(task, classes), scores), head, FACTS)
    assert lines == b"content-type: application/octet-stream\r\n"
    assert body == np.array(scores, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("named", "unit"),
    [
        ({}, ""),
        ({"unit": "u", "user_id": "x", "request_id": "y"}, "u"),
        ({"user_id": 7, "request_id": "y"}, "7"),
        ({"request_id": "y"}, "y"),
        ({"unit": "", "user_id": "x"}, "x"),
        ({"unit": None, "user_id": "Zoë"}, "Zoë"),
    ],
)
def test_the_unit_is_the_first_field_that_names_one(named: dict[str, Any], unit: str) -> None:
    assert decode({"instances": [[1, 2, 3]]} | named).unit == unit


@pytest.mark.parametrize("named", [{"unit": "x" * 257}, {"unit": True}, {"user_id": 1.5}, {"unit": ["u"]}])
def test_a_unit_that_cannot_be_is_a_problem(named: dict[str, Any]) -> None:
    with refused_input() as refused:
        decode({"instances": [[1, 2, 3]]} | named)
    assert refused.value.status == 422
