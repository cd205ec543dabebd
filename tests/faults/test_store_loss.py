"""Stores and servers that die: no prediction fails, no confirmed change is forgotten, and all mends itself."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import httpx
import pytest

from configuration.secret_file import read_secret
from shokado.experiments.prediction_id import PredictionIds
from shokado.stores.follower import KEEP_REPORT_S
from tests.end_to_end.closed_loop import UNPINNED, load
from tests.end_to_end.test_routing import ask, change, get
from tests.support import http
from tests.support.disk import fill, remount
from tests.support.redis_sentinel import WatchedRedis
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, serving, serving_side_by_side
from tests.support.waiting import wait_until

CLIENTS = 8
CALM_S = 0.02
"""Between two requests of a client in an outage, which lasts: two processors are for other tests as well."""
OUTAGE_S = 1.5 * KEEP_REPORT_S
"""The longest that anything of a worker depends on having been seen in the store."""


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def on(redis_server: RedisServer, **settings: str) -> dict[str, str]:
    return {"SHOKADO_WORKERS": "2", "SHOKADO_STORE": redis_server.url, **settings}


def split_of(server: Server) -> tuple[int, dict[str, float]]:
    found = get(server, "/v1/traffic-split")
    return found["generation"], found["weights"]


def store_status(server: Server) -> str:
    return str(get(server, "/readyz")["store"]["status"])


class Changer:
    """Changes the split again and again, and remembers what was confirmed."""

    def __init__(self, server: Server) -> None:
        self.confirmed: dict[int, float] = {}
        self.refused: list[str] = []
        self._server = server
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Changer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        weight = 1
        while not self._stopping.is_set():
            weight += 1
            with contextlib.suppress(httpx.TransportError):
                answer = change(self._server, {"v1": weight, "v2": 1})
                if answer.status_code == 200:
                    self.confirmed[answer.json()["generation"]] = weight
                else:
                    self.refused.append(f"{answer.status_code} {answer.json()['error']['code']}")
                    self._stopping.wait(CALM_S)


@needs_redis
def test_a_redis_that_is_killed_mid_change_and_comes_back(models: object, redis_server: RedisServer) -> None:
    with (
        serving(environment=on(redis_server)) as server,
        load(server, CLIENTS, lambda _: UNPINNED, pause_s=CALM_S) as clients,
    ):
        with Changer(server) as changer:
            wait_until(lambda: len(changer.confirmed) > 20)
            redis_server.kill()
            killed_at = time.monotonic()
            wait_until(lambda: len(changer.refused) > 2)
            clients.wait_for_answers(100)
            wait_until(lambda: time.monotonic() - killed_at > OUTAGE_S, 2 * OUTAGE_S)
            assert set(changer.refused) == {"503 store_unavailable"}
            assert store_status(server) == "unavailable"
            confirmed = len(changer.confirmed)
            redis_server.start()
            wait_until(lambda: len(changer.confirmed) > confirmed)
        wait_until(lambda: store_status(server) == "ok")
        last = max(changer.confirmed)
        entries = {entry["generation"]: entry for entry in whole_history(server)}
        assert sorted(entries) == list(range(1, max(entries) + 1))
        for generation, weight in changer.confirmed.items():
            assert entries[generation]["environments"]["production"]["weights"]["v1"] == weight
        server.wait_for_generation(max(last, split_of(server)[0]))
    assert clients.lost == 0
    assert not [answer for answer in clients.answers if answer.status != 200][:3]


@needs_redis
def test_a_redis_is_killed_and_its_replica_takes_over(models: object, tmp_path: Path) -> None:
    """Changes are confirmed again, from the newest confirmed one on, while the killed one stays away."""
    with (
        WatchedRedis(tmp_path, password="word") as redis,
        serving(environment={"SHOKADO_WORKERS": "2", "SHOKADO_STORE": redis.url}) as server,
        load(server, CLIENTS, lambda _: UNPINNED, pause_s=CALM_S) as clients,
    ):
        with Changer(server) as changer:
            wait_until(lambda: len(changer.confirmed) > 20)
            redis.fail_over()
            confirmed = max(changer.confirmed)
            wait_until(lambda: max(changer.confirmed) > confirmed + 20)
        assert set(changer.refused) <= {"503 store_unavailable"}
        wait_until(lambda: store_status(server) == "ok")
        last = max(changer.confirmed)
        generation, weights = split_of(server)
        assert generation == last
        assert weights["v1"] / weights["v2"] == changer.confirmed[last]
        entries = {entry["generation"]: entry for entry in whole_history(server)}
        for generation in changer.confirmed.keys() & entries.keys():
            assert entries[generation]["environments"]["production"]["weights"]["v1"] == changer.confirmed[generation]
        server.wait_for_generation(last)
    assert clients.lost == 0
    assert not [answer for answer in clients.answers if answer.status != 200][:3]


def whole_history(server: Server) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    before = ""
    while page := get(server, f"/v1/traffic-split/history?limit=500{before}")["entries"]:
        entries += page
        before = f"&before={page[-1]['generation']}"
    return entries


@needs_redis
def test_a_worker_that_starts_while_redis_is_away_takes_what_its_siblings_know(
    models: object, redis_server: RedisServer
) -> None:
    with serving(environment=on(redis_server)) as server:
        generation = change(server, {"v1": 0, "v2": 1}).json()["generation"]
        server.wait_for_generation(generation)
        redis_server.kill()
        workers = server.workers()
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - set(workers)) == 1)
        # The sibling that knew is gone as well: what it wrote down is not.
        os.kill(workers[1], signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - set(workers)) == len(workers))
        wait_until(lambda: answers(server))
        assert {(answer["version"], answer["generation"]) for answer in ask(server, 20)} == {("v2", generation)}


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get(f"{server.url}/readyz", timeout=5).status_code == 200
    return False


@needs_redis
def test_a_redis_is_flushed_before_another_server_starts(
    models: object, tmp_path: Path, redis_server: RedisServer
) -> None:
    """The new one has no file in common with the old one, and not its secret; each takes feedback on what both said."""
    (tmp_path / "secret").write_text("a secret of the test's own\n")
    (tmp_path / "tmp").mkdir()
    secret = read_secret(tmp_path, "secret")
    assert secret is not None
    with serving(environment=on(redis_server, SHOKADO_FEEDBACK__SECRET_FILE=str(tmp_path / "secret"))) as old:
        told = ids_of(old)
        assert {PredictionIds(secret, inf).read(one).version for one in told} <= {"v1", "v2"}, "sealed by the file's"
        with redis_server.client() as client:
            client.flushall()
        with serving(environment=on(redis_server, TMPDIR=str(tmp_path / "tmp"))) as new:
            for _ in range(3):
                told += ids_of(new) + ids_of(old)
                assert verdicts(new, told) | verdicts(old, told) <= {"accepted", "duplicate"}
                with redis_server.client() as client:
                    client.flushall()
            assert verdicts(new, [told[0][:-4] + "AAAA"]) == {"forged"}


def ids_of(server: Server) -> list[str]:
    """Of predictions by all workers, as connections go to any of them."""
    return [answer["prediction_id"] for answer in ask(server, 10)]


def verdicts(server: Server, ids: list[str]) -> set[str]:
    entries = [{"prediction_id": one, "label": 1} for one in ids]
    answer = http.post(f"{server.url}/v1/feedback", json=entries, timeout=60)
    assert answer.status_code == 200, answer.text
    return {result["status"] for result in answer.json()["results"]}


@needs_redis
def test_two_servers_race_a_thousand_changes(models: object, redis_server: RedisServer) -> None:
    """Each change gets a generation of its own, and both servers end at the same one."""
    environment = on(redis_server, SHOKADO_WORKERS="1")
    with serving_side_by_side(environment, environment) as (one, other):
        generations: list[int] = []
        racers = [
            threading.Thread(target=race, args=(server, 125, generations)) for server in (one, other) for _ in range(4)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(120)
        assert len(generations) == 1_000
        assert sorted(generations) == list(range(2, 1_002))
        wait_until(lambda: split_of(one) == split_of(other) and split_of(one)[0] == 1_001)
        assert [entry["generation"] for entry in whole_history(other)] == list(range(1_001, 0, -1))


def race(server: Server, count: int, generations: list[int]) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(count):
            answer = client.post("/v1/traffic-split", json={"v1": number + 1, "v2": 1})
            if answer.status_code == 200:
                generations.append(answer.json()["generation"])


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_a_server_that_is_killed_forgets_no_confirmed_change(
    kind: str, models: object, tmp_path: Path, redis_server: RedisServer
) -> None:
    store = f"sqlite:///{tmp_path}/routing.db" if kind == "sqlite" else redis_server.url
    environment = {"SHOKADO_WORKERS": "2", "SHOKADO_STORE": store}
    with serving(environment=environment) as server, Changer(server) as changer:
        wait_until(lambda: len(changer.confirmed) > 30)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with serving(environment=environment) as server:
        last = max(changer.confirmed)
        generation, weights = split_of(server)
        # The change that was under way may or may not have been made; nobody was told that it was.
        assert generation in {last, last + 1}
        if generation == last:
            assert weights["v1"] == changer.confirmed[last]
        found = {entry["generation"] for entry in whole_history(server)}
        assert found == set(range(1, generation + 1))


def test_a_full_disk_harms_changes_only(models: object, small_disk: Path) -> None:
    environment = {"SHOKADO_WORKERS": "2", "SHOKADO_STORE": f"sqlite:///{small_disk}/routing.db"}
    with serving(environment=environment) as server, load(server, CLIENTS, lambda _: UNPINNED) as clients:
        make_room = fill(small_disk)
        refused = until_refused(server)
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert refused.headers["retry-after"]
        assert str(small_disk) in refused.json()["error"]["message"]
        generation = split_of(server)[0]
        clients.wait_for_answers(50)
        make_room()
        wait_until(lambda: change(server, {"v1": 1, "v2": 1}).status_code == 200)
        # The other worker may find the store away until its next look at it.
        wait_until(lambda: split_of(server)[0] > generation)
    assert clients.lost == 0
    assert {answer.status for answer in clients.answers} == {200}


def test_a_server_starts_from_a_file_that_it_may_only_read(models: object, small_disk: Path) -> None:
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_STORE": f"sqlite:///{small_disk}/routing.db"}
    with serving(environment=environment) as server:
        generation = change(server, {"v1": 0, "v2": 1}).json()["generation"]
    remount(small_disk, "ro")
    with serving(environment=environment) as server:
        assert {(answer["version"], answer["generation"]) for answer in ask(server, 10)} == {("v2", generation)}
        refused = change(server, {"v1": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert ask(server)[0]["generation"] == generation
        remount(small_disk, "rw")
        wait_until(lambda: change(server, {"v1": 1}).status_code == 200)


def until_refused(server: Server) -> httpx.Response:
    """A full disk may still have room in files that are there: change until it has not."""
    for number in range(2_000):
        answer = change(server, {"v1": number + 1, "v2": 1})
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            return answer
    raise AssertionError("every change was taken")
