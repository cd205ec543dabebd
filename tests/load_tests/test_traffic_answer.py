"""Requests and answers: real servers of every kind of model take and give them, and a wrong answer is called one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import httpx
import numpy as np
import pytest

from configuration.settings import LimitSettings
from load_tests.traffic import question as ask
from load_tests.traffic.answer import Answer, WrongAnswer, read_inferred, read_native, read_packed, read_single
from load_tests.traffic.control import CannotAsk, ask_model
from load_tests.traffic.question import Question
from load_tests.traffic.row_kinds import DrawnFeature
from load_tests.traffic.target_model import NotAModel, TargetModel, model_of
from runners.inputs.schema import Feature
from runners.inputs.union import UnionRows, format_of_versions
from shokado.client import Client
from shokado.client.answers import Version, Versions
from shokado.client.decoding import decode
from shokado.dialects.head import read_head
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from tests.client.scripted_server import Reply, scripted
from tests.conftest import prepare
from tests.support.server import Server, serving

BINARY = TargetModel("customers", "binary", (DrawnFeature("age", "float"), DrawnFeature("visits", "integer")), (0, 1))
MULTICLASS = replace(BINARY, task="multiclass", classes=("a", "b", "c"))
REGRESSION = replace(BINARY, task="regression", classes=())
LABELS = replace(BINARY, task="multilabel", outputs=("loud", "old"))
HEADERS = {"x-model-version": "v1", "x-generation": "7"}
NATIVE = {"predictions": [0.25, 1.0], "classes": [0, 1], "version": "v1", "reason": "SPLIT", "generation": 7}
NATIVE |= {"prediction_id": "AQ"}
SINGLE = {"prediction": 0.25, "prediction_class": 0, "model_version": "v1", "prediction_id": "AQ"}
NOTHING = {"generation": 1, "versions": [], "workers": None}
SCORES = {"name": "predictions", "datatype": "FP32", "shape": [2], "data": [0.25, 1.0]}
ORIGIN = {"reason": "SPLIT", "generation": 7, "prediction_id": "AQ"}
INFERRED = {"model_version": "v1", "outputs": [SCORES], "parameters": ORIGIN}


def encode(content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.fixture(params=["iris", "spam"])
def other_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Of a model with three classes, and of one that takes texts."""
    prepare(request.param)
    with serving(environment={"SHOKADO_MODEL": request.param, "SHOKADO_WORKERS": "1"}) as running:
        yield running


def check_all_questions(server: Server) -> None:
    """Ask in all ways, read the answers, and send feedback."""
    with Client(server.url) as asking:
        model, random = model_of(asking.versions()), Random(1)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        ways: tuple[Callable[[], Question], ...] = (
            lambda: ask.one_row(model, random),
            lambda: ask.many_rows(model, random, 7),
            lambda: ask.sticky_row(model, random, "unit-1"),
            lambda: ask.inference(model, random),
        )
        names = set()
        for _ in range(12):
            for way in ways:
                question = way()
                names.add(question.name)
                response = client.post(question.path, content=question.body, headers=dict(question.headers))
                assert response.status_code == 200, f"{question}: {response.text}"
                answer = question.read(model, question.rows, response.headers, response.content)
                assert answer.version in ("v1", "v2")
            sticky = ask.sticky_row(model, random, "unit-1")
            response = client.post(sticky.path, content=sticky.body, headers=dict(sticky.headers))
            answer = sticky.read(model, 1, response.headers, response.content)
            given = client.post("/v1/feedback", content=ask.feedback(model, answer, random), headers=ask.JSON)
            assert given.json()["accepted"] == 1
        assert len(names) == (8 if model.rows.packed else 7)


def test_a_real_server_takes_all_questions(server: Server) -> None:
    check_all_questions(server)


def test_servers_of_other_models_take_them_too(other_server: Server) -> None:
    check_all_questions(other_server)


