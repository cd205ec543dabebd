"""What a load test asks a server beside predictions: what it serves, and what its split was.

In: base address, key, environment. Out: `Model`, `Routing`; `CannotAsk` whose message says why, and what to do.
"""

import ssl

import httpx

from load_tests.traffic.model import Model, NotAModel, read_model
from load_tests.traffic.routing import Generation, NotAHistory, read_history

_PAGE = 500
_TIMEOUT_S = 30


class CannotAsk(Exception):
    """The message says why, in words for people."""


def ask_model(url: str, headers: dict[str, str]) -> Model:
    """What is served. Raises `CannotAsk`."""
    try:
        return read_model(_get(url, "/v1/models", headers))
    except NotAModel as error:
        raise CannotAsk(f"{url} answers, but not as Shokado does ({error}): is that another server?") from error


def ask_routing(url: str, headers: dict[str, str], oldest: int) -> dict[int, Generation]:
    """The generations from the newest to the oldest one that is of interest. Raises `CannotAsk`."""
    found: dict[int, Generation] = {}
    try:
        # Its answer says which environment is meant where none was named.
        environment = httpx.Response(200, content=_get(url, "/v1/traffic-split", headers)).json()["environment"]
        path = f"/v1/traffic-split/history?limit={_PAGE}"
        while page := read_history(_get(url, path, headers), environment):
            found |= page
            if min(found) <= oldest:
                break
            path = f"/v1/traffic-split/history?limit={_PAGE}&before={min(found)}"
    except (NotAHistory, KeyError, ValueError) as error:
        raise CannotAsk(f"{url} does not tell the history of its split: {error}") from error
    return found


def _get(url: str, path: str, headers: dict[str, str]) -> bytes:
    if not url:
        raise CannotAsk("name a server: --host http://127.0.0.1:3000")
    try:
        trusted = ssl.create_default_context()
        response = httpx.get(url + path, headers=headers, timeout=_TIMEOUT_S, trust_env=False, verify=trusted)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CannotAsk(f"cannot reach {url} ({error}): is it running? Start it with: make serve") from error
    if response.status_code in (401, 403):
        raise CannotAsk(
            f"{url}{path} answers {response.status_code}: show a key, by SHOKADO_API_KEY=.. or --key; behind a gateway "
            "that keeps this route to itself, name an address that answers it: --control http://.."
        )
    if not response.is_success:
        raise CannotAsk(f"{url}{path} answers {response.status_code}: {response.text[:200]}")
    return response.content
