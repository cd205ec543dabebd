"""64 clients that send the worst bodies of all dialects at once, gRPC's as well, to a server that has 512 MB."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shokado.dialects.dialects import all_dialects
from tests.dialects.cases import NAMES
from tests.faults.grpc_flood import Flood
from tests.support.raw_http import Connection, rows_request, scored
from tests.support.rows import dense_format
from tests.support.server import Server, free_port, serving
from tests.transports.worst_shapes import MAX_ROWS, csv_shapes, json_shapes

MIB = 2**20
MAX_BYTES = 512 * MIB
BODY_BYTES = 8 * MIB
PART_BYTES = 2**16
MESSAGE_BYTES = 16 * MIB - 1024
SECONDS = 8.0
MAX_SECONDS = 60.0
MIN_ANSWERS = 65
"""More than there are clients: a busy machine takes longer for them than others do."""
SHAPES = (
    "empty lists as rows",
    "rows as rows",
    "rows with a fault as rows",
    "small numbers as values of a column",
    "objects as records",
    "rows as rows of a table",
    "small numbers as data of a tensor",
    "different names in a row",
)


Request = tuple[bytes, bytes]


def requests() -> list[Request]:
    """Heads and bodies of 64 of them: eight shapes for each dialect, and tables."""
    shapes = [body for name, body in json_shapes(BODY_BYTES) if name in SHAPES]
    dialects = all_dialects(dense_format(NAMES, MAX_ROWS))
    paths = [dialect.path.format(model="customers", version="v1") for dialect in dialects]
    made = [request(path, b"application/json", shape) for shape in shapes for path in paths]
    made += [request("/invocations", b"text/csv", body) for _, body in csv_shapes(BODY_BYTES)]
    return made[:: len(made) // 64 + 1] + made[1 :: len(made) // 64 + 1]


def request(path: str, kind: bytes, body: bytes) -> Request:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (path.encode(), kind, len(body)), body


async def ask_on_and_on(port: int, asked: Request, statuses: Counter[str]) -> None:
    head, body = asked

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for start in range(0, len(body), PART_BYTES):
            writer.write(body[start : start + PART_BYTES])
            await writer.drain()

    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sending = asyncio.create_task(send(writer))
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = answer.split()[1].decode()
            statuses[status if status != "503" or b"retry-after: " in answer else "503 without a time"] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses["lost"] += 1
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()


@contextlib.contextmanager
def peak_of(server: Server) -> Iterator[list[int]]:
    """The most that all processes of a server had together, in bytes; what they share counts once."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            processes = [
                psutil.Process(server.process.pid),
                *psutil.Process(server.process.pid).children(recursive=True),
            ]
            with contextlib.suppress(psutil.NoSuchProcess):
                peak[0] = max(peak[0], sum(process.memory_full_info().pss for process in processes))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel does not tell shared memory")
def test_the_worst_bodies_of_all_dialects_at_once_fit_into_512_mb(models: Path) -> None:
    grpc_port = free_port()
    statuses: Counter[str] = Counter()
    bodies = requests()
    with serving(environment={"SHOKADO_WORKERS": "1", "SHOKADO_GRPC__PORT": str(grpc_port)}) as server:
        floods = [
            Flood(grpc_port, method, MESSAGE_BYTES, connections=8, streams=8)
            for method in ("inference.GRPCInferenceService/ModelInfer", "grpc.health.v1.Health/Check")
        ]

        async def ask() -> None:
            flooding = [asyncio.create_task(flood.run(MAX_SECONDS)) for flood in floods]
            asking = [asyncio.create_task(ask_on_and_on(server.port, data, statuses)) for data in bodies]
            await asyncio.sleep(SECONDS)
            while sum(statuses.values()) < MIN_ANSWERS and not all(task.done() for task in flooding):
                await asyncio.sleep(0.05)
            for task in asking:
                task.cancel()
            ends = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
            # Beside the others, on a busy machine, calls over gRPC may not have come to an end.
            while not all(flood.ended for flood in floods) and not all(task.done() for task in flooding):
                await asyncio.sleep(0.05)
            for task in flooding:
                task.cancel()
            await asyncio.gather(*flooding, return_exceptions=True)

        workers = server.workers()
        with peak_of(server) as peak:
            asyncio.run(ask())
        print(f"{peak[0] / MIB:.0f} MiB; {dict(statuses)}; gRPC: {[dict(flood.ended) for flood in floods]}")
        assert peak[0] < MAX_BYTES
        assert set(statuses) <= {"200", "400", "413", "415", "422", "503"}
        assert sum(statuses.values()) >= MIN_ANSWERS
        assert all(flood.ended for flood in floods)
        assert server.workers() == workers, "nobody died"
        with Connection(server) as connection:
            assert scored(connection.ask(rows_request()))
