"""Keys, rates and CORS from outside: who gets what from a real server with two workers, over both of its transports."""

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from shokado.access.forwarding import client_of
from shokado.access.keys import Role, add_key, revoke_key
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE, head_of, peer_of
from tests.end_to_end.description import Description
from tests.gateway.nginx_server import needs_nginx, proxy
from tests.support import http
from tests.support.problems import code_of
from tests.support.raw_http import NATIVE, Connection, request
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import ROW, Server, free_port, serving, serving_side_by_side
from tests.support.waiting import wait_until

BODY = json.dumps({"instances": [ROW]}).encode()
OPEN, PREDICT, ADMIN = None, Role.PREDICT, Role.ADMIN
CLASSIFIED: dict[tuple[str, str], Role | None] = {
    ("post", "/v1/models/predict"): PREDICT,
    ("post", "/predict"): PREDICT,
    ("post", "/batch_predict"): PREDICT,
    ("post", "/predict/batch"): PREDICT,
    ("post", "/api/v1/ab/predictions"): PREDICT,
    ("post", "/api/v1/predictions"): PREDICT,
    ("post", "/api/v1/models/{version}/predictions"): PREDICT,
    ("post", "/v1/models/{model}:predict"): PREDICT,
    ("post", "/invocations"): PREDICT,
    ("post", "/v1/models/explain"): PREDICT,
    ("get", "/ping"): OPEN,
    ("get", "/version"): PREDICT,
    ("get", "/model/info"): PREDICT,
    ("post", "/model/load"): ADMIN,
    ("get", "/"): OPEN,
    ("get", "/livez"): OPEN,
    ("get", "/readyz"): OPEN,
    ("get", "/ready"): OPEN,
    ("get", "/health"): OPEN,
    ("get", "/metrics"): PREDICT,
    ("get", "/models"): PREDICT,
    ("post", "/models/{version}/activate"): ADMIN,
    ("get", "/v1/models"): PREDICT,
    ("get", "/v1/models/{version}"): PREDICT,
    ("get", "/v1/models/{version}/examples"): PREDICT,
    ("post", "/v1/models/{version}/load"): ADMIN,
    ("post", "/v1/models/{version}/unload"): ADMIN,
    ("get", "/v1/traffic-split"): PREDICT,
    ("post", "/v1/traffic-split"): ADMIN,
    ("put", "/v1/traffic-split"): ADMIN,
    ("get", "/v1/traffic-split/history"): PREDICT,
    ("post", "/v1/traffic-split/rollback"): ADMIN,
    ("get", "/v1/traffic-split/explain"): PREDICT,
    ("post", "/v1/traffic-split/preview"): PREDICT,
    ("post", "/v1/traffic-split/preview/recent"): ADMIN,
    ("get", "/v1/metrics/{version}"): PREDICT,
    ("get", "/v1/drift/{version}"): ADMIN,
    ("get", "/v1/dashboard"): PREDICT,
    ("get", "/v1/log"): ADMIN,
    ("get", "/v1/batches"): ADMIN,
    ("post", "/v1/batches"): ADMIN,
    ("get", "/v1/batches/{batch}"): ADMIN,
    ("post", "/v1/batches/{batch}/cancel"): ADMIN,
    ("post", "/v1/feedback"): PREDICT,
    ("get", "/ab-test/status"): PREDICT,
    ("get", "/ab-test/quality"): PREDICT,
    ("post", "/ab-test/configure"): ADMIN,
    ("get", "/v1/experiments"): PREDICT,
    ("post", "/v1/experiments"): ADMIN,
    ("get", "/v1/experiments/{experiment}"): PREDICT,
    ("get", "/v1/experiments/{experiment}/effects"): PREDICT,
    ("post", "/v1/experiments/{experiment}/stop"): ADMIN,
    ("get", "/v1/verdict"): PREDICT,
    ("post", "/v1/verdict/confirm-promotion"): OPEN,
    ("post", "/v1/verdict/rollback"): OPEN,
    ("post", "/v2/models/{model}/infer"): PREDICT,
    ("post", "/v2/models/{model}/versions/{version}/infer"): PREDICT,
    ("get", "/v2"): PREDICT,
    ("get", "/v2/health/live"): OPEN,
    ("get", "/v2/health/ready"): OPEN,
    ("get", "/v2/models/{model}"): PREDICT,
    ("get", "/v2/models/{model}/ready"): PREDICT,
    ("get", "/v2/models/{model}/versions/{version}"): PREDICT,
    ("get", "/v2/models/{model}/versions/{version}/ready"): PREDICT,
    ("post", "/v2/repository/index"): PREDICT,
    ("post", "/v2/repository/models/{model}/load"): ADMIN,
    ("post", "/v2/repository/models/{model}/unload"): ADMIN,
}
"""Every route of the description, and who may ask for it. New ones belong here too, as in `authorization`."""

