"""The front page, `GET /`: where things are, as JSON for programs; people who come with a browser get the dashboard."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from shokado import __version__
from shokado.control.dependencies import Configuration
from shokado.control.http.negotiation import preferred
from shokado.control.pages.dashboard_page import dashboard_page

_JSON, _HTML = "application/json", "text/html"
_LINKS = {
    "dashboard": "/dashboard",
    "predict": "/v1/models/predict",
    "explain": "/v1/models/explain",
    "versions": "/v1/models",
    "split": "/v1/traffic-split",
    "history": "/v1/traffic-split/history",
    "feedback": "/v1/feedback",
    "ab_test": "/ab-test/status",
    "ready": "/readyz",
    "metrics": "/metrics",
    "documentation": "/docs",
}

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
    """JSON, or the dashboard where `Accept` prefers HTML."""
    if preferred(",".join(request.headers.getlist("accept")), _JSON, _HTML) == _HTML:
        page = dashboard_page(request, settings.model)
        page.headers["vary"] = "Accept"
        return page
    response.headers["vary"] = "Accept"
    links = {name: request.scope["root_path"] + path for name, path in _LINKS.items()}
    return Index(name="shokado", model=settings.model, version=__version__, links=links)
