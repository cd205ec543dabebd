"""The front page, `GET /`: where things are, as JSON for programs and as a page for people who come with a browser.

In: what this worker knows of the model and its versions. Out: the JSON, or `front_page.html` filled in with it.
"""

import json
import shlex
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from runners.artefacts.card import Card
from runners.inputs.rows import RowReader
from shokado import __version__
from shokado.control.dependencies import Configuration, control_of
from shokado.control.http.browser_headers import protect_page
from shokado.control.http.negotiation import preferred
from shokado.control.versions import all_versions
from shokado.dialects.single import Single, first_example
from shokado.worker.parts import WorkerParts

_JSON, _HTML = "application/json", "text/html"
_LINKS = {
    "predict": "/v1/models/predict",
    "versions": "/v1/models",
    "split": "/v1/traffic-split",
    "history": "/v1/traffic-split/history",
    "feedback": "/v1/feedback",
    "ab_test": "/ab-test/status",
    "ready": "/readyz",
    "metrics": "/metrics",
    "documentation": "/docs",
}
_PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
).get_template("front_page.html")

router = APIRouter(tags=["about"])


class Index(BaseModel):
    """Where things are. `status` is how KServe's protocol, version 1, says that a server lives."""

    name: str
    status: Literal["alive"] = "alive"
    model: str
    version: str
    links: dict[str, str]


@router.get(
    "/",
    summary="Where things are",
    response_model=Index,
    responses={200: {"content": {_HTML: {"schema": {"type": "string"}}}}},
)
async def index(request: Request, response: Response, settings: Configuration) -> Index | HTMLResponse:
    """JSON, or a page where `Accept` prefers HTML."""
    if preferred(",".join(request.headers.getlist("accept")), _JSON, _HTML) == _HTML:
        return protect_page(HTMLResponse(_page(request), headers={"vary": "Accept"}))
    response.headers["vary"] = "Accept"
    links = {name: request.scope["root_path"] + path for name, path in _LINKS.items()}
    return Index(name="shokado", model=settings.model, version=__version__, links=links)


def _page(request: Request) -> str:
    """The page as this worker sees things, for the address that the browser asked at."""
    control = control_of(request)
    parts, gate = control.parts, control.gate
    card = _card(parts) if parts is not None else None
    read = parts.dispatcher.row_format if parts is not None else None
    prefix = request.scope["root_path"]
    address = f"{request.url.scheme}://{request.url.netloc}{prefix}"
    keyed = gate is not None and gate.watch is not None
    return _PAGE.render(
        model=control.settings.model,
        prefix=prefix,
        card=card,
        takes=(read or card.row_format).in_words if card is not None else None,
        versions=all_versions(parts) if parts is not None else [],
        routing=parts.dispatcher.state if parts is not None else None,
        call=_call(card, read, address, keyed=keyed) if card is not None else None,
    )


def _card(parts: WorkerParts) -> Card | None:
    """The card of any version: all have the same task and classes."""
    return next((artefact.card for artefact in parts.fleet.artefacts.values()), None)


def _call(card: Card, read: RowReader | None, address: str, *, keyed: bool) -> str:
    """The command that sends the card's first example, for a POSIX shell; `read` is how requests are read."""
    lines = [f"curl {shlex.quote(address + Single.path)}", "-H 'Content-Type: application/json'"]
    if keyed:
        lines.append("-H 'X-API-Key: YOUR-KEY'")
    body = json.dumps(first_example(card, read), indent=2)
    return " \\\n  ".join([*lines, f"-d {shlex.quote(body)}"])
