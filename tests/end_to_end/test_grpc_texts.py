"""The spam filter over gRPC: texts as raw and as typed contents, their labels, and what is no text."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from runners.artefacts.card import read_card
from runners.inputs.datatypes import to_bytes
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.conftest import HOME, prepare
from tests.end_to_end import triton_calls
from tests.end_to_end.test_grpc import infer, needs_triton
from tests.end_to_end.test_text import MAX_CHARACTERS, NAME, STRANGE, ask, engine_scores
from tests.end_to_end.test_text import messages as made_messages
from tests.end_to_end.triton_calls import Infer
from tests.support.server import Server, free_port, serving

pytestmark = pytest.mark.slow

VERSIONS = ("v1", "v2")


@dataclass(frozen=True)
class TextEntrance:
    """A server of texts, and a client of its gRPC entrance."""

    server: Server
    address: str
    channel: Any
    folder: Path

    def labels(self, version: str, scores: Any) -> list[str]:
        classes = read_card(self.folder / version).classes
        return [str(classes[int(score >= 0.5)]) for score in scores]


@pytest.fixture(scope="module")
def texts() -> Iterator[TextEntrance]:
    prepare("spam")
    address = f"127.0.0.1:{(port := free_port())}"
    environment = {"SHOKADO_MODEL": "spam", "SHOKADO_WORKERS": "1", "SHOKADO_GRPC__PORT": str(port)}
    with serving(environment=environment) as server, grpc.insecure_channel(address) as channel:
        yield TextEntrance(server, address, channel, HOME / "models" / "spam")


def raw_request(texts: list[str], version: str, *sides: int) -> Any:
    tensor = {"name": NAME, "datatype": "BYTES", "shape": (len(texts), *sides)}
    made = messages.ModelInferRequest(model_name="spam", model_version=version, inputs=[tensor])
    made.raw_input_contents.append(to_bytes("BYTES", texts))
    return made


def typed_request(texts: list[str], version: str, *sides: int) -> Any:
    made = raw_request(texts, version, *sides)
    del made.raw_input_contents[:]
    made.inputs[0].contents.bytes_contents.extend(text.encode() for text in texts)
    return made


def read(answer: Any) -> tuple[list[float], list[str]]:
    """Scores and labels, in the layout that they came in."""
    scores, labels = answer.outputs
    assert (scores.name, scores.datatype, labels.name, labels.datatype) == ("predictions", "FP32", "classes", "BYTES")
    assert list(scores.shape) == list(labels.shape)
    if not answer.raw_output_contents:
        return list(scores.contents.fp32_contents), [label.decode() for label in labels.contents.bytes_contents]
    packed, data = answer.raw_output_contents
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:end].decode())
        data = data[end:]
    return np.frombuffer(packed, "<f4").tolist(), found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sides", [(), (1,)], ids=["rows", "rows x 1"])
@pytest.mark.parametrize("request_of", [raw_request, typed_request])
def test_texts_get_the_scores_of_the_engine_and_the_right_labels(
    request_of: Any, sides: tuple[int, ...], version: str, texts: TextEntrance
) -> None:
    asked = [*STRANGE, *made_messages(200)]
    answer = infer(texts.channel)(request_of(asked, version, *sides), timeout=60)
    assert answer.model_version == version
    assert bool(answer.raw_output_contents) == (request_of is raw_request)
    scores, labels = read(answer)
    expected = engine_scores(texts.folder, version, asked)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert labels == texts.labels(version, expected)
    assert set(labels) == {"ham", "spam"}


@needs_triton
def test_the_public_client_sends_and_reads_texts(texts: TextEntrance) -> None:
    asked = made_messages(50)
    calls = [Infer([(NAME, "BYTES", np.array(asked, dtype=object))], model="spam", version=name) for name in VERSIONS]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        answers = pool.submit(triton_calls.infer, texts.address, calls).result(60)
    for version, answer in zip(VERSIONS, answers, strict=True):
        by_http = ask(texts.server, asked, version=version).json()
        assert answer.code == "OK", answer.message
        assert answer.outputs["predictions"] == by_http["predictions"]
        assert [label.decode() for label in answer.outputs["classes"]] == by_http["classes"]


def test_metadata_says_texts(texts: TextEntrance) -> None:
    method = texts.channel.unary_unary(
        f"/{SERVICE}/ModelMetadata",
        messages.ModelMetadataRequest.SerializeToString,
        messages.ModelMetadataResponse.FromString,
    )
    found = method(messages.ModelMetadataRequest(name="spam"), timeout=20)
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [(NAME, "BYTES", [-1])]
    assert [(one.name, one.datatype) for one in found.outputs] == [("predictions", "FP32"), ("classes", "BYTES")]


def bad(datatype: str, shape: list[int], raw: bytes | None = None, **contents: Any) -> Any:
    tensor = {"name": NAME, "datatype": datatype, "shape": shape, "contents": contents}
    raws = [] if raw is None else [raw]
    return messages.ModelInferRequest(model_name="spam", inputs=[tensor], raw_input_contents=raws)


BAD = {
    "numbers": (bad("FP32", [1], fp32_contents=[1]), "not_a_text"),
    "raw numbers": (bad("INT64", [2, 1], bytes(16)), "not_a_text"),
    "numbers in place of texts": (bad("BYTES", [1], fp32_contents=[1]), "malformed_tensor"),
    "texts in place of numbers": (bad("FP32", [1], bytes_contents=[b"a"]), "malformed_tensor"),
    "no UTF-8": (bad("BYTES", [1], bytes_contents=[b"\xff"]), "malformed_tensor"),
    "raw and no UTF-8": (bad("BYTES", [1], b"\x01\0\0\0\xff"), "malformed_tensor"),
    "a length beyond the data": (bad("BYTES", [1], b"\xff\xff\xff\xffa"), "malformed_tensor"),
    "two texts in a row": (bad("BYTES", [1, 2], bytes_contents=[b"a", b"b"]), "wrong_feature_count"),
    "a text too long": (typed_request(["fine", "x" * (MAX_CHARACTERS + 1)], ""), "text_too_long"),
    "a raw text too long": (raw_request(["fine", "x" * (MAX_CHARACTERS + 1)], ""), "text_too_long"),
}


@pytest.mark.parametrize(("wrong", "code"), BAD.values(), ids=BAD)
def test_what_is_no_text_is_refused_by_the_inputs_name(wrong: Any, code: str, texts: TextEntrance) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(texts.channel)(wrong, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["x-error-code"] == code
    assert repr(NAME) in caught.value.details()


def test_a_text_too_long_is_refused_in_the_words_of_http(texts: TextEntrance) -> None:
    long = ["fine", "x" * (MAX_CHARACTERS + 1)]
    by_http = ask(texts.server, long).json()["error"]
    with pytest.raises(grpc.RpcError) as caught:
        infer(texts.channel)(raw_request(long, ""), timeout=20)
    assert caught.value.details() == by_http["message"]
    assert dict(caught.value.trailing_metadata())["x-error-code"] == by_http["code"]
