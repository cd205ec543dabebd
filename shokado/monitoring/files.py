"""The files in which a process counts, such that no metric can cost a prediction.

`prometheus_client` maps files that are longer than the disk has room for: where a file system is full, the first write
to such a page kills the process (SIGBUS). Here all room is reserved beforehand, and a file that cannot be had, or that
somebody has deleted, is done without: this process remembers every value, and writes them all as soon as it can.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from shokado.monitoring.process_identity import own_name

TRY_EVERY_S = 2.0
"""How often a file that could not be written is tried again: a full disk may have room again."""

logger = logging.getLogger("bentoml.shokado")


class MetricsFile:
    """Stands for `prometheus_client`'s `MmapedDict`. Not for several threads at once, as that."""

    opened: ClassVar[dict[str, "MetricsFile"]] = {}
    """The files of this process, by path."""
    lost: ClassVar[str | None] = None
    """Why the numbers of this process are in its memory only; None while they are not."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._values: dict[str, tuple[float, float]] = {}
        """Value and time of each key."""
        self._mapped: Any = None
        self._open()
        self.opened[path] = self

    @property
    def whole(self) -> bool:
        """Whether everything is in the file, and the file where others look for it."""
        if self._mapped is None:
            return False
        try:
            found, mine = self._path.stat(), os.fstat(self._mapped._f.fileno())
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def read_value(self, key: str) -> tuple[float, float]:
        if key not in self._values:
            self.write_value(key, 0.0, 0.0)
        return self._values[key]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        self._values[key] = value, timestamp
        if self._mapped is not None:
            try:
                self._mapped.write_value(key, value, timestamp)
            except OSError as error:
                self._do_without(error)

    def renew(self) -> None:
        """Begin a file with all that is known, where there is none."""
        if not self.whole:
            self._let_go()
            self._open()

    def close(self) -> None:
        self._let_go()
        self.opened.pop(str(self._path), None)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{self._path.parent} belongs to somebody else")
            self._mapped = reserved()(str(self._path))
            for key, known in self._values.items():
                self._mapped.write_value(key, *known)
        except OSError as error:
            self._do_without(error)

    def _do_without(self, error: OSError) -> None:
        """What is in the file is worse than nothing: it would stand still."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if MetricsFile.lost is None:
            words = "%s cannot be written (%s); predictions go on, and are counted in memory until it can"
            logger.error(words, self._path, error.strerror or error)
        MetricsFile.lost = str(error)

    def _let_go(self) -> None:
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()


class Renewal:
    """Looks after the files of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()

    def look(self) -> None:
        """Renew what is not whole, now and then. To be called often."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + TRY_EVERY_S
        before = MetricsFile.lost
        files = [file for file in MetricsFile.opened.values() if not file.whole]
        for file in files:
            file.renew()
        if before is not None and all(file.whole for file in files):
            MetricsFile.lost = None
            logger.warning("the files of the metrics can be written again; nothing was lost")


def use() -> None:
    """Let `prometheus_client` count in such files, named after this process and no later one of the same number."""
    from prometheus_client import values

    if values.MmapedDict is not MetricsFile:  # type: ignore[attr-defined, comparison-overlap]
        values.MmapedDict = MetricsFile  # type: ignore[attr-defined, assignment]
        if values.ValueClass is not values.MutexValue:
            values.ValueClass = values.MultiProcessValue(own_name)  # type: ignore[no-untyped-call]


def reserved() -> type:
    """Lazily, as `prometheus_client` looks at its environment when it is imported."""
    from prometheus_client.mmap_dict import _INITIAL_MMAP_SIZE, MmapedDict

    class Reserved(MmapedDict):
        """Has the room that it maps. Raises `OSError` where there is none, and is then as it was."""

        def __init__(self, path: str) -> None:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, max(os.fstat(handle).st_size, _INITIAL_MMAP_SIZE))
            finally:
                os.close(handle)
            super().__init__(path)  # type: ignore[no-untyped-call]

        def _init_value(self, key: str) -> None:
            needed = len(key.encode()) + 32
            if self._used + needed > self._capacity:
                os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            super()._init_value(key)  # type: ignore[no-untyped-call]

    return Reserved
