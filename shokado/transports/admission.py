"""Admission to a prediction route: asks the gate, and hands on what may pass.

What may not is handed on as well, with the problem in its head, so that the route refuses it in its own dialect.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from shokado.access.decision import Refused
from shokado.access.gate import Gate
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem, problem_of
from shokado.transports.exchange import Cancellable, Exchange, Handler

if TYPE_CHECKING:
    from shokado.access.rates import Rates


class AdmissionHandler:
    """A handler behind a gate; made only where the gate has something to ask."""

    def __init__(self, handler: Handler, gate: Gate) -> None:
        self.path = handler.path
        self.handler = handler
        self.gate = gate

    def judge(self, head: RequestHead, peer: str) -> Problem | None:
        """Counts nothing but a refused key: the request is counted when it begins, whatever is wrong with it."""
        gate = self.gate
        if head.problem is None:
            try:
                key = gate.predictor(head.credential)
            except Refused as refused:
                return problem_of(refused)
            if gate.rates is not None:
                refusal = gate.rates.full(key, gate.address_of(peer, head.forwarding))
                if refusal is not None:
                    return problem_of(refusal)
        return self.handler.judge(head, peer)

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Cancellable | None:
        gate = self.gate
        key = ""
        if head.problem is None:
            try:
                key = gate.predictor(head.credential)
            except Refused as refused:
                head, body = replace(head, problem=problem_of(refused)), b""
        rates = gate.rates
        if rates is None:
            return self.decided(None, key, head, body, exchange)
        # Refused requests count as well, but by their address alone: whoever guesses at keys has none.
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
            head, body = replace(head, problem=problem_of(refusal)), b""
        elif head.problem is None:
            self.gate.admitted(key)
        return self.handler.begin(head, body, exchange)


class _Waiting(msgspec.Struct, eq=False):
    """A request whose rate is being asked for, and then its work."""

    admission: AdmissionHandler
    head: RequestHead
    body: bytes
    exchange: Exchange
    task: asyncio.Task[None] | None = None
    work: Cancellable | None = None

    async def run(self, rates: "Rates", key: str, address: str) -> None:
        refusal = await rates.take_shared(key, address)
        self.task = None
        self.work = self.admission.decided(refusal, key, self.head, self.body, self.exchange)

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.work is not None:
            self.work.cancel()
