"""What the headers of control requests say: who asks, for which environment, and which generation they have seen."""

import re
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from shokado.access.forwarding import UNKNOWN
from shokado.control.dependencies import control_of
from shokado.dialects.problem import Problem

MAX_ACTOR_CHARACTERS = 64
"""A name, or an address of mail; it stays in the history for good."""

_GENERATION = re.compile(r'"(\d{1,18})"').fullmatch

_ActorHeader = Annotated[
    str | None,
    Header(
        alias="X-Actor", description=f"Who makes the change, for its history: up to {MAX_ACTOR_CHARACTERS} characters."
    ),
]
_EnvironmentHeader = Annotated[
    str | None, Header(alias="X-Environment", description="The environment; without it, the default one.")
]
_IfMatchHeader = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description='The `ETag` of the routing that the change was made for, such as `"7"`: 412 if it is another now.',
    ),
]


def _actor(request: Request, name: _ActorHeader = None) -> str:
    key = f"key {request.state.key}" if request.state.key else ""
    if name is None:
        return key or _address(request)
    # Headers arrive as Latin-1, whatever the client meant; most mean UTF-8.
    try:
        text = name.encode("latin-1").decode().strip()
    except UnicodeError:
        text = name.strip()
    if not (0 < len(text) <= MAX_ACTOR_CHARACTERS and text.isprintable()):
        raise Problem("bad_header", f"x-actor is not a name of 1 to {MAX_ACTOR_CHARACTERS} printable characters")
    return f"{key} ({text})" if key else text


def _address(request: Request) -> str:
    """The client's, as far as trusted proxies tell it."""
    peer = request.client.host if request.client is not None else ""
    gate = control_of(request).gate
    address = gate.client_of(peer, request.scope["headers"]).address if gate is not None else None
    return str(address or peer or UNKNOWN)


def _environment(name: _EnvironmentHeader = None) -> str | None:
    return name or None


def _if_match(value: _IfMatchHeader = None) -> int | None:
    if value is None or value.strip() == "*":
        return None
    found = _GENERATION(value.strip())
    if found is None:
        message = f'if-match is {value[:100]!r}; it takes one generation as its etag spells it, such as "7", or *'
        raise Problem("bad_header", message)
    return int(found[1])


Actor = Annotated[str, Depends(_actor)]
IfMatch = Annotated[int | None, Depends(_if_match)]
EnvironmentHeader = Annotated[str | None, Depends(_environment)]


def _asked_environment(
    header: EnvironmentHeader,
    environment: Annotated[str | None, Query(description="The environment; without it, the default one.")] = None,
) -> str | None:
    return agreed_environment(environment, header)


AskedEnvironment = Annotated[str | None, Depends(_asked_environment)]
"""The environment that the query or the header names; None: the default one."""


def agreed_environment(named: str | None, header: str | None) -> str | None:
    """The environment that a query or body, or the header, names. Raises `Problem` (400) when they differ."""
    if named is not None and header is not None and named != header:
        message = f"x-environment says {header[:100]!r}, and the request also names {named[:100]!r}"
        raise Problem("conflicting_environment", message)
    return named if named is not None else header


def etag(generation: int) -> str:
    return f'"{generation}"'


def is_known(if_none_match: str | None, generation: int) -> bool:
    """Whether an `If-None-Match` names the generation, by weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag(generation) in tags
