"""Somebody who looks at the dashboard: opens it, waits for what it says, and changes things as a person does."""

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.browser.served_page import PaperServer

TIMEOUT_MS = 60_000
"""For what the page does within a second or two, on a machine that does much else."""
LOST = re.compile("net::ERR_CONNECTION_REFUSED|net::ERR_CONNECTION_RESET|net::ERR_EMPTY_RESPONSE|status of 503")
"""What a browser logs by itself while nobody answers."""

expect.set_options(timeout=TIMEOUT_MS)


class Viewer:
    """One page, and what the console has complained about meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.allowed = re.compile("(?!)")
        """What the console may say, where a test makes it."""
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, server: PaperServer, path: str = "/dashboard") -> None:
        """Open the page, and return when it shows the versions."""
        self.page.goto(server.url + path)
        expect(self.row("v1")).to_be_visible()
        expect(self.page.locator("#history li")).not_to_have_count(0)

    def row(self, version: str) -> Locator:
        """The version's row in the table of versions."""
        return self.page.locator("#version-table tbody tr").filter(
            has=self.page.get_by_role("checkbox", name=f"Show {version} in charts", exact=True)
        )

    def confirm(self, why: str) -> None:
        """Give the reason that the dialog asks for, and go on."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_label("Why").fill(why)
        dialog.get_by_role("button").last.click()

    def confirm_by_keyboard(self, why: str) -> None:
        """The same without a mouse, where the button that opens the dialog has the focus."""
        keyboard = self.page.keyboard
        keyboard.press("Enter")
        keyboard.type(why)
        keyboard.press("Tab")
        keyboard.press("Tab")
        keyboard.press("Enter")

    def says(self, words: str | re.Pattern[str]) -> None:
        """Return when the page's message says so."""
        expect(self.page.locator("#message")).to_contain_text(words)

    def newest_change(self) -> Locator:
        return self.page.locator("#history li").first

    def serious(self) -> list[str]:
        """What axe finds that keeps somebody from using the page."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.allowed.search(message.text):
            self.complaints.append(message.text)
