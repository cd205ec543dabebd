"""Versions in other servers: a real gateway before real runners, as in a cluster, and MLServer as a version."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import yaml

from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.dialects.cases import NAMES
from tests.end_to_end.closed_loop import load
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.support import http
from tests.support.raw_http import near, request
from tests.support.server import ROOT, ROW, Server, free_port, serving, serving_side_by_side
from tests.support.waiting import wait_until

MODEL = "customers"
HALVES = {"v1": 50, "v2": 50}
UNPINNED = request(json.dumps({"instances": [ROW]}).encode())
QUICK = {"eject_for_s": 0.5}
_numbers = itertools.count(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def rows(count: int) -> Any:
    """Rows like the usual one, each different."""
    factors = np.random.default_rng(7).uniform(0.5, 1.5, (count, len(ROW)))
    return np.round(np.array(ROW) * factors).astype(np.float32)


def configured(folder: Path, versions: dict[str, Any], active: str = "v1", **more: Any) -> dict[str, str]:
    """The environment of a server with one worker and a `serving.yaml` of its own."""
    content = {
        "model": MODEL,
        "workers": 1,
        "versions": versions,
        "environments": {"production": {"active": active, "weights": dict.fromkeys(versions, 100 / len(versions))}},
        **more,
    }
    path = folder / f"serving-{next(_numbers)}.yaml"
    path.write_text(yaml.safe_dump(content))
    return {"SHOKADO_CONFIG": str(path)}


def remote(url: str, **settings: Any) -> dict[str, Any]:
    return {"placement": "remote", "remote": {"url": url, **QUICK, **settings}}


def ask(server: Server, content: Any, **how: Any) -> httpx.Response:
    return http.post(f"{server.url}/v1/models/predict", json=content, timeout=60, **how)


def predictions(server: Server, version: str, instances: Any) -> Any:
    answer = ask(server, {"instances": instances.tolist(), "version": version})
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == version
    return answer.json()["predictions"]


def listed(server: Server, version: str) -> Any:
    return http.get(f"{server.url}/v1/models/{version}", timeout=20).json()


def state_of(server: Server, version: str) -> Any:
    return http.get(f"{server.url}/readyz", timeout=20).json()["versions"][version]


def kill(server: Server) -> None:
    """SIGKILL to all of its processes."""
    workers = server.workers()
    server.process.kill()
    server.process.wait(20)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def runners(models: Path, folder: Path) -> Iterator[dict[str, Server]]:
    """A server for each version, as a Deployment of its own would be. v2's takes no more than 100 rows at once."""
    key = folder / "runner-key"
    keys = folder / "keys.yaml"
    command = [sys.executable, "-m", "shokado", "keys", "create", "--name", "gateway"]
    made = subprocess.run(
        [*command, "--role", "predict", "--file", str(keys)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    key.write_text(made.stdout)
    first = configured(folder, {"v1": {}}, access={"keys_file": str(keys), "required": True})
    second = configured(folder, {"v2": {}}, active="v2", limits={"max_rows": 100})
    with serving_side_by_side(first, second) as (v1, v2):
        yield {"v1": v1, "v2": v2}


@pytest.fixture(scope="module")
def gateway(runners: dict[str, Server], folder: Path) -> Iterator[Server]:
    versions = {
        "v1": remote(runners["v1"].url, key_file=str(folder / "runner-key")),
        "v2": remote(runners["v2"].url),
    }
    with serving(environment=configured(folder, versions)) as server:
        yield server


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("count", [1, 1000])
def test_a_gateway_answers_with_the_numbers_of_an_embedded_version(
    server: Server, gateway: Server, version: str, count: int
) -> None:
    """1,000 rows are ten times what v2's runner takes at once."""
    expected = near(predictions(server, version, rows(count)))
    assert predictions(gateway, version, rows(count)) == expected


def test_every_dialect_reaches_a_remote_version(server: Server, gateway: Server) -> None:
    (expected,) = predictions(server, "v2", np.array([ROW]))
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        packed = np.array(ROW, "<f4").tobytes()
        headers = {"content-type": "application/octet-stream", "accept": "application/octet-stream"}
        answer = client.post("/v1/models/predict", content=packed, headers={**headers, "x-model-version": "v2"})
        assert np.frombuffer(answer.content, "<f4").tolist() == near([expected])
        named = dict(zip(NAMES, ROW, strict=True))
        answer = client.post("/predict", json={"features": named, "model_version": "v2"})
        assert answer.json()["prediction"] == near(expected)
        tensor = {"name": "input", "datatype": "FP32", "shape": [1, len(ROW)], "data": ROW}
        answer = client.post(f"/v2/models/{MODEL}/versions/v2/infer", json={"inputs": [tensor]})
        assert answer.json()["outputs"][0]["data"] == near([expected])
        answer = client.post("/v1/models/v2:predict", json={"instances": [ROW]})
        assert answer.json()["predictions"] == near([expected])


def test_remote_versions_are_listed_with_their_place(gateway: Server, runners: dict[str, Server]) -> None:
    described = listed(gateway, "v1")
    assert (described["state"], described["placement"]) == ("ready", "remote")
    assert described["address"] == f"{runners['v1'].url}/v2/models/{MODEL}/versions/v1"
    ready = http.get(f"{gateway.url}/readyz", timeout=20)
    assert (ready.status_code, ready.json()["versions"]) == (200, {"v1": "ready", "v2": "ready"})


def test_requests_of_many_clients_travel_together(gateway: Server) -> None:
    with load(gateway, 16, lambda _: UNPINNED) as clients:
        clients.wait_for_answers(50)
    assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}
    wait_until(lambda: gateway.metric("shokado_requests_total") >= len(clients.answers))
    batches = gateway.metric("shokado_remote_batches_total", outcome="scored")
    assert batches < gateway.metric("shokado_requests_total")
    assert gateway.metric("shokado_remote_up", version="v1") == gateway.metric("shokado_remote_up", version="v2") == 1


def test_a_remote_version_is_not_loaded_or_unloaded(gateway: Server) -> None:
    for change in ("load", "unload"):
        answer = http.post(f"{gateway.url}/v1/models/v2/{change}", json={}, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "remote_placement")


def test_a_split_moves_between_remote_versions_and_a_shadow_may_be_one(gateway: Server) -> None:
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        changed = {"weights": {"v1": 100, "v2": 0}, "shadow": "v2"}
        assert client.post("/v1/traffic-split", json=changed).status_code == 200
        answers = [ask(gateway, {"instances": [ROW]}).json() for _ in range(20)]
        assert {(answer["version"], answer["reason"]) for answer in answers} == {("v1", "SPLIT")}
        wait_until(lambda: gateway.metric("shokado_shadow_rows_total", shadow="v2") >= 20)
        assert client.post("/v1/traffic-split", json={"weights": HALVES, "shadow": None}).status_code == 200


def test_grpc_cache_and_the_weighted_split_stand_before_remote_versions_as_before_others(
    runners: dict[str, Server], folder: Path, server: Server
) -> None:
    port = free_port()
    versions = {
        "v1": remote(runners["v1"].url, key_file=str(folder / "runner-key")),
        "v2": remote(runners["v2"].url),
    }
    more: Any = {"grpc": {"port": port}, "cache": {"backend": "memory"}, "weighted": {"update_every_s": 0.5}}
    with serving(environment=configured(folder, versions, **more)) as gateway:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            tensor = messages.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[100, len(ROW)])
            asked = messages.ModelInferRequest(model_name=MODEL, model_version="v2", inputs=[tensor])
            asked.raw_input_contents.append(rows(100).tobytes())
            answer = call(asked, timeout=20)
        scores = np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()
        assert (answer.model_version, scores) == ("v2", near(predictions(server, "v2", rows(100))))

        def batches() -> float:
            return gateway.metric("shokado_remote_batches_total", outcome="scored")

        once = predictions(gateway, "v1", rows(1))
        wait_until(lambda: gateway.metric("shokado_cache_requests_total", version="v1", outcome="miss") == 1)
        before = batches()
        assert [predictions(gateway, "v1", rows(1)) for _ in range(5)] == [once] * 5
        wait_until(lambda: gateway.metric("shokado_cache_requests_total", version="v1", outcome="hit") == 5)
        assert batches() == before

        for version, reward in (("v1", 0), ("v2", 1)):
            answers = [ask(gateway, {"instances": [ROW], "version": version}).json() for _ in range(30)]
            entries = [{"prediction_id": answer["prediction_id"], "reward": reward} for answer in answers]
            told = http.post(f"{gateway.url}/v1/feedback", json=entries, timeout=20).json()
            assert told["accepted"] == 30
        weighted = {"weights": HALVES, "strategy": "weighted"}
        assert http.post(f"{gateway.url}/v1/traffic-split", json=weighted, timeout=20).status_code == 200
        split = f"{gateway.url}/v1/traffic-split"
        wait_until(lambda: http.get(split, timeout=20).json()["shares"]["v2"] > 0.8)


