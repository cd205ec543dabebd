"""What REST and gRPC tell of the same worker's models: the same names, tensors and readiness, and the same refusals."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from configuration.settings import GrpcSettings, LimitSettings
from runners.artefacts.card import Card
from runners.version_state import VersionState
from shokado.dialects.error_codes import ERROR_CODES
from shokado.dispatch.observers import Observers
from shokado.lifecycle.datasets import NAMES, load
from shokado.transports.call import Entrance
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE, GrpcServer
from shokado.worker.readiness import served_models
from tests.control.site import Site
from tests.support.cards import card_content
from tests.support.server import free_port

NAMED = ("paper", "v2", "b", "paper/versions/b", "a/versions/v1")
REFUSED = ("cats", "paper/versions/v9", "v9/versions/v1", "v1/versions/v2")


def example_card(name: str) -> Card:
    """The card that a version trained with this data set would have, but for its files and scores."""
    found = load(name)
    row = found.train.rows[0]
    score = [1.0] + [0.0] * (len(found.classes) - 1) if len(found.classes) > 2 else 0.5
    examples = {"rows": [list(row) if found.row_format.text_field is None else str(row[0])], "scores": [score]}
    features = [feature.model_dump(exclude_none=True) for feature in found.features]
    return Card.model_validate(
        card_content(found.task, features=features, classes=list(found.classes), examples=examples)
    )


class Both:
    """A site's first worker over REST and over gRPC; a refusal is its status and its words."""

    def __init__(self, site: Site) -> None:
        self.site, worker = site, site.workers[0]
        self.port = free_port()
        models = served_models(site.settings, worker.parts)
        entrance = Entrance(worker.dispatcher, Observers(lambda *_: None), worker.ids)
        self.server = GrpcServer(GrpcSettings(port=self.port), LimitSettings(), models, worker.cards["v1"], entrance)

    def metadata(self, path: str) -> tuple[Any, Any]:
        rest, grpc_ = self._over_rest(f"/models/{path}"), self._over_grpc("ModelMetadata", path)
        return rest, grpc_ if isinstance(grpc_, tuple) else read_metadata(grpc_)

    def readiness(self, path: str) -> tuple[Any, Any]:
        rest, grpc_ = self._over_rest(f"/models/{path}/ready"), self._over_grpc("ModelReady", path)
        return (rest, grpc_) if isinstance(grpc_, tuple) else (rest["ready"], grpc_.ready)

    def server_readiness(self) -> tuple[bool, bool]:
        return self._over_rest("/health/ready")["ready"], self._over_grpc("ServerReady").ready

    def server_metadata(self) -> tuple[Any, Any]:
        rest, grpc_ = self._over_rest(""), self._over_grpc("ServerMetadata")
        return rest, {"name": grpc_.name, "version": grpc_.version, "extensions": list(grpc_.extensions)}

    def _over_rest(self, path: str) -> Any:
        answer = self.site.ask("GET", f"/v2{path}")
        content = answer.json()
        return (answer.status_code, content["error"]) if "error" in content else content

    def _over_grpc(self, method: str, path: str = "") -> Any:
        name, _, version = path.partition("/versions/")
        request = getattr(messages, f"{method}Request")(**({"name": name, "version": version} if name else {}))
        return self.site.run(self._answer(method, request))

    async def _answer(self, method: str, request: Any) -> Any:
        read = getattr(messages, f"{method}Response").FromString
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            ask = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=read)
            try:
                return await ask(request.SerializeToString(), timeout=20)
            except grpc.aio.AioRpcError as error:
                code = ERROR_CODES[dict(error.trailing_metadata() or ())["x-error-code"]]
                return code.status if error.code().name == code.grpc else error.code(), error.details()


def read_metadata(answer: Any) -> dict[str, Any]:
    """As REST spells it."""
    tensors = {
        side: [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in getattr(answer, side)]
        for side in ("inputs", "outputs")
    }
    return {"name": answer.name, "versions": list(answer.versions), "platform": answer.platform, **tensors}


@pytest.fixture
def both(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    made = Both(site)
    site.run(made.server.start())
    yield made
    site.run(made.server.stop())


@pytest.mark.parametrize("data_set", NAMES)
def test_every_example_takes_and_gives_the_same_tensors(both: Both, data_set: str) -> None:
    card = example_card(data_set)
    for runner in both.site.workers[0].dispatcher.runners.values():
        runner.card = card
    for path in NAMED:
        rest, grpc_ = both.metadata(path)
        assert rest == grpc_
        takes = (card.feature_names[0], "BYTES") if card.input_datatype == "BYTES" else ("input", "FP32")
        assert [(one["name"], one["datatype"]) for one in rest["inputs"]] == [takes]
        assert [one["name"] for one in rest["outputs"]] == ["predictions", *["classes"] * bool(card.classes)]


@pytest.mark.parametrize("path", REFUSED)
def test_a_name_that_means_nothing_or_two_things_is_refused_in_the_same_words(both: Both, path: str) -> None:
    for rest, grpc_ in (both.metadata(path), both.readiness(path)):
        assert rest == grpc_
        assert rest[0] == (400 if path == "v1/versions/v2" else 404)


def test_readiness_is_the_same(both: Both) -> None:
    worker = both.site.workers[0]
    asked: list[Callable[[], Any]] = [both.server_readiness, *(partial(both.readiness, path) for path in NAMED)]
    assert [ask() for ask in asked] == [(True, True)] * 6
    worker.dispatcher.runners["v2"].state = VersionState.FAILED
    assert [ask() for ask in asked] == [(False, False)] * 5 + [(True, True)]


def test_without_a_version_in_memory_there_is_nothing_to_tell(both: Both) -> None:
    dispatcher = both.site.workers[0].dispatcher
    dispatcher.adopt(dispatcher.state, {})
    assert both.metadata("paper") == ((503, "no version is in memory"),) * 2


def test_the_server_is_the_same_but_for_what_only_rest_has(both: Both) -> None:
    rest, grpc_ = both.server_metadata()
    assert {**rest, "extensions": None} == {**grpc_, "extensions": None}
    assert set(grpc_["extensions"]) < set(rest["extensions"])
