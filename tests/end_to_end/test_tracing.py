"""Traces of a real server: one trace from the client to the engine, over every door and placement; and its JSON log."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from shokado.transports.grpc import open_inference_pb2 as messages
from tests.support import http
from tests.support.otlp_receiver import Receiver, receiving_http
from tests.support.raw_http import Connection, request
from tests.support.server import ROW, Server, free_port, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("models")]
TRACE_ID = "0af7651916cd43dd8448eb211c8031{:02x}"
PARENT_ID = "00f067aa0ba902b7"
NATIVE = "/v1/models/predict"
REQUEST = f"POST {NATIVE}"
GRPC_PORT = free_port()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving_http() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(receiver: Receiver) -> Iterator[Server]:
    """Traces what its clients trace, and nothing else. v1 is in the worker, v2 in a service."""
    environment = {
        "SHOKADO_WORKERS": "1",
        "SHOKADO_VERSIONS__V2__PLACEMENT": "service",
        "SHOKADO_GRPC__PORT": str(GRPC_PORT),
        "SHOKADO_TRACING__SHARE": "0",
        "SHOKADO_TRACING__FLUSH_S": "0.05",
        "SHOKADO_LOGGING__FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }
    with serving(environment=environment) as server:
        yield server


def parent(number: int, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{TRACE_ID.format(number)}-{PARENT_ID}-{flags}"}


def ask(server: Server, number: int, path: str = NATIVE, body: Any = None, **headers: str) -> Any:
    body = body or {"instances": [ROW, ROW]}
    return http.post(f"{server.url}{path}", json=body, headers=parent(number) | headers, timeout=30)


@pytest.mark.parametrize(("number", "path"), [(1, NATIVE), (2, f"{NATIVE}?plain")], ids=["lane", "plain"])
def test_both_doors_make_one_trace_of_the_clients(traced: Server, receiver: Receiver, number: int, path: str) -> None:
    answer = ask(traced, number, path, **{"X-Model-Version": "v1", "X-Request-ID": f"r-{number}", "tracestate": "a=1"})
    trace_id = TRACE_ID.format(number)
    assert (answer.status_code, answer.headers["x-trace-id"]) == (200, trace_id)
    receiver.wait_for(4, trace_id=trace_id)
    assert receiver.trace(trace_id) == {"": [REQUEST], REQUEST: ["batch", "queue"], "batch": ["engine"]}
    (asked,) = receiver.found(trace_id=trace_id, name=REQUEST)
    assert (asked.parent_id, asked.state, asked.kind, asked.failed) == (PARENT_ID, "a=1", 2, False)
    assert asked.attributes == {
        "http.request.method": "POST",
        "http.route": NATIVE,
        "http.response.status_code": 200,
        "shokado.request_id": f"r-{number}",
        "shokado.version": "v1",
        "shokado.environment": "production",
        "shokado.generation": answer.json()["generation"],
        "shokado.reason": "PINNED",
        "shokado.rows": 2,
    }
    assert asked.resource["service.name"] == "shokado"
    assert asked.resource["deployment.environment"] == "test"
    (batch,) = receiver.found(trace_id=trace_id, name="batch")
    assert batch.links == [(trace_id, asked.span_id)]
    (engine,) = receiver.found(trace_id=trace_id, name="engine")
    times = asked.start_ns, batch.start_ns, engine.start_ns, engine.end_ns, batch.end_ns, asked.end_ns
    assert times == tuple(sorted(times))


def test_a_versions_own_service_is_part_of_the_trace(traced: Server, receiver: Receiver) -> None:
    assert ask(traced, 3, **{"X-Model-Version": "v2"}).status_code == 200
    trace_id = TRACE_ID.format(3)
    receiver.wait_for(5, trace_id=trace_id)
    tree = {"": [REQUEST], REQUEST: ["batch", "queue"], "batch": ["hop"], "hop": ["engine"]}
    assert receiver.trace(trace_id) == tree
    (hop,) = receiver.found(trace_id=trace_id, name="hop")
    (engine,) = receiver.found(trace_id=trace_id, name="engine")
    assert hop.kind == 3
    assert hop.start_ns <= engine.start_ns < engine.end_ns <= hop.end_ns


def test_grpc_metadata_carry_the_trace(traced: Server, receiver: Receiver) -> None:
    message = messages.ModelInferRequest(model_name="customers")
    tensor = message.inputs.add(name="input", datatype="FP32", shape=[1, len(ROW)])
    tensor.contents.fp32_contents.extend(ROW)
    metadata = [*parent(4).items(), ("x-model-version", "v1")]
    with grpc.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, call = method.with_call(message.SerializeToString(), metadata=metadata, timeout=30)
    trace_id = TRACE_ID.format(4)
    assert dict(call.trailing_metadata())["x-trace-id"] == trace_id
    receiver.wait_for(4, trace_id=trace_id)
    name = "inference.GRPCInferenceService/ModelInfer"
    assert receiver.trace(trace_id) == {"": [name], name: ["batch", "queue"], "batch": ["engine"]}
    (asked,) = receiver.found(trace_id=trace_id, name=name)
    assert (asked.parent_id, asked.attributes["rpc.method"]) == (PARENT_ID, "ModelInfer")


def test_what_is_not_sampled_leaves_nothing(traced: Server, receiver: Receiver) -> None:
    bodies = {"instances": [ROW]}
    for headers in ({}, parent(5, "00"), {"traceparent": "00-zz"}):
        answer = http.post(f"{traced.url}{NATIVE}", json=bodies, headers=headers, timeout=30)
        assert answer.status_code == 200
        assert "x-trace-id" not in answer.headers
    before = len(receiver.found(name=REQUEST))
    ask(traced, 6)
    receiver.wait_for(1, trace_id=TRACE_ID.format(6), name=REQUEST)
    assert len(receiver.found(name=REQUEST)) == before + 1
    assert not receiver.found(trace_id=TRACE_ID.format(5))


def test_a_merged_batch_is_linked_to_its_requests(traced: Server, receiver: Receiver) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    # Both in one segment: they begin in the same turn of the loop, and so are one batch.
    both = b"".join(request(body, headers=[("x-model-version", "v1"), *parent(number).items()]) for number in (7, 8))
    with Connection(traced) as connection:
        connection.send(both)
        assert [connection.read().status for _ in range(2)] == [200, 200]
    first, second = TRACE_ID.format(7), TRACE_ID.format(8)
    (one,) = receiver.wait_for(1, trace_id=first, name=REQUEST)
    (other,) = receiver.wait_for(1, trace_id=second, name=REQUEST)
    (batch,) = receiver.found(trace_id=first, name="batch")
    assert batch.attributes["shokado.requests"] == 2
    assert batch.links == [(first, one.span_id), (second, other.span_id)]
    assert batch.parent_id == one.span_id
    assert not receiver.found(trace_id=second, name="batch")
    assert other.links == [(first, batch.span_id)]
    assert one.links == []


def test_a_refused_request_is_a_span_with_its_code(traced: Server, receiver: Receiver) -> None:
    answer = ask(traced, 9, body={"instances": [[1]]})
    assert (answer.status_code, answer.headers["x-trace-id"]) == (422, TRACE_ID.format(9))
    (span,) = receiver.wait_for(1, trace_id=TRACE_ID.format(9))
    assert span.attributes["error.type"] == "wrong_feature_count"
    assert span.attributes["http.response.status_code"] == 422
    assert not span.failed, "the client's fault is no failure of the server's span"


def test_the_id_of_a_failure_finds_its_line_in_the_log(traced: Server, receiver: Receiver) -> None:
    late = {"X-Request-Deadline-Ms": "0.0001", "X-Request-ID": "find-me"}
    answer = ask(traced, 10, **late)
    assert (answer.status_code, answer.json()["request_id"]) == (504, "find-me")
    (span,) = receiver.wait_for(1, trace_id=TRACE_ID.format(10), name=REQUEST)
    assert span.failed
    wait_until(lambda: "find-me" in traced.log.read_text())
    (line,) = [line for line in traced.log.read_text().splitlines() if "find-me" in line]
    said = json.loads(line)
    assert said["request_id"] == "find-me"
    assert (said["trace_id"], said["span_id"]) == (TRACE_ID.format(10), span.span_id)
    assert (said["level"], said["code"], said["logger"]) == ("WARNING", "deadline_exceeded", "bentoml.shokado")


def test_all_of_the_log_is_json(traced: Server) -> None:
    lines = traced.log.read_text().splitlines()
    assert lines
    for line in lines:
        assert {"timestamp", "level", "message"} <= json.loads(line).keys(), line


def test_spans_are_counted(traced: Server, receiver: Receiver) -> None:
    ask(traced, 11)
    receiver.wait_for(1, trace_id=TRACE_ID.format(11))
    wait_until(lambda: traced.metric("shokado_trace_spans_total", outcome="sent") == len(receiver.spans))
    assert traced.metric("shokado_trace_spans_total", outcome="dropped") == 0


def test_a_remote_version_goes_on_with_the_trace(traced: Server, receiver: Receiver) -> None:
    environment = {
        "SHOKADO_WORKERS": "1",
        "SHOKADO_VERSIONS__V1__PLACEMENT": "remote",
        "SHOKADO_VERSIONS__V1__REMOTE__URL": traced.url,
        "SHOKADO_TRACING__ENDPOINT": receiver.url,
        "SHOKADO_TRACING__SHARE": "1",
        "SHOKADO_TRACING__FLUSH_S": "0.05",
        "OTEL_SERVICE_NAME": "gateway",
    }
    with serving(environment=environment) as gateway:
        answer = http.post(
            f"{gateway.url}{NATIVE}", json={"instances": [ROW]}, headers={"X-Model-Version": "v1"}, timeout=30
        )
        trace_id = answer.headers["x-trace-id"]
        infer = "POST /v2/models/{model}/versions/{version}/infer"
        receiver.wait_for(1, trace_id=trace_id, name="engine")
        receiver.wait_for(1, trace_id=trace_id, name=REQUEST)
        wait_until(lambda: len(receiver.found(trace_id=trace_id)) == 8)
    tree = receiver.trace(trace_id)
    assert tree[""] == [REQUEST]
    assert tree["hop"] == [infer]
    assert tree[infer] == ["batch", "queue"]
    (far,) = receiver.found(trace_id=trace_id, name=infer)
    (near,) = receiver.found(trace_id=trace_id, name=REQUEST)
    assert (near.resource["service.name"], far.resource["service.name"]) == ("gateway", "shokado")
