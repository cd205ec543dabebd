"""Attempts: what the workers of this machine are opening, so that a death is known to those that come after it.

A process that dies cannot say so. What it is about to open it notes before, in a file that it keeps locked and removes
after: a file without a lock is a death.
"""

import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configuration.file_lock import lock
from shokado.stores.machine import Machine

FORGET_S = 3600.0
"""Age at which all deaths count as one: what failed for want of memory is attempted again."""

logger = logging.getLogger("bentoml.shokado")
_numbers = itertools.count()


class Attempts:
    """The attempts of one machine. What is attempted has a name, of characters that a file's name may have."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def deaths(self, name: str) -> int:
        """How many processes in a row have died in it, as far as is known."""
        with suppress(OSError):
            dead = [path for path in self._noted(name) if _is_dead(path)]
            if dead:
                lately = any(abs(time.time() - path.stat().st_mtime) < FORGET_S for path in dead)
                return max(int(path.name.rsplit(".", 2)[1]) for path in dead) if lately else 1
        return 0

    @contextmanager
    def begin(self, name: str, deaths: int) -> Iterator[None]:
        """If this process dies before the context is left, there was one more death than `deaths`.

        What ends in a `TimeoutError`, because it hangs, counts as a death; any other error leaves them as they are, and
        success forgets them.
        """
        try:
            path = self._machine.folder / f"{name}.{deaths + 1}.{os.getpid()}-{next(_numbers)}"
            # It is never seen without its lock.
            unseen = path.with_name(f".{path.name}")
            file = unseen.open("xb")
            lock(file)
            unseen.rename(path)
        except OSError as error:
            logger.warning("if this process dies now, the next one will not know of what: %s", error)
            yield
            return
        with file:
            hangs = False
            try:
                yield
            except TimeoutError:
                hangs = True
                raise
            finally:
                if not hangs:
                    path.unlink(missing_ok=True)
        self._forget(name)

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            for path in self._noted(name):
                if _is_dead(path):
                    path.unlink(missing_ok=True)

    def _noted(self, name: str) -> Iterator[Path]:
        return self._machine.folder.glob(f"{name}.*-*")


def _is_dead(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return lock(file)
    except FileNotFoundError:
        return False
