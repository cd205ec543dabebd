"""Stopping: what a worker does between SIGTERM and the moment its listener closes.

uvicorn closes its listener the moment it is told to stop, while a load balancer still sends: it learns of the stop when
it next looks at readiness. So the signal is caught first. Readiness turns false at once, requests are answered as
before for `pause_s`, and only then uvicorn gets its signal, closes the listener and drains within `drain_s`.
"""

import asyncio
import logging
import signal
from types import FrameType

import uvicorn

logger = logging.getLogger("bentoml.shokado")


class Stopping:
    """Make one per process; it does nothing until `catch`."""

    def __init__(self, pause_s: float = 0.0, drain_s: float = 20.0) -> None:
        """`drain_s` bounds how long uvicorn waits for its connections; what is under way after it is given up."""
        self.begun = False
        """Whether the process was told to stop."""
        self._pause_s = pause_s
        self._drain_s = drain_s

    def catch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stand before uvicorn's own handler of SIGTERM. Call on the main thread, while uvicorn runs on `loop`.

        A second signal, and Ctrl-C, stop without a pause.
        """
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not isinstance(server, uvicorn.Server):
            logger.warning("not started by uvicorn: a stop has no pause, and readiness stays true while it drains")
            return
        server.config.timeout_graceful_shutdown = self._drain_s  # type: ignore[assignment]  # any seconds will do

        def stop(number: int, frame: FrameType | None) -> None:
            if self.begun or self._pause_s <= 0:
                self.begun = True
                server.handle_exit(number, frame)
                return
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, self._pause_s, server.handle_exit, number, None)

        signal.signal(signal.SIGTERM, stop)
