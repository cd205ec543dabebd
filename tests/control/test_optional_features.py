"""Versions of different features behind one worker: whose row is whose, what is told of them, and the split's guard."""

import asyncio
import json
import time
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.stores.store import Tally, WorkerReport
from shokado.transports.call import PredictionHandler
from shokado.worker import readiness
from tests.control.site import Site, open_site, settings
from tests.support.problems import code_of
from tests.support.waiting import until
from tests.transports.memory_exchange import MemoryExchange

SPLIT = "/v1/traffic-split"
DEEP: dict[str, Any] = {
    "features": [{"name": "depth"}, {"name": "width"}, {"name": "count", "type": "integer"}],
    "examples": {"rows": [[0.5, 1.0, 2.0]], "scores": [0.5]},
}
"""A version that takes a feature more, before those of the others, and scores by it alone."""
V2_ALONE = {"active": "v1", "weights": {"v1": 1}}


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """v1 and v2 take width and count; v3 takes depth as well, and has no traffic."""
    chosen = settings(environments={"production": V2_ALONE, "staging": V2_ALONE})
    with open_site(tmp_path, chosen) as opened:
        opened.join(own={"v3": DEEP})
        yield opened


def ask(site: Site, body: Any, dialect: Any = Native, worker: int = 0, **head: Any) -> MemoryExchange:
    """An answer of the dialect, through the parts that a transport calls."""
    parts = site.workers[worker].worker
    exchange = MemoryExchange()
    handler = PredictionHandler(parts.entrance, dialect(parts.dispatcher.row_format))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer() -> None:
        handler.begin(RequestHead(**head), content, exchange)
        await until(lambda: exchange.status is not None)

    site.run(answer())
    return exchange


def score(value: float) -> float:
    return 1 / (1 + exp(-value))


def named(**more: float) -> dict[str, float]:
    return {"width": 0.25, "count": 3, **more}


def test_a_version_scores_its_own_columns(site: Site) -> None:
    """Paper models score the first of their columns."""
    for version, first in (("v1", 0.25), ("v2", 0.25), ("v3", -1.5)):
        answer = ask(site, {"instances": [named(depth=-1.5)], "version": version})
        assert (answer.status, answer.json["version"]) == (200, version)
        assert answer.json["predictions"] == [pytest.approx(score(first), abs=1e-6)]


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        (Native, {"instances": [named()]}, lambda content: content["error"]["message"]),
        (KServeV1, {"instances": [named()]}, lambda content: content["error"]),
        (MLflow, {"dataframe_records": [named()]}, lambda content: content["message"]),
        (
            OpenInference,
            {"inputs": [{"name": name, "datatype": "FP32", "shape": [1], "data": [1]} for name in ("width", "count")]},
            lambda content: content["error"],
        ),
    ],
)
def test_a_lack_is_a_422_that_names_version_and_feature(site: Site, dialect: Any, body: Any, message: Any) -> None:
    answer = ask(site, body, dialect, pins=("v3",))
    assert answer.status == 422
    assert message(answer.json).startswith("version v3: ")
    assert "'depth'" in message(answer.json)


def test_particulars_are_for_programs(site: Site) -> None:
    error = ask(site, {"instances": [named(depth=1), named()]}, pins=("v3",)).json["error"]
    assert error["code"] == "missing_feature"
    assert error["detail"] == {"row": 1, "feature": "depth", "version": "v3"}


def test_a_row_that_its_version_refuses_is_given_to_no_other(site: Site) -> None:
    assert site.post(SPLIT, {"v3": 1, "v1": 0}).status_code == 200
    answer = ask(site, {"instances": [named()]})
    assert (answer.status, answer.json["error"]["code"]) == (422, "missing_feature")


def test_lists_go_on_for_those_that_agree_and_are_never_another_versions(site: Site) -> None:
    assert ask(site, {"instances": [[0.25, 3]]}).json["version"] == "v1"
    assert ask(site, {"instances": [[0.25, 3]]}, pins=("v2",)).status == 200
    own = ask(site, {"instances": [[-1.5, 0.25, 3]]}, pins=("v3",)).json
    assert own["predictions"] == [pytest.approx(score(-1.5), abs=1e-6)]
    site.post(SPLIT, {"weights": {"v3": 1, "v1": 0}, "force": True})
    assert ask(site, {"instances": [[-1.5, 0.25, 3]]}).json["error"]["code"] == "names_needed"
    packed = np.array([[-1.5, 0.25, 3]], "<f4").tobytes()
    refused = ask(site, packed, content_type=b"application/octet-stream")
    assert refused.json["error"]["code"] == "names_needed"


