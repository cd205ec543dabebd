"""The single-row dialect by itself."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import Task
from shokado.dialects.head import BINARY, RequestHead
from shokado.dialects.single import Single
from tests.support.cards import NAMES, toy_card
from tests.support.problems import refused_input
from tests.support.rows import dense_format
from tests.transports.predictions import FACTS, prediction

ROW_FORMAT = dense_format(NAMES, max_rows=3)
SINGLE = Single(ROW_FORMAT)


def decode(content: Any, head: RequestHead = RequestHead()) -> Any:  # noqa: B008  # frozen
    return SINGLE.decode(json.dumps(content).encode(), head)


def encode(task: Task, classes: tuple[int | str, ...], score: Any) -> dict[str, Any]:
    lines, body = SINGLE.encode(prediction(toy_card(task, classes), [score]), RequestHead(), FACTS)
    assert lines == b"content-type: application/json\r\n"
    content: dict[str, Any] = json.loads(body)
    return content


@pytest.mark.parametrize("features", [[1, 2, 3], {"width": 2, "depth": 3, "height": 1}])
def test_a_row_comes_out_packed(features: Any) -> None:
    request = decode({"features": features, "model_version": "a"})
    assert (request.row_count, request.version, request.split) == (1, "a", True)
    assert np.frombuffer(request.rows, "<f4").tolist() == [1, 2, 3]


def test_without_ab_testing_the_active_version_is_asked_for() -> None:
    assert decode({"features": [1, 2, 3], "use_ab_testing": False}).split is False


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({}, "missing_field"),
        ({"features": [1, 2]}, "wrong_feature_count"),
        ({"features": {"height": 1}}, "missing_feature"),
        ({"features": [[1, 2, 3]]}, "wrong_feature_count"),
        ({"features": "1,2,3"}, "wrong_type"),
        ({"features": [1, 2, 3], "use_ab_testing": 1}, "wrong_type"),
    ],
)
def test_a_bad_body_is_a_problem(content: Any, code: str) -> None:
    with refused_input() as refused:
        decode(content)
    assert (refused.value.status, refused.value.code) == (422, code)


def test_packed_rows_are_for_the_native_route() -> None:
    with refused_input() as refused:
        decode({}, RequestHead(content_type=BINARY))
    assert refused.value.status == 415


def test_an_answer_says_all_that_the_contract_names() -> None:
    content = encode(Task.BINARY, ("no", "yes"), 0.25)
    made = datetime.fromisoformat(content.pop("timestamp"))
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)
    assert content == {
        "prediction": 0.25, "prediction_class": "no", "confidence": 0.75, "model_version": "v1",
        "request_id": "request-1", "prediction_id": "prediction-1", "latency_ms": 1.25,
    }  # fmt: skip


def test_confidence_is_the_probability_of_the_chosen_class() -> None:
    assert encode(Task.BINARY, (0, 1), 0.75)["confidence"] == 0.75
    content = encode(Task.MULTICLASS, ("a", "b", "c"), [0.25, 0.5, 0.25])
    assert (content["prediction"], content["prediction_class"], content["confidence"]) == ([0.25, 0.5, 0.25], "b", 0.5)


@pytest.mark.parametrize(("task", "score"), [(Task.REGRESSION, 17.5), (Task.MULTIOUTPUT, [17.5, -2.0])])
def test_values_have_neither_class_nor_confidence(task: Task, score: Any) -> None:
    content = encode(task, (), score)
    assert content["prediction"] == score
    assert not {"prediction_class", "confidence"} & set(content)


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
    assert decode({"features": [1, 2, 3]} | named).unit == unit


@pytest.mark.parametrize("named", [{"unit": "x" * 257}, {"unit": True}, {"user_id": 1.5}, {"unit": ["u"]}])
def test_a_unit_that_cannot_be_is_a_problem(named: dict[str, Any]) -> None:
    with refused_input() as refused:
        decode({"features": [1, 2, 3]} | named)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("task", "classes", "score", "label"),
    [
        (Task.BINARY_MARGIN, ("no", "yes"), -0.25, "no"),
        (Task.BINARY_MARGIN, ("no", "yes"), 0.25, "yes"),
        (Task.MULTICLASS_MARGIN, ("a", "b", "c"), [-1.0, -0.5, -3.0], "b"),
        (Task.ANOMALY, (-1, 1), -0.125, -1),
        (Task.ANOMALY, (-1, 1), 0.0, 1),
        (Task.MULTILABEL, ("no", "yes"), [0.25, 0.75], ["no", "yes"]),
    ],
)
def test_classes_without_one_probability_have_no_confidence(
    task: Task, classes: tuple[int | str, ...], score: Any, label: Any
) -> None:
    content = encode(task, classes, score)
    assert (content["prediction"], content["prediction_class"]) == (score, label)
    assert "confidence" not in content
