"""The lane and ASGI answer alike: the same status, headers and body for the same request."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.dialects import open_inference_cases
from tests.dialects.cases import BAD, GOOD, NAMED, NAMES, OTHERS, Case, native, single
from tests.support.raw_http import CHANGING, NATIVE, SINGLE, Answer, Closed, Connection, near, request
from tests.support.server import ROW, Server

CONNECTION_HEADERS = {"date", "connection", "content-length"}
"""Of the connection or its clock, not of the answer; the length follows `latency_ms`."""


SCORES = ("predictions", "prediction", "confidence")


@dataclass(frozen=True)
class Essence:
    """An answer without what differs from one to the next, and its scores apart."""

    status: int
    headers: list[tuple[str, str]]
    content: Any
    scores: list[Any]


def essence(answer: Answer, kept_id: str | None = None) -> Essence:
    """`kept_id` is the id that the request came with, if sane."""
    headers = []
    for name, value in answer.headers:
        if name == "x-request-id" and value != kept_id:
            assert len(value) == 22, "an id of the server's own"
            headers.append((name, "made here"))
        elif name == "x-prediction-id":
            headers.append((name, "made here"))
        elif name not in CONNECTION_HEADERS:
            headers.append((name, value))
    if (inferred := open_inference_cases.inferred(answer)) is not None:
        return Essence(answer.status, sorted(headers), *inferred)
    if answer.header("content-type") != "application/json":
        scores = np.frombuffer(answer.body, dtype="<f4").tolist()
        return Essence(answer.status, sorted(headers), len(scores), scores)
    content = json.loads(answer.body)
    if "request_id" in content:
        assert content["request_id"] == answer.header("x-request-id")
    content = {name: value for name, value in content.items() if name not in CHANGING}
    scores = [content.pop(name) for name in SCORES if name in content]
    if scores and isinstance(scores[0], list):
        scores[0] = [item["prediction"] if isinstance(item, dict) else item for item in scores[0]]
    return Essence(answer.status, sorted(headers), content, np.array(scores, dtype=float).ravel().tolist())


def assert_alike(one: Essence, other: Essence) -> None:
    assert (one.status, one.headers, one.content) == (other.status, other.headers, other.content)
    assert one.scores == near(other.scores)


@pytest.mark.parametrize("case", [*GOOD, *BAD, *OTHERS, *open_inference_cases.CASES], ids=str)
def test_both_doors_of_one_server_answer_alike(server: Server, case: Case) -> None:
    kept = dict(case.headers).get("x-request-id")
    with Connection(server) as lane, Connection(server) as plain:
        answers = lane.ask(case.bytes_for("lane")), plain.ask(case.bytes_for("plain"))
    assert answers[0].status == case.status, answers[0]
    assert_alike(essence(answers[0], kept), essence(answers[1], kept))


@pytest.mark.parametrize("case", [*GOOD, *BAD, *OTHERS, *open_inference_cases.CASES], ids=str)
def test_a_server_without_the_lane_answers_like_one_with_it(server: Server, plain_server: Server, case: Case) -> None:
    kept = dict(case.headers).get("x-request-id")
    data = case.bytes_for("lane")
    with Connection(server) as lane, Connection(plain_server) as plain:
        assert_alike(essence(lane.ask(data), kept), essence(plain.ask(data), kept))


def test_the_plain_door_is_taken_by_everything_that_the_lane_leaves(server: Server) -> None:
    """HTTP/1.0, `Expect: 100-continue` and a query string; the answer is the same."""
    with Connection(server) as connection:
        expected = essence(connection.ask(request(native())))
        connection.send(request(native(), headers=[("Expect", "100-continue")]))
        assert connection.read().status == 100
        assert_alike(essence(connection.read()), expected)
        assert_alike(essence(connection.ask(request(native(), NATIVE + "?"))), expected)
        assert_alike(essence(connection.ask(request(native(), http="1.0"))), expected)


values = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.just([]),
)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
lists = st.lists(numbers, min_size=10, max_size=10)
objects = st.permutations(NAMES).flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, numbers)))
odd_lists = st.lists(values, max_size=12)
odd_objects = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), values, max_size=12)
rows = st.one_of(lists, objects)
odd_rows = st.one_of(rows, odd_lists, odd_objects, values)
versions = st.sampled_from(["v1", "v2", "a", "b"])
odd_versions = st.one_of(versions, values.filter(lambda value: value is not None))
"""Never null, which would leave the version to chance."""
odd_fields = st.dictionaries(st.sampled_from(["unit", "user_id", "colour"]), values, max_size=2)


def native_bodies() -> st.SearchStrategy[bytes]:
    good = st.fixed_dictionaries({"instances": st.lists(rows, min_size=1, max_size=6), "version": versions})
    odd = st.builds(
        lambda instances, version, fields: {"instances": instances, "version": version} | fields,
        st.lists(odd_rows, max_size=4), odd_versions, odd_fields,
    )  # fmt: skip
    return st.one_of(good, odd).map(lambda body: json.dumps(body).encode())


def single_bodies() -> st.SearchStrategy[bytes]:
    good = st.fixed_dictionaries({"features": rows, "model_version": versions})
    odd = st.builds(
        lambda features, version, fields: {"features": features, "model_version": version} | fields,
        odd_rows, odd_versions, odd_fields,
    )  # fmt: skip
    return st.one_of(good, odd).map(lambda body: json.dumps(body).encode())


@st.composite
def mutated(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body with some bytes replaced, removed or put in."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


class Transports:
    """One connection over each transport, made anew when a server has closed it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connections: dict[str, Connection] = {}

    def assert_alike(self, lane: bytes, plain: bytes) -> None:
        assert_alike(self._essence("lane", lane), self._essence("plain", plain))

    def _essence(self, transport: str, data: bytes) -> Essence:
        if transport not in self._connections:
            self._connections[transport] = Connection(self._server)
        try:
            answer = self._connections[transport].ask(data)
        except (Closed, ConnectionError) as error:
            raise AssertionError(f"the {transport} connection closed on {data!r}") from error
        if answer.header("connection") == "close":
            self._connections.pop(transport).__exit__()
        return essence(answer)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.__exit__()


@pytest.fixture
def transports(server: Server) -> Iterator[Transports]:
    both = Transports(server)
    yield both
    both.close()


generated = settings(max_examples=75, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@generated
@given(st.one_of(native_bodies(), mutated(native_bodies())))
@example(native(instances=[ROW])[:-1] + b"}" * 3)
def test_any_native_body_gets_the_same_answer_over_both_transports(transports: Transports, body: bytes) -> None:
    transports.assert_alike(request(body), request(body, NATIVE + "?x"))


@generated
@given(st.one_of(single_bodies(), mutated(single_bodies())))
@example(single(features={**NAMED, "age": 10**400}))
def test_any_single_body_gets_the_same_answer_over_both_transports(transports: Transports, body: bytes) -> None:
    transports.assert_alike(request(body, SINGLE), request(body, SINGLE + "?x"))


@generated
@given(st.binary(max_size=200).map(lambda body: body[: len(body) // 4 * 4] if len(body) % 3 else body))
def test_any_packed_body_gets_the_same_answer_over_both_transports(transports: Transports, body: bytes) -> None:
    how: Any = {"content_type": "application/octet-stream", "headers": [("x-model-version", "v2")]}
    transports.assert_alike(request(body, **how), request(body, NATIVE + "?x", **how))