OWN_ERRORS = {"/v1/models/v0:predict", "/invocations"}
"""Routes of dialects whose errors have a shape of their own."""


@dataclass
class Keyed:
    """A server with keys, and the keys."""

    server: Server
    file: Path
    secrets: dict[Role, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, secret: str | None = None, **how: Any) -> httpx.Response:
        headers = {**how.pop("headers", {}), **({"X-API-Key": secret} if secret else {})}
        return http.request(method, self.server.url + path, headers=headers, timeout=20, **how)


@pytest.fixture(scope="module")
def keyed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    secrets = {PREDICT: add_key(file, "ci", PREDICT), ADMIN: add_key(file, "boss", ADMIN)}
    environment = {
        "SHOKADO_WORKERS": "2",
        "SHOKADO_ACCESS__KEYS_FILE": str(file),
        "SHOKADO_ACCESS__CORS": '{"origins": ["https://app.example.com"]}',
    }
    with serving(environment=environment) as server:
        yield Keyed(server, file, secrets)


@pytest.fixture(scope="module")
def keyless(models: Path) -> Iterator[Server]:
    """One as it starts without any setting of access."""
    with serving(environment={"SHOKADO_WORKERS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def described(keyed: Keyed) -> Description:
    return Description(keyed.server, keyed.ask("GET", "/openapi.json").json())


def test_every_route_is_classified(keyed: Keyed) -> None:
    paths = keyed.ask("GET", "/openapi.json").json()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == set(CLASSIFIED)


@pytest.mark.parametrize(("route", "needed"), CLASSIFIED.items(), ids=str)
def test_a_route_is_for_its_role(
    keyed: Keyed, described: Description, route: tuple[str, str], needed: Role | None
) -> None:
    """A body that is none gets past the gate and no further, so that nothing is changed."""
    operation = described.content["paths"][route[1]][route[0]]
    assert ("security" in operation) == (needed is not OPEN)
    method, path = route[0].upper(), route[1].replace("{version}", "v0").replace("{model}", "v0")
    path = path.replace("{experiment}", "e0")
    how: dict[str, Any] = {"content": b"{", "headers": {"content-type": "application/json"}} if method != "GET" else {}
    without = keyed.ask(method, path, **how)
    wrong = keyed.ask(method, path, "shk_wrong", **how)
    if needed is OPEN:
        assert without.status_code == wrong.status_code == (200 if method == "GET" else 400)
        return
    assert (without.status_code, wrong.status_code) == (401, 401)
    if path in OWN_ERRORS or path.startswith("/v2"):
        assert "show a key" in without.text
        assert "error" not in without.json() or isinstance(without.json()["error"], str), "the shape of the dialect"
    else:
        assert (code_of(without), code_of(wrong)) == ("missing_key", "unknown_key")
    for refused in (without, wrong):
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.headers["cache-control"] == "no-store"
        described.check(operation, refused)
    as_predictor = keyed.ask(method, path, keyed.secrets[PREDICT], **how)
    if needed is ADMIN:
        assert as_predictor.status_code == 403
        assert "admin" in as_predictor.text
        assert path.startswith("/v2") or code_of(as_predictor) == "forbidden"
        described.check(operation, as_predictor)
    else:
        assert as_predictor.status_code not in {401, 403}
    assert keyed.ask(method, path, keyed.secrets[ADMIN], **how).status_code not in {401, 403}


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/static_content/swagger-ui.css", "/dashboard", "/dashboard/main.js"]
)
def test_the_documentation_and_the_page_are_open(keyed: Keyed, path: str) -> None:
    answer = keyed.ask("GET", path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.headers["content-type"].startswith("text/html"):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


def test_browsers_get_the_page_without_a_key_and_its_data_with_one(keyed: Keyed) -> None:
    assert keyed.ask("GET", "/", headers={"Accept": "text/html"}).status_code == 200
    assert keyed.ask("GET", "/v1/dashboard").status_code == 401
    assert keyed.ask("GET", "/v1/dashboard", keyed.secrets[PREDICT]).json()["keys"] is True


@pytest.mark.parametrize(
    "header", [None, ("X-API-Key", "shk_wrong"), ("Authorization", "Basic c29tZTpib2R5"), "x-api-key", "bearer"]
)
def test_both_doors_ask_alike(keyed: Keyed, header: Any) -> None:
    if header == "x-api-key":
        header = ("X-API-Key", keyed.secrets[PREDICT])
    if header == "bearer":
        header = ("Authorization", f"Bearer {keyed.secrets[PREDICT]}")
    headers = [header] if header else []
    seen = []
    for path in (NATIVE, NATIVE + "?plain"):
        with Connection(keyed.server) as connection:
            # Twice, as the lane remembers a head.
            answers = [connection.ask(request(BODY, path, headers=headers)) for _ in range(2)]
        seen += [(a.status, a.header("www-authenticate"), None if a.status == 200 else a.code) for a in answers]
    assert len(set(seen)) == 1, seen
    assert (seen[0][0] == 200) == bool(header and keyed.secrets[PREDICT] in header[1])


def test_no_body_of_who_has_no_key_is_kept(keyed: Keyed) -> None:
    """Over any transport its head is answered at once, whatever has come of the body, and what follows is dropped."""
    size, part = 16 * 2**20, b" " * 2**20
    paths = [NATIVE, NATIVE + "?plain", "/v1/feedback", "/v1/traffic-split"]
    before = memory(keyed.server)
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(Connection(keyed.server)) for _ in range(64)]
        for number, connection in enumerate(connections):
            connection.send(request(b" ", paths[number % 4], headers=[("content-length", str(size))]))
        for connection in connections:
            assert connection.read().status == 401
        for connection in connections:
            # It may have been closed already.
            with contextlib.suppress(ConnectionError):
                connection.send(part)
        assert memory(keyed.server) - before < 16 * 2**20


def memory(server: Server) -> int:
    return sum(psutil.Process(pid).memory_full_info().uss for pid in server.workers())


@pytest.mark.parametrize("transport", ["", "?plain"], ids=["lane", "plain"])
def test_what_the_head_decides_is_said_before_the_body_is_here(keyed: Keyed, transport: str) -> None:
    key = ("x-api-key", keyed.secrets[PREDICT])
    wrong = [
        (401, NATIVE, [], "application/json"),
        (401, NATIVE, [("content-length", "999999999999")], "application/json"),
        (413, NATIVE, [key, ("content-length", "999999999999")], "application/json"),
        (415, NATIVE, [key], "text/plain"),
        (404, NATIVE, [key, ("x-model-version", "v9")], "application/json"),
        (404, "/v1/models/v9:predict", [key], "application/json"),
        (404, "/nowhere", [key], "application/json"),
        (400, NATIVE, [key, ("x-request-deadline-ms", "soon")], "application/json"),
    ]
    if transport:
        wrong += [
            (401, "/v1/traffic-split", [], "application/json"),
            (403, "/v1/traffic-split", [key], "application/json"),
            (415, "/v1/feedback", [key], "text/plain"),
            (415, "/v1/feedback", [key, ("content-encoding", "gzip")], "application/json"),
            (413, "/v1/feedback", [key, ("content-length", "999999999999")], "application/json"),
        ]
    for status, path, headers, content_type in wrong:
        length = [] if any(name == "content-length" for name, _ in headers) else [("content-length", "1000")]
        with Connection(keyed.server) as connection:
            answer = connection.ask(
                request(b"{", path + transport, headers=[*headers, *length], content_type=content_type)
            )
            assert answer.status == status, (path, headers, answer)


def test_histories_and_metrics_name_the_key(keyed: Keyed) -> None:
    admin = keyed.secrets[ADMIN]
    assert keyed.ask("POST", "/v1/traffic-split", admin, json={"v1": 1}).json()["by"] == "key boss"
    headers = {"X-Actor": "alice"}
    changed = keyed.ask("POST", "/v1/traffic-split", admin, json={"v1": 1, "v2": 1}, headers=headers).json()
    assert changed["by"] == "key boss (alice)"
    assert keyed.ask("POST", "/v1/traffic-split", keyed.secrets[PREDICT], json={"v1": 1}).status_code == 403
    assert keyed.ask("GET", "/v1/models").status_code == 401

    def counted() -> bool:
        text = keyed.ask("GET", "/metrics", admin).text
        return all(
            re.search(pattern, text)
            for pattern in (
                r'shokado_key_requests_total\{key="boss",outcome="admitted"\} [1-9]',
                r'shokado_key_requests_total\{key="ci",outcome="refused"\} [1-9]',
                r'shokado_refused_requests_total\{reason="missing_key"\} [1-9]',
            )
        )

    wait_until(counted)


def test_keys_come_and_go_while_serving_without_a_failed_request(keyed: Keyed) -> None:
    statuses: list[int] = []
    done = threading.Event()

    def load() -> None:
        with Connection(keyed.server) as connection:
            data = request(BODY, headers=[("X-API-Key", keyed.secrets[PREDICT])])
            while not done.is_set():
                statuses.append(connection.ask(data).status)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()

    def told(words: str, times: int) -> None:
        """Wait until the workers' log has it so often: each of the two says what it has taken over."""
        wait_until(lambda: keyed.server.log.read_text().count(words) == times)

    try:
        late = add_key(keyed.file, "late", PREDICT)
        told("3 keys hold now", 2)
        with Connection(keyed.server) as connection:
            remembered = request(BODY, headers=[("X-API-Key", late)])
            assert connection.ask(remembered).status == 200
            revoke_key(keyed.file, "late")
            # The lane knows this head by its bytes; that it was admitted must not be remembered with it.
            wait_until(lambda: connection.ask(remembered).status == 401)
        told("2 keys hold now", 2)
        assert keyed.ask("GET", "/v1/models", late).status_code == 401

        whole = keyed.file.read_text()
        # Written in place, as an editor may; for a moment the file is empty.
        keyed.file.write_text("")
        told("holds no list of keys; without any, it is []; the keys of before still hold", 2)
        keyed.file.write_text("nonsense: [")
        told("not readable as YAML; the keys of before still hold", 2)
        assert "not readable" in keyed.ask("GET", "/readyz").json()["keys"]
        assert keyed.ask("GET", "/v1/models", keyed.secrets[PREDICT]).status_code == 200, "the keys of before"
        # As Kubernetes renews what it has mounted: the symlink is swapped.
        swapped = keyed.file.with_name("renewed.yaml")
        swapped.write_text(whole)
        link = keyed.file.with_name("link")
        link.symlink_to(swapped)
        os.replace(link, keyed.file)
        told("2 keys hold now", 4)
        assert "keys" not in keyed.ask("GET", "/readyz").json()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 100
    for secret in keyed.secrets.values():
        assert secret not in keyed.server.log.read_text()


def test_pages_that_cors_allows_may_ask_over_both_transports(keyed: Keyed) -> None:
    ours, other = "https://app.example.com", "https://elsewhere.example"
    for path in (NATIVE, "/v1/traffic-split"):
        asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        allowed = keyed.ask("OPTIONS", path, headers={"Origin": ours, **asking})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ours)
        assert keyed.ask("OPTIONS", path, headers={"Origin": other, **asking}).status_code == 400
    for path in (NATIVE, NATIVE + "?plain"):
        answer = keyed.ask("POST", path, keyed.secrets[PREDICT], json={"instances": [ROW]}, headers={"Origin": ours})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ours)
        foreign = keyed.ask("POST", path, keyed.secrets[PREDICT], json={"instances": [ROW]}, headers={"Origin": other})
        assert "access-control-allow-origin" not in foreign.headers
    admin, body = keyed.secrets[ADMIN], {"v1": 1, "v2": 1}
    for origin, site, status in ((ours, "cross-site", 200), (other, "cross-site", 403)):
        headers = {"Origin": origin, "Sec-Fetch-Site": site}
        assert keyed.ask("POST", "/v1/traffic-split", admin, json=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"Host": "localhost:PORT"}, None),
        ({"Host": "[::1]:PORT"}, None),
        ({"Host": "localhost"}, "keys_needed"),
        ({"Host": "localhost:3"}, "keys_needed"),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://other"}, None),
        ({"Host": "rebound.example:PORT"}, "keys_needed"),
        ({"Host": "127.0.0.1.example"}, "keys_needed"),
        ({"X-Forwarded-For": "127.0.0.1"}, "keys_needed"),
        ({"Forwarded": "for=127.0.0.1"}, "keys_needed"),
        ({"X-Real-IP": "127.0.0.1"}, "keys_needed"),
        ({"X-Forwarded-Proto": "https"}, "keys_needed"),
        ({"Via": "1.1 proxy"}, "keys_needed"),
        ({"Connection": "close"}, "keys_needed"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
        ({"Sec-Fetch-Site": "same-site"}, "cross_site"),
        ({"Origin": "https://elsewhere.example"}, "cross_site"),
        ({"Origin": "null"}, "cross_site"),
    ],
)
def test_without_keys_changes_are_for_this_machine_and_no_page(
    keyless: Server, headers: dict[str, str], code: str | None
) -> None:
    """Activation has no body, so that a browser would send it without asking."""
    headers = {name: value.replace("PORT", str(keyless.port)) for name, value in headers.items()}
    active = http.get(f"{keyless.url}/v1/traffic-split", timeout=20).json()["active"]
    answer = http.post(f"{keyless.url}/models/{active}/activate", headers=headers, timeout=20)
    if code is None:
        assert answer.status_code == 200, answer.text
    else:
        assert (answer.status_code, code_of(answer)) == (403, code)
        assert code != "keys_needed" or "shokado keys create" in answer.json()["error"]["message"]
    assert http.post(f"{keyless.url}{NATIVE}", json={"instances": [ROW]}, headers=headers, timeout=20).is_success