def test_what_each_version_takes_is_told(site: Site) -> None:
    content = site.get("/v1/models")
    assert content["optional_features"] == [{"name": "depth", "versions": ["v3"]}]
    features = {one["version"]: [each["name"] for each in one["signature"]["features"]] for one in content["versions"]}
    assert features == {"v1": ["width", "count"], "v2": ["width", "count"], "v3": ["depth", "width", "count"]}
    by_version = site.get("/v2/models/paper/versions/v3")["inputs"]
    assert by_version == [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]
    of_all = site.get("/v2/models/paper")["inputs"]
    assert of_all == [{"name": name, "datatype": "FP32", "shape": [-1]} for name in ("width", "count", "depth")]
    form = site.get("/v1/dashboard")["form"]
    assert form["takes"].startswith("rows by name, of 3 features")
    assert form["instance"]["depth"] == 0.0, "its example is for every version"


def test_versions_that_agree_have_no_optional_features(tmp_path: Path) -> None:
    with open_site(tmp_path) as opened:
        opened.join()
        assert opened.get("/v1/models")["optional_features"] == []


def compared(site: Site, shadow: str) -> Any:
    """What the status says of the copies for a shadow."""
    worker = site.workers[0]
    site.run(worker.worker._flush())
    site.run(worker.parts.tally())
    return site.get("/ab-test/status")["versions"][shadow]["shadow"]


def test_a_shadow_gets_its_own_columns_and_skips_rows_that_lack_them(site: Site) -> None:
    site.post(SPLIT, {"shadow": "v3"})
    ask(site, {"instances": [named()] * 2})
    ask(site, {"instances": [[0.25, 3]]})
    ask(site, {"instances": [named(depth=0.75)]})
    while not (found := compared(site, "v3")) or not found["rows"]:
        pass
    assert (found["rows"], found["skipped_rows"], found["dropped_rows"]) == (1, 3, 0)
    assert found["mean_difference"] == pytest.approx(score(0.75) - score(0.25), abs=1e-6)


def test_lists_in_the_order_of_a_version_that_is_named_are_no_shadows(site: Site) -> None:
    site.post(SPLIT, {"shadow": "v1"})
    ask(site, {"instances": [[-1.5, 0.25, 3]]}, pins=("v3",))
    while not (found := compared(site, "v1")):
        pass
    assert (found["rows"], found["skipped_rows"]) == (0, 1)


def refused(site: Site, body: Any, path: str = SPLIT) -> str:
    answer = site.post(path, body)
    assert (answer.status_code, code_of(answer)) == (409, "features_lacking"), answer.text
    message: str = answer.json()["error"]["message"]
    return message


def test_traffic_that_lacks_what_a_version_needs_is_not_given_to_it(site: Site) -> None:
    ask(site, {"instances": [named(), named(), named(depth=1)]})
    message = refused(site, {"v1": 9, "v3": 1})
    assert message == (
        "version v3 would refuse traffic: it needs the feature 'depth', and 1 of 3 rows seen in the last 10 minutes "
        "had it; send what it needs first, or force the change"
    )
    assert "'depth'" in refused(site, {"weights": {"v3": 1, "v1": 0}, "active": "v3"})
    assert "'depth'" in refused(site, None, "/models/v3/activate")
    assert "'depth'" in refused(site, {"models": ["v1", "v3"], "split_ratio": 0.5}, "/ab-test/configure")
    detail = site.post(SPLIT, {"v1": 9, "v3": 1}).json()["error"]["detail"]
    assert detail == {"version": "v3", "environment": "production", "feature": "depth", "rows": 3, "lacking": 2}
    assert site.post(SPLIT, {"shadow": "v3"}).status_code == 200, "a shadow skips them"
    assert site.post(SPLIT, {"v1": 9, "v2": 1}).status_code == 200, "v2 lacks nothing"
    assert site.post(SPLIT, {"environment": "staging", "weights": {"v1": 9, "v3": 1}}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SPLIT, {"weights": {"v1": 9, "v3": 1}, "force": True}),
        ("/models/v3/activate", {"force": True}),
        ("/ab-test/configure", {"models": ["v1", "v3"], "split_ratio": 0.5, "force": True}),
    ],
)
def test_it_can_be_forced_and_taken_back(site: Site, path: str, body: Any) -> None:
    ask(site, {"instances": [named()]})
    assert site.post(path, body).status_code == 200
    if path == SPLIT:
        assert "'depth'" in refused(site, {"v1": 5, "v3": 5}), "more of it is asked about again"
        assert site.post(SPLIT, {"v1": 95, "v3": 5}).status_code == 200, "less of it is not"
        assert site.post(SPLIT, {"v1": 1, "v3": 0}).status_code == 200


