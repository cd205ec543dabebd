"""Everything that the clients can ask, of a real server."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import numpy as np
import pandas as pd
import pytest

from shokado.access.keys import Role, add_key
from shokado.client import (
    NO_RETRIES,
    AccessDenied,
    AsyncClient,
    Client,
    Conflict,
    DeadlinePassed,
    FeedbackEntry,
    InvalidRequest,
    NoAnswer,
    NotFound,
    Operation,
    UnexpectedAnswer,
)
from tests.client.conftest import Connect
from tests.client.scripted_server import Reply, scripted
from tests.support.server import ROW, Server, free_port, serving
from tests.support.waiting import wait_until

NAMES = (
    "age", "income", "credit_score", "num_purchases", "account_age_days", "avg_transaction", "num_returns",
    "is_premium", "region", "category_preference",
)  # fmt: skip
OTHER = [61.0, 31_000.0, 560.0, 3.0, 90.0, 20.25, 2.0, 1.0, 1.0, 0.0]


def test_rows_of_every_form_get_the_same_scores(client: Client) -> None:
    rows = [ROW, OTHER]
    forms = [
        rows,
        tuple(map(tuple, rows)),
        [dict(zip(reversed(NAMES), reversed(row), strict=True)) for row in rows],
        [np.array(row) for row in rows],
        pd.DataFrame(rows, columns=NAMES),
        pd.DataFrame(rows, columns=NAMES)[list(reversed(NAMES))],
        np.array(rows),
        np.array(rows, np.float32),
        np.asfortranarray(rows),
        np.array(rows, object),
    ]
    answers = [client.predict(form, version="v1") for form in forms]
    scores = [answer.predictions for answer in answers]
    assert len(set(map(tuple, scores))) == 1
    assert scores[0][0] != scores[0][1]
    assert {tuple(answer.classes or ()) for answer in answers} == {tuple(int(score >= 0.5) for score in scores[0])}


def test_an_answer_says_who_answered_and_why(client: Client) -> None:
    answer = client.predict([ROW], version="a", request_id="mine-7")
    assert (answer.version, answer.reason, answer.request_id) == ("v1", "PINNED", "mine-7")
    assert answer.generation == client.split().generation
    assert answer.prediction_id
    assert answer.latency_ms > 0


@pytest.mark.parametrize("unit", ["user-17", "李 Jörg", 17])
def test_a_unit_is_the_same_in_rows_and_arrays(unit: str | int, client: Client) -> None:
    client.change_split({"v1": 50, "v2": 50}, strategy="hash")
    answers = [client.predict(form, unit=unit) for form in ([ROW], np.array([ROW])) for _ in range(4)]
    assert {answer.reason for answer in answers} == {"STICKY"}
    assert len({answer.version for answer in answers}) == 1


def test_a_unit_that_a_header_cannot_carry_is_sent_with_rows_and_refused_with_arrays(client: Client) -> None:
    assert client.predict([ROW], unit=" 17\n").predictions
    with pytest.raises(ValueError, match="X-Unit-ID cannot be sent"):
        client.predict(np.array([ROW]), unit=" 17\n")


@pytest.mark.parametrize("form", [list, np.array])
def test_a_row_that_is_wrong_is_named(form: type, client: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.predict(form([ROW, [*ROW[:3], float("nan"), *ROW[4:]]]))
    error = refused.value
    assert (error.status, error.row, error.feature) == (422, 1, "num_purchases")
    assert error.code
    assert error.request_id
    assert str(error) == f"422 {error.code}: {error.message}"


def test_an_array_of_another_width_is_not_taken_for_other_rows(client: Client) -> None:
    """Nine columns for ten rows are, packed, nine rows of ten."""
    with pytest.raises(InvalidRequest, match="the packed rows have 9 columns; the model takes 10"):
        client.predict(np.ones((10, 9)))


def test_what_is_not_a_list_of_rows_is_said(client: Client) -> None:
    for row in ("a text", dict(zip(NAMES, ROW, strict=True))):
        with pytest.raises(TypeError, match="put the row in a list"):
            client.predict(row)
    with pytest.raises(TypeError, match="cannot be sent"):
        client.predict([[pd.Timestamp("2026-01-01")] * 10])


def test_a_deadline_that_passes_is_said(client: Client) -> None:
    assert client.predict([ROW], deadline_s=20).predictions
    with pytest.raises(DeadlinePassed):
        client.predict([ROW] * 5000, deadline_s=1e-6)
    with pytest.raises(ValueError, match="deadline_s"):
        client.predict([ROW], deadline_s=0)


def test_the_split_is_changed_and_taken_back(client: Client, connect: Connect) -> None:
    before = client.change_split({"v1": 80, "v2": 20}, strategy="random", active="v1", why="as it was")
    changed = client.change_split({"a": 1, "v2": 3}, strategy="hash", salt="autumn", shadow="v2", why="try v2")
    assert (changed.generation, changed.percent) == (before.generation + 1, {"v1": 25.0, "v2": 75.0})
    assert (changed.strategy, changed.salt, changed.shadow) == ("hash", "autumn", "v2")
    assert (changed.by, changed.why, changed.action) == ("Jörg 李", "try v2", "split")
    assert abs((datetime.now(UTC) - changed.updated_at).total_seconds()) < 60
    assert client.change_split(enabled=True, why="nothing else").shadow == "v2"
    assert client.change_split(shadow=None).shadow is None
    back = client.rollback(before.generation, why="v2 is worse")
    assert (back.percent, back.strategy, back.action) == (before.percent, "random", "rollback")
    assert client.split() == back
    staging = connect(client.url, environment="staging")
    assert staging.split().environment == "staging"
    assert staging.predict([ROW]).version == "v2"


def test_who_would_move_is_told_before_the_change_is_made(client: Client) -> None:
    before = client.change_split({"v1": 80, "v2": 20}, strategy="hash", salt="spring")
    units = [f"user-{number}" for number in range(200)]
    found = client.preview_split({"v1": 50, "v2": 50}, units=units, max_examples=1)
    assert (found.generation, found.units, found.made_up) == (before.generation, 200, False)
    assert found.moved is not None
    assert found.stay is not None
    (move,) = found.moves
    assert (move.before, move.after, move.units, len(move.examples)) == ("v1", "v2", found.moved, 1)
    assert 30 < found.moved < 90
    assert sum(found.stay.values()) + found.moved == 200
    assert client.preview_split(strategy="random").moved is None
    for unit in units[:50]:
        client.predict([ROW], unit=unit)
    recent = client.preview_recent({"v1": 0, "v2": 1})
    assert recent.traffic_after == {"v2": pytest.approx(1 - recent.pinned)}
    assert {(one.before, one.after) for one in recent.moves} == {("v1", "v2")}
    assert client.split() == before


def test_an_experiment_is_begun_and_its_effects_are_told(client: Client) -> None:
    client.change_split({"v1": 1, "v2": 1}, strategy="hash")
    plan = {"metric": "reward", "smallest_effect": 0.1, "guardrails": [{"metric": "latency", "margin": 1000}]}
    begun = client.start_experiment(plan, candidates=["v2"])
    try:
        told = client.experiment(begun.id).versions["v2"].guardrails
        assert told is not None
        assert [(one.metric, one.state) for one in told] == [("latency", "unknown")]
        effects = client.experiment_effects(begun.id)
        assert (effects.id, effects.at, effects.candidates["v2"].low) == (begun.id, [], [])
    finally:
        client.stop_experiment(begun.id)


def test_who_is_slower_changes_nothing(client: Client) -> None:
    seen = client.split()
    client.change_split({"v1": 60, "v2": 40})
    with pytest.raises(Conflict) as refused:
        client.change_split({"v1": 1}, if_generation=seen.generation)
    assert (refused.value.status, refused.value.code) == (412, "generation_conflict")
    assert refused.value.detail == {"expected": seen.generation, "found": seen.generation + 1}
    with pytest.raises(Conflict):
        client.rollback(1, if_generation=seen.generation)
    with pytest.raises(Conflict):
        client.activate("v1", if_generation=seen.generation)
    assert client.split().shares == {"v1": 0.6, "v2": 0.4}


def test_the_history_is_read_in_pages(client: Client) -> None:
    for salt in "abc":
        client.change_split(salt=salt, why=f"salt {salt}")
    page = client.history(limit=2)
    assert [entry.why for entry in page.entries] == ["salt c", "salt b"]
    changed = page.entries[0].changed
    assert changed is not None
    assert (changed["production"]["salt"].before, changed["production"]["salt"].after) == ("b", "c")
    assert abs((page.told_at - page.entries[0].at).total_seconds()) < 60
    older = client.history(limit=1, before=page.entries[-1].generation)
    assert [entry.why for entry in older.entries] == ["salt a"]
    everything = list(client.generations(page=3))
    assert [entry.generation for entry in everything] == list(range(page.entries[0].generation, 0, -1))
    assert everything[-1].action == "configured"


def test_feedback_counts_once_and_is_told_when_it_cannot_be_used(client: Client) -> None:
    predicted = client.predict([ROW, OTHER], version="v1")
    told = client.feedback(predicted.prediction_id, label=np.int64(1), index=1)  # type: ignore[arg-type]
    assert (told.accepted, told.results[0].status, told.results[0].version) == (1, "accepted", "v1")
    assert client.feedback(predicted.prediction_id, label=1, index=1).duplicate == 1
    with pytest.raises(InvalidRequest) as refused:
        client.feedback("no id", reward=1)
    assert refused.value.code == "feedback_malformed"
    many = client.feedback_batch(
        [FeedbackEntry(predicted.prediction_id, label=0, reward=0.5), FeedbackEntry("no id", reward=1)]
    )
    assert (many.accepted, many.rejected) == (1, 1)
    assert [result.status for result in many.results] == ["accepted", "malformed"]
    assert many.results[1].reason


def test_versions_are_listed_loaded_and_unloaded(client: Client) -> None:
    client.change_split({"v1": 1}, active="v1", shadow=None)
    listed = client.versions()
    assert {version.version for version in listed.versions} >= {"v1", "v2"}
    assert listed.workers is not None
    assert listed.workers[0].versions["v1"] == "ready"
    found = client.version("a")
    assert (found.version, found.ready, found.state, found.model) == ("v1", True, "ready", "customers")
    assert found.signature is not None
    assert [feature.name for feature in found.signature.features] == list(NAMES)
    assert found.source is not None
    assert found.source.uri == "models:/customers/1"
    loaded = client.load("third", "customers:v2", why="once more")
    assert (loaded.version.version, loaded.version.state) == ("third", "ready")
    assert client.predict([ROW], version="third").predictions == client.predict([ROW], version="v2").predictions
    assert client.unload("third", why="enough").version.state == "unloaded"
    with pytest.raises(Conflict):
        client.unload("v1")
    with pytest.raises(NotFound, match="unknown version 'v9'"):
        client.version("v9")
    with pytest.raises(NotFound, match="customers is the name of the model"):
        client.version("customers")


def test_a_version_is_made_the_active_one(client: Client) -> None:
    assert client.activate("b", why="try").active == "v2"
    assert client.activate("v1").active == "v1"


def test_metrics_of_a_version(client: Client) -> None:
    client.predict([ROW], version="v1")
    wait_until(lambda: client.metrics("a").since_start.requests > 0)
    found = client.metrics("a", window_s=30)
    assert found.version == "v1"
    assert found.since_start.rows >= found.since_start.requests
    assert found.since_start.latency_ms.count > 0
    assert found.processes[0].memory_bytes > 0
    assert found.quality is not None


def test_figures_by_segment_are_refused_where_none_are_set_up(client: Client) -> None:
    assert client.metrics("a").segments is None
    with pytest.raises(InvalidRequest) as refused:
        client.metrics("a", by="region", limit=0.2)
    assert refused.value.code == "unknown_segment"


def test_drift_of_a_version(client: Client) -> None:
    wait_until(lambda: client.drift("a").verdict != "not watched")
    found = client.drift("a", window="day")
    assert (found.version, found.window, found.verdict) == ("v1", "day", "too few rows")
    assert found.reference is not None
    assert found.reference.made_at.year >= 2026
    assert sum(cell.reference for cell in found.features["age"].cells) == pytest.approx(1)
    assert found.scores["score"].missing.kind == "missing"


@pytest.fixture(scope="module")
def guarded(models: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, str]]:
    """A server that asks for keys, one for changes, and one for predictions alone."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    admin, predicts = (add_key(keys, name, role) for name, role in (("me", Role.ADMIN), ("ci", Role.PREDICT)))
    with serving(environment={"SHOKADO_WORKERS": "1", "SHOKADO_ACCESS__KEYS_FILE": str(keys)}) as running:
        yield running, admin, predicts


