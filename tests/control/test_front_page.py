"""The front page: JSON for programs, and for browsers the dashboard, which runs its own files alone."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx
import pytest
from starlette.requests import Request

from shokado.control.pages import dashboard_page
from tests.control.site import Site

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VOID = {"meta", "link", "input"}


@dataclass
class Page(HTMLParser):
    """The tags of a page with their attributes, in order. Fails on one that is not closed where it should be."""

    html: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def links(self) -> list[str]:
        """Where it leads, and what it is made of; not what leads to a part of the page itself."""
        found = [attributes.get(name) or "" for _, attributes in self.elements for name in ("href", "src")]
        return [link for link in found if link and not link.startswith("#")]


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


def test_browsers_get_the_dashboard_at_both_addresses(site: Site) -> None:
    front, page = site.ask("GET", "/", headers=BROWSER), site.ask("GET", "/dashboard")
    assert front.text == page.text
    assert front.headers["vary"] == "Accept"
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_the_page_may_run_nothing_but_files_of_this_server(site: Site) -> None:
    answer = site.ask("GET", "/dashboard")
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert "unsafe" not in policy
    for tag, attributes in Page(answer.text).elements:
        assert tag != "style"
        assert tag != "script" or attributes["src"]
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_every_link_of_the_page_leads_somewhere(site: Site, path: str) -> None:
    answer = site.ask("GET", path, headers=BROWSER)
    links = Page(answer.text).links()
    assert len(links) > 10
    for link in links:
        found = site.ask("GET", str(answer.url.join(link).raw_path, "ascii"))
        assert found.status_code == 200, link


def test_every_file_of_the_page_is_sent_with_its_type_and_only_once(site: Site) -> None:
    files = dashboard_page._files()
    assert {"main.js", "theme.css", "icon.svg", "uplot-1.6.32/uPlot.esm.js"} <= files.keys()
    for path in files:
        answer = site.ask("GET", f"/dashboard/{path}")
        assert answer.status_code == 200
        kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[path.rsplit(".", 1)[1]]
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        again = site.ask("GET", f"/dashboard/{path}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_what_a_file_imports_is_there() -> None:
    files = dashboard_page._files()
    for path, file in files.items():
        for name in re.findall(r"(?m)^import .* from '\./(.+)';$", file.content.decode()):
            assert name in files, f"{path} imports {name}"


@pytest.mark.parametrize("path", ["page.html", "../dashboard_page.py", "%2e%2e/dashboard_page.py", "nothing.js", ""])
def test_no_other_file_is_sent(site: Site, path: str) -> None:
    answer = site.ask("GET", f"/dashboard/{path}")
    assert answer.status_code == 404 or answer.text == site.ask("GET", "/dashboard").text


@pytest.mark.parametrize(
    ("path", "prefix", "base"),
    [
        ("/", "", "./"),
        ("/dashboard", "", "./"),
        ("/dashboard/", "", "../"),
        ("/set", "/set", "/set/"),
        ("/set/dashboard/", "/set", "/set/"),
    ],
)
def test_addresses_begin_where_the_server_does(path: str, prefix: str, base: str) -> None:
    request = Request({"type": "http", "path": path, "raw_path": path.encode(), "root_path": prefix, "headers": []})
    page = dashboard_page.dashboard_page(request, "<b>&'\"")
    text = bytes(page.body).decode()
    assert f'data-base="{base}"' in text
    assert f'src="{base}dashboard/main.js"' in text
    assert "<b>" not in text


def test_the_page_is_there_before_the_worker_has_started(site: Site) -> None:
    site.workers[0].control.parts = None
    assert site.ask("GET", "/dashboard").status_code == 200
    assert site.ask("GET", "/v1/dashboard").status_code == 503
