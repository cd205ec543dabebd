"""A server behind a proxy that speaks TLS for it and serves it at `/shokado/`, beside other things."""

import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.gateway.nginx_server import needs_nginx, proxy
from tests.support import http
from tests.support.server import ROW, Server, serving
from tests.tools import needs

pytestmark = [needs_nginx, needs("curl"), needs("openssl")]
PREFIX = "/shokado"


@pytest.fixture(scope="module")
def behind(models: Path) -> Iterator[Server]:
    environment = {
        "SHOKADO_WORKERS": "1",
        "SHOKADO_PREFIX": "/set",
        "SHOKADO_ACCESS__TRUSTED_PROXIES": '["127.0.0.0/8"]',
    }
    with serving(environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=shokado -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def outside(behind: Server, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the proxy, at the prefix."""
    server = f"""
        ssl_certificate {certificate};
        ssl_certificate_key {certificate.with_name("key.pem")};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        location {PREFIX}/ {{
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Prefix {PREFIX};
            proxy_pass {behind.url}/;
        }}
        location /set/ {{ proxy_pass {behind.url}; }}
        location / {{ return 404 "not of this server"; }}"""
    trusted = ssl.create_default_context(cafile=str(certificate))
    with (
        proxy(tmp_path_factory.mktemp("nginx"), server, listen="ssl") as running,
        httpx.Client(base_url=f"https://127.0.0.1:{running.port}", verify=trusted, timeout=20) as client,
    ):
        yield client


def page_of(outside: httpx.Client, path: str) -> str:
    answer = outside.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200
    return answer.text


# One is taken off by the proxy, which says so; the other is left on, and set here.
@pytest.mark.parametrize("prefix", [PREFIX, "/set"])
def test_every_link_leads_to_the_server(outside: httpx.Client, prefix: str) -> None:
    page = page_of(outside, f"{prefix}/")
    links = re.findall(r'(?:href|src)="(/[^"]*)"', page)
    links += re.findall(r'(?:href|src)="(/[^"]*)"', docs := page_of(outside, f"{prefix}/docs/"))
    links += re.findall(r"url: '([^']*)'", docs)
    links += [path for path in outside.get(f"{prefix}/").json()["links"].values() if "predict" not in path]
    assert len(links) > 10
    for link in links:
        assert link.startswith(f"{prefix}/"), link
        assert outside.get(link).status_code in ((200, 405) if link.endswith(("/feedback", "/explain")) else (200,)), (
            link
        )


@needs("chromium")
def test_the_command_that_the_page_shows_gets_a_prediction(outside: httpx.Client, certificate: Path) -> None:
    """In a browser, which finds all files and routes at the prefix."""
    with sync_playwright() as playwright:
        program, options = shutil.which("chromium"), ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=120_000)
        for prefix in (PREFIX, "/set"):
            page = browser.new_page(ignore_https_errors=True)
            page.set_default_timeout(60_000)
            page.goto(str(outside.base_url.copy_with(path=f"{prefix}/")))
            page.get_by_text("The same in a terminal").click()
            command = page.locator("#question pre").inner_text()
            assert f"{outside.base_url.copy_with(path=prefix)}/v1/models/predict" in command
            environment = {"CURL_CA_BUNDLE": str(certificate)}
            done = subprocess.run(["sh", "-euc", command], env=environment, capture_output=True, check=True, timeout=20)
            assert 0 <= json.loads(done.stdout)["predictions"][0] <= 1
        browser.close()


@pytest.mark.parametrize("prefix", [PREFIX, "/set"])
def test_the_description_says_where_the_routes_are(outside: httpx.Client, prefix: str) -> None:
    described = outside.get(f"{prefix}/openapi.json").json()
    assert described["servers"] == [{"url": prefix}]
    answer = outside.post(f"{prefix}/v1/models/predict/", json={"instances": [ROW]})
    assert answer.status_code == 200


def test_no_redirect_leaves_the_address_that_the_client_uses(outside: httpx.Client) -> None:
    for path in ("/redoc", "/redoc/"):
        location = outside.get(PREFIX + path).headers["location"]
        assert outside.base_url.join(location) == outside.base_url.join(f"{PREFIX}/docs")
    for path in ("/v1/models/", "/docs/", "/v1/traffic-split/"):
        assert outside.get(PREFIX + path).status_code == 200


def test_head_and_options_come_through(outside: httpx.Client) -> None:
    assert outside.head(f"{PREFIX}/livez").status_code == 200
    assert outside.options(f"{PREFIX}/v1/traffic-split").headers["allow"] == "GET, HEAD, OPTIONS, POST, PUT"


def test_who_is_no_trusted_proxy_names_no_address(keyless_front_page: str) -> None:
    assert "evil" not in keyless_front_page


@pytest.fixture
def keyless_front_page(server: Server) -> str:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "https"}
    return http.get(server.url, headers={"Accept": "text/html", **forged}, timeout=20).text
