"""A row of finite numbers that a version has no finite score for: who sends it is told so, at every door.

`customers:v2` scales its columns and adds them up, which overflows for a number near the end of what float32 can say.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from shokado.client import Client, InvalidRequest
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.dialects.cases import NAMES
from tests.support import http
from tests.support.server import ROW, Server, free_port, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

BAD = [*ROW[:7], 3e38, *ROW[8:]]
PIN = {"x-model-version": "v2"}
NAMED = dict(zip(NAMES, BAD, strict=True))
TENSOR = {"name": "input", "datatype": "FP32", "shape": [2, 10], "data": [ROW, BAD]}
MESSAGE = "version v2 has no finite score for row {}"
DOORS: dict[str, tuple[str, Any, int]] = {
    "native": ("/v1/models/predict", {"instances": [ROW, BAD]}, 1),
    "plain": ("/v1/models/predict?x=1", {"instances": [ROW, BAD]}, 1),
    "single": ("/predict", {"features": NAMED}, 0),
    "features": ("/api/v1/models/v2/predictions", {"features": NAMED}, 0),
    "batch": ("/batch_predict", {"instances": [dict(zip(NAMES, ROW, strict=True)), NAMED]}, 1),
    "MLflow": ("/invocations", {"dataframe_split": {"columns": NAMES, "data": [ROW, BAD]}}, 1),
    "Open Inference": ("/v2/models/customers/versions/v2/infer", {"inputs": [TENSOR]}, 1),
    "KServe": ("/v1/models/customers:predict", {"instances": [ROW, BAD]}, 1),
    "explanation": ("/v1/models/explain", {"instances": [ROW, BAD]}, 1),
}


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def shadowed(models: Path, grpc_port: int) -> Iterator[Server]:
    """All traffic goes to v1, and is copied to v2; answers are kept."""
    environment = {
        "SHOKADO_WORKERS": "1",
        "SHOKADO_GRPC__PORT": str(grpc_port),
        "SHOKADO_CACHE__BACKEND": "memory",
        "SHOKADO_ENVIRONMENTS__PRODUCTION__WEIGHTS": '{"v1": 1, "v2": 0}',
        "SHOKADO_ENVIRONMENTS__PRODUCTION__SHADOW": "v2",
    }
    with serving(environment=environment) as server:
        yield server


@pytest.mark.parametrize("door", DOORS)
def test_each_door_refuses_the_row_by_its_number_and_the_version(door: str, shadowed: Server) -> None:
    path, body, row = DOORS[door]
    for _ in range(2):  # the second time nothing may come out of a cache
        answer = http.post(f"{shadowed.url}{path}", json=body, headers=PIN, timeout=20)
        assert answer.status_code == 422, answer.text
        assert MESSAGE.format(row) in answer.text
        assert shadowed.metric("shokado_errors_total", version="v2") == 0
    if door in ("native", "plain", "single", "features", "batch", "explanation"):
        error = answer.json()["error"]
        assert (error["code"], error["detail"]) == ("no_score", {"row": row, "version": "v2"})


def test_grpc_refuses_it_as_well(shadowed: Server, grpc_port: int) -> None:
    rows = np.array([ROW, BAD], np.float32)
    request = messages.ModelInferRequest(
        model_name="customers",
        model_version="v2",
        inputs=[{"name": "input", "datatype": "FP32", "shape": rows.shape}],
        raw_input_contents=[rows.tobytes()],
    )
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            call(request, timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert MESSAGE.format(1) in refused.value.details()
    assert dict(refused.value.trailing_metadata())["x-error-code"] == "no_score"


def test_the_client_says_so(shadowed: Server) -> None:
    with Client(shadowed.url) as client, pytest.raises(InvalidRequest, match=MESSAGE.format(1)):
        client.predict([ROW, BAD], version="v2")


def test_it_counts_for_no_version_and_its_rows_are_told_apart(shadowed: Server) -> None:
    before, unscored = (shadowed.metric(name) for name in ("shokado_errors_total", "shokado_unscored_rows_total"))
    http.post(f"{shadowed.url}/v1/models/predict", json={"instances": [BAD, BAD, ROW]}, headers=PIN, timeout=20)
    wait_until(lambda: shadowed.metric("shokado_unscored_rows_total", version="v2") >= unscored + 2)
    wait_until(lambda: shadowed.metric("shokado_errors_total", kind="no_score", fault="client") > 0)
    assert shadowed.metric("shokado_errors_total") > before
    assert shadowed.metric("shokado_errors_total", version="v2") == 0
    assert shadowed.metric("shokado_errors_total", fault="server") == 0


def test_requests_of_others_in_its_batch_are_answered(shadowed: Server) -> None:
    def ask(row: list[float]) -> int:
        answer = http.post(f"{shadowed.url}/v1/models/predict", json={"instances": [row]}, headers=PIN, timeout=20)
        return answer.status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, [[*ROW[:1], float(at), *ROW[2:]] if at % 2 else BAD for at in range(100)]))
    assert statuses == [200 if at % 2 else 422 for at in range(100)]


def test_a_shadow_that_has_no_score_harms_nobody(shadowed: Server) -> None:
    answer = http.post(f"{shadowed.url}/v1/models/predict", json={"instances": [BAD]}, timeout=20)
    assert (answer.status_code, answer.json()["version"]) == (200, "v1"), "its trees have a score"
    wait_until(lambda: shadowed.metric("shokado_shadow_lost_rows_total", why="failed") >= 1)
    assert http.get(f"{shadowed.url}/readyz", timeout=20).status_code == 200


def test_a_version_in_a_service_of_its_own_refuses_it_alike(service_server: Server) -> None:
    for _ in range(30):
        body = {"instances": [BAD]}
        answer = http.post(f"{service_server.url}/v1/models/predict", json=body, headers=PIN, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_score"), answer.text
    assert service_server.metric("shokado_remote_ejections_total", version="v2") == 0
    body = {"instances": [ROW]}
    answer = http.post(f"{service_server.url}/v1/models/predict", json=body, headers=PIN, timeout=20)
    assert answer.json()["version"] == "v2"
