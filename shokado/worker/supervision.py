"""The supervisor, which starts the workers and looks after them, and what ties a worker to it.

BentoML leaves this to circus, which looks for dead workers every ten seconds, starts one that dies at once again and
again without a pause, and reloads when its terminal is closed. Workers outlive a supervisor that is killed: they would
hold the port, and answer for ever.

    a worker ends --SIGCHLD--> another is started at once; after a life too short, with a pause that grows
    the last one ends as it has nothing to serve --> the server ends
    SIGUSR1 --> one more of the gateway's workers is started; the next one that ends is not followed by another
    SIGHUP, SIGTERM, SIGINT --> all workers are told to stop, those that are held as well; who does not end is killed
    the supervisor dies --the kernel--> SIGTERM to each worker, which drains and ends
"""

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psutil
from bentoml._internal.utils import circus as bentoml_circus
from circus.exc import ConflictError
from circus.util import synchronized
from tornado import gen

from configuration.port import MAX_PORT
from runners.child import end_with_parent
from shokado.worker.stopping import NOTHING_TO_SERVE

SHORT_LIFE_S = 30.0
"""A worker that ends sooner is one that fails; when its next one does too, there is a pause before the one after."""
FIRST_PAUSE_S = 1.0
"""Pause after the second worker in a row that lived briefly; after each further one, twice as long."""
MAX_PAUSE_S = 30.0
"""Longest pause: what has been mended serves again within half a minute."""
AGAIN_S = 0.1
"""When circus is asked again that is busy with another command."""
MAX_FOLDER_BYTES = 60
"""Length of TMPDIR; BentoML adds up to 42 bytes, and its sockets' addresses must have less than 103."""
_NOT_OF_THIS_MACHINE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_GATEWAY = "service"
"""BentoML's name for the kind of workers that answer at the port."""
_SUPERVISOR = "_SHOKADO_SUPERVISOR"
"""The environment variable that names the supervisor's process to its workers."""

logger = logging.getLogger("bentoml.shokado")


def supervise(stop_within_s: float, opened: Callable[[], None]) -> None:
    """Let this process be the supervisor; call before BentoML makes its own.

    A worker that was told to stop and has not ended by itself within `stop_within_s` is killed. `opened` is called once
    the port is open: what a start says comes after what could have prevented it.
    """
    Supervisor.stop_within_s = stop_within_s
    Supervisor.opened = staticmethod(opened)
    os.environ[_SUPERVISOR] = str(os.getpid())
    bentoml_circus.Arbiter = Supervisor  # type: ignore[misc]


def ask_for_another_worker() -> bool:
    """Have the supervisor of this worker start one more beside it; false where there is none that could."""
    if os.environ.get(_SUPERVISOR) != str(os.getppid()):
        return False
    os.kill(os.getppid(), signal.SIGUSR1)
    return True


