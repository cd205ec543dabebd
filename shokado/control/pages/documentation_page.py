"""The documentation page: the API described for people, with files that BentoML brings, so without the internet."""

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import RedirectResponse

from shokado.control.control_first import STATIC
from shokado.control.http.browser_headers import protect_page

router = APIRouter(tags=["about"])


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """Swagger UI with the files that BentoML brings along, so that it works without the internet."""
    prefix = request.scope["root_path"]
    files = prefix + STATIC
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title="Shokado",
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon-light-32x32.png",
    )
    return protect_page(page)


@router.get("/redoc", include_in_schema=False)
def redoc(request: Request) -> Response:
    """ReDoc's own page would need a script from the internet."""
    return RedirectResponse(f"{request.scope['root_path']}/docs")
