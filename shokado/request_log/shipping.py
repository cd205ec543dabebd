"""Shipping: one worker of a machine, whichever lives, has a process that sends ended segments to the sink.

    worker that holds `ship.lock` --> `shokado.request_log.shipper` --> sink
                                  <-- reports, for its metrics

The lock is the kernel's: a worker that is killed lets go of it, and its process ends with it. Nothing of a sink is
imported here, and the event loop only hears of what was done.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from configuration.file_lock import lock
from configuration.log_settings import LogSettings
from configuration.settings import SettingsError
from runners.child import run_child
from runners.log_throttle import LogThrottle
from shokado.request_log.segments import Segment
from shokado.request_log.sent import unsent_in
from shokado.request_log.shipper import HUNG, MAX_REST_S, ShipOrder, ShipReport
from shokado.request_log.sinks.object_store import PackageMissing, check_address
from shokado.request_log.sinks.sink import FailureReason

LOCK = "ship.lock"
LOOK_EVERY_S = 2.0
"""How often a worker looks whether there is something to send, or whether nobody else does."""
LINGER_S = 30.0
"""How long a process that has sent all waits for more: starting another one takes half a second of a processor."""
_CHILD_LOOKS_EVERY_S = 0.5
_FOR_EVER_S = 1e9

logger = logging.getLogger("bentoml.shokado")


@dataclass(frozen=True, slots=True)
class Shipped:
    """What became of the segments of this machine, since it was last asked."""

    segments: int = 0
    bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By `FailureReason`."""
    lag_s: float = 0.0
    """How long the first segment that is not sent has been ended; 0 where there is none, and in other workers."""


def check_sink(settings: LogSettings, root: Path) -> None:
    """Raise `SettingsError` where what is set cannot be used here; `root` is what a relative file is looked for in."""
    sink = settings.sink
    try:
        if sink.url is not None and not sink.is_http:
            check_address(sink.url)
    except PackageMissing as missing:
        raise SettingsError(f"log.sink.url: {missing}") from None
    if sink.key_file is not None and not (root / sink.key_file).is_file():
        raise SettingsError(f"log.sink.key_file: {root / sink.key_file} is no file")


class LogShipping:
    """Make one per worker that has a sink. Methods belong to the event loop."""

    def __init__(
        self, settings: LogSettings, folder: Path, model: str, root: Path, clock: Callable[[], float] = time.time
    ) -> None:
        sink = settings.sink
        assert sink.url is not None
        self._folder = folder
        self._clock = clock
        self._order = ShipOrder(
            str(folder),
            sink.url.replace("{model}", model),
            model,
            sink.namespace,
            sink.timeout_s,
            sink.max_batch_bytes,
            LINGER_S,
            str(root / sink.key_file) if sink.key_file is not None else None,
        )
        self._lock: IO[bytes] | None = None
        self._waiting = asyncio.Event()
        self._lag_s = 0.0
        self._segments = self._bytes = 0
        self._failures: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._throttle = LogThrottle()

    def start(self) -> None:
        """Begin to look after what is to be sent."""
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._send())]

    async def finish(self, timeout_s: float) -> None:
        """Let what is ended be sent, by whichever worker, as far as there is time for it, and stop."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(timeout_s):
                while await asyncio.to_thread(self._unsent):
                    self._waiting.set() if self._hold() else None
                    await asyncio.sleep(0.1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def take(self) -> Shipped:
        """What became of the segments since the last time."""
        taken = Shipped(self._segments, self._bytes, self._failures, self._lag_s)
        self._segments = self._bytes = 0
        self._failures = Counter()
        return taken

    async def _look(self) -> None:
        """Look whether something waits, for as long as this worker is the one that sends."""
        while True:
            try:
                if self._hold():
                    waiting = await asyncio.to_thread(self._unsent)
                    now = self._clock()
                    self._lag_s = max((max(now - segment.written_at, 0.0) for segment in waiting), default=0.0)
                    if waiting:
                        self._waiting.set()
            except OSError as error:
                self._report(f"{self._folder}: {error.strerror or error}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _send(self) -> None:
        """Have a process that sends, whenever something waits."""
        rest_s = 1.0
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            trouble = await self._sent()
            if trouble is None:
                rest_s = 1.0
                continue
            self._report(trouble)
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, MAX_REST_S)
            self._waiting.set()

    async def _sent(self) -> str | None:
        """Have a process send what there is, and tell what ended it before it was done."""
        try:
            ended = await run_child(
                "shokado.request_log.shipper",
                timeout_s=_FOR_EVER_S,
                given=msgspec.json.encode(self._order),
                told=self._told,
                look_every_s=_CHILD_LOOKS_EVERY_S,
            )
        except OSError as error:
            self._failures[FailureReason.CRASHED] += 1
            return f"its process cannot be started: {error}"
        if ended.code == HUNG:
            return "the sink does not come back"
        if ended.code:
            self._failures[FailureReason.CRASHED] += 1
            return f"its process has ended: {ended.last_words or ended.signal}"
        return None

    def _told(self, line: str) -> None:
        try:
            report = msgspec.json.decode(line, type=ShipReport)
        except msgspec.DecodeError:
            # What a library prints.
            return
        self._segments += report.segments
        self._bytes += report.bytes
        self._failures.update(report.failures)
        if report.trouble:
            self._report(report.trouble)
        elif report.trouble is not None and self._throttle.is_over():
            logger.info("the request log is sent again")

    def _hold(self) -> bool:
        """Whether this worker is the one that sends. Raises `OSError`."""
        if self._lock is None and self._folder.is_dir():
            file = (self._folder / LOCK).open("ab")
            if lock(file):
                self._lock = file
            else:
                file.close()
        return self._lock is not None

    def _unsent(self) -> list[Segment]:
        return unsent_in(self._folder)

    def _report(self, trouble: str) -> None:
        if self._throttle.left_out() is not None:
            logger.error("the request log is not sent (%s); it is tried again until log.max_bytes is reached", trouble)
