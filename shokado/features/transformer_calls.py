"""Calls to the transformer: one carries a batch of entities, over connections that are kept."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import aiohttp
import msgspec

from configuration.feature_settings import FeatureSettings
from runners.placements.far_side import MAX_WORDS, CallRefused, Calls, Cut, EndpointError, Reply
from shokado.features.entity_features import Entity, EntityFeatures, features_of
from shokado.features.feature_wire import (
    DEADLINE_HEADER,
    FEATURES_PATH,
    FeatureAnswer,
    FeatureQuestion,
    decode_answer,
    decode_refusal,
    encode,
)

_ABOUT_THE_QUESTION = (400, 413)
IDLE_S = 4.0
"""Less than after which servers close idle connections; uvicorn does after 5 s."""


class TransformerCalls:
    """Asks one transformer. Make it on the event loop that it is used on."""

    def __init__(self, settings: FeatureSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """`settings.url` is set."""
        assert settings.url is not None
        self.address = settings.url
        connector: Callable[..., aiohttp.BaseConnector] = aiohttp.TCPConnector
        base = settings.url
        if base.startswith("unix:"):
            connector, base = partial(aiohttp.UnixConnector, base.removeprefix("unix:")), "http://transformer"
        self._url = base + FEATURES_PATH
        timeout_s = settings.timeout_ms / 1000
        self._calls = Calls(connector, settings.connections, timeout_s, settings.connect_ms, IDLE_S, clock)

    async def ask(self, entities: Sequence[Entity]) -> tuple[FeatureAnswer, list[EntityFeatures]]:
        """The features of entities that all have the same names, as they came and by entity.

        Raises `EndpointError`, and `CallRefused` for what the transformer does not take.
        """
        names = tuple(entities[0])
        columns = {name: [entity[name] for entity in entities] for name in names}
        body = encode(FeatureQuestion(columns))
        try:
            reply = await self._send(body)
        except Cut as cut:
            if not cut.stale:
                raise
            # The other end has closed it just then, and rightly: nothing is changed by asking again.
            reply = await self._send(body, anew=True)
        if reply.status in _ABOUT_THE_QUESTION:
            raise CallRefused(f"it answered {reply.status}{_words(reply.body)}")
        if reply.status != 200:
            raise EndpointError(f"it answered {reply.status}{_words(reply.body)}")
        try:
            answer = decode_answer(reply.body)
            return answer, features_of(answer, len(entities))
        except (msgspec.DecodeError, ValueError) as error:
            raise EndpointError(f"it is no transformer of Shokado, or another one: {error}") from None

    async def close(self) -> None:
        await self._calls.close()

    async def _send(self, body: bytes, *, anew: bool = False) -> Reply:
        patience_s = self._calls.timeout_s
        headers = {"Content-Type": "application/json", DEADLINE_HEADER: str(max(1, int(patience_s * 1000)))}
        return await self._calls.send(self._url, body, patience_s, headers=headers, anew=anew)


def _words(body: bytes) -> str:
    try:
        said = decode_refusal(body).error
    except msgspec.DecodeError:
        said = body[:MAX_WORDS].decode(errors="replace")
    return f": {said[:MAX_WORDS]}" if said else ""