def test_a_key_is_shown_and_a_wrong_one_refused(guarded: tuple[Server, str, str], connect: Connect) -> None:
    running, admin, predicts = guarded
    for key, status in ((None, 401), (predicts, 403)):
        with pytest.raises(AccessDenied) as refused:
            connect(running.url, key=key).change_split({"v1": 1})
        assert refused.value.status == status
    assert connect(running.url, key=predicts).predict([ROW]).predictions
    assert connect(running.url, key=admin).change_split({"v1": 1}).by == "key me"


def test_any_other_route_can_be_asked(client: Client) -> None:
    ready = Operation("GET", "/readyz", httpx.Response.json, repeatable=True)
    assert client.send(ready)["versions"]["v1"] == "ready"
    with pytest.raises(NotFound):
        client.send(Operation("GET", "/nowhere", httpx.Response.json))


@pytest.mark.parametrize("content", [b"<html>", b"", [], {}, {"generation": 1}])
def test_another_server_is_not_taken_for_this_one(content: object, connect: Connect) -> None:
    with scripted(Reply(200, content)) as server:
        client = connect(server.url)
        for ask in (client.split, client.history, client.versions, lambda: client.version("v1")):
            with pytest.raises(UnexpectedAnswer, match="is that another server"):
                ask()


def test_a_server_that_is_not_there(connect: Connect) -> None:
    url = f"http://me:secret@127.0.0.1:{free_port()}"
    with pytest.raises(NoAnswer) as failed:
        connect(url, retries=NO_RETRIES).split()
    assert "/v1/traffic-split" in str(failed.value)
    assert "secret" not in str(failed.value)
    assert failed.value.status is None