@needs_nginx
@pytest.mark.parametrize(
    "further",
    [
        "",
        "proxy_http_version 1.1;",
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;',
    ],
)
def test_without_keys_changes_are_not_for_those_behind_a_proxy_that_says_nothing(
    keyless: Server, tmp_path: Path, further: str
) -> None:
    """nginx's `proxy_pass` alone: it asks from this machine, for this server's own host, and adds no header."""
    location = f"location / {{ proxy_pass {keyless.url}; {further} }}"
    with proxy(tmp_path, location) as running:
        outside = f"http://127.0.0.1:{running.port}"
        assert http.post(f"{outside}{NATIVE}", json={"instances": [ROW]}, timeout=20).status_code == 200
        change = http.post(f"{outside}/v1/traffic-split", json={"v1": 1}, timeout=20)
        assert (change.status_code, code_of(change)) == (403, "keys_needed")
        assert http.post(f"{outside}/models/v1/activate", timeout=20).status_code == 403
        assert http.get(f"{outside}/v1/traffic-split", timeout=20).status_code == 200


def test_a_server_without_keys_says_so_when_it_starts(keyless: Server, keyed: Keyed) -> None:
    assert keyless.log.read_text().count("there are no keys: predictions are open to everybody") == 1
    assert "there are no keys" not in keyed.server.log.read_text()


