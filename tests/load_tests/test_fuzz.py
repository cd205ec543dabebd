"""The fuzzer: repeatable requests of right length, a strict judge of answers, and a short run against a real server."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from load_tests.fuzz.answer_rules import AnswerHead, fault_of, is_same, read_answer_head
from load_tests.fuzz.mutating_client import GOOD_EVERY, Good, request_number
from load_tests.fuzz.mutation import MAX_BODY_BYTES, broken_frame, mutated
from load_tests.fuzz.sample import BINARY, JSON, Route, Sample, routes_of
from tests.conftest import ROOT

EXAMPLE = {"instances": [[1.0, 2.0]], "version": "v1"}
DESCRIPTION: dict[str, Any] = {
    "paths": {
        "/v1/things/{name}:ask": {
            "post": {
                "tags": ["predictions"],
                "requestBody": {"content": {JSON: {"examples": {"one": {"value": EXAMPLE}}}, BINARY: {}}},
            }
        },
        "/v1/other": {"get": {"tags": ["control"]}},
    }
}
ROUTE = Route("/v1/things/{name}:ask", (Sample("/v1/things/v1:ask", JSON, json.dumps(EXAMPLE).encode()),))


def test_samples_are_the_examples_of_the_prediction_routes_and_one_in_binary() -> None:
    (route,) = routes_of(DESCRIPTION)

    assert route.path == "/v1/things/{name}:ask"
    assert [(each.path, each.content_type) for each in route.samples] == [
        ("/v1/things/v1:ask", JSON),
        ("/v1/things/v1:ask", BINARY),
    ]
    assert json.loads(route.samples[0].body) == EXAMPLE
    assert route.samples[1].body == bytes.fromhex("0000803f00000040")


def test_binary_samples_are_as_the_description_says() -> None:
    def binary(schema: Any, example: Any) -> Sample:
        taken = {JSON: {"examples": {"one": {"value": example}}}, BINARY: {"schema": schema}}
        post = {"tags": ["predictions"], "requestBody": {"content": taken}}
        (route,) = routes_of({"paths": {"/v1/things": {"post": post}}})
        return route.samples[-1]

    assert binary({"x-dtype": "float64"}, EXAMPLE).body == np.array([1.0, 2.0], "<f8").tobytes()
    texts = {"name": "sex", "datatype": "BYTES", "shape": [1], "data": ["größe"]}
    numbers = {"name": "age", "datatype": "FP64", "shape": [1], "data": [None]}
    sample = binary({}, {"inputs": [texts, numbers], "id": "7"})
    ((name, length),) = sample.headers
    assert name == "inference-header-content-length"
    head, values = json.loads(sample.body[: int(length)]), sample.body[int(length) :]
    assert [tensor["parameters"]["binary_data_size"] for tensor in head["inputs"]] == [11, 8]
    assert (values[:11], head["id"]) == (b"\x07\0\0\0" + "größe".encode(), "7")
    assert np.isnan(np.frombuffer(values[11:], "<f8")).all()
    assert binary({}, {"instances": [["male", 1]]}).content_type == JSON


def test_the_same_seed_makes_the_same_requests_and_another_one_others() -> None:
    def requests(seed: int) -> list[bytes]:
        return [mutated(Random(f"{seed} {number}"), ROUTE) for number in range(300)]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)
    assert len(set(requests(1))) > 250


def test_the_length_is_right_whatever_is_done_to_the_body() -> None:
    for number in range(2_000):
        head, _, body = mutated(Random(number), ROUTE).partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head
        assert len(body) <= MAX_BODY_BYTES


def test_frames_are_broken_in_their_heads() -> None:
    frames = {broken_frame(Random(number), ROUTE) for number in range(500)}

    assert len(frames) > 450


def test_every_fiftieth_request_of_a_route_is_good() -> None:
    good = {ROUTE.path: [Good(b"good", None)]}
    found = [request_number(number, 1, [ROUTE], good) for number in range(GOOD_EVERY * 4)]

    assert [number for number, each in enumerate(found) if isinstance(each, Good)] == [49, 99, 149, 199]


@pytest.mark.parametrize(
    ("status", "content_type", "body", "fault"),
    [
        (200, JSON, b'{"a": 1}', None),
        (200, JSON, b'{"a": NaN}', "no JSON"),
        (200, JSON, b"{", "no JSON"),
        (200, BINARY, b"\x00", None),
        (422, JSON, b'{"error": "x"}', None),
        (422, "text/plain", b'{"error": "x"}', "without"),
        (400, JSON, b"[]", "without"),
        (400, JSON, b'{"error": "Traceback (most recent call last)"}', "traceback"),
        (500, JSON, b'{"error": "x"}', "status 500"),
        (503, JSON, b'{"error": "x"}', "status 503"),
    ],
)
def test_an_answer_is_judged(status: int, content_type: str, body: bytes, fault: str | None) -> None:
    found = fault_of(AnswerHead(status, content_type, len(body), False), body)

    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)


def test_the_head_of_an_answer_is_read_strictly() -> None:
    good = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"

    assert read_answer_head(good) == AnswerHead(200, JSON, 2, True)
    assert read_answer_head(good.replace(b" 200", b" 2000")) is None
    assert read_answer_head(b"x" + good) is None
    assert read_answer_head(good.replace(b"\r\n\r\n", b"\r\nno colon\r\n\r\n")) is None


def test_answers_are_the_same_but_for_ids_and_last_digits() -> None:
    answer = {"predictions": [0.5, 0.25], "request_id": "a", "version": "v1"}

    assert is_same(answer, {"predictions": [0.500001, 0.25], "request_id": "b", "version": "v1"})
    assert not is_same(answer, {**answer, "predictions": [0.51, 0.25]})
    assert not is_same(answer, {**answer, "version": "v2"})
    assert not is_same(answer, {"predictions": [0.5, 0.25]})
    assert is_same(["0.984346:0:no", "0.015654:1:yes"], ["0.984347:0:no", "0.015653:1:yes"]), "classifications"
    assert not is_same(["0.98434:0:no"], ["0.98434:1:yes"])
    assert not is_same(["0.98434:0:no"], ["0.97434:0:no"])


@pytest.mark.slow
def test_a_short_run_finds_nothing(models: Path) -> None:
    command = [sys.executable, "-m", "load_tests.fuzz", "--bodies", "100", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 failures" in ran.stdout
