"""One browser for a file, and one page for a test, which must leave no complaint in the console."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.served_page import PaperServer
from tests.browser.viewer import Viewer
from tests.tools import why


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip(why("chromium"))
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=options, timeout=120_000)
        yield running
        running.close()


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperServer]:
    """A server of two versions that nobody has asked yet."""
    server = PaperServer(tmp_path_factory.mktemp("paper"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def viewer(browser: Browser) -> Iterator[Viewer]:
    """Somebody at a desk."""
    one = Viewer(browser.new_page(viewport={"width": 1280, "height": 900}))
    yield one
    one.page.close()
    assert one.complaints == []


@pytest.fixture
def phone(browser: Browser) -> Iterator[Viewer]:
    """Somebody with a small phone, who wants nothing to move, and dark."""
    page = browser.new_page(viewport={"width": 360, "height": 640}, reduced_motion="reduce", color_scheme="dark")
    one = Viewer(page)
    yield one
    page.close()
    assert one.complaints == []
