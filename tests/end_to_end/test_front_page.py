"""The pages of a real server in a real browser: they show what they should, and the browser finds nothing forbidden."""

import subprocess
from pathlib import Path

import pytest

from tests.support.server import Server
from tests.tools import needs


@needs("chromium")
@pytest.mark.parametrize(
    ("path", "says"),
    [("/", "Show v1 in charts"), ("/dashboard", "Memory, now: worker"), ("/docs", "Score rows one by one")],
)
def test_a_browser_shows_the_page_and_finds_nothing_forbidden(
    server: Server, tmp_path: Path, path: str, says: str
) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"]
    waiting = ["--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *options, *waiting, server.url + path], capture_output=True, text=True, check=True, timeout=120
    )
    assert says in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
