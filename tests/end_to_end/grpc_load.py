"""Clients of the gRPC entrance that ask again soon after they have their answer, and count what became of each call."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.server import SERVICE
from tests.support.waiting import wait_until

TIMEOUT_S = 20
PAUSE_S = 0.004
"""Of a client between two calls: load all the same, and room for whatever else is tested meanwhile."""


class GrpcLoad:
    """So many connections, each with so many calls under way; go on, over new connections too, until they are left."""

    def __init__(self, address: str, request: Any, expected: dict[str, list[float]]) -> None:
        """`expected` are the scores of the request's rows, by the version that answers."""
        self.codes: Counter[str] = Counter()
        """Calls by the name of their status; `wrong` are answers with other numbers."""
        self.details: Counter[str] = Counter()
        """What was said to calls that failed."""
        self._address = address
        self._request = request
        self._expected = expected
        self._ended = threading.Event()

    def run(self, connections: int, calls: int) -> None:
        asyncio.run(self._run(connections, calls))

    def end(self) -> None:
        self._ended.set()

    async def _run(self, connections: int, calls: int) -> None:
        async with asyncio.TaskGroup() as clients:
            for _ in range(connections):
                clients.create_task(self._connect(calls))

    async def _connect(self, calls: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            method = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                messages.ModelInferRequest.SerializeToString,
                messages.ModelInferResponse.FromString,
            )
            await asyncio.gather(*(self._ask(method) for _ in range(calls)))

    async def _ask(self, method: Any) -> None:
        while not self._ended.is_set():
            try:
                answer = await method(self._request, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                self.codes[error.code().name] += 1
                self.details[f"{error.code().name}: {error.details()}"] += 1
            else:
                scores = np.frombuffer(answer.raw_output_contents[0], "<f4")
                right = np.allclose(scores, self._expected[answer.model_version], rtol=0, atol=1e-6)
                self.codes["OK" if right else "wrong"] += 1
            await asyncio.sleep(PAUSE_S)


@contextlib.contextmanager
def grpc_load(
    address: str, request: Any, expected: dict[str, list[float]], connections: int = 8, calls: int = 4
) -> Iterator[GrpcLoad]:
    """Clients under way, in a thread of their own; they have had some answers when the context begins."""
    load = GrpcLoad(address, request, expected)
    thread = threading.Thread(target=load.run, args=(connections, calls), daemon=True)
    thread.start()
    try:
        wait_until(lambda: load.codes["OK"] > 20 * connections, 60)
        yield load
    finally:
        load.end()
        thread.join(60)
    assert not thread.is_alive()
