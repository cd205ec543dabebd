"""The gRPC entrance of a real server with two workers, asked by the public clients of the protocol."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shokado import __version__
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.dialects.cases import NAMES, OTHER_ROW
from tests.end_to_end import triton_calls
from tests.end_to_end.grpc_load import grpc_load
from tests.end_to_end.triton_calls import Answer, Infer
from tests.support import http
from tests.support.server import BENTOML, ROOT, ROW, Server, free_port, serving
from tests.support.waiting import wait_until

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("tritonclient") is None, reason="needs a client: uv pip install 'tritonclient[grpc]'"
)
ROWS = np.array([ROW, OTHER_ROW], dtype=np.float32)
MATRIX = Infer([("input", "FP32", ROWS)])
COLUMNS = Infer([(name, "FP64", ROWS[:, index].astype(np.float64)) for index, name in enumerate(NAMES)])


@dataclass(frozen=True)
class Entrances:
    """A server with both entrances."""

    server: Server
    address: str

    def channel(self) -> Any:
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def http(self, **fields: Any) -> Any:
        body = {"instances": ROWS.tolist(), **fields}
        return http.post(f"{self.server.url}/v1/models/predict", json=body, timeout=20).json()


def settings(port: int) -> dict[str, str]:
    return {"SHOKADO_WORKERS": "2", "SHOKADO_GRPC__PORT": str(port)}


@pytest.fixture(scope="module")
def entrances(models: Path) -> Iterator[Entrances]:
    port = free_port()
    sticky = {"SHOKADO_ENVIRONMENTS__PRODUCTION__STRATEGY": "hash", "SHOKADO_LIMITS__MAX_BODY_BYTES": "1000000"}
    with serving(environment=settings(port) | sticky) as server:
        yield Entrances(server, f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def triton(entrances: Entrances) -> Iterator[Callable[..., Any]]:
    """Calls a function of `triton_calls` in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, entrances.address, *arguments).result(60)


@needs_triton
def test_our_messages_are_part_of_the_public_ones() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        public = pool.submit(triton_calls.fields).result(60)
    for name, fields in triton_calls.fields_of(messages).items():
        assert set(fields) <= set(public[name]), name


@needs_triton
def test_health_and_metadata(triton: Callable[..., Any]) -> None:
    found = triton(triton_calls.describe)
    assert all(found[name] for name in ("live", "ready", "model_ready", "version_ready", "alias_ready"))
    assert found["server"] == {"name": "shokado", "version": __version__, "extensions": ["classification"]}
    assert found["model"]["versions"] == ["v1", "v2"]
    assert found["model"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "10"]}]
    assert [output["name"] for output in found["model"]["outputs"]] == ["predictions", "classes"]
    assert found["unknown"] == "NOT_FOUND"


def test_the_version_is_the_same_at_every_door(entrances: Entrances) -> None:
    with httpx.Client(base_url=entrances.server.url, timeout=20) as client, entrances.channel() as channel:
        metadata = channel.unary_unary(f"/{SERVICE}/ServerMetadata", None, messages.ServerMetadataResponse.FromString)
        told = {
            "gRPC": metadata(b"", timeout=20).version,
            "/version": client.get("/version").text,
            "/v2": client.get("/v2").json()["version"],
            "/": client.get("/").json()["version"],
            "/openapi.json": client.get("/openapi.json").json()["info"]["version"],
        }
    assert told == dict.fromkeys(told, __version__)


@needs_triton
@pytest.mark.parametrize("ask", [triton_calls.infer, triton_calls.infer_at_once], ids=["sync", "asyncio"])
def test_both_layouts_give_the_numbers_of_http(triton: Callable[..., Any], entrances: Entrances, ask: Any) -> None:
    expected = {version: entrances.http(version=version) for version in ("v1", "v2")}
    pinned = [replace(call, version=version, id="7") for call in (MATRIX, COLUMNS) for version in ("v1", "v2")]
    for call, answer in zip(pinned, triton(ask, pinned), strict=True):
        assert (answer.code, answer.version, answer.id) == ("OK", call.version, "7")
        assert answer.outputs["predictions"] == expected[call.version]["predictions"]
        assert answer.outputs["classes"] == expected[call.version]["classes"]
        assert answer.parameters["reason"] == "PINNED"


@needs_triton
def test_a_unit_has_the_same_version_at_both_entrances(triton: Callable[..., Any], entrances: Entrances) -> None:
    units = [f"customer-{number}" for number in range(60)]
    answers = triton(triton_calls.infer, [replace(MATRIX, headers={"x-unit-id": unit}) for unit in units])
    by_http = [entrances.http(unit=unit) for unit in units]
    assert [answer.version for answer in answers] == [answer["version"] for answer in by_http]
    assert {answer.version for answer in answers} == {"v1", "v2"}
    assert {answer.parameters["reason"] for answer in answers} == {answer["reason"] for answer in by_http}