def test_right_answers_are_read() -> None:
    packed = np.array([0.25, 1], "<f4").tobytes()
    assert read_native(BINARY, 2, HEADERS, encode(NATIVE)).reason == "SPLIT"
    assert read_packed(BINARY, 2, HEADERS, packed) == Answer("v1", 7)
    assert read_single(BINARY, 1, HEADERS, encode(SINGLE)).version == "v1"
    assert read_inferred(BINARY, 2, HEADERS, encode(INFERRED)).generation == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predictions": [0.25]}, "1 predictions for 2 rows"),
        ({"predictions": [0.25, 1.5]}, "outside 0 to 1"),
        ({"predictions": [0.25, -0.1]}, "outside 0 to 1"),
        ({"predictions": [0.25, [0.5, 0.5]]}, "2 scores, not 1"),
        ({"predictions": None}, "not an answer"),
        ({"classes": [0]}, "1 classes for 2 rows"),
        ({"classes": [0, 2]}, "does not have"),
        ({"version": "v2"}, "the body says v2, 7"),
        ({"generation": 8}, "the body says v1, 8"),
    ],
)
def test_wrong_native_answers_are_called_so(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongAnswer, match=words):
        read_native(BINARY, 2, HEADERS, encode({**NATIVE, **change}))


def test_wrong_answers_of_other_routes_are_called_so() -> None:
    with pytest.raises(WrongAnswer, match="the body says v2"):
        read_single(BINARY, 1, HEADERS, encode({**SINGLE, "model_version": "v2"}))
    with pytest.raises(WrongAnswer, match="0 classes for 1 rows"):
        read_single(BINARY, 1, HEADERS, encode({**SINGLE, "prediction_class": None}))
    with pytest.raises(WrongAnswer, match="do not name"):
        read_packed(BINARY, 1, {}, np.array([0.5], "<f4").tobytes())
    with pytest.raises(WrongAnswer, match="4 bytes of scores for 2 rows"):
        read_packed(BINARY, 2, HEADERS, np.array([0.5], "<f4").tobytes())
    with pytest.raises(WrongAnswer, match="not finite"):
        read_packed(BINARY, 1, HEADERS, np.array([np.nan], "<f4").tobytes())
    with pytest.raises(WrongAnswer, match="2 scores for 3 rows"):
        read_inferred(BINARY, 3, HEADERS, encode(INFERRED))
    with pytest.raises(WrongAnswer, match="the body says v2"):
        read_inferred(BINARY, 2, HEADERS, encode({**INFERRED, "model_version": "v2"}))
    with pytest.raises(WrongAnswer, match="no output named"):
        read_inferred(BINARY, 2, HEADERS, encode({**INFERRED, "outputs": []}))


def test_probabilities_of_several_classes_add_up() -> None:
    classes = {"classes": ["a", "c"]}
    right, wrong = [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], [[0.5, 0.25, 0.25], [0.5, 0.5, 0.5]]

    assert read_native(MULTICLASS, 2, HEADERS, encode({**NATIVE, **classes, "predictions": right}))
    with pytest.raises(WrongAnswer, match=r"add up to 1\.5"):
        read_native(MULTICLASS, 2, HEADERS, encode({**NATIVE, **classes, "predictions": wrong}))


def test_several_labels_have_a_class_and_a_probability_each() -> None:
    right = {"predictions": [[0.25, 1.0], [0.5, 0.0]], "classes": [[0, 1], [0, 0]]}
    assert read_native(LABELS, 2, HEADERS, encode({**NATIVE, **right}))
    for change, words in (
        ({"predictions": [[0.25, 1.5], [0.5, 0.0]]}, "outside 0 to 1"),
        ({"classes": [[0, 1], [0]]}, "other than 2 labels"),
        ({"classes": [0, 1]}, "other than 2 labels"),
        ({"classes": [[0, 1], [0, 2]]}, "does not have"),
    ):
        with pytest.raises(WrongAnswer, match=words):
            read_native(LABELS, 2, HEADERS, encode({**NATIVE, **right, **change}))
    single = {**SINGLE, "prediction": [0.25, 1.0], "prediction_class": [0, 1]}
    assert read_single(LABELS, 1, HEADERS, encode(single)).version == "v1"