def flood(server: Server, path: str, count: int, *lines: tuple[str, str], body: bytes = BODY) -> list[HTTPResponse]:
    """The same request over new connections; `lines` are headers, whose names may recur."""
    answers = []
    for _ in range(count):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.putrequest("POST", path)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *lines):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        answers.append(answer)
        connection.close()
    return answers


def test_rates_hold_at_all_doors_and_behind_proxies(models: Path, tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.yaml", "boss", ADMIN)
    access = {
        "keys_file": str(tmp_path / "keys.yaml"),
        "rates": {"per_address": "3/hour"},
        "trusted_proxies": ["127.0.0.0/8"],
    }
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_ACCESS": json.dumps(access)}
    key = ("X-API-Key", secret)
    with serving(environment=environment) as server:
        split = http.get(f"{server.url}/v1/traffic-split", headers=dict([key]), timeout=20).json()["weights"]
        change = json.dumps(split).encode()
        asked = ((NATIVE, BODY), (NATIVE + "?plain", BODY), ("/v1/traffic-split", change))
        # Even uvicorn's own handling of the header must not make them differ.
        for number, (path, body) in enumerate(asked):
            statuses, forged = [], 0
            for client in (f"192.0.2.{number}", f"192.0.2.{number}:4711"):
                # What the client forges comes before the line, or in the line, that the proxy adds.
                for lines in (
                    [("X-Forwarded-For", f"203.0.113.{forged}"), ("X-Forwarded-For", client)],
                    [("X-Forwarded-For", f"203.0.113.{forged}, {client}")],
                    [("Forwarded", f"for=203.0.113.{forged}"), ("Forwarded", f'for="{client}"')],
                ):
                    forged += 1
                    (answer,) = flood(server, path, 1, key, *lines, body=body)
                    statuses.append(answer.status)
            assert statuses == [200] * 3 + [429] * 3, path
            assert 3500 < int(answer.headers["retry-after"]) <= 3600
            assert answer.headers["x-ratelimit-limit"] == "3"
            (other,) = flood(server, path, 1, key, ("X-Forwarded-For", f"198.51.100.{number}"), body=body)
            assert other.status == 200
        assert {http.get(f"{server.url}/readyz", timeout=20).status_code for _ in range(6)} == {200}
        (answer,) = flood(server, NATIVE, 1, key, ("Forwarded", "for=_hidden"))
        assert answer.status == 200
        assert "in words that cannot be read" in server.log.read_text()
        history = f"{server.url}/v1/traffic-split/history"
        for number, path in enumerate((history, f"{server.url}/nowhere")):
            reader = {"X-Forwarded-For": f"192.0.2.1{number}", "X-API-Key": secret}
            statuses = [http.get(path, headers=reader, timeout=20).status_code for _ in range(4)]
            assert statuses == [200 if path == history else 404] * 3 + [429]
            assert http.get(f"{server.url}/livez", headers=reader, timeout=20).status_code == 200, "probes are free"
        for number, path in enumerate((NATIVE, NATIVE + "?plain")):
            line = ("X-Forwarded-For", f"192.0.2.2{number}")
            answers = flood(server, path, 3, key, line, ("X-Request-Deadline-Ms", "soon"))
            assert [answer.status for answer in answers] == [400] * 3
            assert flood(server, path, 1, key, line)[0].status == 429, "bad heads count as well"
        for number, path in enumerate((NATIVE, NATIVE + "?plain", "/v1/feedback", "/v1/traffic-split")):
            line = ("X-Forwarded-For", f"192.0.2.3{number}")
            answers = [
                *flood(server, path, 4, ("X-API-Key", "shk_guess"), line),
                *flood(server, path, 1, key, line),
            ]
            assert [answer.status for answer in answers] == [401] * 3 + [429] * 2, "guessing ends"
        for _ in range(3):
            with Connection(server) as connection:
                assert connection.ask(b"HELO shokado\r\n\r\n").status == 400
        assert flood(server, NATIVE, 1, key)[0].status == 429, "what is no request counts as well"


def assert_no_message_is_kept(server: Server, port: int) -> None:
    """Of who has no key: the call is refused, or answered, before its message is read."""
    before = memory(server)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with contextlib.ExitStack() as opened:
        calls = []
        for number in range(64):
            channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options=options))
            name = ("ModelInfer", "ServerLive")[number % 2]
            calls.append(channel.unary_unary(f"/{SERVICE}/{name}").future(bytes(15 * 2**20), timeout=20))
        codes = {call.code() for call in calls}
        assert codes == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK}
        assert memory(server) - before < 128 * 2**20


