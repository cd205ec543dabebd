"""Stopping: which of two handlers hears SIGTERM, and when. A real signal, and a uvicorn that only notes it."""

import asyncio
import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
import uvicorn

from shokado.transports.express_lane.connection import LaneConnection
from shokado.worker.stopping import Stopping
from tests.support.server import ROOT
from tests.support.waiting import in_time


class Listening(uvicorn.Server):
    """Has its handler in place, as while it serves."""

    def __init__(self) -> None:
        super().__init__(uvicorn.Config(app="none:none"))
        self.told = asyncio.Event()
        self.heard: list[int] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.heard.append(sig)
        self.told.set()


@pytest.fixture(autouse=True)
def _process_is_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(LaneConnection.context, "retiring", False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    # Else it would end the tests.
    faulthandler.cancel_dump_traceback_later()


def listening(pause_s: float) -> tuple[Listening, Stopping]:
    server, stopping = Listening(), Stopping(pause_s, drain_s=7)
    signal.signal(signal.SIGTERM, server.handle_exit)
    stopping.catch(asyncio.get_running_loop())
    return server, stopping


@pytest.mark.parametrize("pause_s", [0.0, 0.01])
def test_uvicorn_is_told_after_the_pause(pause_s: float) -> None:
    async def scenario() -> None:
        server, stopping = listening(pause_s)
        assert not stopping.begun
        os.kill(os.getpid(), signal.SIGTERM)
        await server.told.wait()
        assert stopping.begun
        assert server.config.timeout_graceful_shutdown == 7

    in_time(scenario())


def test_the_stop_is_known_at_once_and_uvicorn_is_not_told_before_its_time() -> None:
    async def scenario() -> None:
        server, stopping = listening(pause_s=3600)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.begun
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(server.heard) == 1, "a second signal ends the pause"

    in_time(scenario())


def test_without_uvicorn_the_signal_is_left_as_it_is() -> None:
    async def scenario() -> None:
        before = signal.getsignal(signal.SIGTERM)
        Stopping(5, 5).catch(asyncio.get_running_loop())
        assert signal.getsignal(signal.SIGTERM) is before

    in_time(scenario())


def test_a_worker_that_asks_to_be_replaced_stops_at_once_and_once() -> None:
    async def scenario() -> None:
        server, stopping = listening(pause_s=3600)
        stopping.replace_worker("its engine hangs")
        stopping.replace_worker("its engine hangs")
        assert stopping.begun
        assert server.heard == [signal.SIGTERM]

    in_time(scenario())


HANGING = """
import asyncio, ctypes, threading, sys
import uvicorn
from shokado.worker.stopping import Stopping, end_process

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    asyncio.get_running_loop().call_later(0.1, begin)
    await receive()
    print("stopping", flush=True)
    ctypes.PyDLL(None).pause()  # foreign code that never returns and keeps the interpreter to itself

def begin():
    stopping = Stopping(0, 0.3, leeway_s=0.3)
    stopping.catch(asyncio.get_running_loop())
    if sys.argv[1] == "end":
        threading.Thread(target=end_process, args=("its event loop hangs",)).start()
        ctypes.CDLL(None).pause()
    stopping.replace_worker("its engine hangs")

uvicorn.run(app, port=0, log_config=None)
"""


@pytest.mark.parametrize(("how", "said"), [("replace", "Timeout"), ("end", "most recent call first")])
def test_a_process_ends_whatever_hangs_in_it_and_says_where(how: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, how], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert 'File "<string>"' in ended.stderr
