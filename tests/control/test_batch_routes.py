"""`/v1/batches`: what may be asked for, and what is told; a small program stands for the one that has Ray."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configuration.batch_settings import BatchSettings
from shokado.client.answers import Split
from shokado.client.decoding import decode
from tests.batches.test_batch_jobs import PROGRAM
from tests.control.site import ACTOR, Site, open_site, settings
from tests.support.problems import code_of


@pytest.fixture
def batching(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "data").mkdir()
    program = tmp_path / "scores"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    allowed = (str(tmp_path / "data"), "s3://bucket/rows")
    chosen = BatchSettings(
        input=allowed, output=allowed, command=(str(program),), folder=str(tmp_path / "batches"), max_running=1
    )
    with open_site(tmp_path / "site", settings(batches=chosen)) as site:
        site.join()
        site.join()
        yield site
        for batch in site.get("/v1/batches")["batches"]:
            site.post(f"/v1/batches/{batch['id']}/cancel", {})


def body(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {"input": str(tmp_path / "data" / "in.csv"), "output": str(tmp_path / "data" / "out"), **changes}


def given(tmp_path: Path, batch: str) -> list[str]:
    found: list[str] = json.loads((tmp_path / "batches" / batch / "given.json").read_text())[0]
    return found


def test_a_batch_is_started_looked_at_by_every_worker_and_ends(batching: Site, tmp_path: Path) -> None:
    answer = batching.post("/v1/batches", body(tmp_path, version="b", keep=["id"]), {"X-Actor": "nightly"})
    assert answer.status_code == 202, answer.text
    name = answer.json()["id"]
    batching.until(lambda: batching_state(tmp_path, name) == "running")
    for worker in (0, 1):
        told = batching.get(f"/v1/batches/{name}", worker)
        assert (told["state"], told["rows"], told["done"]) == ("running", 10, 4)
        assert (told["version"], told["keep"], told["by"]) == ("v2", ["id"], "nightly")
        assert batching.get("/v1/batches", worker) == {"batches": [told]}
    second = batching.post("/v1/batches", body(tmp_path, version="v1"))
    assert (second.status_code, code_of(second)) == (409, "too_many_batches")
    (tmp_path / "batches" / name / "go").write_text("succeeded")
    batching.until(lambda: batching_state(tmp_path, name) == "succeeded")
    assert {"--version=v2", "--keep=id", str(tmp_path / "data" / "out")} <= set(given(tmp_path, name))


def batching_state(tmp_path: Path, name: str) -> str:
    """What the process says itself."""
    try:
        return str(json.loads((tmp_path / "batches" / name / "report.json").read_text())["state"])
    except FileNotFoundError:
        return ""


def test_one_is_cancelled(batching: Site, tmp_path: Path) -> None:
    name = batching.post("/v1/batches", body(tmp_path, version="v1")).json()["id"]
    batching.until(lambda: batching_state(tmp_path, name) == "running")
    answer = batching.post(f"/v1/batches/{name}/cancel", {"why": "of yesterday"}, worker=1)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert batching.get(f"/v1/batches/{name}")["by"] == ACTOR


def test_the_split_is_handed_over_as_it_is(batching: Site, tmp_path: Path) -> None:
    batching.post("/v1/traffic-split", {"weights": {"v1": 1, "v2": 1}, "strategy": "hash", "salt": "autumn"})
    answer = batching.post("/v1/batches", body(tmp_path, split=True, unit="user", input="s3://bucket/rows/a.csv"))
    assert answer.status_code == 202, answer.text
    told = json.loads((tmp_path / "batches" / answer.json()["id"] / "split.json").read_text())
    split = decode(Split, told)
    assert (split.strategy, split.salt, dict(split.weights)) == ("hash", "autumn", {"v1": 1, "v2": 1})
    assert answer.json()["version"] is None


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"version": "v9"}, 404, "unknown_version"),
        ({}, 422, "invalid"),
        ({"version": "v1", "split": True}, 422, "invalid"),
        ({"version": "v1", "unit": "user"}, 422, "invalid"),
        ({"split": True, "environment": "moon"}, 404, "unknown_environment"),
        ({"version": "v1", "input": "/etc/passwd"}, 422, "address_not_allowed"),
        ({"version": "v1", "output": "/tmp"}, 422, "address_not_allowed"),
        ({"version": "v1", "output": "s3://other/x"}, 422, "address_not_allowed"),
        ({"version": "v1", "command": ["rm"]}, 422, "unknown_field"),
        ({"version": "v1", "keep": [""]}, 422, "invalid"),
    ],
)
def test_what_cannot_be_done_is_refused(
    batching: Site, tmp_path: Path, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = batching.post("/v1/batches", body(tmp_path, **changes))
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    assert batching.get("/v1/batches") == {"batches": []}


def test_without_addresses_there_are_no_batches(site: Site, tmp_path: Path) -> None:
    for answer in (site.post("/v1/batches", body(tmp_path, version="v1")), site.ask("GET", "/v1/batches")):
        assert (answer.status_code, code_of(answer)) == (409, "batches_off")
        assert "batches.input" in answer.text


@pytest.mark.parametrize("name", ["nobody", "1234567890123-abcdef01", "%2e%2e"])
def test_a_batch_that_there_is_not_is_not_found(batching: Site, name: str) -> None:
    for answer in (batching.ask("GET", f"/v1/batches/{name}"), batching.post(f"/v1/batches/{name}/cancel", {})):
        assert (answer.status_code, code_of(answer)) == (404, "unknown_batch")


@pytest.mark.parametrize("address", ["data", "file:///data", "s3://bucket/a b", "local:///x", ""])
def test_only_addresses_can_be_allowed(address: str) -> None:
    with pytest.raises(ValueError, match="neither an absolute path nor an address"):
        BatchSettings(input=(address,))
