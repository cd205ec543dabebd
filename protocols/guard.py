"""A guard before a prediction route: asks the gate, and hands on what may pass.

What may not is handed on as well, with the problem in its head, so that the route refuses it in its own dialect.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from access.decision import Refused
from access.gate import Gate
from protocols.door import Cancellable, Exchange, Handler
from protocols.head import RequestHead
from protocols.problem import problem_of

if TYPE_CHECKING:
    from access.rates import Rates


class GuardedHandler:
    """A handler behind a gate; made only where the gate has something to ask."""

    def __init__(self, handler: Handler, gate: Gate) -> None:
        self.path = handler.path
        self.handler = handler
        self.gate = gate

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Cancellable | None:
        if head.problem is not None:
            # Refused anyway, and its headers may not have been read.
            return self.handler.begin(head, body, exchange)
        gate = self.gate
        try:
            key = gate.predictor(head.credential)
        except Refused as refused:
            return self.refuse(refused, head, exchange)
        rates = gate.rates
        if rates is None:
            gate.admitted(key)
            return self.handler.begin(head, body, exchange)
        address = gate.address_of(exchange.peer, head.forwarding)
        if rates.shared:
            waiting = _Waiting(self, head, body, exchange)
            waiting.task = asyncio.create_task(waiting.run(rates, key, address))
            return waiting
        return self.decided(rates.take(key, address), key, head, body, exchange)

    def decided(
        self, refusal: Refused | None, key: str, head: RequestHead, body: bytes, exchange: Exchange
    ) -> Cancellable | None:
        """Go on as the rates say."""
        if refusal is not None:
            self.gate.refused(refusal, key)
            return self.refuse(refusal, head, exchange)
        self.gate.admitted(key)
        return self.handler.begin(head, body, exchange)

    def refuse(self, refused: Refused, head: RequestHead, exchange: Exchange) -> Cancellable | None:
        return self.handler.begin(replace(head, problem=problem_of(refused)), b"", exchange)


class _Waiting(msgspec.Struct, eq=False):
    """A request whose rate is being asked for, and then its work."""

    guard: GuardedHandler
    head: RequestHead
    body: bytes
    exchange: Exchange
    task: asyncio.Task[None] | None = None
    work: Cancellable | None = None

    async def run(self, rates: "Rates", key: str, address: str) -> None:
        refusal = await rates.take_shared(key, address)
        self.task = None
        self.work = self.guard.decided(refusal, key, self.head, self.body, self.exchange)

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.work is not None:
            self.work.cancel()