def test_a_runner_that_is_killed_under_load_is_missed_by_no_client_and_comes_back(
    models: Path, folder: Path, runners: dict[str, Server], server: Server
) -> None:
    right = {version: near(predictions(server, version, np.array([ROW]))) for version in ("v1", "v2")}
    port = free_port()
    own = configured(folder, {"v2": {}}, active="v2")
    versions = {
        "v1": remote(runners["v1"].url, key_file=str(folder / "runner-key")),
        "v2": remote(f"http://127.0.0.1:{port}"),
    }
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(serving(environment=own, port=port))
        gateway = stack.enter_context(serving(environment=configured(folder, versions)))
        with load(gateway, 12, lambda _: UNPINNED) as clients:
            clients.wait_for_answers(30)
            kill(victim)
            clients.wait_for_answers(300)
            wait_until(lambda: state_of(gateway, "v2") == "away")
            assert http.get(f"{gateway.url}/readyz", timeout=20).status_code == 200
            assert "cannot connect: Connection refused" in listed(gateway, "v2")["failure"]
            stack.enter_context(serving(environment=own, port=port))
            wait_until(lambda: state_of(gateway, "v2") == "ready")
            before = len(clients.answers)
            clients.wait_for_answers(30)
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        assert all(answer.json["predictions"] == right[answer.json["version"]] for answer in clients.answers)
        seen = {(answer.json["version"], answer.json["reason"]) for answer in clients.answers}
        assert seen == {("v1", "SPLIT"), ("v2", "SPLIT"), ("v1", "FALLBACK")}
        back = {answer.json["version"] for answer in clients.answers[before:]}
        assert back == {"v1", "v2"}
        wait_until(lambda: gateway.metric("shokado_errors_total", version="v2", kind="fell_back") > 0)
        assert gateway.metric("shokado_errors_total", version="v1") == 0
        assert gateway.metric("shokado_remote_ejections_total", version="v2") >= 1
        wait_until(lambda: gateway.metric("shokado_in_flight") == 0)


