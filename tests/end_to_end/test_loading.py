"""Versions loaded, replaced, refused and unloaded in a real server under load: no request notices."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import psutil
import pytest

from configuration.canary_policy import CanaryPolicy
from runners.inputs.schema import Feature
from shokado.client import Client, Conflict
from shokado.lifecycle.errors import GatewayRefused
from shokado.lifecycle.rollout.canary import Canary
from shokado.lifecycle.rollout.gateway_client import GatewayClient
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.conftest import prepare
from tests.end_to_end.closed_loop import UNPINNED, load
from tests.end_to_end.test_routing import ask, change, get
from tests.support import http
from tests.support.imports import imports_under_way
from tests.support.raw_http import near
from tests.support.server import ROW, Server, free_port, serving
from tests.support.shelf import own_shelf
from tests.support.waiting import wait_until

CLIENTS = 8


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def loaded(models: object, grpc_port: int) -> Iterator[Server]:
    limits = {"SHOKADO_LOADING__MAX_VERSIONS_IN_MEMORY": "3", "SHOKADO_GRPC__PORT": str(grpc_port)}
    with serving(environment={"SHOKADO_WORKERS": "2", **limits}) as running:
        yield running


def post(server: Server, path: str, body: Any = None) -> httpx.Response:
    return http.post(f"{server.url}{path}", json=body if body is not None else {}, timeout=250)


def states(server: Server) -> dict[str, str]:
    return {version["version"]: version["state"] for version in get(server, "/v1/models")["versions"]}


def scores(server: Server, version: str) -> set[float]:
    """Of the usual row, by a version, from both workers."""
    return {answer["predictions"][0] for answer in ask(server, 12, version=version)}


def test_a_version_is_loaded_swapped_and_unloaded_while_everything_else_goes_on(loaded: Server) -> None:
    (first,) = scores(loaded, "v1")
    (second,) = scores(loaded, "v2")
    with load(loaded, CLIENTS, lambda _: UNPINNED) as clients:
        answer = post(loaded, "/v1/models/v3/load", {"uri": "customers:v2", "why": "try it"})
        assert answer.status_code == 200, answer.text
        assert all(score == near(second) for score in scores(loaded, "v3"))
        answer = post(loaded, "/v1/models/v3/load", {"uri": "customers:v1"})
        assert answer.status_code == 200, answer.text
        assert all(score == near(first) for score in scores(loaded, "v3"))
        assert change(loaded, {"v1": 1, "v2": 1, "v3": 1}).status_code == 200
        wait_until(lambda: "v3" in {each["version"] for each in ask(loaded, 10)})
        refused = post(loaded, "/v1/models/v3/unload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "version_in_use")
        assert change(loaded, {"v1": 1, "v2": 1}).status_code == 200
        assert post(loaded, "/v1/models/v3/unload").status_code == 200
        assert states(loaded)["v3"] == "unloaded"
        clients.wait_for_answers(10)
    assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}
    pinned = post(loaded, "/v1/models/predict", {"instances": [ROW], "version": "v3"})
    assert (pinned.status_code, pinned.json()["error"]["code"]) == (503, "not_ready")
    again = post(loaded, "/v1/models/v3/load")
    assert again.status_code == 200, again.text
    assert all(score == near(first) for score in scores(loaded, "v3"))


def test_a_model_of_another_signature_is_refused_with_the_difference(loaded: Server) -> None:
    prepare("iris")
    before = get(loaded, "/v1/traffic-split")
    with load(loaded, CLIENTS, lambda _: UNPINNED) as clients:
        refused = post(loaded, "/v1/models/v4/load", {"uri": "iris:v1"})
        clients.wait_for_answers(5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unfit_artefact")
    assert "cannot serve side by side: their task differ" in refused.json()["error"]["message"]
    assert "v4" not in states(loaded)
    assert get(loaded, "/v1/traffic-split") == before
    assert {answer.status for answer in clients.answers} == {200}


def test_a_model_that_kills_its_process_is_refused_and_no_request_notices(loaded: Server) -> None:
    before, workers = get(loaded, "/v1/traffic-split"), loaded.workers()
    with own_shelf("deadly") as shelf, load(loaded, CLIENTS, lambda _: UNPINNED) as clients:
        refused = post(loaded, "/v1/models/v6/load", {"uri": shelf.crashing("v6").tag})
        clients.wait_for_answers(5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "load_failed")
    assert "it kills the process that opens it: SIGSEGV" in refused.json()["error"]["message"]
    assert "v6" not in states(loaded)
    assert get(loaded, "/v1/traffic-split") == before
    assert loaded.workers() == workers
    assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}


@pytest.mark.slow
def test_a_configured_model_that_kills_its_process_has_failed_and_the_others_serve(models: object) -> None:
    with own_shelf("deadly") as shelf:
        placed = {"SHOKADO_VERSIONS__V4__TAG": shelf.crashing("v4").tag, "SHOKADO_VERSIONS__V4__PLACEMENT": "service"}
        configured = {"SHOKADO_VERSIONS__V3__TAG": shelf.crashing("v3").tag, "SHOKADO_WORKERS": "2", **placed}
        with serving(environment=configured) as server:
            wait_until(lambda: {*reported(server, "v3")} == {*reported(server, "v4")} == {"failed"}, 60)
            workers = server.workers()
            health = get(server, "/readyz")
            assert health["versions"] == {"v1": "ready", "v2": "ready", "v3": "failed", "v4": "failed"}
            for version in ("v3", "v4"):
                assert "it kills the process that opens it: SIGSEGV" in health["failures"][version]
            with load(server, CLIENTS, lambda _: UNPINNED) as clients:
                clients.wait_for_answers(20)
            assert clients.lost == 0
            assert {answer.status for answer in clients.answers} == {200}
            assert server.workers() == workers


def reported(server: Server, version: str) -> list[str]:
    """What the workers, both of them, say of a version."""
    found = [worker["versions"].get(version) for worker in get(server, "/v1/models")["workers"] if worker["versions"]]
    return found if len(found) == 2 else []


@pytest.mark.slow
def test_of_many_loads_at_once_one_imports_one_waits_and_the_others_are_refused(loaded: Server) -> None:
    def ask_for(number: int) -> int:
        return post(loaded, f"/v1/models/v{number}/load", {"uri": "models:/customers/4711"}).status_code

    most, most_bytes = 0, 0
    with ThreadPoolExecutor(24) as threads:
        asking = [threads.submit(ask_for, 10 + number) for number in range(24)]
        while not all(each.done() for each in asking):
            imports = imports_under_way(loaded.process.pid)
            most, most_bytes = max(most, len(imports)), max(most_bytes, sum(map(resident_bytes, imports)))
            time.sleep(0.01)  # looking at every process takes a processor of its own otherwise
    assert Counter(each.result() for each in asking) == {409: 22, 422: 2}
    assert most == 1
    assert 0 < most_bytes < 600e6


def resident_bytes(process: psutil.Process) -> int:
    """Its own, and that of the process in which it works."""
    resident = 0
    with contextlib.suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            resident += each.memory_info().rss
    return resident


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"uri": "customers:v77"}, "customers:v77"),
        ({"uri": "models:/customers/777"}, "models:/customers/777"),
        ({"uri": "runs:/abc/model"}, "cannot be loaded"),
        ({"uri": "http://127.0.0.1/model.onnx"}, "cannot be loaded"),
        ({"uri": "../../etc/passwd"}, "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_name(body: dict[str, str], says: str, loaded: Server) -> None:
    refused = post(loaded, "/v1/models/v5/load", body)
    assert refused.status_code == 422, refused.text
    assert says in refused.json()["error"]["message"]


def test_beyond_the_limit_the_least_recently_used_version_leaves(loaded: Server) -> None:
    """Three fit; v1 and v2 have traffic, so v3 makes room for v6."""
    if states(loaded).get("v3") != "ready":
        assert post(loaded, "/v1/models/v3/load", {"uri": "customers:v1"}).status_code == 200
    assert post(loaded, "/v1/models/v6/load", {"uri": "customers:v2"}).status_code == 200
    assert states(loaded) | {"v3": "unloaded", "v6": "ready"} == states(loaded)
    assert change(loaded, {"v1": 1, "v2": 1, "v6": 1}).status_code == 200
    full = post(loaded, "/v1/models/v3/load")
    assert (full.status_code, full.json()["error"]["code"]) == (409, "memory_full")
    assert change(loaded, {"v1": 1, "v2": 1}).status_code == 200


@pytest.mark.slow
def test_what_was_loaded_is_there_after_a_restart(models: object, tmp_path: Any) -> None:
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_STORE": f"sqlite:///{tmp_path}/routing.db"}
    with serving(environment=environment) as server:
        assert post(server, "/v1/models/v3/load", {"uri": "customers:v2"}).status_code == 200
        changed = change(server, {"weights": {"v3": 1}, "active": "v3"}).json()
    with serving(environment=environment) as server:
        answer = ask(server)[0]
        assert (answer["version"], answer["generation"]) == ("v3", changed["generation"])


TENURE = Feature(name="tenure")


@pytest.mark.slow
def test_a_version_that_takes_a_feature_more_is_loaded_beside_the_others(loaded: Server, grpc_port: int) -> None:
    named = dict(zip((feature["name"] for feature in features(loaded, "v1")), ROW, strict=True))
    for other in states(loaded).keys() - {"v1", "v2"}:
        assert post(loaded, f"/v1/models/{other}/unload").status_code == 200
    (first,) = scores(loaded, "v1")
    assert "tenure" not in loaded_description(loaded)
    with own_shelf("wider") as shelf, load(loaded, CLIENTS, lambda _: UNPINNED) as clients:
        answer = post(loaded, "/v1/models/v8/load", {"uri": shelf.wider("v8", TENURE).tag})
        assert answer.status_code == 200, answer.text
        clients.wait_for_answers(10)
        for path, body in bodies_of({**named, "tenure": 0.0}):
            for version, expected in (("v1", first), ("v8", 0.5)):
                scored = pinned(loaded, path, version, body)
                assert scored.status_code == 200, scored.text
                assert near(expected) == first_score(scored.json())
        for path, body in bodies_of(named):
            # A slash at the end is not the express lane's.
            for address in (path, f"{path}/"):
                refused = pinned(loaded, address, "v8", body)
                assert refused.status_code == 422
                assert "version v8: " in refused.text
                assert "'tenure'" in refused.text
        for _ in range(6):
            assert over_grpc(grpc_port, "v8", {**named, "tenure": 0.0}) == "v8"
            lacking = "INVALID_ARGUMENT: version v8: the input of feature 'tenure' is missing"
            assert over_grpc(grpc_port, "v8", named) == lacking
        refused = change(loaded, {"v1": 1, "v8": 1})
        assert refused.status_code == 409, refused.text
        assert refused.json()["error"]["code"] == "features_lacking"
        clients.wait_for_answers(5)
        assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}, "rows without names go on as they were"
    assert get(loaded, "/v1/models")["optional_features"] == [{"name": "tenure", "versions": ["v8"]}]
    assert "Not every version takes tenure: v8" in loaded_description(loaded)
    give_traffic_by_force(loaded, "v8")
    answers = [http.post(f"{loaded.url}/predict", json={"features": named}, timeout=20) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200, 422}
    assert change(loaded, {"v1": 1, "v2": 1}).status_code == 200


def over_grpc(port: int, version: str, row: dict[str, float]) -> str:
    """The version that answers, or why none does, over a connection of its own."""
    request = messages.ModelInferRequest(model_name=version)
    for name, value in row.items():
        request.inputs.add(name=name, datatype="FP64", shape=[1], contents={"fp64_contents": [value]})
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        try:
            return str(call(request, timeout=20).model_version)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


def give_traffic_by_force(server: Server, version: str) -> None:
    """As a canary begins, and then half of it, by the client."""
    assert change(server, {"v1": 1, "v2": 0}).status_code == 200
    with GatewayClient(server.url, None, None, "test") as gateway:
        with pytest.raises(GatewayRefused, match="it needs the feature 'tenure'"):
            Canary(gateway, CanaryPolicy()).start(version)
        assert Canary(gateway, CanaryPolicy(), force=True).start(version).canary == version
    with Client(server.url) as client:
        with pytest.raises(Conflict) as refused:
            client.change_split({"v1": 1, version: 1})
        assert refused.value.code == "features_lacking"
        client.change_split({"v1": 1, version: 1}, force=True)
        assert client.versions().optional_features[0].versions == [version]


def pinned(server: Server, path: str, version: str, body: Any) -> httpx.Response:
    return http.post(f"{server.url}{path}", json=body, headers={"X-Model-Version": version}, timeout=20)


def features(server: Server, version: str) -> Any:
    return get(server, f"/v1/models/{version}")["signature"]["features"]


def loaded_description(server: Server) -> str:
    """Of the API, by both workers."""
    found = {json.dumps(get(server, "/openapi.json")) for _ in range(6)}
    return "\n".join(found)


def bodies_of(row: dict[str, float]) -> list[tuple[str, Any]]:
    """The same row for several routes."""
    tensors = [{"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in row.items()]
    return [
        ("/v1/models/predict", {"instances": [row]}),
        ("/predict", {"features": row}),
        ("/batch_predict", {"instances": [row]}),
        ("/invocations", {"dataframe_records": [row], "params": {"predict_method": "predict_proba"}}),
        ("/v2/models/customers/infer", {"inputs": tensors}),
        ("/v1/models/customers:predict", {"instances": [row]}),
    ]


def first_score(content: Any) -> float:
    """The probability of the second class, as any of these routes answers it."""
    found = content["outputs"][0]["data"] if "outputs" in content else content.get("predictions", content)
    found = found[0] if isinstance(found, list) else found
    if isinstance(found, dict):
        found = found["prediction"]
    return float(found[-1] if isinstance(found, list) else found)
