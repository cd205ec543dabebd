"""Authorization of control routes: which role each of them needs, and what the gate says to who asks.

A route that no table names needs `admin` if it changes something, by its method, and else `predict`; one that tells of
other clients' rows needs `admin` as well. Without keys, what needs `admin` is for clients on the same machine.
"""

from urllib.parse import parse_qsl

from fastapi import Request
from starlette.routing import Match

from shokado.access.decision import Refused, read_asked
from shokado.access.gate import Gate
from shokado.access.keys import Role
from shokado.control.outside import route_of
from shokado.dialects.problem import problem_of

OPEN = frozenset(
    (
        "/livez", "/readyz", "/ready", "/health", "/ping", "/v2/health/live", "/v2/health/ready",
        "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/", "/dashboard",
    )
)  # fmt: skip
"""What probes and readers of the documentation ask for, who have no key, and browsers before they have been given one.
"""
OPEN_FOLDER = "/dashboard/"
"""The files of the page, which are the same on every server."""
METRICS = "/metrics"
ASKED_BY_POST = frozenset(("/v1/feedback", "/v1/traffic-split/preview", "/v2/repository/index"))
"""What whoever predicts may do, although it is posted to."""
WEBHOOKS = frozenset(("/v1/verdict/confirm-promotion", "/v1/verdict/rollback"))
"""What Flagger posts, which can show no key: it changes nothing, is short, and is told one word."""
OF_ADMINS = ("/v1/drift/", "/v1/log", "/v1/batches")
"""What the paths begin with that tell which values all clients' rows have, of few rows what is in one, or where tables
are.
"""
OF_VERSIONS = "/v1/metrics/"
BY = "by"
"""What figures of a version are told apart by: those of a level with one row say what became of it."""

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def is_changing(method: str) -> bool:
    return method not in _SAFE


def role_for(method: str, path: str, *, open_metrics: bool, query: bytes = b"") -> Role | None:
    """The role that a control route needs; None where everybody may ask."""
    if not is_changing(method):
        if path in OPEN or path.startswith(OPEN_FOLDER) or (open_metrics and path == METRICS):
            return None
        of_rows = path.startswith(OF_ADMINS) or (path.startswith(OF_VERSIONS) and _names(query, BY))
        return Role.ADMIN if of_rows else Role.PREDICT
    if path in WEBHOOKS:
        return None
    return Role.PREDICT if path in ASKED_BY_POST else Role.ADMIN


def _names(query: bytes, parameter: str) -> bool:
    return parameter in (name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def is_counted(method: str, needed: Role | None) -> bool:
    """Whether rates count a control request: what everybody may read is not, so that probes are answered always."""
    return needed is not None or is_changing(method)


async def enter(request: Request, gate: Gate) -> str:
    """The name of the key of a control request, empty without keys. Raises `Problem` (401, 403, 429).

    Who asks for a route that there is not is told so, with or without a key. What is refused is counted by its address.
    """
    scope = request.scope
    peer = request.client.host if request.client is not None else ""
    port = scope["server"][1] if scope.get("server") is not None else None
    changing = is_changing(request.method)
    query, open_metrics = scope.get("query_string", b""), gate.settings.open_metrics
    needed = role_for(request.method, route_of(scope), open_metrics=open_metrics, query=query)
    known = any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)
    key, refused = "", None
    try:
        if known:
            asked = read_asked(scope["headers"], peer, port, scope["http_version"])
            key = gate.enter(asked, needed, changing=changing)
    except Refused as error:
        refused = error
    if is_counted(request.method, needed) or refused is not None or not known:
        refused = await gate.take(key, gate.address_of(peer, scope["headers"])) or refused
    if refused is not None:
        # Without its traceback, whose frames know it.
        raise problem_of(refused.with_traceback(None)) from None
    if needed is not None and known:
        gate.admitted(key)
    return key