def test_a_gateway_starts_before_its_runners(models: Path, folder: Path) -> None:
    port = free_port()
    versions = {version: remote(f"http://127.0.0.1:{port}") for version in ("v1", "v2")}
    with serving(environment=configured(folder, versions), readiness=503) as gateway:
        content = http.get(f"{gateway.url}/readyz", timeout=20).json()
        assert content["reason"] == "not ready: v1"
        assert content["failures"] == dict.fromkeys(versions, "cannot connect: Connection refused")
        refused = ask(gateway, {"instances": [ROW]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert refused.headers["retry-after"]
        both = configured(folder, {"v1": {}, "v2": {}})
        with serving(environment=both, port=port):
            wait_until(lambda: http.get(f"{gateway.url}/readyz", timeout=20).status_code == 200)
            wait_until(lambda: state_of(gateway, "v2") == "ready")
            assert ask(gateway, {"instances": [ROW], "version": "v2"}).json()["version"] == "v2"
        wait_until(lambda: http.get(f"{gateway.url}/readyz", timeout=20).status_code == 503)
        pinned = ask(gateway, {"instances": [ROW], "version": "v2"})
        assert (pinned.status_code, pinned.json()["error"]["code"]) == (503, "not_ready")


@pytest.fixture(scope="module")
def mlserver(folder: Path) -> Iterator[str]:
    """The address of a real MLServer with `customers` in version `hundredth`."""
    python = environment_of("mlserver")
    home = folder / "mlserver"
    home.mkdir()
    ports = {f"{kind}_port": free_port() for kind in ("http", "grpc", "metrics")}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "use_structured_logging": False, **ports}
    (home / "settings.json").write_text(json.dumps(settings))
    model = {"name": MODEL, "implementation": "mlserver_runtime.Hundredth", "parameters": {"version": "hundredth"}}
    (home / "model-settings.json").write_text(json.dumps(model))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    start = "from mlserver.cli import main; main()"
    command = [str(python), "-c", start, "start", str(home)]
    url = f"http://127.0.0.1:{ports['http_port']}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home)
    try:

        def ready() -> bool:
            assert process.poll() is None, (home / "log").read_text()
            with contextlib.suppress(httpx.TransportError):
                return http.get(f"{url}/v2/models/{MODEL}/versions/hundredth/ready", timeout=5).status_code == 200
            return False

        wait_until(ready, 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_mlserver_is_a_version_like_others(models: Path, folder: Path, mlserver: str) -> None:
    """It has no artefact in our store, takes no binary data, and breaks on a row with a negative age."""
    versions = {"v1": {}, "hundredth": remote(mlserver, timeout_s=60)}
    # It may take its time with the parts of a failing batch, and others wait meanwhile.
    patient: Any = {"batching": {"max_queue_ms": 60_000, "standing_queue_ms": 60_000}}
    with serving(environment=configured(folder, versions, **patient)) as gateway:
        described = listed(gateway, "hundredth")
        assert (described["state"], described["placement"], described["size_bytes"]) == ("ready", "remote", None)
        assert described["source"]["uri"] == f"{mlserver}/v2/models/{MODEL}/versions/hundredth"
        instances = rows(1000)
        expected = (instances[:, 0].astype(float) / 100).astype(np.float32).tolist()
        assert predictions(gateway, "hundredth", instances) == near(expected)

        bad = [-1.0, *ROW[1:]]
        asked = [[bad] if number % 8 == 0 else [ROW] for number in range(32)]
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda one: ask(gateway, {"instances": one, "version": "hundredth"}), asked))
        for one, answer in zip(asked, answers, strict=True):
            if one == [bad]:
                assert answer.status_code == 422, answer.text
                assert answer.json()["error"].get("detail") == {"row": 0, "version": "hundredth"}, answer.text
                assert "negative" not in answer.text
            else:
                assert answer.status_code == 200, answer.text + gateway.log.read_text()[-4000:]
                assert answer.json()["predictions"] == near([0.39])
        assert state_of(gateway, "hundredth") == "ready"
        assert gateway.metric("shokado_remote_ejections_total", version="hundredth") == 0
