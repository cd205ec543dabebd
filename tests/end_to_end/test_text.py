"""The spam filter on real servers: single messages, batches, splits, hops, caches, shadows, and what is no text."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest

from configuration.settings import EngineChoice
from runners.artefacts.card import read_card
from runners.artefacts.scores import Scores
from runners.engines.engine import open_engine
from runners.inputs.rows import Rows
from shokado.lifecycle.messages import generate_messages
from tests.conftest import HOME, prepare
from tests.support import http
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

NAME = "email_content"
STRANGE = (
    "", " ", "\0", "free\0money", "\n\t\r", "WIN!!! WIN!!! a FREE cruise", "Gr\u00fc\u00dfe, caf\u00e9 \u00c9T\u00c9",
    "\u6771\u4eac\u3078\u3088\u3046\u3053\u305d", "\U0001f4b0 prize \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301\ufeff\u200d\u202e", "\u0661\u0662\u00b2", "{}[]\"'\\", "x" * 100_000, "win a prize " * 8_000,
)  # fmt: skip
MAX_CHARACTERS = 100_000


@pytest.fixture(scope="module")
def spam() -> Path:
    """The folder with both versions of the spam filter."""
    prepare("spam")
    return HOME / "models" / "spam"


@pytest.fixture(scope="module")
def text_server(spam: Path) -> Iterator[Server]:
    with serving(environment={"SHOKADO_MODEL": "spam", "SHOKADO_WORKERS": "1"}) as running:
        yield running


def engine_scores(spam: Path, version: str, texts: list[str]) -> Scores:
    """Each text alone, by the engine itself."""
    folder = spam / version
    engine = open_engine(folder, read_card(folder), EngineChoice.AUTO)
    return np.concatenate([engine.predict(batch_of([text])) for text in texts])


def batch_of(texts: list[str]) -> Rows:
    return np.array(texts, dtype=object).reshape(-1, 1)


def ask(server: Server, instances: Any, **fields: Any) -> httpx.Response:
    return http.post(f"{server.url}/v1/models/predict", json={"instances": instances, **fields}, timeout=60)


def messages(count: int, seed: int = 5) -> list[str]:
    return [str(text) for text in generate_messages(count, seed)[0][:, 0]]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_messages_get_the_scores_of_the_framework(version: str, spam: Path, text_server: Server) -> None:
    card = read_card(spam / version)
    content = ask(text_server, card.examples.rows, version=version).json()
    np.testing.assert_allclose(content["predictions"], card.examples.scores, rtol=0, atol=1e-5)
    assert content["classes"] == [card.classes[int(score >= 0.5)] for score in content["predictions"]]
    assert set(content["classes"]) == {"ham", "spam"}


def test_a_row_is_a_text_a_list_of_it_or_an_object(text_server: Server) -> None:
    text = "Claim your free cruise now!!!"
    content = ask(text_server, [text, [text], {NAME: text}], version="v2").json()
    assert len(set(content["predictions"])) == 1
    for features in (text, [text], {NAME: text}):
        body = {"features": features, "model_version": "v2"}
        one = http.post(f"{text_server.url}/predict", json=body, timeout=20).json()
        assert one["prediction"] == content["predictions"][0]
        assert one["prediction_class"] == "spam"
        assert one["confidence"] == max(one["prediction"], 1 - one["prediction"])


@pytest.mark.parametrize("transport", ["", "?x=1"], ids=["lane", "plain"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_strange_texts_are_scored_as_they_would_be_alone(
    version: str, transport: str, spam: Path, text_server: Server
) -> None:
    expected = engine_scores(spam, version, list(STRANGE))
    body = {"instances": STRANGE, "version": version}
    together = http.post(f"{text_server.url}/v1/models/predict{transport}", json=body, timeout=60)
    assert together.status_code == 200, together.text
    np.testing.assert_allclose(together.json()["predictions"], expected, rtol=0, atol=1e-6)


def test_messages_of_many_clients_travel_in_one_batch(spam: Path, text_server: Server) -> None:
    texts = messages(400)
    expected = engine_scores(spam, "v2", texts)

    def rows() -> float:
        return text_server.metric("shokado_batch_rows_sum", version="v2")

    def batches() -> float:
        return text_server.metric("shokado_batch_rows_count", version="v2")

    rows_before, batches_before = rows(), batches()
    with httpx.Client(limits=httpx.Limits(max_connections=32), timeout=60) as client, ThreadPoolExecutor(32) as pool:

        def score(text: str) -> float:
            body = {"instances": [text], "version": "v2"}
            answer = client.post(f"{text_server.url}/v1/models/predict", json=body)
            return float(answer.json()["predictions"][0])

        def scored_in_company() -> bool:
            np.testing.assert_allclose(list(pool.map(score, texts)), expected, rtol=0, atol=1e-6)
            return batches() - batches_before < rows() - rows_before

        wait_until(scored_in_company, timeout_s=60)


def test_the_split_and_sticky_units_hold_for_texts(text_server: Server) -> None:
    change = {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"}
    http.post(f"{text_server.url}/v1/traffic-split", json=change, timeout=20).raise_for_status()
    answers: dict[int, str] = {}
    for turn in range(2):
        for unit in range(30):
            content = ask(text_server, ["hello"], unit=f"reader-{unit}").json()
            assert content["reason"] == "STICKY"
            assert answers.setdefault(unit, content["version"]) == content["version"], turn
    assert set(answers.values()) == {"v1", "v2"}


def test_feedback_counts_for_a_text(text_server: Server) -> None:
    prediction = ask(text_server, ["win a free cruise"], version="v1").json()["prediction_id"]
    body = {"prediction_id": prediction, "label": "spam"}
    answer = http.post(f"{text_server.url}/v1/feedback", json=body, timeout=20)
    assert answer.status_code in (200, 202), answer.text


BAD: dict[str, tuple[Any, int, str, int | None]] = {
    "a number": (["fine", 5], 422, "not_a_text", 1),
    "a number by name": ([{NAME: 5}], 422, "not_a_text", 0),
    "null": (["fine", "fine", None], 422, "not_a_text", 2),
    "two texts in a row": ([["a", "b"]], 422, "wrong_feature_count", 0),
    "another name": ([{"subject": "a"}], 422, "unknown_feature", 0),
    "no name": ([{}], 422, "missing_feature", 0),
    "a text too long": (["fine", "x" * (MAX_CHARACTERS + 1)], 413, "text_too_long", 1),
    "half a surrogate pair": (["fine", "\ud83d"], 422, "not_unicode", 1),
    "no messages": ([], 422, "no_rows", None),
    "a text for the list": ("fine", 422, "wrong_type", None),
    "too many": (["a"] * 10_001, 413, "too_many_rows", None),
}


@pytest.mark.parametrize("transport", ["", "?x=1"], ids=["lane", "plain"])
@pytest.mark.parametrize(("instances", "status", "code", "row"), BAD.values(), ids=BAD)
def test_what_is_no_text_is_refused(
    instances: Any, status: int, code: str, row: int | None, transport: str, text_server: Server
) -> None:
    body = json.dumps({"instances": instances}).encode()
    url = f"{text_server.url}/v1/models/predict{transport}"
    answer = http.post(url, content=body, headers={"content-type": "application/json"}, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("detail", {}).get("row")) == (status, code, row)


def test_packed_numbers_are_not_understood(text_server: Server) -> None:
    headers = {"content-type": "application/octet-stream"}
    answer = http.post(f"{text_server.url}/v1/models/predict", content=bytes(40), headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_the_description_says_text_and_its_examples_get_answers(text_server: Server) -> None:
    described = http.get(f"{text_server.url}/openapi.json", timeout=20).json()
    assert set(described["paths"]["/v1/models/predict"]["post"]["requestBody"]["content"]) == {"application/json"}
    for path in ("/v1/models/predict", "/predict"):
        content = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            answer = http.post(f"{text_server.url}{path}", json=example["value"], timeout=20)
            assert answer.status_code == 200, answer.text
    (feature,) = http.get(f"{text_server.url}/v1/models/v1", timeout=20).json()["signature"]["features"]
    assert (feature["name"], feature["type"]) == (NAME, "text")


def test_bentoml_clients_send_texts(text_server: Server) -> None:
    with bentoml.SyncHTTPClient(text_server.url) as client:
        for text in ("Win a prize", [" Win a prize"], {NAME: "Win a prize"}):
            assert client.predict(instances=[text], version="v1")["classes"] == ["spam"]
            assert client.predict_one(features=text, model_version="v1")["prediction_class"] == "spam"
        assert client.predict_one(**{NAME: "Win a prize"}, model_version="v1")["prediction_class"] == "spam"
        for field in ("instances", "emails", "texts"):
            batch = client.predict_batch(**{field: ["Win a prize"] * 2}, model_version="v1")
            assert batch["class_counts"] == {"spam": 2}


@pytest.mark.slow
def test_a_version_in_a_service_of_its_own_scores_alike(spam: Path) -> None:
    placed = {"SHOKADO_MODEL": "spam", "SHOKADO_WORKERS": "1", "SHOKADO_VERSIONS__V2__PLACEMENT": "service"}
    texts = [*STRANGE, *messages(300)]
    with serving(environment=placed) as server:
        answer = ask(server, texts, version="v2")
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["predictions"], engine_scores(spam, "v2", texts), rtol=0, atol=1e-6)
        assert http.get(f"{server.url}/v1/models/v2", timeout=20).json()["placement"] == "service"


@pytest.mark.slow
def test_known_texts_come_from_the_cache_and_copies_go_to_the_shadow(spam: Path) -> None:
    wanted = {
        "SHOKADO_MODEL": "spam",
        "SHOKADO_WORKERS": "1",
        "SHOKADO_CACHE__BACKEND": "memory",
        "SHOKADO_ENVIRONMENTS__PRODUCTION__SHADOW": "v2",
    }
    with serving(environment=wanted) as server:
        requests = [["ab"], ["a", "b"], ["a", "b"], [""], ["\0"], ["ab"]]
        answers = [ask(server, texts, version="v1").json()["predictions"] for texts in requests]
        for texts, scores in zip(requests, answers, strict=True):
            np.testing.assert_allclose(scores, engine_scores(spam, "v1", texts), rtol=0, atol=1e-6)
        wait_until(lambda: server.metric("shokado_cache_requests_total", version="v1", outcome="hit") == 2)
        assert server.metric("shokado_cache_requests_total", version="v1", outcome="miss") == 4
        rows = sum(len(texts) for texts in requests)
        wait_until(lambda: server.metric("shokado_shadow_rows_total", shadow="v2") == rows)