def test_grpc_asks_for_the_same_keys(models: Path, tmp_path: Path) -> None:
    secret, port = add_key(tmp_path / "keys.yaml", "ci", PREDICT), free_port()
    access = {"keys_file": str(tmp_path / "keys.yaml"), "rates": {"per_key": "3/hour", "per_address": "99/hour"}}
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_GRPC__PORT": str(port), "SHOKADO_ACCESS": json.dumps(access)}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(ROW)], "contents": {"fp32_contents": ROW}}
    infer = messages.ModelInferRequest(model_name="v1", inputs=[tensor])
    metadata, live = messages.ServerMetadataRequest(), messages.ServerLiveRequest()
    with serving(environment=environment) as server, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert_no_message_is_kept(server, port)

        def ask(name: str, request: Any, *headers: tuple[str, str]) -> Any:
            method = channel.unary_unary(f"/{SERVICE}/{name}", type(request).SerializeToString, lambda data: data)
            try:
                method(request, timeout=20, metadata=headers)
            except grpc.RpcError as error:
                return error.code(), dict(error.trailing_metadata())["x-error-code"]

        for name, request_of in (("ModelInfer", infer), ("ServerMetadata", metadata)):
            assert ask(name, request_of) == (grpc.StatusCode.UNAUTHENTICATED, "missing_key")
            wrong = ask(name, request_of, ("x-api-key", "shk_wrong"))
            assert wrong == (grpc.StatusCode.UNAUTHENTICATED, "unknown_key")
            assert ask(name, request_of, ("authorization", f"Bearer {secret}")) is None
        assert ask("ServerLive", live) is None
        assert ask("ModelInfer", infer, ("x-api-key", secret)) is None
        limited = ask("ModelInfer", infer, ("x-api-key", secret))
        assert limited == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:127.0.0.1:5", "127.0.0.1"), ("ipv6:%5B::1%5D:5", "::1"), ("ipv6:[::1]:5", "::1"), ("unix:/x", "")],
)
def test_addresses_of_grpc(peer: str, address: str) -> None:
    assert peer_of(peer) == address


