"""The machine: what the processes of one server tell each other through files, and remember when one of them dies.

Locks are the kernel's, so a process that is killed lets go of them at that moment.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from configuration.file_lock import lock
from configuration.temporary import temporary_folder

_POLL_S = 0.05
"""How soon a lock that became free is seen: waiting in the kernel would hold up the event loop."""


class Machine:
    """A folder that the processes of one server on this machine share, and that outlives them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, store: str, model: str) -> "Machine":
        """The one of the server whose store has this address; others of this machine have other folders."""
        name = hashlib.sha256(f"{store}\n{model}".encode()).hexdigest()[:16]
        return cls(temporary_folder() / f"shokado-{os.getuid()}-{name}")

    @property
    def folder(self) -> Path:
        """The folder, which is there when this returns. Raises `OSError`."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} belongs to somebody else")
        return self._folder

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Hold the lock of that name until the context is left, and tell whether it was free. Raises `OSError`."""
        with (self.folder / f"{name}.lock").open("ab") as file:
            yield lock(file)

    @asynccontextmanager
    async def turn(self, name: str, timeout_s: float) -> AsyncIterator[None]:
        """Wait for the lock of that name, and hold it. Raises `TimeoutError` and `OSError`."""
        async with asyncio.timeout(max(timeout_s, 0)):
            file = (self.folder / f"{name}.lock").open("ab")
            try:
                while not lock(file):
                    await asyncio.sleep(_POLL_S)
            except BaseException:
                file.close()
                raise
        with file:
            yield