@needs_triton
def test_names_ids_outputs_and_environments(triton: Callable[..., Any], entrances: Entrances) -> None:
    alias, chosen, staging, named = triton(
        triton_calls.infer,
        [
            replace(MATRIX, model="b"),
            replace(MATRIX, outputs=["classes"]),
            replace(MATRIX, headers={"x-environment": "staging"}),
            replace(MATRIX, headers={"x-request-id": "mine", "x-model-version": "v2"}),
        ],
    )
    assert (alias.version, staging.version, named.version) == ("v2", "v2", "v2")
    assert list(chosen.outputs) == ["classes"]
    assert named.parameters["request_id"] == "mine"
    feedback = {"prediction_id": named.parameters["prediction_id"], "reward": 1}
    assert http.post(f"{entrances.server.url}/v1/feedback", json=feedback, timeout=20).status_code < 300


@needs_triton
def test_a_client_may_ping_as_tritons_do(triton: Callable[..., Any]) -> None:
    """grpc's server, left to itself, sends a client away at the third ping within five minutes (or two hours)."""
    assert triton(triton_calls.stay_idle, 5) == ["READY"]


@needs_triton
def test_a_classification_is_that_of_http(triton: Callable[..., Any], entrances: Entrances) -> None:
    call = replace(MATRIX, version="v1", outputs=["predictions"], class_count=2)
    (answer,) = triton(triton_calls.infer, [call])
    expected = entrances.http(version="v1")
    for texts, score, label in zip(
        answer.outputs["predictions"], expected["predictions"], expected["classes"], strict=True
    ):
        pairs = [text.decode().split(":") for text in texts]
        assert {int(index): float(value) for value, index, _ in pairs}[1] == score
        assert [int(index) for _, index, _ in pairs] == [label, 1 - label]


REFUSED = {
    "no version": (replace(MATRIX, version="v9"), "NOT_FOUND"),
    "no model": (replace(MATRIX, model="cats"), "NOT_FOUND"),
    "two versions": (replace(MATRIX, version="v1", headers={"x-model-version": "v2"}), "INVALID_ARGUMENT"),
    "no environment": (replace(MATRIX, headers={"x-environment": "moon"}), "NOT_FOUND"),
    "too narrow": (Infer([("input", "FP32", ROWS[:, :5])]), "INVALID_ARGUMENT"),
    "a NaN": (Infer([("input", "FP32", ROWS * np.float32("nan"))]), "INVALID_ARGUMENT"),
    "labels of labels": (replace(MATRIX, outputs=["classes"], class_count=1), "INVALID_ARGUMENT"),
    "no output": (replace(MATRIX, outputs=["logits"]), "INVALID_ARGUMENT"),
    "too many rows": (Infer([("input", "INT8", np.zeros((10_001, 10), dtype=np.int8))]), "INVALID_ARGUMENT"),
    "too long": (Infer([("input", "FP64", np.zeros((20_000, 10)))]), "RESOURCE_EXHAUSTED"),
    "too late": (replace(MATRIX, headers={"x-request-deadline-ms": "0.000001"}), "DEADLINE_EXCEEDED"),
}


@needs_triton
def test_refusals_have_their_codes(triton: Callable[..., Any]) -> None:
    answers: list[Answer] = triton(triton_calls.infer, [call for call, _ in REFUSED.values()])
    found = {name: answer.code for name, answer in zip(REFUSED, answers, strict=True)}
    assert found == {name: code for name, (_, code) in REFUSED.items()}
    assert "Traceback" not in str(answers)


def request(rows: Any = ROWS, **fields: Any) -> Any:
    tensor = {"name": "input", "datatype": "FP32", "shape": rows.shape}
    return messages.ModelInferRequest(
        model_name="customers", inputs=[tensor], raw_input_contents=[rows.tobytes()], **fields
    )


def infer(channel: Any) -> Any:
    return channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelInferResponse.FromString,
    )


def test_an_answer_and_a_refusal_say_more_in_their_trailing_metadata(entrances: Entrances) -> None:
    with entrances.channel() as channel:
        answer, call = infer(channel).with_call(request(), timeout=20, metadata=[("x-request-id", "mine")])
        said = dict(call.trailing_metadata())
        assert (said["x-request-id"], said["x-model-version"]) == ("mine", answer.model_version)
        assert int(said["x-generation"]) == answer.parameters["generation"].int64_param
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel)(request(model_version="v9"), timeout=20, metadata=[("x-request-id", "mine")])
    said = dict(caught.value.trailing_metadata())
    assert (said["x-request-id"], said["x-error-code"]) == ("mine", "unknown_version")


