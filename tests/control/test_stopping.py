"""Stopping: which of two handlers hears SIGTERM, and when. A real signal, and a uvicorn that only notes it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import uvicorn

from control.stopping import Stopping


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
def _handler_is_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def listening(pause_s: float) -> tuple[Listening, Stopping]:
    server, stopping = Listening(), Stopping(pause_s, drain_s=7)
    signal.signal(signal.SIGTERM, server.handle_exit)
    stopping.catch(asyncio.get_running_loop())
    return server, stopping


def in_time(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


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
