"""Batch jobs of this machine: each is a folder with what was asked for and what became of it, and a process.

    order.json    what was asked for         lock       held by the process, as long as it lives
    report.json   what it says of itself     cancelled  somebody wants it to end

A process belongs to nobody: it goes on when the worker that started it, or the whole server, ends or is killed. Whether
one lives is what its lock says, which the kernel frees with it; so any worker knows the same of each.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from configuration.batch_settings import BatchSettings
from configuration.file_lock import lock
from shokado.batches.batch_report import BatchReport, BatchState, read_report

ID = re.compile(r"\d{13}-[0-9a-f]{8}")
NICENESS = 10
"""How far a batch stands back behind what serves."""
ENDS_WITHIN_S = 10.0
"""How long one that is cancelled may take to end by itself: its block is lost either way."""
DIED = "its process has died before its end; the same batch again goes on where it was"
_LOOK_EVERY_S = 0.05
_NOT_ITS_OWN = ("PROMETHEUS_MULTIPROC_DIR", "SHOKADO_", "_SHOKADO_")
"""How variables begin that it does not get."""


class TooManyBatches(Exception):
    """As many run as may."""


class CannotStart(Exception):
    """There is no command to start, or no room; the message says which."""


class AskedBatch(msgspec.Struct, frozen=True):
    """What was asked for.

    Attributes:
        version: which scores all rows; None: the split does.
        environment: whose split it is.
        at: in Unix seconds.
    """

    model: str
    input: str
    output: str
    version: str | None
    environment: str | None
    unit: str | None
    keep: list[str]
    by: str
    at: float


@dataclass(frozen=True)
class BatchJob:
    """A batch as it is now."""

    id: str
    order: AskedBatch
    report: BatchReport


class BatchJobs:
    """The jobs below a folder. Its methods wait for the disk; any process may call them at the same time."""

    def __init__(self, settings: BatchSettings, folder: Path, root: Path) -> None:
        """`root` is what the command is relative to, and where it runs."""
        self._settings, self._folder, self._root = settings, folder, root

    def start(self, order: AskedBatch, split: bytes | None) -> BatchJob:
        """Start one; `split` is what `GET /v1/traffic-split` tells, for one without a version.

        Raises `TooManyBatches`, `CannotStart` and `OSError`.
        """
        program = self._root / self._settings.command[0]
        if not os.access(program, os.X_OK):
            raise CannotStart(f"there is no {program}, which scores batches: make batch")
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            jobs = self.all()
            if sum(not job.report.state.has_ended for job in jobs) >= self._settings.max_running:
                raise TooManyBatches
            self._forget(jobs)
            name = f"{int(order.at * 1000):013d}-{secrets.token_hex(4)}"
            folder = self._folder / name
            folder.mkdir()
            if split is not None:
                (folder / "split.json").write_bytes(split)
            command = [str(program), *self._settings.command[1:], *self._arguments(order, folder)]
            self._spawn(folder, order, command)
        found = self.find(name)
        assert found is not None
        return found

    def all(self) -> list[BatchJob]:
        """All that are remembered, the newest first."""
        names = sorted((path.name for path in self._folder.glob("*-*") if ID.fullmatch(path.name)), reverse=True)
        return [job for name in names if (job := self.find(name)) is not None]

    def find(self, name: str) -> BatchJob | None:
        """The one of this id; None where there is none."""
        if not ID.fullmatch(name):
            return None
        folder = self._folder / name
        try:
            order = msgspec.json.decode((folder / "order.json").read_bytes(), type=AskedBatch)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        # Asked first: one that ends meanwhile has written its last report by then.
        lives = self._lives(folder)
        report = read_report(folder / "report.json") or BatchReport(BatchState.PLANNING)
        return BatchJob(name, order, _as_it_is(report, lives=lives, is_cancelled=(folder / "cancelled").exists()))

    def cancel(self, name: str) -> None:
        """End one that runs, with all that it started; it is over when this returns. Raises `OSError`."""
        folder = self._folder / name
        if not self._lives(folder):
            return
        (folder / "cancelled").touch()
        process = int((folder / "process").read_text())
        # What is interrupted ends Ray in order. The lock says that the id is still its own.
        for number, within_s in ((signal.SIGINT, ENDS_WITHIN_S), (signal.SIGKILL, ENDS_WITHIN_S)):
            if not self._lives(folder):
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, number)
            deadline = time.monotonic() + within_s
            while self._lives(folder) and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY_S)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("wb") as file:
            while not lock(file):
                time.sleep(_LOOK_EVERY_S)
            yield

    def _spawn(self, folder: Path, order: AskedBatch, command: Sequence[str]) -> None:
        """Start the process, which holds the lock and leads a session of its own. Raises `CannotStart`."""
        with (folder / "lock").open("wb") as held, (folder / "log.txt").open("wb") as log:
            assert lock(held), "nobody knows of it yet"
            # A folder without an order is no batch, and one has its lock from the beginning.
            (folder / "order.json").write_bytes(msgspec.json.encode(order))
            try:
                process = subprocess.Popen(  # noqa: S603  # of the settings, and of what was looked at
                    command, cwd=self._root, env=_environment(os.environ), stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True, pass_fds=[held.fileno()],
                )  # fmt: skip
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise CannotStart(f"{command[0]} cannot be started: {error}") from error
        (folder / "process").write_text(str(process.pid))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        # Somebody has to take its status, for as long as this process lives.
        threading.Thread(target=process.wait, name="shokado-batch", daemon=True).start()

    def _arguments(self, order: AskedBatch, folder: Path) -> list[str]:
        options = [f"--model={order.model}", f"--cpus={self._settings.cpus}", f"--report={folder / 'report.json'}"]
        if order.version is not None:
            options.append(f"--version={order.version}")
        else:
            options += ["--split", f"--split-file={folder / 'split.json'}"]
        options += [f"--unit={order.unit}"] if order.unit is not None else []
        options += [f"--keep={column}" for column in order.keep]
        return ["batch", "run", *options, "--", order.input, order.output]

    def _lives(self, folder: Path) -> bool:
        try:
            with (folder / "lock").open("rb") as file:
                return not lock(file, shared=True)
        except FileNotFoundError:
            return False

    def _forget(self, jobs: Sequence[BatchJob]) -> None:
        """Remove the oldest that have ended, so that there is room for one more."""
        ended = [job for job in reversed(jobs) if job.report.state.has_ended]
        for job in ended[: max(0, len(jobs) + 1 - self._settings.kept)]:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)


def _as_it_is(report: BatchReport, *, lives: bool, is_cancelled: bool) -> BatchReport:
    """The report, with what its process cannot say of itself."""
    if lives:
        state = BatchState.CANCELLING if is_cancelled else report.state
        # Its last words are written before it ends.
        return msgspec.structs.replace(report, state=BatchState.RUNNING if state.has_ended else state)
    if report.state is BatchState.SUCCEEDED:
        return report
    if is_cancelled:
        return msgspec.structs.replace(report, state=BatchState.CANCELLED, error=None)
    if report.state is BatchState.FAILED:
        return report
    return msgspec.structs.replace(report, state=BatchState.FAILED, error=DIED)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith(_NOT_ITS_OWN)}
