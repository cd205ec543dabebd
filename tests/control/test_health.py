"""Health: ready as long as everybody can be answered, with or without the store."""

from datetime import UTC, datetime, timedelta

import pytest

from configuration.settings import Placement
from runners.version_state import VersionState
from shokado.dispatch.state import RoutingState
from shokado.worker.readiness import ReadinessLog
from tests.control.site import Site

READY = ["/readyz", "/ready", "/health"]
WORDS = {"/health": {"ok": "healthy", "unavailable": "unhealthy"}}
"""What `status` is called elsewhere than at `/readyz`."""


def status_at(path: str, status: str) -> str:
    return WORDS.get(path, {}).get(status, status)


def test_the_process_is_alive_before_the_worker_has_started(site: Site) -> None:
    site.workers[0].control.parts = None
    assert site.get("/livez") == {"status": "ok"}


@pytest.mark.parametrize("path", READY)
def test_ready_when_every_version_with_traffic_is(site: Site, path: str) -> None:
    content = site.get(path)
    more = {name: content.pop(name) for name in ("model_loaded", "model_version", "timestamp") if name in content}
    assert bool(more) == (path == "/health")
    assert content == {
        "status": status_at(path, "ok"),
        "generation": 1,
        "versions": {"v1": "ready", "v2": "ready", "v3": "ready"},
        "store": {"name": str(site.database), "status": "ok"},
    }


@pytest.mark.parametrize("path", READY)
def test_not_ready_without_a_version_that_has_traffic(empty_site: Site, path: str) -> None:
    empty_site.join(broken=frozenset({"v2"}))
    answer = empty_site.ask("GET", path)
    assert answer.status_code == 503
    content = answer.json()
    assert (content["status"], content["reason"], content["versions"]["v2"]) == (
        status_at(path, "unavailable"), "not ready: v2", "failed",
    )  # fmt: skip
    assert content["failures"].keys() == {"v2"}


@pytest.mark.parametrize("path", READY)
def test_not_ready_from_the_moment_it_is_told_to_stop(site: Site, path: str) -> None:
    site.workers[0].worker.stopping.begun = True
    answer = site.ask("GET", path)
    assert (answer.status_code, answer.json()["reason"]) == (503, "the server is stopping")


def test_a_version_that_nobody_is_sent_to_may_be_missing(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    assert empty_site.get("/readyz")["versions"]["v3"] == "failed"


def test_a_shadow_may_be_missing(site: Site) -> None:
    site.post("/v1/traffic-split", {"shadow": "v3"})
    other = site.join(broken=frozenset({"v3"}))
    assert other.dispatcher.state.environments["production"].shadow == "v3"
    assert site.get("/readyz", worker=1)["status"] == "ok"


@pytest.mark.parametrize("state", [VersionState.AWAY, VersionState.FAILED])
@pytest.mark.parametrize(("version", "status"), [("v1", 503), ("v2", 200)])
def test_a_version_elsewhere_may_be_away_or_have_failed_unless_it_is_the_active_one(
    site: Site, version: str, status: int, state: VersionState
) -> None:
    """v1 is active, and v2 has traffic."""
    runner = site.workers[0].dispatcher.runners[version]
    runner.placement = Placement.SERVICE
    runner.state, runner.failure = state, "ejected: it answered 500"
    answer = site.ask("GET", "/readyz")
    assert answer.status_code == status
    assert answer.json()["versions"][version] == state
    assert answer.json()["failures"] == {version: "ejected: it answered 500"}


def test_the_log_says_once_why_it_is_not_ready(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    parts, log = site.workers[0].parts, ReadinessLog()
    runner = site.workers[0].dispatcher.runners["v1"]

    def said() -> list[str]:
        log.look(parts)
        log.look(parts)
        return [record.getMessage() for record in caplog.records if "ready" in record.getMessage()]

    caplog.set_level("INFO")
    assert said() == []
    runner.state, runner.failure = VersionState.AWAY, "connection refused"
    log.look(parts)
    runner.state = VersionState.READY
    assert said() == [], "a reason that is gone at the next look is none"
    runner.state = VersionState.AWAY
    away = "not ready: v1; v1: connection refused"
    assert said() == [away]
    runner.failure = "timed out after 0.31 s"
    assert said() == [away]
    runner.state, runner.failure = VersionState.READY, None
    assert said() == [away, "ready again"]
    runner.state = VersionState.AWAY
    site.workers[0].worker.stopping.begun = True
    assert said() == [away, "ready again"]


def test_a_remote_version_may_be_away_that_is_active_only_in_another_environment(site: Site) -> None:
    state = site.workers[0].dispatcher.state
    assert state.default_environment == "production"
    assert state.environments["staging"].active == "v2"
    site.workers[0].dispatcher.runners["v2"].state = VersionState.AWAY
    assert site.get("/readyz")["status"] == "ok"


def test_a_store_that_is_away_is_told_and_does_not_matter(site: Site) -> None:
    site.break_store()
    site.until(lambda: site.workers[0].follower.failure)
    content = site.get("/readyz")
    assert (content["status"], content["store"]["status"]) == ("ok", "unavailable")
    assert str(site.database) in content["store"]["failure"]


def test_what_the_store_may_lose_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.workers[0].follower.store, "durability", "the last second")
    assert site.get("/readyz")["store"]["durability"] == "the last second"


def test_not_ready_while_the_routing_is_not_known(site: Site) -> None:
    site.workers[0].dispatcher.adopt(RoutingState(0, {}, "production"), {})
    answer = site.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the routing is not known yet")
    for path in ("/v1/traffic-split", "/v1/traffic-split/explain", "/ab-test/status"):
        split = site.ask("GET", path)
        assert (split.status_code, split.json()["error"]["code"]) == (503, "not_ready")


def test_health_names_the_active_version_and_the_time(site: Site) -> None:
    before = datetime.now(UTC)
    content = site.get("/health")
    assert (content["status"], content["model_loaded"], content["model_version"]) == ("healthy", True, "v1")
    told_at = datetime.fromisoformat(content["timestamp"])
    assert before - timedelta(seconds=1) <= told_at <= datetime.now(UTC)
    site.workers[0].dispatcher.runners["v1"].state = VersionState.AWAY
    answer = site.ask("GET", "/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["model_loaded"]) == (503, "unhealthy", False)
    site.workers[0].dispatcher.adopt(RoutingState(0, {}, "production"), {})
    content = site.ask("GET", "/health").json()
    assert (content["model_loaded"], "model_version" in content) == (False, False)