def test_typed_contents_are_answered_typed(entrances: Entrances) -> None:
    typed = request()
    typed.inputs[0].contents.fp32_contents.extend(ROWS.ravel().tolist())
    del typed.raw_input_contents[:]
    with entrances.channel() as channel:
        answer = infer(channel)(typed, timeout=20)
    assert len(answer.outputs[0].contents.fp32_contents) == 2
    assert not answer.raw_output_contents


def test_what_is_no_message_is_the_clients_fault(entrances: Entrances) -> None:
    with entrances.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(b"\xff\xff", timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_standard_health_service_says_that_it_serves(entrances: Entrances) -> None:
    with entrances.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_both_entrances_count_into_the_same_metrics(entrances: Entrances) -> None:
    before = entrances.server.metric("shokado_requests_total")
    with entrances.channel() as channel:
        for _ in range(10):
            infer(channel)(request(), timeout=20)
    wait_until(lambda: entrances.server.metric("shokado_requests_total") >= before + 10)


PLACED = {
    "SHOKADO_WORKERS": "1",
    "SHOKADO_VERSIONS__V2__PLACEMENT": "service",
    "SHOKADO_ENVIRONMENTS__PRODUCTION__SHADOW": "v2",
}


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "times"), [({}, 3), (PLACED, 2)], ids=["embedded", "service and shadow"])
def test_stopping_under_load_answers_or_says_to_ask_again(
    models: Path, environment: dict[str, str], times: int
) -> None:
    """Several times, as it is chance what arrives in the moment of the stop."""
    for _ in range(times):
        port = free_port()
        with serving(environment=settings(port) | environment) as server:
            entrances = Entrances(server, f"127.0.0.1:{port}")
            expected = {version: entrances.http(version=version)["predictions"] for version in ("v1", "v2")}
            with grpc_load(entrances.address, request(), expected) as load:
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: server.process.poll() is not None)
            assert set(load.codes) == {"OK", "UNAVAILABLE"}, load.details
            assert server.process.returncode == 0
            log = server.log.read_text()
            assert "Traceback" not in log
            assert "accept4" not in log, "grpc took the end of its listener for an error"


def test_health_says_that_it_stops_as_soon_as_readiness_does(models: Path) -> None:
    """And requests are answered while the pause lasts."""
    port = free_port()
    paused = settings(port) | {"SHOKADO_WORKERS": "1", "SHOKADO_SHUTDOWN__PAUSE_S": "4"}
    with serving(environment=paused) as server, Entrances(server, f"127.0.0.1:{port}").channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: http.get(f"{server.url}/readyz", timeout=20).status_code == 503, 3)
        answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len(infer(channel)(request(), timeout=20).raw_output_contents) == 2
        assert server.process.poll() is None
        wait_until(lambda: server.process.poll() is not None)
        assert server.process.returncode == 0


def test_a_taken_port_is_said_in_one_line(models: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environment = {**os.environ, **settings(port)}
        command = [str(BENTOML), "serve", "service:Shokado", "--port", str(free_port())]
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert ended.returncode != 0
    assert f"shokado: grpc.port: cannot listen at 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_port_grpc_is_not_even_in_memory(server: Server) -> None:
    for worker in server.workers():
        assert not [mapped for mapped in psutil.Process(worker).memory_maps() if "cygrpc" in mapped.path]


def test_with_a_port_it_is(entrances: Entrances) -> None:
    """Or the test before could not fail."""
    assert any("cygrpc" in mapped.path for mapped in psutil.Process(entrances.server.workers()[0]).memory_maps())


def test_idle_connections_leave_room_for_http(models: Path, tmp_path: Path) -> None:
    """300 connections that say nothing, where a process may have 256 open files."""
    program, port = tmp_path / "bentoml", free_port()
    program.write_text(f'#!/bin/sh\nulimit -n 256\nexec {BENTOML} "$@"\n')
    program.chmod(0o755)
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_GRPC__PORT": str(port)}
    with serving(environment=environment, program=program) as server, contextlib.ExitStack() as opened:
        for _ in range(300):
            with contextlib.suppress(ConnectionError):
                opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        for _ in range(20):
            assert http.get(f"{server.url}/livez", timeout=5).status_code == 200
        opened.close()

        def answers() -> bool:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as one:
                return bool(health_pb2_grpc.HealthStub(one).Check(health_pb2.HealthCheckRequest(), timeout=5).status)
            return False

        wait_until(answers)
