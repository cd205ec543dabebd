"""The transformer: a process of its own that knows features by entity, and answers a server's batches.

    POST /features   see `shokado.features.feature_wire`
    GET /features    what there is: the feature service, its features, and the names of entities
    GET /livez       200 while the process lives
    GET /readyz      200 while the online store answers, else 503

One thread asks Feast, so batches take turns; one whose deadline has passed meanwhile is not asked for. What asks is a
server of this project, over loopback, a socket or a cluster's own network: it shows no key, and learns features alone.
"""

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shokado.features.feature_wire import (
    DEADLINE_HEADER,
    FEATURES_PATH,
    FeatureQuestion,
    RefusedQuestion,
    decode_question,
    encode,
)
from shokado.lifecycle.transforming.feature_repository import FeatureRepository

MAX_BODY_BYTES = 64 * 2**20
"""More than a worker sends: its batches are of some hundred entities."""
PROBE_FRESH_S = 2.0
"""How long an answer of the online store counts for readiness."""

logger = logging.getLogger("shokado.transformer")


class Transformer:
    """Answers over one repository; `open` before anything is asked."""

    def __init__(self, folder: Path, service: str | None) -> None:
        self._folder = folder
        self._service = service
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feast")
        self._repository: FeatureRepository
        self._answered_at = 0.0

    def open(self) -> FeatureRepository:
        """Open the repository in the thread that will ask it. Raises `RepositoryError`."""
        self._repository = self._thread.submit(FeatureRepository, self._folder, self._service).result()
        return self._repository

    def app(self) -> Starlette:
        """The ASGI app."""
        return Starlette(
            routes=[
                Route(FEATURES_PATH, self.describe, methods=["GET"]),
                Route(FEATURES_PATH, self.answer, methods=["POST"]),
                Route("/livez", self.live, methods=["GET"]),
                Route("/readyz", self.ready, methods=["GET"]),
            ]
        )

    async def answer(self, request: Request) -> Response:
        """The features of a batch of entities."""
        deadline = time.monotonic() + _patience_s(request)
        if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
            return _refused(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        try:
            question = decode_question(await request.body())
        except msgspec.DecodeError as error:
            return _refused(400, str(error))
        try:
            found = await self._in_turn(question, deadline)
        except TimeoutError:
            return _refused(504, "the deadline passed before its turn came")
        except ValueError as error:
            return _refused(400, str(error))
        # The online store, or a transformation: Feast has no type of its own for what goes wrong in either.
        except Exception as error:
            logger.exception("features could not be looked up")
            return _refused(500, f"{type(error).__name__}: {error}")
        self._answered_at = time.monotonic()
        return Response(found, media_type="application/json")

    async def describe(self, _: Request) -> Response:
        """What there is."""
        repository = self._repository
        content = {
            "service": repository.service,
            "features": repository.feature_names,
            "entities": repository.entity_names,
        }
        return Response(encode(content), media_type="application/json")

    async def live(self, _: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    async def ready(self, _: Request) -> Response:
        """Whether the online store answers: it is asked for an entity that it has not, unless it did just now."""
        if time.monotonic() - self._answered_at > PROBE_FRESH_S:
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._repository.probe)
            except Exception as error:
                logger.warning("not ready: %s", error)
                return _refused(503, f"{type(error).__name__}: {error}")
            self._answered_at = time.monotonic()
        return Response(b"{}", media_type="application/json")

    async def _in_turn(self, question: FeatureQuestion, deadline: float) -> bytes:
        def look_up() -> bytes:
            if time.monotonic() >= deadline:
                raise TimeoutError
            return encode(self._repository.look_up(question))

        return await asyncio.get_running_loop().run_in_executor(self._thread, look_up)


def serve_features(app: Starlette, host: str, port: int, socket: Path | None) -> None:
    """Answer until SIGTERM or SIGINT."""
    import uvicorn

    where: dict[str, Any] = {"host": host, "port": port} if socket is None else {"uds": str(socket)}
    if socket is not None:
        # What is made there is for this user alone.
        os.umask(0o077)
    uvicorn.run(app, access_log=False, log_level="warning", lifespan="off", **where)


def _patience_s(request: Request) -> float:
    said = request.headers.get(DEADLINE_HEADER, "")
    return int(said) / 1000 if said.isdecimal() and len(said) < 10 else 60.0


def _refused(status: int, words: str) -> Response:
    return Response(encode(RefusedQuestion(words)), status, media_type="application/json")
