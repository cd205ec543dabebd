"""A server with keys: the page asks for one, keeps it to itself, and needs another for changes."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from shokado.access.keys import Role, add_key
from tests.browser.served_page import PaperServer
from tests.browser.viewer import Viewer

REFUSED = re.compile("status of 40[13]")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PaperServer, dict[Role, str]]]:
    folder = tmp_path_factory.mktemp("keyed")
    secrets = {role: add_key(folder / "keys.yaml", f"{role}-key", role) for role in Role}
    server = PaperServer(folder, settings={"access": {"keys_file": str(folder / "keys.yaml"), "required": True}})
    server.headers = {"X-API-Key": secrets[Role.PREDICT]}
    server.start()
    yield server, secrets
    server.kill()


def give_key(dialog: Locator, key: str) -> None:
    """Answer the dialog that asks for one."""
    dialog.get_by_label("Key").fill(key)
    dialog.get_by_role("button", name="Use this key").click()


def test_a_key_is_asked_for_once_and_another_for_changes(
    keyed: tuple[PaperServer, dict[Role, str]], viewer: Viewer
) -> None:
    server, secrets = keyed
    viewer.allowed = REFUSED
    page = viewer.page
    page.goto(f"{server.url}/")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("show a key")
    give_key(dialog, "shk_wrong")
    expect(dialog).to_contain_text("not known here")
    give_key(dialog, secrets[Role.PREDICT])
    expect(viewer.row("v1")).to_contain_text("80 % active")
    # The drift of few rows would tell what is in them.
    expect(page.get_by_role("button", name="Show with another key")).to_have_count(2)
    page.get_by_role("button", name="Activate v2").click()
    viewer.confirm("try it")
    asked = page.get_by_role("dialog", name="This server asks for a key")
    expect(asked).to_contain_text("admin")
    give_key(asked, secrets[Role.ADMIN])
    viewer.says("v2 is the active version")
    expect(viewer.newest_change()).to_contain_text("admin-key")
    kept = page.evaluate("() => [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie].join()")
    assert "shk_" not in kept
    page.reload()
    expect(page.get_by_role("dialog")).to_contain_text("show a key")


def test_an_experiment_is_started_with_a_key_of_admins(
    keyed: tuple[PaperServer, dict[Role, str]], viewer: Viewer
) -> None:
    server, secrets = keyed
    viewer.allowed = REFUSED
    page = viewer.page
    page.goto(f"{server.url}/dashboard")
    give_key(page.get_by_role("dialog"), secrets[Role.PREDICT])
    page.get_by_text("Start an experiment").click()
    page.get_by_role("button", name="Start…").click()
    viewer.confirm("try it")
    asked = page.get_by_role("dialog", name="This server asks for a key")
    expect(asked).to_contain_text("admin")
    give_key(asked, secrets[Role.ADMIN])
    viewer.says("has begun")
    expect(viewer.newest_change()).to_contain_text("admin-key")
    expect(page.locator("#experiment-verdict")).to_have_text("RUNNING")


def test_who_gives_no_key_is_left_alone_and_may_give_one_later(
    keyed: tuple[PaperServer, dict[Role, str]], viewer: Viewer
) -> None:
    server, secrets = keyed
    viewer.allowed = REFUSED
    page = viewer.page
    page.goto(f"{server.url}/dashboard")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#connection")).to_contain_text("show a key")
    with page.expect_response(lambda answer: answer.status == 401):
        pass
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Key", exact=True).click()
    give_key(dialog, secrets[Role.PREDICT])
    expect(viewer.row("v1")).to_be_visible()