def test_every_line_of_grpc_metadata_is_read() -> None:
    """One for each proxy, as headers have."""
    metadata = (("x-forwarded-for", "1.2.3.4"), ("user-agent", "x"), ("x-forwarded-for", "192.0.2.1"))
    client = client_of("127.0.0.1", head_of(metadata, None, None).forwarding, [ip_network("127.0.0.0/8")])
    assert client.counted_as == "192.0.2.1"


@pytest.mark.slow
@needs_redis
def test_servers_count_together_in_redis_and_alone_without(models: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as store:
        rates = {"per_address": "6/hour", "url": store.url}
        access = {"rates": rates, "open_metrics": True}
        environment = {"SHOKADO_WORKERS": "1", "SHOKADO_ACCESS": json.dumps(access)}
        with serving_side_by_side(environment, environment) as (one, other):
            statuses = [flood(server, path, 2)[-1].status for server in (one, other) for path in (NATIVE, NATIVE + "?")]
            assert statuses == [200, 200, 200, 429]
            assert flood(one, NATIVE, 1)[0].status == 429
            store.kill()
            statuses = [answer.status for answer in flood(one, NATIVE, 8)]
            assert statuses == [200] * 6 + [429] * 2, "it counts for itself"
            wait_until(lambda: one.metric("shokado_rates_store_up") == 0)
            assert one.log.read_text().count("is away") == 1
            store.start()
            wait_until(lambda: flood(one, NATIVE, 1)[0] and one.metric("shokado_rates_store_up") == 1)
