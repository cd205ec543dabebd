"""`python -m tests.browser.pictures`: the README's pictures of the dashboard, of a server that is asked.

Without `--url` it serves the customers of `make serve` and asks them for a while: rows near the model's own example,
with feedback that agrees with the scores as often as the scores say.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import typer
from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import ROOT, prepare
from tests.support.server import serving

WIDTH, HEIGHT = 1440, 900
SCHEMES = ("light", "dark")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
PAUSE_S = 0.05
"""Between two requests: some twenty a second, which any machine can answer beside a browser."""


def main(
    url: Annotated[str | None, typer.Option(help="A server that runs; without one, customers are served.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long it is asked before the pictures are taken.")] = 120,
    folder: Annotated[Path, typer.Option(help="Where the pictures go.")] = ROOT / "docs" / "pictures",
) -> None:
    """Take the pictures."""
    with contextlib.ExitStack() as running:
        server = url or running.enter_context(_customers())
        running.enter_context(asked(server))
        time.sleep(seconds)
        playwright = running.enter_context(sync_playwright())
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS), timeout=120_000)
        folder.mkdir(parents=True, exist_ok=True)
        for scheme in SCHEMES:
            take(browser, server, scheme, folder / f"dashboard-{scheme}.png")
        browser.close()


def take(browser: Browser, server: str, scheme: str, path: Path) -> None:
    """A picture of the upper part of the page, once everything in it is there."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(60_000)
    page.goto(f"{server}/dashboard")
    expect(page.locator("#version-table tbody tr").first).to_contain_text("ms", timeout=60_000)
    expect(page.locator("#quality tbody tr").first).to_be_attached(timeout=60_000)
    page.wait_for_timeout(2000)
    expect(page.locator("#connection")).to_have_text("live", timeout=60_000)
    page.screenshot(path=path)
    page.close()
    typer.echo(str(path))


@contextlib.contextmanager
def asked(server: str) -> Iterator[None]:
    """Ask the server in a thread until the context is left."""
    ended = threading.Event()
    thread = threading.Thread(target=_ask, args=(server, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _customers() -> Iterator[str]:
    prepare("customers")
    with serving(environment={"SHOKADO_WORKERS": "2"}) as server:
        yield server.url


def _ask(server: str, ended: threading.Event) -> None:
    random = Random(1)
    with httpx.Client(base_url=server, timeout=30) as client:
        form = client.get("/v1/dashboard").json()["form"]
        while not ended.wait(random.uniform(0, 2 * PAUSE_S)):
            rows = [_row(form, random) for _ in range(random.choice((1, 1, 1, 4)))]
            answer = client.post(form["path"], json={"instances": rows, "unit": f"user-{random.randrange(500)}"})
            if answer.status_code == 200 and random.random() < 0.5:
                client.post("/v1/feedback", json=_feedback(form, answer.json(), random))


def _row(form: dict[str, Any], random: Random) -> dict[str, Any]:
    """The example with other numbers, in the range of each feature."""
    row = dict(form["instance"])
    for feature in form["features"]:
        if feature["range"] is not None and feature["type"] in ("float", "integer"):
            value = random.uniform(*feature["range"])
            row[feature["name"]] = round(value) if feature["type"] == "integer" else round(value, 2)
    return row


def _feedback(form: dict[str, Any], answer: dict[str, Any], random: Random) -> list[dict[str, Any]]:
    labels = [form["classes"][random.random() < score] for score in answer["predictions"]]
    return [
        {"prediction_id": answer["prediction_id"], "index": index, "label": label} for index, label in enumerate(labels)
    ]


if __name__ == "__main__":
    typer.run(main)
