"""The front page: JSON for programs, HTML for browsers, and nothing that the model is called runs in either."""

import json
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from runners.artefacts.card import Task
from tests.control.site import Site
from tests.support.cards import CLASSES, SEVERAL, TEXT, card_content

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert('x')</script>\"$(reboot)`reboot`\\&amp;\u202e{{ 7 * 7 }}"
VOID = {"meta", "link"}


@dataclass
class Element:
    """An element of a page; `text` is all that it holds."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page in their order. Fails on one that is not closed where it should be."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def one(self, tag: str) -> Element:
        (element,) = self.all(tag)
        return element

    def rows(self) -> list[list[str]]:
        """The words of each cell, by row."""
        rows: list[list[str]] = []
        for element in self.elements:
            if element.tag == "tr":
                rows.append([])
            elif element.tag in {"td", "th"}:
                rows[-1].append(" ".join(element.text.split()))
        return rows

    def command(self) -> list[str]:
        """The words of the command that the page shows, as a shell takes it apart."""
        show = "curl() { printf '%s\\0' curl \"$@\"; }\n"
        shell = subprocess.run(["sh", "-euc", show + self.one("pre").text], capture_output=True, check=True, timeout=20)
        assert not shell.stderr
        return shell.stdout.decode().split("\0")[:-1]


def page_of(site: Site, **headers: str) -> Page:
    answer = site.ask("GET", "/", headers=BROWSER | headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0", "text/html;q=0.5,application/json"])
def test_programs_get_json(site: Site, accept: str) -> None:
    answer = site.ask("GET", "/", headers={"Accept": accept})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "Accept")
    assert answer.json()["model"] == "paper"


def test_who_says_nothing_gets_json(site: Site) -> None:
    async def ask() -> httpx.Response:
        client = site.workers[0].client
        request = client.build_request("GET", "/")
        del request.headers["accept"]
        return await client.send(request)

    assert site.run(ask()).headers["content-type"] == "application/json"


def test_accept_may_be_said_in_parts(site: Site) -> None:
    async def ask() -> httpx.Response:
        return await site.workers[0].client.get(
            "/", headers=[("Accept", "application/json;q=0.5"), ("Accept", "text/html")]
        )

    assert site.run(ask()).headers["content-type"].startswith("text/html")


def test_browsers_get_a_page_that_may_run_nothing(site: Site) -> None:
    answer = site.ask("GET", "/", headers=BROWSER)
    assert answer.headers["vary"] == "Accept"
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'self'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    page = Page(answer.text)
    assert not page.all("script")
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")], element
        for name in ("src", "href"):
            assert (element.attributes.get(name) or "/").startswith(("/", "data:")), element


def test_the_page_has_the_structure_that_screen_readers_go_by(site: Site) -> None:
    page = page_of(site)
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("h1").text == "paper"
    assert [heading.text for heading in page.all("h2")] == ["Versions", "Send one row", "Go on"]
    assert {header.attributes["scope"] for header in page.all("th")} == {"row", "col"}
    assert page.one("caption").text
    ids = {element.attributes.get("id") for element in page.elements}
    assert {element.attributes.get("aria-labelledby") for element in page.elements} <= ids


def test_the_page_tells_what_each_version_is_for(site: Site) -> None:
    site.post("/v1/traffic-split", {"weights": {"v1": 1, "v2": 2}, "shadow": "v3", "enabled": False})
    header, *rows = page_of(site).rows()
    assert header == [
        "Version",
        "State",
        "Weight in production the default the split is off: the active version answers",
        "Weight in staging",
        "Engine",
    ]
    engine = site.workers[0].dispatcher.runners["v1"].engine
    assert rows == [
        ["v1 also a models:/paper/1", "ready", "33.33 % active", "0 %", engine],
        ["v2 also b models:/paper/1", "ready", "66.67 %", "100 % active", engine],
        ["v3 models:/paper/1", "ready", "0 % shadow: gets a copy", "0 %", engine],
    ]


def test_the_page_tells_what_is_wrong_with_a_version(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    *_, last = page_of(empty_site).rows()
    assert last[1].startswith("failed CardError")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "It takes rows of 2 numbers and answers each with the probability of 1 rather than 0."),
        ({"features": [{"name": "width"}], "examples": {"rows": [[1.0]], "scores": [0.5]}}, "rows of 1 number and"),
        ({"task": Task.MULTICLASS, "classes": CLASSES[Task.MULTICLASS]}, "the probabilities of its 3 classes."),
        ({"task": Task.REGRESSION, "classes": []}, "and answers each with a value."),
        ({"task": Task.ANOMALY, "format": 3, "classes": [-1, 1]}, "with -1 for an anomaly or 1, and a score"),
        (
            {"task": Task.MULTICLASS_MARGIN, "format": 3, "classes": CLASSES[Task.MULTICLASS_MARGIN]},
            "one of 3 classes, and what its decision function gives.",
        ),
        (SEVERAL | {"task": Task.MULTIOUTPUT, "classes": []}, "and answers each with 2 values: speed, cost."),
        (TEXT, "It takes a text and answers each with"),
    ],
)
def test_the_page_tells_what_the_model_takes_and_gives(empty_site: Site, changes: dict[str, Any], says: str) -> None:
    empty_site.join(card=changes)
    assert says in " ".join(page_of(empty_site).all("p")[0].text.split())


@pytest.mark.parametrize(
    ("changes", "body"), [({}, {"features": {"width": 1.0, "count": 2.0}}), (TEXT, {"message": "win a prize"})]
)
def test_the_command_sends_an_example_where_the_browser_asked(
    empty_site: Site, changes: dict[str, Any], body: Any
) -> None:
    empty_site.join(card=changes)
    program, url, *rest = page_of(empty_site, Host="shokado.example:8080").command()
    assert (program, url) == ("curl", "http://shokado.example:8080/predict")
    assert rest[:3] == ["-H", "Content-Type: application/json", "-d"]
    assert json.loads(rest[3]) == body


def test_what_the_model_is_called_runs_neither_in_the_page_nor_in_a_shell(empty_site: Site) -> None:
    source = card_content()["source"] | {"uri": f"models:/{HOSTILE}"}
    features = [{"name": HOSTILE}, {"name": "count"}]
    empty_site.join(card={"features": features, "classes": [HOSTILE, "other"], "source": source})
    page = page_of(empty_site)
    assert not [element for element in page.elements if element.tag in {"script", "img"}]
    assert HOSTILE in page.all("p")[0].text
    assert f"models:/{HOSTILE}" in page.rows()[1][0]
    assert json.loads(page.command()[-1]) == {"features": {HOSTILE: 1.0, "count": 2.0}}


@pytest.mark.parametrize("host", ["<b>'$(reboot)", "h;reboot", 'h" onload="x', "[::1]:3000", "h/?#@x"])
def test_what_the_browser_calls_the_server_runs_neither(site: Site, host: str) -> None:
    page = page_of(site, Host=host)
    assert not page.all("b")
    program, url, *rest = page.command()
    assert (program, url.startswith("http://"), url.endswith("/predict")) == ("curl", True, True)
    assert [rest[0], rest[2], len(rest)] == ["-H", "-d", 4]


def test_every_link_of_the_page_leads_somewhere(site: Site) -> None:
    links = [str(link.attributes["href"]) for link in page_of(site).all("a")]
    assert {"/docs", "/openapi.json", "/metrics", "/readyz", "/v1/models", "/v1/traffic-split"} == set(links)
    for link in links:
        assert site.ask("GET", link).status_code == 200, link


def test_the_page_is_there_before_the_worker_has_started(site: Site) -> None:
    site.workers[0].control.parts = None
    page = page_of(site)
    assert "The server is starting" in page.one("main").text
    assert not page.all("table")
    assert not page.all("pre")