def end_with_supervisor() -> None:
    """Tie this worker to its supervisor: it is told to stop when that one dies. Call on the main thread.

    A closed terminal tells all processes; here it is the supervisor's word that counts.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_with_parent(signal.SIGTERM)
    supervisor = os.environ.get(_SUPERVISOR)
    if supervisor is not None and os.getppid() != int(supervisor):
        sys.exit("shokado: the supervisor of this worker has ended")


class Pauses:
    """How long to wait before another worker is started in the place of one that ended. Pure; seconds, monotonic.

    The first one is followed at once: a crash should cost as little as it can.
    """

    def __init__(self) -> None:
        self._pause_s = 0.0
        self.until = 0.0
        """When the next worker may be started at the earliest."""

    def ended(self, lived_s: float, now: float) -> float:
        """The pause after a worker that lived for so long."""
        pause_s = self._pause_s if lived_s < SHORT_LIFE_S else 0.0
        self._pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), MAX_PAUSE_S)
        self.until = now + pause_s
        return pause_s


class Supervisor(bentoml_circus.Arbiter):
    """BentoML's supervisor, on the main thread."""

    stop_within_s: float
    opened: "staticmethod[[], None]"
    _exception: BaseException | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pauses: defaultdict[str, Pauses] = defaultdict(Pauses)
        """The pauses of each kind of workers, by its watcher's name."""
        self._seen_at: dict[int, float] = {}
        """When each worker's process was first seen, monotonic: circus itself goes by a clock that may be set."""

    def initialize(self) -> None:
        """Open the port. Exits with one line where that cannot be."""
        for watcher in self.iter_watchers():
            # BentoML starts no worker again in a container; with several, one that crashed would be missing for ever.
            watcher.respawn = True
            # BentoML's is a day.
            watcher.graceful_timeout = self.stop_within_s
        for taken in self.sockets.values():
            if not taken.is_unix:
                refuse_unfit(taken.family, taken.host, taken.port)
        super().initialize()
        self._workers = self.get_watcher(_GATEWAY).numprocesses
        self.opened()
        signal.signal(signal.SIGCHLD, lambda *_: self.loop.add_callback_from_signal(self._look_after))
        signal.signal(signal.SIGUSR1, lambda *_: self.loop.add_callback_from_signal(self._add_worker))
        # Ignored is what `nohup` asks for; circus would reload.
        if self.ctrl.sys_hdl._old[signal.SIGHUP] is signal.SIG_IGN:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            self.ctrl.sys_hdl.handle_hup = self.ctrl.sys_hdl.quit

    def _stop_watchers(self, *args: Any, **kwargs: Any) -> Any:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                # Who is held (SIGSTOP) would hear of the SIGTERM that follows only when it goes on.
                os.kill(pid, signal.SIGCONT)
        return super()._stop_watchers(*args, **kwargs)

    def _add_worker(self) -> None:
        """Start one more, which will take the place of one that wants to go."""
        watcher = self.get_watcher(_GATEWAY)
        if watcher.numprocesses == self._workers:
            watcher.numprocesses += 1
            self._look_after()

    def _look_after(self) -> None:
        """Start what is missing, as soon as circus is not busy with something else."""
        if self._stopping:
            return
        try:
            self.manage_watchers()
        except ConflictError:
            self.loop.call_later(AGAIN_S, self._look_after)

    @synchronized("manage_watchers")  # type: ignore[untyped-decorator]
    @gen.coroutine
    def manage_watchers(self) -> Any:
        """Take note of the workers that ended, and start others; one kind's pause holds up no other kind."""
        self.reap_processes()
        if self._exception is not None:
            return
        now = time.monotonic()
        for watcher in self.iter_watchers():
            left_s = self._pauses[watcher.name].until - now
            if left_s <= 0:
                yield watcher.manage_processes()
                if watcher.is_stopped():
                    # Not even a process can be had: whoever started this one may know better.
                    logger.critical("no worker of %s can be started", watcher.name)
                    self._exception = RuntimeError(f"no worker of {watcher.name} can be started")
                    self.ctrl.sys_hdl.quit()
            elif len(watcher.processes) < watcher.numprocesses:
                self.loop.call_later(left_s, self._look_after)
            self._seen_at = {pid: self._seen_at.get(pid, now) for pid in self._pids()}

    def reap_processes(self) -> None:
        """Say which workers have ended, and how; others' children are let go of as well."""
        workers = self._pids()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if (watcher := workers.get(pid)) is not None:
                watcher.reap_process(pid, status)
                if os.waitstatus_to_exitcode(status) == NOTHING_TO_SERVE and not watcher.processes:
                    self._exception = SystemExit(f"shokado: worker {pid}, the last one, has nothing to serve")
                    self.ctrl.sys_hdl.quit()
                    continue
                if watcher.name == _GATEWAY and watcher.numprocesses > self._workers:
                    watcher.numprocesses = self._workers
                    logger.info(
                        "worker %d (%s) %s; the others are as many as belong there", pid, watcher.name, _how(status)
                    )
                    continue
                now = time.monotonic()
                pause_s = self._pauses[watcher.name].ended(now - self._seen_at.get(pid, now), now)
                when = f"in {pause_s:.0f} s" if pause_s else "now"
                logger.error("worker %d (%s) %s; another is started %s", pid, watcher.name, _how(status), when)

    def _pids(self) -> dict[int, Any]:
        """The watcher of each worker's process."""
        return {pid: watcher for watcher in self.iter_watchers() for pid in watcher.processes}


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def refuse_unfit(family: int, host: str, port: int) -> None:
    """Exit with one line where an address cannot be listened at: who has its port, or that it is another machine's."""
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        why = f"cannot listen at {host}: {error.strerror or error}"
        if error.errno in _NOT_OF_THIS_MACHINE:
            sys.exit(f"shokado: --host {host}: {why}; choose an address of this machine: make serve HOST=127.0.0.1")
        taken = _listening_at(port) if error.errno == errno.EADDRINUSE else ""
        # Ports below 1024 are not everybody's.
        other = port + 1 if 1024 <= port < MAX_PORT else 3000
        sys.exit(f"shokado: --port {port}: {why}{taken}; choose another: make serve PORT={other}")


def _listening_at(port: int) -> str:
    """Who listens at the port, as far as this user may know."""
    with contextlib.suppress(psutil.Error):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                process = psutil.Process(found.pid)
                parent = process.parent()
                if parent is not None and "serve" in parent.cmdline():
                    process = parent
                return f" by process {process.pid}: {' '.join(process.cmdline())[:100]}"
    return ""


def refuse_long_folder() -> None:
    """Exit with one line where the sockets of versions with a service would have addresses too long for the kernel."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        sys.exit(
            f"shokado: TMPDIR: {folder} has {len(folder)} characters, and placement: service takes {MAX_FOLDER_BYTES} "
            "at most, for its sockets; name a shorter folder: TMPDIR=/tmp"
        )
