"""The versions: listed with their state in every worker, loaded, unloaded, and made active."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from shokado.client.answers import Versions
from shokado.client.decoding import decode
from shokado.control.app import create_app
from shokado.control.versions import version_of
from shokado.dispatch.change import with_candidate, without_candidate
from shokado.dispatch.state import Load
from shokado.experiments.feedback_collector import FeedbackCollector
from shokado.experiments.prediction_id import PredictionIds
from shokado.monitoring.process_identity import own_name
from shokado.monitoring.statistics import Statistics
from shokado.monitoring.timeline import Timeline
from shokado.stores.store import Action
from shokado.stores.tally_sums import TallySums
from shokado.worker.parts import Control, WorkerParts
from tests.control.site import SECRET, Site, open_site
from tests.experiments.following import all_known
from tests.support.problems import code_of, message_of
from tests.support.shelf import own_shelf
from tests.worker.versions.workers import Worker, serving, settings

SPLIT = "/v1/traffic-split"
ANN = {"X-Actor": "ann"}


def version(site: Site, name: str, worker: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = site.get(f"/v1/models/{name}", worker)
    return found


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_all_versions_are_listed_with_what_they_are_for(site: Site, path: str) -> None:
    site.post(SPLIT, {"shadow": "v3"})
    content = site.get(path)
    assert content["generation"] == 2
    listed = {one["version"]: one for one in content["versions"]}
    assert list(listed) == ["v1", "v2", "v3"]
    assert {one["state"] for one in listed.values()} == {"ready"}
    assert listed["v1"]["active_in"] == ["production"]
    assert listed["v2"]["active_in"] == ["staging"]
    assert listed["v2"]["weights"] == {"production": 0.2, "staging": 1.0}
    assert (listed["v3"]["shadow_in"], listed["v1"]["shadow_in"]) == (["production"], [])
    assert (listed["v1"]["aliases"], listed["v3"]["aliases"]) == (["a"], [])
    assert listed["v1"]["signature"]["classes"] == [0, 1]
    assert listed["v1"]["source"]["uri"] == "models:/paper/1"


def test_what_a_quantization_cost_and_that_there_is_a_reference_are_told(tmp_path: Path) -> None:
    receipt = {
        "parent": "paper:v1",
        "parent_digest": "1" * 64,
        "size_bytes": 250,
        "parent_size_bytes": 1000,
        "times": [{"rows": rows, "us": 10, "parent_us": 10 * times} for rows, times in ((1, 2), (64, 1), (1000, 3))],
        "rows": 500,
        "rows_from": "rows.csv",
        "max_abs_difference": 0.01,
        "mean_abs_difference": 0.001,
        "same_labels": 0.99,
        "max_abs_difference_of_examples": 0.01,
        "max_abs_difference_in_company": 0.0,
    }
    reference = {"sha256": "2" * 64, "size_bytes": 700}
    with open_site(tmp_path / "site") as site:
        site.join(own={"v2": {"quantization": "int8", "quantized": receipt, "reference": reference}})
        told = version(site, "v2")
        assert told["quantized"] == {
            "method": "int8",
            "times_faster": 2.0,
            **{
                name: receipt[name]
                for name in receipt
                if not name.startswith("times") and "_of_" not in name and "_in_" not in name
            },
        }
        assert told["reference"] == reference
        listed = decode(Versions, site.get("/v1/models")).versions
        assert [(one.quantized is None, one.reference is None) for one in listed] == [
            (True, True),
            (False, False),
            (True, True),
        ]
        assert listed[1].quantized is not None
        assert (listed[1].quantized.parent, listed[1].quantized.same_labels) == ("paper:v1", 0.99)


def test_one_version_is_found_by_name_and_alias(site: Site) -> None:
    assert version(site, "b") == version(site, "v2")
    unknown = site.ask("GET", "/v1/models/v9")
    assert (unknown.status_code, code_of(unknown)) == (404, "unknown_version")


def test_every_worker_tells_how_far_it_is(site: Site) -> None:
    site.join(broken=frozenset({"v3"}))
    generation = site.post(SPLIT, {"v1": 1}).json()["generation"]

    def told() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = site.get("/v1/models")["workers"]
        return found

    while {worker["generation"] for worker in told()} != {generation}:
        pass
    first, second = told()
    names = [worker.worker.name for worker in site.workers]
    assert sorted((first["worker"], second["worker"])) == sorted(names)
    if first["worker"] != names[0]:
        first, second = second, first
    assert (first["machine"], first["pid"], first["generation"]) == (socket.gethostname(), os.getpid(), generation)
    assert 0 <= first["age_s"] < 10
    assert (first["versions"]["v3"], second["versions"]["v3"]) == ("ready", "failed")
    assert version(site, "v3", worker=1)["failure"].startswith("CardError")


def test_without_the_store_the_workers_are_not_known_and_the_versions_are(site: Site) -> None:
    site.break_store()
    content = site.get("/v1/models")
    assert (content["workers"], len(content["versions"])) == (None, 3)


def test_a_version_on_its_way_is_listed(site: Site) -> None:
    follower = site.workers[0].follower
    new = Load("paper:v4", "4" * 64, "models:/paper/4", expires_at=9e9)
    again = Load("paper:v1-again", "5" * 64, "paper:v1-again", expires_at=9e9)
    for name, load in (("v4", new), ("v1", again)):
        work = follower.change(
            lambda state, name=name, load=load: with_candidate(state, name, load),  # type: ignore[misc]
            by="ann",
            action=Action.PREPARE,
        )
        site.run(work)
    listed = {one["version"]: one for one in site.get("/v1/models")["versions"]}
    assert list(listed) == ["v1", "v2", "v3", "v4"]
    assert (listed["v4"]["state"], listed["v4"]["signature"]) == ("loading", None)
    assert listed["v4"]["loading"]["source"] == "models:/paper/4"
    assert (listed["v1"]["state"], listed["v1"]["loading"]["tag"]) == ("ready", "paper:v1-again")
    assert version(site, "v4") == listed["v4"]
    site.run(follower.change(lambda state: without_candidate(state, "v4"), by="ann", action=Action.ABANDON))
    assert site.ask("GET", "/v1/models/v4").status_code == 404


def test_a_version_is_made_active(site: Site) -> None:
    answer = site.ask("POST", "/models/b/activate", headers=ANN)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == site.get(SPLIT)
    assert [answer.json()[name] for name in ("active", "by", "action")] == ["v2", "ann", "activate"]
    assert version(site, "v2")["active_in"] == ["production", "staging"]


def test_a_version_is_made_active_in_the_environment_that_is_named(site: Site) -> None:
    by_body = site.post("/models/v3/activate", {"environment": "staging", "why": "x"}).json()
    assert [by_body[name] for name in ("environment", "active", "why")] == ["staging", "v3", "x"]
    assert site.post("/models/v1/activate", {}, {"X-Environment": "staging"}).json()["active"] == "v1"
    assert site.get(SPLIT)["generation"] == 3
    assert site.get(SPLIT)["active"] == "v1"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/models/v9/activate", None, {}, 404, "unknown_version"),
        ("/models/v2/activate", {"environment": "moon"}, {}, 404, "unknown_environment"),
        ("/models/v2/activate", {"envirnment": "staging"}, {}, 422, "unknown_field"),
        ("/models/v2/activate", None, {"If-Match": '"9"'}, 412, "generation_conflict"),
        ("/models/v2/activate", [1], {}, 422, "invalid"),
        ("/v1/models/v9/load", None, {}, 404, "unknown_version"),
        ("/v1/models/a/load", None, {}, 422, "alias"),
        ("/v1/models/V!/load", {"uri": "models:/paper/1"}, {}, 422, "invalid_name"),
        ("/v1/models/v4/load", {"uri": "s3://bucket/model.pkl"}, {}, 422, "source_not_allowed"),
        ("/v1/models/v4/load", {"uri": "x" * 1025}, {}, 422, "invalid"),
        ("/v1/models/v4/load", {"url": "models:/paper/1"}, {}, 422, "unknown_field"),
        ("/v1/models/v4/load", {"uri": 1}, {}, 422, "invalid"),
        ("/v1/models/v4/load", {"uri": "nobody:nothing"}, {}, 422, "unfit_artefact"),
        ("/v1/models/v9/unload", None, {}, 404, "unknown_version"),
        ("/v1/models/v1/unload", None, {}, 409, "version_in_use"),
        ("/v1/models/v3/unload", {"force": True}, {}, 422, "unknown_field"),
    ],
)
def test_what_cannot_be_done_to_a_version_is_refused(
    site: Site, path: str, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    answer = (
        site.ask("POST", path, json=body, headers=headers)
        if body is not None
        else site.ask("POST", path, headers=headers)
    )
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    assert site.get(SPLIT)["generation"] == 1


def test_a_version_that_is_not_ready_is_not_made_active(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    answer = empty_site.ask("POST", "/models/v3/activate")
    assert (answer.status_code, code_of(answer)) == (409, "version_not_ready")


def test_a_version_is_unloaded_in_every_worker_and_stays_known(site: Site) -> None:
    other = site.join()
    answer = site.post("/v1/models/v3/unload", {"why": "not used"}, ANN)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["generation"], answer.json()["version"]["state"]) == (2, "unloaded")
    assert other.fleet.versions()["v3"].state == "unloaded"
    told = version(site, "v3")
    assert (told["state"], told["engine"], told["signature"]["task"]) == ("unloaded", None, "binary")
    newest = site.get(f"{SPLIT}/history")["entries"][0]
    assert [newest[name] for name in ("by", "action", "why", "versions")] == ["ann", "unload", "not used", ["v3"]]
    refused = site.post(SPLIT, {"v3": 1})
    assert (refused.status_code, code_of(refused)) == (409, "version_not_ready")
    assert "unloaded" in message_of(refused)


def test_without_the_store_nothing_is_loaded_or_unloaded(site: Site) -> None:
    site.break_store()
    for path in ("/v1/models/v3/unload", "/models/v2/activate"):
        answer = site.ask("POST", path)
        assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")


def app_over(worker: Worker, folder: Path) -> httpx.AsyncClient:
    """A client of the control app over a worker with real engines."""
    control = Control(settings())
    ids = PredictionIds(SECRET, 3600)
    control.parts = WorkerParts(
        worker.dispatcher,
        worker.follower,
        worker.fleet,
        worker.loader,
        FeedbackCollector(worker.follower, ids, dict, 3600, all_known),
        Timeline(Statistics(folder / f"metrics-{own_name()}")),
        folder,
        TallySums(worker.follower.store),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(control)), base_url="http://site", timeout=60)


def test_a_real_version_is_loaded_given_traffic_and_unloaded(models: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        with own_shelf("control") as shelf:
            tag = shelf.put("new", "v2").tag
            async with (
                serving(settings(), tmp_path / "routing.db", workers=2) as server,
                app_over(server[0], tmp_path) as client,
            ):
                loaded = await client.post("/v1/models/v3/load", json={"uri": tag, "why": "new"}, headers=ANN)
                assert loaded.status_code == 200, loaded.text
                assert loaded.json()["version"]["state"] == "ready"
                assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "ready"}] * 2
                split = await client.post(SPLIT, json={"v1": 1, "v3": 1})
                assert split.json()["shares"] == {"v1": 0.5, "v3": 0.5}
                refused = await client.post("/v1/models/v3/unload")
                assert (refused.status_code, code_of(refused)) == (409, "version_in_use")
                await client.post(SPLIT, json={"v1": 1})
                unloaded = await client.post("/v1/models/v3/unload")
                assert unloaded.json()["version"]["state"] == "unloaded"
                again = await client.post("/v2/repository/models/v3/load", content=b"{}", headers=ANN)
                assert (again.status_code, again.json()) == (200, {}), "as Triton's clients ask, without a content type"
                assert server.states() == [{"v1": "ready", "v2": "ready", "v3": "ready"}] * 2
                history = (await client.get(f"{SPLIT}/history?limit=6")).json()["entries"]
                assert [entry["action"] for entry in history] == ["load", "prepare", "unload", "split", "split", "load"]

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_the_model_by_its_own_name_is_what_kserve_asks_for(site: Site) -> None:
    assert site.get("/v1/models/paper") == {"name": "paper", "ready": True}
    site.workers[0].worker.stopping.begun = True
    assert site.get("/v1/models/paper") == {"name": "paper", "ready": False}


def test_a_version_tells_kserve_whether_it_is_ready(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    told = [version(empty_site, name) for name in ("v1", "b", "v3")]
    assert [(one["name"], one["ready"]) for one in told] == [("v1", True), ("v2", True), ("v3", False)]


def test_the_active_version_of_an_environment_has_its_card(site: Site) -> None:
    assert site.get("/model/info")["version"] == "v1"
    staging = site.get("/model/info", headers={"X-Environment": "staging"})
    assert (staging["version"], staging["active_in"]) == ("v2", ["staging"])
    assert site.ask("GET", "/model/info", headers={"X-Environment": "nowhere"}).status_code == 404


@pytest.mark.parametrize(
    ("uri", "version"),
    [
        ("models:/customers/3", "v3"),
        ("models:/customers@champion", "champion"),
        ("customers:v2-quantized", "v2-quantized"),
    ],
)
def test_an_address_names_the_version_that_it_is_loaded_as(uri: str, version: str) -> None:
    assert version_of(uri) == version


def test_what_cannot_be_loaded_by_its_address_is_refused_with_the_reason(site: Site) -> None:
    answer = site.post("/model/load", {"uri": "file:///etc/passwd", "version": "v9"})
    assert answer.status_code == 422, answer.text
    assert site.post("/model/load", {"version": "v9"}).status_code == 422
