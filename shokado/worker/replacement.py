"""Replacing a worker that has lost a thread to foreign code, where that costs no request.

    `want(why)` --> looked at every few seconds: all workers beside this one serve, and none is being replaced
                --> it stops gracefully, and the server's supervisor starts another one

A single worker asks the supervisor for another one first, and goes when that one serves. Where there is no memory for
two it goes at once, and so does one that is not ready, as the active version needs that thread: clients that connect
meanwhile wait for the next one, as the supervisor keeps the socket.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from configuration.file_lock import lock
from runners.free_memory import free_bytes
from runners.version_state import VersionState
from shokado.stores.store import WorkerReport
from shokado.worker.stopping import Stopping

MIN_INTERVAL_S = 60.0
"""Seconds between two replacements in one server, so that a fault that comes back is no loop of starts."""
ROOM = 1.5
"""How much memory another worker may take, as a multiple of what this one does: it is larger while it starts."""

logger = logging.getLogger("bentoml.shokado")


class Replacement:
    """The replacement of one worker. Methods belong to the event loop."""

    def __init__(
        self,
        stopping: Stopping,
        worker: str,
        workers: int,
        folder: Path,
        ask_for_another: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`worker` is its name, `workers` how many the server has, `folder` one that only they share.

        `ask_for_another` has the supervisor start one more worker, and says whether it could be asked. `clock` has to
        be the same for all of them, as the machine's monotonic one is.
        """
        self.why: str | None = None
        """Why this worker should be replaced; None while it need not be."""
        self._stopping = stopping
        self._worker = worker
        self._workers = workers
        self._turn = folder / "replacement.lock"
        self._ask_for_another = ask_for_another
        self._asked_at: float | None = None
        self._clock = clock
        self._holding: ExitStack | None = None

    def want(self, why: str) -> None:
        """This worker works on, but should be replaced as soon as that is safe."""
        if self.why is None:
            logger.error("%s; it will be replaced", why)
        self.why = why

    def consider(self, reports: Collection[WorkerReport], needed: Collection[str], *, ready: bool = True) -> None:
        """Replace this worker if it should be and can; to be called every few seconds.

        `reports` are those of all workers, `needed` the versions that have traffic; `ready` says whether this one is.
        """
        if self.why is None:
            return
        goes = not ready or self._others_serve(reports, needed) or (self._workers == 1 and not self._another_comes())
        if goes and self._take_turn():
            self._stopping.replace_worker(self.why)

    def _another_comes(self) -> bool:
        """Whether this single worker should wait for one that the supervisor was asked for, now or before."""
        if self._asked_at is not None and self._clock() - self._asked_at < MIN_INTERVAL_S:
            return True
        if not self._has_room():
            return False
        # Where the last one has not come to serve, whatever ended it may be over.
        if not self._take_turn() or not self._ask_for_another():
            return self._holding is None
        self._asked_at = self._clock()
        logger.warning("another worker is started beside this one")
        return True

    def _has_room(self) -> bool:
        return bool(free_bytes() > ROOM * psutil.Process().memory_info().rss)

    def _others_serve(self, reports: Collection[WorkerReport], needed: Collection[str]) -> bool:
        beside = [
            report
            for report in reports
            if report.machine == socket.gethostname() and report.worker != self._worker and _is_beside(report.pid)
        ]
        mine = next((report.versions for report in reports if report.worker == self._worker), {})
        # What this worker cannot serve either is no reason to stay.
        serves = {version for version in needed if version in mine and mine[version].state == VersionState.READY}
        serving = [
            report
            for report in beside
            if all(
                version in report.versions and report.versions[version].state == VersionState.READY
                for version in serves
            )
        ]
        return len(serving) >= max(self._workers - 1, 1)

    def _take_turn(self) -> bool:
        """Whether no other worker of this server is being replaced, or was a moment ago; held until this one ends."""
        if self._holding is not None:
            return True
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


def _is_beside(pid: int) -> bool:
    """Whether the process lives and is of this server: another one on this machine may have the same store."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).ppid() == os.getppid())
    return False