def test_values_may_be_any_finite_number() -> None:
    assert read_native(REGRESSION, 2, HEADERS, encode({**NATIVE, "classes": [], "predictions": [-7, 1e9]}))


def test_one_label_in_ten_is_wrong() -> None:
    random, answer = Random(1), Answer("v1", 1, "SPLIT", "AQ", [1], [0.9])
    labels = [json.loads(ask.feedback(BINARY, answer, random))["label"] for _ in range(2000)]

    assert labels.count(1) / len(labels) == pytest.approx(0.9, abs=0.03)
    assert set(labels) == {0, 1}
    of_several = Answer("v1", 1, "SPLIT", "AQ", [[1, 0]], [[0.9, 0.1]])
    given = [json.loads(ask.feedback(LABELS, of_several, random))["label"] for _ in range(500)]
    assert {tuple(label) for label in given} == {(1, 0), (0, 0)}


def test_rows_for_versions_that_differ_have_what_any_of_them_takes() -> None:
    taken = {
        "v1": [{"name": "age"}, {"name": "sex", "type": "category", "levels": ["male", "female"]}],
        "v2": [
            {"name": "sex", "type": "category", "levels": ["female", "none", "male"]},
            {"name": "age", "type": "integer"},
            {"name": "alone", "type": "boolean"},
        ],
    }
    features = {version: [Feature.model_validate(each) for each in several] for version, several in taken.items()}
    told: dict[str, Any] = {"generation": 1, "workers": None, "versions": []}
    for version, several in features.items():
        signature: dict[str, Any] = {"task": "binary", "features": [each.model_dump(mode="json") for each in several]}
        signature["classes"] = [0, 1]
        content: dict[str, Any] = {"active_in": [], "shadow_in": [], "aliases": []} | {
            "version": version,
            "weights": {},
        }
        told["versions"].append(content | {"ready": True, "state": "ready", "model": "m", "signature": signature})
    model, random = model_of(decode(Versions, told)), Random(1)
    assert [(one.name, one.type, one.levels) for one in model.features] == [
        ("age", "integer", ()),
        ("sex", "category", ("male", "female")),
        ("alone", "boolean", ()),
    ]
    union = format_of_versions(features["v1"], features, LimitSettings())
    assert isinstance(union, UnionRows)
    native, tensors = Native(union), OpenInference(union)
    for _ in range(20):
        for dialect, question in (
            (native, ask.many_rows(model, random, 7)),
            (native, ask.sticky_row(model, random, "u")),
            (tensors, ask.inference(model, random)),
        ):
            head = read_head([(name.lower().encode(), value.encode()) for name, value in question.headers.items()])
            rows = dialect.decode(question.body, head).rows
            assert {rows.packed_for(version, pinned=False)[1] for version in features} == {question.rows}


def test_versions_that_do_not_say_what_they_take_are_no_model() -> None:
    away = Version("v1", False, "away", [], {}, [], [], model="m")
    for versions in ((), (away,)):
        with pytest.raises(NotAModel):
            model_of(Versions(1, versions, None))


def test_what_cannot_be_asked_is_said() -> None:
    page, other = Reply(200, b"<html>"), Reply(200, [])
    for reply, words in (
        (page, "is that another server"), (other, "is that another server"), (Reply(401), "show a key"),
        (Reply(500), "answers 500"), (Reply(None), "is it running"), (Reply(200, NOTHING), "no version tells"),
    ):  # fmt: skip
        with scripted(reply) as server, pytest.raises(CannotAsk, match=words):
            ask_model(server.url, {})
    for url in ("", "ftp://host"):
        with pytest.raises(CannotAsk, match="http://"):
            ask_model(url, {})
