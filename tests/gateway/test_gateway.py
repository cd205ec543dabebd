"""The NGINX gateway before two real servers: what passes, what does not, who answers, and what a death costs."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from configuration.settings import LimitSettings, LoadingSettings
from load_tests.bench.nginx_config import DEFAULTS
from shokado.access.keys import Role, add_key
from tests.end_to_end.closed_loop import PAUSE_S
from tests.end_to_end.test_access import ADMIN, CLASSIFIED
from tests.gateway.nginx_server import Gateway, gateway, needs_nginx
from tests.support import http
from tests.support.server import ROW, Server, serving_side_by_side
from tests.support.waiting import wait_until

pytestmark = needs_nginx

BODY = {"instances": [ROW]}
PREDICT = "/v1/models/predict"
OPERATORS_ALONE = {
    ("get", "/metrics"), ("get", "/v1/metrics/{version}"),
    ("post", "/v1/verdict/confirm-promotion"), ("post", "/v1/verdict/rollback"),
}  # fmt: skip
"""What operators alone may ask, though it changes nothing."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    return file, add_key(file, "boss", Role.ADMIN)


@pytest.fixture(scope="module")
def servers(models: Path, keys: tuple[Path, str]) -> Iterator[list[Server]]:
    """Two for production, one of which serves staging too."""
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_ACCESS__KEYS_FILE": str(keys[0])}
    with serving_side_by_side(environment, environment) as both:
        yield both


@pytest.fixture(scope="module")
def front(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("nginx"), servers, staging=servers[1:]) as running:
        yield running


@pytest.fixture(scope="module")
def client(keys: tuple[Path, str], front: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, headers={"X-API-Key": keys[1]}, timeout=20) as client:
        yield client


def url_of(path: str) -> str:
    return path.replace("{version}", "v0").replace("{model}", "v0")


@pytest.mark.parametrize(("route", "role"), CLASSIFIED.items(), ids=str)
def test_everybody_may_predict_and_read_and_operators_the_rest(
    client: httpx.Client, front: Gateway, route: tuple[str, str], role: Role | None
) -> None:
    """Both ports with the same key: what differs is nginx's doing."""
    method, path = route[0].upper(), url_of(route[1])
    how: dict[str, Any] = {"content": b"{", "headers": {"content-type": "application/json"}} if method != "GET" else {}
    outside = client.request(method, path, **how)
    inside = client.request(method, front.operators_url + path, **how)
    assert "server" in front.access_log()[-1]
    if role is ADMIN or route in OPERATORS_ALONE:
        assert (outside.status_code, outside.json()["error"]["message"]) == (404, "there is no such route here")
        assert "there is no such route here" not in inside.text
    else:
        assert outside.status_code == inside.status_code
        assert outside.headers["content-type"] == inside.headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        "//metrics",
        "/metrics/",
        "/metrics//",
        "/v1/metrics/v1/",
        "/%6detrics",
        "/v1/../metrics",
        "/v1/metrics/v1",
        "/v1//metrics/v1",
        "/v1/drift/v1",
        "/v1/log/",
        "/v1//log",
        "/v1/batches",
        "/v1/batches/",
        "/v1//batches/1",
    ],
)
def test_metrics_are_not_reached_by_another_spelling(front: Gateway, keys: tuple[Path, str], path: str) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {keys[1]}\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 404 ")


def test_both_servers_answer_over_kept_connections(client: httpx.Client, front: Gateway, servers: list[Server]) -> None:
    before = len(front.access_log())
    for _ in range(50):
        assert client.post(PREDICT, json=BODY).status_code == 200
    # A line of an earlier test, which reached no server, may be written late.
    lines = [line for line in front.access_log()[before:] if line["path"] == PREDICT]
    assert {line["server"] for line in lines} == {f"127.0.0.1:{server.port}" for server in servers}
    connections = [len(connections_to(server)) for server in servers]
    assert max(connections) <= 3, connections


def connections_to(server: Server) -> list[Any]:
    return [c for c in psutil.net_connections("tcp") if c.raddr and c.raddr.port == server.port and c.pid]


def test_a_line_of_the_log_says_who_answered(client: httpx.Client, front: Gateway) -> None:
    answer = client.post(PREDICT, json=BODY, headers={"X-Request-ID": "order-7", "X-Model-Version": "v2"})
    assert answer.headers["x-request-id"] == "order-7"
    line = front.line_of(answer)
    expected = {"request_id": "order-7", "version": "v2", "status": 200, "method": "POST", "path": PREDICT}
    assert line.items() >= expected.items()
    assert line["generation"] == answer.headers["x-generation"]
    assert 0 <= float(line["server_seconds"]) <= line["seconds"] + 0.002


