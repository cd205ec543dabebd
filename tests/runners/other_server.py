"""A server of the Open Inference Protocol on loopback: it scores with an engine double, and misbehaves as it is told.

It reads requests and writes answers by itself, so that what the runners send is held against the protocol.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.engines.engine import Engine
from runners.inputs.rows import Rows
from tests.runners.engine_doubles import ChokesOnBadRows
from tests.support.cards import make_card

BINARY = "binary_tensor_data"
LENGTH = "Inference-Header-Content-Length"
FEATURES = 2
_DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}

Trouble = Callable[["OtherServer", web.Request, Rows], Awaitable[web.StreamResponse]]


def card_of_doubles(**changes: Any) -> Card:
    """A card whose examples the engine doubles score as it says."""
    examples = {"rows": [[1.0, 2.0], [0.25, -3.0]], "scores": [1.5, 0.75]}
    return make_card(**{"examples": examples, **changes})


@dataclass
class OtherServer:
    """`trouble`, if any, answers in its place; what it was asked is kept."""

    engine: Engine = field(default_factory=ChokesOnBadRows)
    extensions: list[str] = field(default_factory=lambda: [BINARY])
    metadata: dict[str, Any] = field(default_factory=dict)
    trouble: Trouble | None = None
    ready: bool = True
    key: str | None = None
    output: str = "predictions"
    datatype: str = "FP32"
    others: list[dict[str, Any]] = field(default_factory=list)
    """More outputs, before the one with the scores."""
    shape: Callable[[NDArray[Any]], NDArray[Any]] = lambda scores: scores
    url: str = ""
    sizes: list[int] = field(default_factory=list)
    """Rows of each batch that came."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    """Connections that batches came over."""
    probes: int = 0

    async def is_ready(self, request: web.Request) -> web.Response:
        self.probes += 1
        self._check_key(request)
        return web.json_response({"ready": self.ready}, status=200 if self.ready else 503)

    def answers_probes(self, number: int, *, ready: bool) -> Callable[[], bool]:
        """Whether it has been asked so often from now on."""
        self.ready, wanted = ready, self.probes + number
        return lambda: self.probes >= wanted

    async def describe_server(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "other", "version": "1", "extensions": self.extensions})

    async def describe_model(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "m", "platform": "double", **self.metadata})

    async def infer(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        rows = self._read(await request.read(), request)
        self.sizes.append(len(rows))
        self.headers.append(request.headers)
        self.paths.append(request.path)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        return await (self.trouble(self, request, rows) if self.trouble is not None else self.answer(rows))

    async def answer(self, rows: Rows) -> web.Response:
        """The scores, or 500 when the engine will not have the rows."""
        try:
            scores = self.engine.predict(rows)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=500)
        return self.scored(scores)

    def scored(self, scores: NDArray[Any]) -> web.Response:
        values = self.shape(scores).astype(_DTYPES[self.datatype])
        output: dict[str, Any] = {"name": self.output, "datatype": self.datatype, "shape": list(values.shape)}
        head = {"model_name": "m", "outputs": [*self.others, output]}
        if BINARY not in self.extensions:
            output["data"] = values.tolist()
            return web.json_response(head)
        data = values.tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
        text = json.dumps(head).encode()
        return web.Response(body=text + data, headers={LENGTH: str(len(text))})

    def _read(self, body: bytes, request: web.Request) -> Rows:
        length = request.headers.get(LENGTH)
        head = json.loads(body if length is None else body[: int(length)])
        self.asked.append(head)
        (tensor,) = head["inputs"]
        if tensor["datatype"] == "BYTES":
            return self._texts(tensor, b"" if length is None else body[int(length) :])
        if length is None:
            return np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        data = body[int(length) :]
        assert len(data) == tensor["parameters"]["binary_data_size"]
        return np.frombuffer(data, _DTYPES[tensor["datatype"]]).reshape(tensor["shape"]).astype(np.float32)

    def _texts(self, tensor: dict[str, Any], data: bytes) -> Rows:
        texts = tensor.get("data") or []
        while data:
            size = int.from_bytes(data[:4], "little")
            texts.append(data[4 : 4 + size].decode())
            data = data[4 + size :]
        return np.array(texts, object).reshape(-1, 1)

    def _check_key(self, request: web.Request) -> None:
        if self.key is not None and request.headers.get("X-API-Key") != self.key:
            raise web.HTTPUnauthorized(text='{"error": "show a key"}')


@contextlib.asynccontextmanager
async def serving(server: OtherServer, port: int = 0) -> AsyncIterator[OtherServer]:
    """Serve it until the context is left, at a free port unless one is named; its `url` says where."""
    app = web.Application(client_max_size=2**30)
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        app.router.add_get(path + "/ready", server.is_ready)
        app.router.add_get(path, server.describe_model)
        app.router.add_post(path + "/infer", server.infer)
    app.router.add_get("/v2", server.describe_server)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        yield server
    finally:
        await runner.cleanup()


async def cut(server: OtherServer, request: web.Request, rows: Rows) -> web.StreamResponse:
    """The connection ends without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def hang(server: OtherServer, request: web.Request, rows: Rows) -> web.StreamResponse:
    """No answer, ever."""
    await asyncio.Event().wait()
    return web.Response()


def answers(status: int, words: str = "", **headers: str) -> Trouble:
    """An answer without scores; an underscore in a header's name is a hyphen."""

    async def answer(server: OtherServer, request: web.Request, rows: Rows) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": words}, status=status, headers=named)

    return answer


def first(times: int, trouble: Trouble) -> Trouble:
    """Trouble with the first batches, and none later."""

    async def answer(server: OtherServer, request: web.Request, rows: Rows) -> web.StreamResponse:
        if len(server.sizes) <= times:
            return await trouble(server, request, rows)
        return await server.answer(rows)

    return answer
