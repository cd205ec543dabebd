"""Stopping: what a worker does between SIGTERM and the moment its process ends, and how it asks to be replaced.

uvicorn closes its listener the moment it is told to stop, while a load balancer still sends: it learns of the stop when
it next looks at readiness. So the signal is caught first. Readiness turns false at once, requests are answered as
before for `pause_s`, and only then uvicorn gets its signal, closes the listener and drains within `drain_s`. Soon
after the signal answers begin to say that they are the last of their connections, so that pooled clients go elsewhere
while there is time.

Whatever hangs then, the process ends: threads in foreign code cannot be ended, only their process can. For the same
reason a worker that has lost a thread stops by itself; the server's supervisor starts another one in its place.
"""

import asyncio
import faulthandler
import logging
import os
import signal
from types import FrameType
from typing import NoReturn

import uvicorn

from configuration.settings import Settings
from shokado.transports.express_lane.lane import retire

RETIRE_AFTER_S = 1.0
"""How long of the pause no client is sent away: a balancer that does not know of the stop would send it back here."""
LEEWAY_S = 5.0
"""How long the parts of a process may take to let go of everything when its connections have ended."""
NOTHING_TO_SERVE = os.EX_CONFIG
"""The exit code of a worker none of whose versions can be served."""
_STDERR = 2

logger = logging.getLogger("bentoml.shokado")


def outlasts_s(settings: Settings) -> float:
    """How much longer than the gateway's HTTP a version's own service may take to stop."""
    return LEEWAY_S + (settings.grpc.drain_s if settings.grpc.port is not None else 0.0)


def stops_within_s(settings: Settings) -> float:
    """Seconds after which no process of a server ends by itself any more."""
    return settings.shutdown.pause_s + settings.shutdown.drain_s + outlasts_s(settings) + 2 * LEEWAY_S


class Stopping:
    """Make one per process; it does nothing until `catch`."""

    def __init__(self, pause_s: float = 0.0, drain_s: float = 20.0, leeway_s: float = LEEWAY_S) -> None:
        """`drain_s` bounds how long uvicorn waits for its connections; what is under way after it is given up.

        `leeway_s` after that the process ends, whatever it is doing.
        """
        self.begun = False
        """Whether the process was told to stop."""
        self._pause_s = pause_s
        self._drain_s = drain_s
        self._leeway_s = leeway_s
        self._server: uvicorn.Server | None = None

    def catch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stand before uvicorn's own handler of SIGTERM. Call on the main thread, while uvicorn runs on `loop`.

        A second signal, and Ctrl-C, stop without a pause.
        """
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not isinstance(server, uvicorn.Server):
            logger.warning("not started by uvicorn: a stop has no pause, and readiness stays true while it drains")
            return
        self._server = server
        server.config.timeout_graceful_shutdown = self._drain_s  # type: ignore[assignment]  # any seconds will do

        def stop(number: int, frame: FrameType | None) -> None:
            first, self.begun = not self.begun, True
            pause_s = self._pause_s if first else 0.0
            if first:
                self._end_within(pause_s + self._drain_s + self._leeway_s)
            if pause_s > 0:
                connections = server.server_state.connections
                loop.call_soon_threadsafe(loop.call_later, min(RETIRE_AFTER_S, pause_s), retire, connections)
                loop.call_soon_threadsafe(loop.call_later, pause_s, server.handle_exit, number, None)
            else:
                server.handle_exit(number, frame)

        signal.signal(signal.SIGTERM, stop)

    def replace_worker(self, why: str) -> None:
        """Stop this worker alone, gracefully, so that the supervisor starts another one in its place.

        There is no pause: the workers beside it go on accepting from the socket that all share. Call on the event
        loop; does nothing in a process that is stopping, or not under uvicorn. `shokado.worker.replacement` says when
        it is safe to.
        """
        if self.begun or self._server is None:
            return
        self.begun = True
        logger.error("this worker stops, to be replaced by another one: %s", why)
        self._end_within(self._drain_s + self._leeway_s)
        self._server.handle_exit(signal.SIGTERM, None)

    def _end_within(self, seconds: float) -> None:
        # A thread without Python in it: it ends a process whose threads hold the interpreter, and says where they are.
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)


def end_process(why: str) -> NoReturn:
    """End this process at once, from any thread, where even its event loop does not come back; it is replaced then."""
    logger.error("this process ends, to be replaced by another one: %s", why)
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)
    os._exit(1)


def end_idle(why: str) -> NoReturn:
    """End this worker, which serves nobody and never did; where it was the last one, the supervisor ends as well."""
    logger.critical("nothing can be served: %s", why)
    os._exit(NOTHING_TO_SERVE)