def test_an_id_that_is_none_is_replaced_in_both_logs(client: httpx.Client, front: Gateway) -> None:
    answer = client.post(PREDICT, json=BODY, headers={"X-Request-ID": 'a "b"'})
    assert answer.headers["x-request-id"] == front.line_of(answer)["request_id"] == answer.json()["request_id"]
    assert '"' not in answer.headers["x-request-id"]


def test_the_environment_chooses_the_servers(client: httpx.Client, front: Gateway, servers: list[Server]) -> None:
    for _ in range(10):
        answer = client.post(PREDICT, json=BODY, headers={"X-Environment": "staging"})
        line = front.line_of(answer)
        assert (line["server"], line["environment"]) == (f"127.0.0.1:{servers[1].port}", "staging")
        assert answer.status_code == 200
    unknown = client.post(PREDICT, json=BODY, headers={"X-Environment": "moon"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_environment")


def test_an_address_is_passed_on_so_that_nobody_counts_as_this_machine(front: Gateway) -> None:
    without_key = http.post(front.operators_url + "/v1/traffic-split", json={"v1": 1}, timeout=20)
    assert without_key.status_code == 401


def test_limits(client: httpx.Client, front: Gateway) -> None:
    too_large = client.post(PREDICT, content=b"x" * (int(DEFAULTS["MAX_BODY_BYTES"]) + 1))
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "body_too_large")
    assert too_large.json()["request_id"] == too_large.headers["x-request-id"]
    long_header = client.get("/v1/models", headers={"X-Long": "x" * 20_000})
    assert (long_header.status_code, long_header.json()["error"]["code"]) == (431, "header_too_large")


def test_rates(servers: list[Server], keys: tuple[Path, str], tmp_path: Path) -> None:
    with gateway(tmp_path, servers, RATE_PER_ADDRESS="1r/s", RATE_BURST="3") as running:
        headers = {"X-API-Key": keys[1]}
        answers = [http.post(running.url + PREDICT, json=BODY, headers=headers, timeout=20) for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 5
    assert all(answer.status_code == 200 for answer in answers[:3])
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["code"] == "rate_limited"


def test_limits_are_those_of_the_servers() -> None:
    limits = LimitSettings()
    assert int(DEFAULTS["MAX_BODY_BYTES"]) == limits.max_body_bytes
    assert limits.request_timeout_s < int(DEFAULTS["ANSWER_TIMEOUT"].rstrip("s")) < 2 * limits.request_timeout_s
    assert LoadingSettings().timeout_s < int(DEFAULTS["OPERATORS_TIMEOUT"].rstrip("s"))


def test_nobody_there_is_an_answer(tmp_path: Path, servers: list[Server]) -> None:
    nowhere = "server 127.0.0.1:1;"
    with gateway(tmp_path, servers, PRODUCTION_SERVERS=nowhere) as running:
        answer = http.post(running.url + PREDICT, json=BODY, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.slow
def test_a_killed_server_is_not_noticed(models: Path, tmp_path: Path) -> None:
    environment = {"SHOKADO_WORKERS": "1"}
    with (
        serving_side_by_side(environment, environment) as (stays, dies),
        gateway(tmp_path, [stays, dies]) as running,
    ):
        expected = {
            version: http.post(stays.url + PREDICT, json={**BODY, "version": version}, timeout=20).json()["predictions"]
            for version in ("v1", "v2")
        }
        with Asking(running, clients=8) as answers:
            wait_until(lambda: len(answers) > 200)
            for process in (dies.process.pid, *dies.workers()):
                os.kill(process, signal.SIGKILL)
            killed_at = len(answers)
            wait_until(lambda: len(answers) > killed_at + 400)
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["predictions"] == expected[answer.json()["version"]] for answer in answers)
        answered_by = {line["server"].split(", ")[-1] for line in running.access_log()[-100:]}
        assert answered_by == {f"127.0.0.1:{stays.port}"}


class Asking:
    """Clients that ask again as soon as they have their answer; what they got, in the order it came."""

    def __init__(self, running: Gateway, clients: int) -> None:
        self._url = running.url
        self._answers: list[httpx.Response] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> list[httpx.Response]:
        for thread in self._threads:
            thread.start()
        return self._answers

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        content = json.dumps(BODY).encode()
        with httpx.Client(base_url=self._url, timeout=20, headers={"content-type": "application/json"}) as client:
            while not self._stopping.is_set():
                self._answers.append(client.post(PREDICT, content=content))
                time.sleep(PAUSE_S)