@pytest.mark.parametrize("url", ["localhost:3000", "", "ftp://host", "http://", "http://host:99999", "http://host:0"])
def test_what_is_no_address_is_refused_at_once(url: str, connect: Connect) -> None:
    with pytest.raises(ValueError, match="address of"):
        connect(url)


def test_a_key_that_is_none_is_not_shown(connect: Connect) -> None:
    with pytest.raises(ValueError, match="X-API-Key cannot be sent") as refused:
        connect("http://localhost", key="secret\nword")
    assert "secret" not in str(refused.value)


def test_an_own_client_of_httpx_is_used_and_left_open(changing_server: Server) -> None:
    with httpx.Client(headers={"X-Environment": "staging"}) as http:
        with Client(changing_server.url, http=http) as client:
            assert client.split().environment == "staging"
        assert not http.is_closed
    with Client(changing_server.url) as own:
        assert own.split().environment == "production"
    with pytest.raises(RuntimeError):
        own.split()


def test_one_client_is_shared_by_threads_and_by_tasks(changing_server: Server) -> None:
    answered: list[str] = []
    with Client(changing_server.url) as client:
        threads = [
            threading.Thread(target=lambda: answered.append(client.predict([ROW], version="v1").version))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def side_by_side() -> list[str]:
        async with AsyncClient(changing_server.url) as asynchronous:
            asked = await asyncio.gather(*(asynchronous.predict([ROW], version="v2") for _ in range(8)))
            return [answer.version for answer in asked]

    assert (answered, asyncio.run(side_by_side())) == (["v1"] * 8, ["v2"] * 8)
