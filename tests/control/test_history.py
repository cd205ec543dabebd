"""The history of the routing, page by page, and the way back."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from shokado.dispatch.change import with_candidate
from shokado.dispatch.state import Load
from shokado.stores.store import Action
from tests.control.site import Site, open_site
from tests.support.problems import code_of, message_of
from tests.support.redis_server import RedisServer, needs_redis

SPLIT = "/v1/traffic-split"
HISTORY = f"{SPLIT}/history"
ROLLBACK = f"{SPLIT}/rollback"
ANN = {"X-Actor": "ann"}


def entries(site: Site, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.get(HISTORY + query)["entries"]
    return found


def test_the_history_says_who_changed_what_and_why_newest_first(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 1, "v2": 1}, "strategy": "hash", "why": "try"}, ANN)
    newest, first = entries(site)
    assert [newest[name] for name in ("generation", "by", "action", "why")] == [2, "ann", "split", "try"]
    assert newest["at"] == site.get(SPLIT)["updated_at"]
    assert newest["environments"]["production"]["shares"] == {"v1": 0.5, "v2": 0.5}
    assert newest["environments"]["staging"] == first["environments"]["staging"]
    assert newest["changed"] == {
        "production": {
            "weights": {"before": {"v1": 80, "v2": 20}, "after": {"v1": 1, "v2": 1}},
            "strategy": {"before": "random", "after": "hash"},
        }
    }
    assert (first["action"], first["changed"], first["versions"]) == ("configured", None, None)


def test_one_environment_can_be_looked_at_alone(site: Site) -> None:
    site.post(SPLIT, {"v1": 1}, {"X-Environment": "staging"})
    site.post(SPLIT, {"v2": 1})
    newest, before, _ = entries(site, "?environment=staging")
    assert set(newest["environments"]) == {"staging"}
    assert (newest["changed"], list(before["changed"])) == ({}, ["staging"])
    unknown = site.ask("GET", f"{HISTORY}?environment=moon")
    assert (unknown.status_code, code_of(unknown)) == (404, "unknown_environment")


def test_a_version_on_its_way_is_named(site: Site) -> None:
    follower = site.workers[0].follower
    load = Load("paper:v4", "0" * 64, "paper:v4", expires_at=9e9)
    site.run(follower.change(lambda state: with_candidate(state, "v4", load), by="ann", action=Action.PREPARE))
    newest, first = entries(site)
    assert (newest["versions"], newest["changed"]) == (["v4"], {})
    assert first["versions"] is None


def test_pages_join_without_a_gap(site: Site) -> None:
    for weight in range(1, 8):
        site.post(SPLIT, {"v1": weight, "v2": 1})
    pages, before = [], ""
    while page := entries(site, f"?limit=3{before}"):
        pages.append(page)
        before = f"&before={page[-1]['generation']}"
    assert [[entry["generation"] for entry in page] for page in pages] == [[8, 7, 6], [5, 4, 3], [2, 1]]
    assert pages[0] + pages[1] + pages[2] == entries(site)
    assert pages[0][2]["changed"]["production"]["weights"]["before"] == {"v1": 4, "v2": 1}


@needs_redis
def test_over_redis_pages_and_rollbacks_are_those_of_the_file(site: Site, tmp_path: Path) -> None:
    queries = [f"?limit={limit}{before}" for limit in (1, 3, 500) for before in ("", "&before=5", "&before=1")]
    queries += ["", "?environment=staging&limit=4", f"?before={2**53}", "?limit=0", "?environment=moon"]

    def change(one: Site) -> list[Any]:
        for weight in range(1, 8):
            one.post(SPLIT, {"weights": {"v1": weight, "v2": 1}, "why": f"step {weight}"}, ANN)
        one.post(SPLIT, {"v1": 1}, {"X-Environment": "staging"})
        one.post(ROLLBACK, {"generation": 3, "why": "worse"}, ANN)
        return [one.ask("GET", HISTORY + query) for query in queries]

    def told(answer: httpx.Response) -> Any:
        content = answer.json()
        for entry in content.get("entries", ()):
            del entry["at"]
        content.pop("request_id", None)
        return answer.status_code, content

    (tmp_path / "other").mkdir()
    with RedisServer(tmp_path / "redis") as server, open_site(tmp_path / "other", redis=server.url) as other:
        other.join()
        answers, expected = change(other), change(site)
        assert [told(answer) for answer in answers] == [told(answer) for answer in expected]
        assert [entry["generation"] for entry in entries(other, "?limit=2")] == [10, 9]
        server.kill()
        gone = other.ask("GET", HISTORY)
        assert (gone.status_code, code_of(gone), gone.headers["retry-after"]) == (503, "store_unavailable", "1")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "before=0", "before=-1", f"before={10**30}"])
def test_a_page_that_cannot_be_is_refused(site: Site, query: str) -> None:
    answer = site.ask("GET", f"{HISTORY}?{query}")
    assert (answer.status_code, code_of(answer)) == (422, "invalid")
    assert query.split("=", maxsplit=1)[0] in message_of(answer)


def test_a_rollback_is_a_new_generation_with_the_old_content(site: Site) -> None:
    before = site.get(SPLIT)
    site.post(SPLIT, {"weights": {"v2": 1}, "strategy": "hash", "salt": "x", "shadow": "v3", "enabled": False})
    site.post(SPLIT, {"v1": 1}, {"X-Environment": "staging"})
    rolled = site.post(ROLLBACK, {"generation": 1, "why": "worse"}, ANN)
    assert (rolled.status_code, rolled.headers["etag"]) == (200, '"4"')
    assert rolled.json() == site.get(SPLIT)
    changing = ("generation", "updated_at", "by", "action", "why")
    assert {name: rolled.json()[name] for name in before if name not in changing} == {
        name: before[name] for name in before if name not in changing
    }
    assert site.get(f"{SPLIT}?environment=staging")["weights"] == {"v2": 1}
    newest = entries(site)[0]
    assert [newest[name] for name in ("generation", "by", "action", "why")] == [4, "ann", "rollback", "worse"]


def test_a_rollback_can_itself_be_rolled_back(site: Site) -> None:
    site.post(SPLIT, {"v2": 1})
    site.post(ROLLBACK, {"generation": 1})
    assert site.post(ROLLBACK, {"generation": 2}).json()["weights"] == {"v2": 1}


def test_an_unknown_generation_is_not_rolled_back_to(site: Site) -> None:
    answer = site.post(ROLLBACK, {"generation": 99})
    assert (answer.status_code, code_of(answer)) == (404, "unknown_generation")
    assert "99" in message_of(answer)


def test_a_rollback_needs_its_versions_in_every_worker(site: Site) -> None:
    site.post(SPLIT, {"v3": 1})
    site.post(SPLIT, {"v1": 1})
    site.join(broken=frozenset({"v3"}))
    answer = site.post(ROLLBACK, {"generation": 2})
    assert (answer.status_code, code_of(answer)) == (409, "version_not_ready")
    assert "v3" in message_of(answer)


def test_a_rollback_honours_if_match(site: Site) -> None:
    site.post(SPLIT, {"v2": 1})
    assert site.post(ROLLBACK, {"generation": 1}, {"If-Match": '"1"'}).status_code == 412
    assert site.post(ROLLBACK, {"generation": 1}, {"If-Match": '"2"'}).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"generation": "1"}, {"generation": True}, {"generation": 0}, {"generation": 10**30}, {"to": 1}, [1]]
)
def test_a_rollback_to_nowhere_is_refused(site: Site, body: Any) -> None:
    assert site.post(ROLLBACK, body).status_code == 422
    assert site.get(SPLIT)["generation"] == 1


def test_without_the_store_there_is_no_history_and_no_way_back(site: Site) -> None:
    site.break_store()
    for answer in (site.ask("GET", HISTORY), site.post(ROLLBACK, {"generation": 1})):
        assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (503, "store_unavailable", "1")
