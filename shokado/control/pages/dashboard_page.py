"""The dashboard, `GET /dashboard`: the live page for people, and the files that it is made of.

In: nothing but the model's name and the address that the browser asked at. Out: `dashboard/page.html`, whose scripts
ask the routes for all else, with the key of whoever looks at it. Files are sent as they lie in `dashboard/`.
"""

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shokado.control.dependencies import Configuration
from shokado.control.http.browser_headers import protect_strictly
from shokado.dialects.problem import Problem

_FOLDER = Path(__file__).parent / "dashboard"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined).get_template(
    "page.html"
)

router = APIRouter(include_in_schema=False)


class _PageFile(NamedTuple):
    content: bytes
    headers: dict[str, str]


@router.get("/dashboard")
async def dashboard(request: Request, settings: Configuration) -> HTMLResponse:
    """The page."""
    return dashboard_page(request, settings.model)


@router.get("/dashboard/{path:path}")
def page_file(path: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A file of the page."""
    found = _files().get(path)
    if found is None:
        raise Problem("not_found", f"the dashboard has no file {path[:100]!r}")
    if found.headers["etag"] == if_none_match:
        return Response(status_code=304, headers=found.headers)
    return Response(found.content, headers=found.headers)


def dashboard_page(request: Request, model: str) -> HTMLResponse:
    """The page for the address that the browser asked at."""
    return protect_strictly(HTMLResponse(_PAGE.render(model=model, base=_base(request))))


def _base(request: Request) -> str:
    """Where the server's routes begin, for a browser that is at this address.

    A prefix that is known is said. One that is not may still be there: then addresses are relative.
    """
    if prefix := request.scope["root_path"]:
        return f"{prefix}/"
    asked = request.scope.get("raw_path", b"").split(b"?")[0]
    return "../" if asked.rstrip(b"/") and asked.endswith(b"/") else "./"


@cache
def _files() -> dict[str, _PageFile]:
    """The files by their path in the folder, read once."""
    return {
        path.relative_to(_FOLDER).as_posix(): _PageFile(content := path.read_bytes(), _headers(path, content))
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }


def _headers(path: Path, content: bytes) -> dict[str, str]:
    digest = sha256(content).hexdigest()[:32]
    kind = f"{_TYPES[path.suffix]}; charset=utf-8"
    return {"content-type": kind, "etag": f'"{digest}"', "cache-control": "no-cache"}
