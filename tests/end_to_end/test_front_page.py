"""The front page of a real server: the command that it shows works as it stands, and a real browser shows the page."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import http
from tests.support.server import Server
from tests.tools import needs

needs_curl = needs("curl")
needs_chromium = needs("chromium")


@needs_curl
@pytest.mark.parametrize("name", ["server", "plain_server"])
def test_the_command_gets_a_prediction(request: pytest.FixtureRequest, name: str) -> None:
    server: Server = request.getfixturevalue(name)
    page = http.get(server.url, headers={"Accept": "text/html"}, timeout=20).text
    found = re.search(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    assert found
    done = subprocess.run(["sh", "-euc", html.unescape(found[1])], capture_output=True, check=True, timeout=20)
    answer = json.loads(done.stdout)
    assert 0 <= answer["prediction"] <= 1
    assert answer["model_version"] in {"v1", "v2"}


@needs_chromium
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_browser_shows_the_page_and_finds_nothing_forbidden(server: Server, tmp_path: Path, path: str) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"]
    waiting = ["--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *options, *waiting, server.url + path], capture_output=True, text=True, check=True, timeout=120
    )
    says = {"/": "<h1>customers</h1>", "/docs": "Score rows one by one"}
    assert says[path] in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
