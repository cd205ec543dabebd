"""Replacing a worker that has lost a thread to foreign code, where that costs no request.

    `want(why)` --> looked at every few seconds: all workers beside this one serve, and none is being replaced
                --> it stops gracefully, and the server's supervisor starts another one

A single worker is not replaced while it serves: nobody would answer meanwhile. It goes on without the thread, and the
log says so. One that is not ready, as the active version needs that thread, is replaced even if it is alone.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from control.stopping import Stopping
from dispatch.change import READY
from dispatch.machine import lock
from stores.store import WorkerReport

MIN_INTERVAL_S = 60.0
"""Between two replacements in one server, so that a fault that comes back at once does not become a loop of starts."""

logger = logging.getLogger("bentoml.shokado")


class Replacement:
    """Of this worker. Methods belong to the event loop."""

    def __init__(
        self, stopping: Stopping, worker: str, workers: int, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`worker` is this one's name, `workers` how many the server has, `folder` one that only they share.

        `clock` has to be the same for all of them, as the machine's monotonic one is.
        """
        self.why: str | None = None
        """Why this worker should be replaced; none while it need not be."""
        self._stopping = stopping
        self._worker = worker
        self._workers = workers
        self._turn = folder / "replacement.lock"
        self._clock = clock
        self._holding: ExitStack | None = None

    def want(self, why: str) -> None:
        """This worker works on, but should be replaced as soon as that is safe."""
        if self.why is None:
            words = "it will be replaced" if self._workers > 1 else "a restart of the server would mend it"
            logger.error("%s; %s", why, words)
        self.why = why

    def consider(self, reports: Collection[WorkerReport], needed: Collection[str], *, ready: bool = True) -> None:
        """Replace this worker if it should be and can; to be called every few seconds.

        `reports` are those of all workers, `needed` the versions that have traffic; `ready` says whether this one is.
        """
        if self.why is not None and (not ready or self._others_serve(reports, needed)) and self._take_turn():
            self._stopping.replace_worker(self.why)

    def _others_serve(self, reports: Collection[WorkerReport], needed: Collection[str]) -> bool:
        beside = [
            report
            for report in reports
            if report.machine == socket.gethostname() and report.worker != self._worker and _lives(report.pid)
        ]
        mine = next((report.versions for report in reports if report.worker == self._worker), {})
        # What this worker cannot serve either is no reason to stay.
        serves = {version for version in needed if version in mine and mine[version].state == READY}
        serving = [
            report
            for report in beside
            if all(version in report.versions and report.versions[version].state == READY for version in serves)
        ]
        return self._workers > 1 and len(serving) >= self._workers - 1

    def _take_turn(self) -> bool:
        """Whether no other worker of this server is being replaced, or was a moment ago; held until this one ends."""
        with suppress(OSError), ExitStack() as opened:
            file = opened.enter_context(self._turn.open("ab"))
            if lock(file) and self._is_long_ago():
                # The server's folder does not outlive a start of the machine, with which this clock begins anew.
                file.truncate(0)
                file.write(f"{self._clock():.3f}".encode())
                file.flush()
                # An open file holds its lock: the kernel lets go of it when the process has ended, however it did.
                self._holding = opened.pop_all()
        return self._holding is not None

    def _is_long_ago(self) -> bool:
        """Whether the replacement that the file tells of, if any, is."""
        try:
            last = float(self._turn.read_bytes())
        except ValueError:
            return True
        return not 0 <= self._clock() - last < MIN_INTERVAL_S


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
