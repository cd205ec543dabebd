"""Unmodified public clients of the Open Inference Protocol, against real servers: Triton's, KServe's and MLServer's.

KServe's speaks version 1 of the protocol as well, which has rows in place of tensors.

KServe and MLServer ask for older libraries than the server has, so their clients live in environments of their own
under `var/test/clients/`; tests that lack one are skipped, and say how to make it.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, prepare
from tests.dialects.cases import NAMES, OTHER_ROW
from tests.support import http
from tests.support.raw_http import near
from tests.support.server import ROW, Server, serving

triton = pytest.importorskip("tritonclient.http", reason="needs a client: uv pip install 'tritonclient[http]'")
triton_aio = pytest.importorskip("tritonclient.http.aio", reason="needs a client: uv pip install 'tritonclient[http]'")
utils = pytest.importorskip("tritonclient.utils", reason="needs a client: uv pip install 'tritonclient[http]'")

CLIENTS = ROOT / "var" / "test" / "clients"
MODEL = "customers"
ROWS = np.array([ROW, OTHER_ROW], dtype=np.float32)


def environment_of(package: str) -> Path:
    """The Python that has a client; skips the test without one."""
    python = CLIENTS / package / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs the client of {package}: make clients")
    return python


@pytest.fixture(params=["server", "plain_server"])
def any_server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def address(any_server: Server) -> str:
    return f"127.0.0.1:{any_server.port}"


def scores_of(server: Server, version: str) -> Any:
    body = {"instances": ROWS.tolist(), "version": version}
    return near(http.post(f"{server.url}/v1/models/predict", json=body, timeout=20).json()["predictions"])


def tensor(name: str, datatype: str, values: Any, *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def matrix(*, binary: bool = True) -> list[Any]:
    return [tensor("input", "FP32", ROWS, binary=binary)]


def columns(*, binary: bool = True) -> list[Any]:
    """A tensor for each feature, of all kinds of datatypes that hold the values."""
    kinds = ["FP64", "FP32", "FP16", "INT64", "INT32", "FP64", "UINT8", "BOOL", "INT16", "UINT16"]
    made = []
    for at, (name, kind) in enumerate(zip(NAMES, kinds, strict=True)):
        datatype = kind if binary or kind != "FP16" else "FP32"
        values = ROWS[:, at].astype(utils.triton_to_np_dtype(datatype)).reshape((2, 1) if at % 2 else (2,))
        made.append(tensor(name, datatype, values, binary=binary))
    return made


@pytest.mark.parametrize("layout", [matrix, columns])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_triton_gets_the_scores_of_the_native_route(
    any_server: Server, address: str, layout: Any, binary: bool
) -> None:
    with triton.InferenceServerClient(address) as client:
        for version in ("v1", "v2"):
            asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("predictions", "classes")]
            answer = client.infer(MODEL, layout(binary=binary), model_version=version, outputs=asked, request_id="7")
            assert answer.as_numpy("predictions").tolist() == scores_of(any_server, version)
            assert answer.as_numpy("classes").dtype == np.int64
            content = answer.get_response()
            assert (content["id"], content["model_version"], content["model_name"]) == ("7", version, MODEL)
            assert content["parameters"]["reason"] == "PINNED"
            feedback = {"prediction_id": content["parameters"]["prediction_id"], "reward": 1}
            assert http.post(f"{any_server.url}/v1/feedback", json=feedback, timeout=20).status_code < 300


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_triton_asks_for_the_best_classes(any_server: Server, address: str, binary: bool) -> None:
    scores = scores_of(any_server, "v1").expected
    with triton.InferenceServerClient(address) as client:
        for top in (1, 2, 7):
            asked = [triton.InferRequestedOutput("predictions", binary_data=binary, class_count=top)]
            found = client.infer("v1", matrix(binary=binary), outputs=asked).as_numpy("predictions")
            assert found.shape == (2, min(top, 2))
            for texts, score in zip(found, scores, strict=True):
                first = texts[0].decode() if binary else texts[0]
                value, index, _ = first.split(":")
                assert [float(value)] == near([max(score, 1 - score)])
                assert int(index) == int(score > 0.5)
        for name, top in (("predictions", -1), ("classes", 1)):
            asked = [triton.InferRequestedOutput(name, binary_data=binary, class_count=top)]
            with pytest.raises(utils.InferenceServerException, match=f"output '{name}'"):
                client.infer("v1", matrix(binary=binary), outputs=asked)
        shared = triton.InferRequestedOutput("predictions")
        shared.set_shared_memory("mine", 8)
        with pytest.raises(utils.InferenceServerException, match="shared memory is not served"):
            client.infer("v1", matrix(binary=binary), outputs=[shared])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_triton_may_compress_what_it_asks(any_server: Server, address: str, binary: bool, coding: str) -> None:
    with triton.InferenceServerClient(address) as client:
        answer = client.infer("v1", matrix(binary=binary), request_compression_algorithm=coding)
        assert answer.as_numpy("predictions").tolist() == scores_of(any_server, "v1")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_tritons_asyncio_client_gets_them_too(any_server: Server, address: str, binary: bool) -> None:
    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready(MODEL, "b")
            layouts = [matrix(binary=binary), columns(binary=binary)] * 10
            return list(await asyncio.gather(*(client.infer("b", inputs) for inputs in layouts)))

    expected = scores_of(any_server, "v2")
    for answer in asyncio.run(ask()):
        assert answer.as_numpy("predictions").tolist() == expected
        assert answer.get_response()["outputs"][0]["parameters"]["binary_data_size"] == 8


def test_triton_many_rows_at_once(any_server: Server, address: str) -> None:
    rows = np.tile(ROWS, (500, 1))
    with triton.InferenceServerClient(address, concurrency=4) as client:
        under_way = [client.async_infer("v1", [tensor("x", "FP32", rows)]) for _ in range(8)]
        for one in under_way:
            scores = one.get_result().as_numpy("predictions")
            assert scores.shape == (1000,)
            assert scores[:2].tolist() == scores_of(any_server, "v1")


def test_triton_loads_and_unloads_versions(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        client.load_model("v1")
        with pytest.raises(utils.InferenceServerException, match="active"):
            client.unload_model("v1")
        with pytest.raises(utils.InferenceServerException, match="name the version"):
            client.load_model(MODEL)


def test_triton_is_told_what_there_is(any_server: Server, address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "v1")
        assert client.is_model_ready("a")
        assert not client.is_model_ready("cats")
        server = client.get_server_metadata()
        assert (server["name"], "binary_tensor_data" in server["extensions"]) == ("shokado", True)
        model = client.get_model_metadata(MODEL)
        assert model["versions"] == ["v1", "v2"]
        assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, len(NAMES)]}]
        assert [output["name"] for output in model["outputs"]] == ["predictions", "classes"]
        assert client.get_model_metadata(MODEL, "b")["versions"] == ["v2"]
        index = client.get_model_repository_index()
        assert [(entry["version"], entry["state"]) for entry in index] == [("v1", "READY"), ("v2", "READY")]
        for name in ("predictions", "classes"):
            found = next(output for output in model["outputs"] if output["name"] == name)
            asked = [triton.InferRequestedOutput(name)]
            answer = client.infer(MODEL, matrix(), outputs=asked)
            assert [output["name"] for output in answer.get_response()["outputs"]] == [name]
            assert answer.get_output(name)["datatype"] == found["datatype"]


def test_triton_is_split_by_its_unit_like_anybody(any_server: Server, address: str) -> None:
    sticky = {"X-Unit-ID": "customer-1", "X-Environment": "production"}
    with triton.InferenceServerClient(address) as client:
        versions = {
            client.infer(MODEL, matrix(), headers=dict(sticky)).get_response()["model_version"] for _ in range(5)
        }
        assert versions <= {"v1", "v2"}
        staging = client.infer(MODEL, matrix(), headers={"X-Environment": "staging"}).get_response()
        assert staging["model_version"] == "v2"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no model": ({"model_name": "cats"}, "404", "unknown version 'cats'"),
    "no version": ({"model_version": "v9"}, "404", "unknown version 'v9'"),
    "two versions": ({"model_name": "v1", "model_version": "v2"}, "400", "another version"),
    "too narrow": ({"inputs": [tensor("input", "FP32", ROWS[:, :5])]}, "422", "'input' has shape [2, 5]"),
    "a NaN": ({"inputs": [tensor("input", "FP32", ROWS * np.float32("nan"))]}, "422", "row 0, feature 'age'"),
    "no output": ({"outputs": [triton.InferRequestedOutput("logits")]}, "400", "'logits'"),
    "too many rows": ({"inputs": [tensor("x", "INT8", np.zeros((10_001, 10), np.int8))]}, "413", "10000"),
    "a text": ({"inputs": [tensor("x", "BYTES", np.full((1, 10), "1", object))]}, "422", "row 0, feature 'age'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_triton_is_refused_in_words(any_server: Server, address: str, name: str) -> None:
    changes, status, says = REFUSED[name]
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(utils.InferenceServerException) as refused:
            client.infer(**({"model_name": MODEL, "inputs": matrix()} | changes))
        assert (refused.value.status(), says in refused.value.message()) == (status, True), refused.value
        assert client.infer("v1", matrix()).as_numpy("predictions").tolist() == scores_of(any_server, "v1")


def test_triton_may_offer_to_take_compressed_answers(any_server: Server, address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        answer = client.infer("v1", matrix(), response_compression_algorithm="gzip")
        assert answer.as_numpy("predictions").tolist() == scores_of(any_server, "v1")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/customers/infer", 405),
        ("PUT", "/v2/models/customers/versions/v1/infer", 405),
        ("GET", "/v2/models/customers/config", 404),
        ("DELETE", "/v2/models/customers", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_other_routes_and_methods_are_errors_of_the_protocol(
    any_server: Server, method: str, path: str, status: int
) -> None:
    answer = http.request(method, any_server.url + path, timeout=20)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert status != 405 or answer.headers["allow"]
    assert answer.headers["x-request-id"]


@pytest.fixture(scope="module")
def text_server(models: Path) -> Iterator[Server]:
    prepare("spam")
    with serving(environment={"SHOKADO_MODEL": "spam", "SHOKADO_WORKERS": "1"}) as running:
        yield running


def test_triton_sends_texts(text_server: Server) -> None:
    texts = ["WIN a free cruise", "Gr\u00fc\u00dfe, \u6771\u4eac", ""]
    body = {"instances": texts, "version": "v1"}
    native = http.post(f"{text_server.url}/v1/models/predict", json=body, timeout=20).json()
    with triton.InferenceServerClient(f"127.0.0.1:{text_server.port}") as client:
        (described,) = client.get_model_metadata("spam")["inputs"]
        assert (described["datatype"], described["shape"]) == ("BYTES", [-1])
        for shape in ((3,), (3, 1)):
            for binary in (True, False):
                values = np.array([text.encode() for text in texts], object).reshape(shape)
                asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("classes", "predictions")]
                inputs = [tensor(described["name"], "BYTES", values, binary=binary)]
                answer = client.infer("spam", inputs, model_version="v1", outputs=asked)
                assert answer.as_numpy("predictions").tolist() == near(native["predictions"])
                labels = answer.as_numpy("classes").tolist()
                assert [one.decode() if isinstance(one, bytes) else one for one in labels] == native["classes"]
        with pytest.raises(utils.InferenceServerException, match="where a text belongs"):
            client.infer("spam", [tensor("x", "FP32", ROWS[:, :1])])


@pytest.fixture
def told_to_kserve(any_server: Server) -> Any:
    """What KServe's client was told, by version of its protocol."""
    python = environment_of("kserve")
    asked = {
        "url": any_server.url,
        "model": "v1",
        "rows": ROWS.tolist(),
        "columns": dict(zip(NAMES, ROWS.T.tolist(), strict=True)),
    }
    program = Path(__file__).with_name("kserve_calls.py")
    done = subprocess.run(
        [python, program], input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_kserves_client_predicts_and_asks_for_health(any_server: Server, told_to_kserve: Any) -> None:
    expected = scores_of(any_server, "v1")
    rows, tensors = told_to_kserve["v1"], told_to_kserve["v2"]
    assert rows["live"] is True
    for name in ("v1", "customers"):
        assert rows[name] == {"ready": True, "predictions": expected}
    for name in ("unknown ready", "unknown"):
        assert "404 Not Found" in rows[name]
        assert "unknown version 'cats'" in rows[name]
    assert "row 0 has 1 values" in rows["too narrow"]
    assert [tensors[name] for name in ("live", "ready", "model ready", "unknown ready")] == [True, True, True, False]
    for name in ("json", "binary", "columns", "binary outputs"):
        assert (tensors[name]["id"], tensors[name]["reason"]) == ("7", "PINNED")
        assert tensors[name]["outputs"]["predictions"] == expected, name
        assert len(tensors[name]["outputs"]["classes"]) == 2
    assert list(tensors["one output"]["outputs"]) == ["classes"]
    assert "unknown version 'cats'" in tensors["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--binary-data"]], ids=["JSON", "binary"])
def test_mlservers_client_predicts(any_server: Server, tmp_path: Path, mode: list[str]) -> None:
    python = environment_of("mlserver")
    asked, told = tmp_path / "asked.jsonl", tmp_path / "told.jsonl"
    made = {"name": "input", "shape": [2, 10], "datatype": "FP32", "data": ROWS.tolist()}
    asked.write_text("".join(json.dumps({"id": str(number), "inputs": [made]}) + "\n" for number in range(20)))
    url = f"127.0.0.1:{any_server.port}"
    command = [str(python.with_name("mlserver")), "infer", "-u", url, "-m", "v1", "-w", "2", *mode]
    done = subprocess.run(
        [*command, "-i", str(asked), "-o", str(told)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in told.read_text().splitlines()]
    assert len(answers) == 20, done.stderr
    expected = scores_of(any_server, "v1")
    for answer in answers:
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert (outputs["predictions"], answer["model_version"]) == (expected, "v1")
