"""Both clients, called alike, at a real server of their own."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from shokado.client import AsyncClient, Client
from tests.support.server import Server, serving

Connect = Callable[..., Client]


class Awaited:
    """The async client with each method waited for, so that one test can be about both."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            outcome = found(*arguments, **named)
            if inspect.isasyncgen(outcome):
                return iter(self._runner.run(_collected(outcome)))
            return self._runner.run(outcome)

        return call


async def _collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(scope="session")
def changing_server(models: object) -> Iterator[Server]:
    """A server that tests may change."""
    with serving(environment={"SHOKADO_WORKERS": "1"}) as running:
        yield running


@pytest.fixture(params=["waits", "is awaited"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a client of either kind."""
    made: list[Callable[[], object]] = []
    with asyncio.Runner() as runner:

        def opened(url: str, **options: Any) -> Client:
            if request.param == "waits":
                client = Client(url, **options)
                made.append(client.close)
                return client
            awaited = AsyncClient(url, **options)
            made.append(lambda: runner.run(awaited.aclose()))
            return cast("Client", Awaited(awaited, runner))

        yield opened
        for close in made:
            close()


@pytest.fixture
def client(connect: Connect, changing_server: Server) -> Client:
    return connect(changing_server.url, actor="Jörg 李")