def test_a_rollback_is_the_way_back_whatever_the_traffic(site: Site) -> None:
    site.post(SPLIT, {"v1": 1, "v3": 1})
    site.post(SPLIT, {"v1": 1, "v3": 0})
    ask(site, {"instances": [named()]})
    assert site.post(f"{SPLIT}/rollback", {"generation": 2}).status_code == 200


def test_rows_without_names_count_against_versions_that_cannot_read_them(site: Site) -> None:
    ask(site, {"instances": [[0.25, 3]] * 4})
    ask(site, {"instances": [named(depth=1)]})
    assert "1 of 5 rows seen in the last 10 minutes had it" in refused(site, {"v1": 9, "v3": 1})


def test_rows_that_name_their_version_do_not_count(site: Site) -> None:
    ask(site, {"instances": [named()]}, pins=("v1",))
    assert site.post(SPLIT, {"v1": 9, "v3": 1}).status_code == 200


def test_what_another_worker_saw_counts(site: Site) -> None:
    site.join(own={"v3": DEEP})
    ask(site, {"instances": [named()]}, worker=1)
    site.run(site.workers[1].parts.tally())
    assert "0 of 1 rows" in refused(site, {"v1": 9, "v3": 1})
    assert site.workers[1].worker.dispatcher.seen.flush() == {}


def other_worker(site: Site, heard: tuple[str, ...]) -> WorkerReport:
    versions = site.workers[0].fleet.versions()
    return WorkerReport("other", "elsewhere", 7, 1, time.time(), versions, heard=heard)


async def tell(site: Site, method: str, *arguments: Any) -> None:
    """The store what another worker tells it."""
    follower = site.workers[0].follower
    await follower.ask(getattr(follower.store, method), *arguments)


def test_a_worker_that_has_yet_to_tell_what_it_saw_is_waited_for(site: Site) -> None:
    async def change() -> Any:
        await tell(site, "report", other_worker(site, ("v1", "v2")), 60)
        changing = asyncio.create_task(site.workers[0].client.post(SPLIT, json={"v1": 9, "v3": 1}))
        assert (await asyncio.wait({changing}, timeout=0.5))[0] == set()
        seen = {"seen_rows": 2.0, "seen_known:depth": 2.0, "seen_lacking:depth": 2.0}
        counts = {Tally("", "production", name): number for name, number in seen.items()}
        await tell(site, "add", counts, time.time())
        await tell(site, "report", other_worker(site, ("v1", "v2", "v3")), 60)
        return await changing

    answer = site.run(change())
    assert (answer.status_code, code_of(answer)) == (409, "features_lacking"), answer.text
    assert "0 of 2 rows" in answer.text


def test_what_a_worker_does_not_tell_is_not_taken_for_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_HEARD_WITHIN_S", 0.0)
    site.run(tell(site, "report", other_worker(site, ()), 60))
    answer = site.post(SPLIT, {"v1": 9, "v3": 1})
    assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")
    assert "worker 7 on elsewhere does not tell what the rows lack that it sees; " in answer.text
    assert "nothing was changed" in answer.text
    assert site.post(SPLIT, {"weights": {"v1": 9, "v3": 1}, "force": True}).status_code == 200
    assert site.post(f"{SPLIT}/rollback", {"generation": 1}).status_code == 200


def test_another_order_alone_is_told_of_rows_without_names(tmp_path: Path) -> None:
    turned = {"features": [{"name": "count"}, {"name": "width"}]}
    with open_site(tmp_path, settings(environments={"production": V2_ALONE})) as opened:
        opened.join(own={"v3": turned})
        ask(opened, {"instances": [named()]})
        assert opened.post(SPLIT, {"v1": 9, "v3": 1}).status_code == 200
        opened.post(SPLIT, {"v1": 1, "v3": 0})
        ask(opened, {"instances": [[0.25, 3]] * 2})
        message = refused(opened, {"v1": 9, "v3": 1})
        assert "2 of 3 rows seen in the last 10 minutes came without names" in message
