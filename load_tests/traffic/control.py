"""What a load test asks a server beside predictions: what it serves, and what its split was.

In: base address, key, environment. Out: `TargetModel`, `Routing`; `CannotAsk` whose message says why, and what to do.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from load_tests.traffic.routing import Generation, generations_of
from load_tests.traffic.target_model import NotAModel, TargetModel, model_of
from shokado.client import AccessDenied, Client, NoAnswer, ShokadoError

_PAGE = 500
"""Entries of the history asked for at once, as many as the server gives."""


class CannotAsk(Exception):
    """The message says why, in words for people."""


def ask_model(url: str, headers: dict[str, str]) -> TargetModel:
    """What is served. Raises `CannotAsk`."""
    with _asking(url, headers) as client:
        return model_of(client.versions())


def ask_routing(url: str, headers: dict[str, str], oldest: int) -> dict[int, Generation]:
    """The generations from the newest to the oldest one that is of interest. Raises `CannotAsk`."""
    found: dict[int, Generation] = {}
    with _asking(url, headers) as client:
        # Its answer says which environment is meant where none was named.
        environment = client.split().environment
        before: int | None = None
        while page := client.history(limit=_PAGE, before=before).entries:
            found |= generations_of(page, environment)
            before = min(found)
            if before <= oldest:
                break
    return found


@contextmanager
def _asking(url: str, headers: dict[str, str]) -> Iterator[Client]:
    if not url:
        raise CannotAsk("name a server: --host http://127.0.0.1:3000")
    trusted = ssl.create_default_context()
    try:
        with httpx.Client(headers=headers, trust_env=False, verify=trusted) as http:
            yield Client(url, http=http)
    except NoAnswer as error:
        raise CannotAsk(f"cannot reach {url} ({error}): is it running? Start it with: make serve") from error
    except AccessDenied as error:
        raise CannotAsk(
            f"{url} answers {error}: show a key, by SHOKADO_API_KEY=.. or --key; behind a gateway "
            "that keeps this route to itself, name an address that answers it: --control http://.."
        ) from error
    except ShokadoError as error:
        raise CannotAsk(f"{url} answers {error}") from error
    except (NotAModel, LookupError, ValueError) as error:
        raise CannotAsk(f"{url} cannot be asked: {error}") from error
