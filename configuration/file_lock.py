"""Locks of files, which are the kernel's: a process that is killed lets go of them at that moment."""

import fcntl
from typing import IO


def lock(file: IO[bytes], *, shared: bool = False) -> bool:
    """Lock an open file, unless somebody has; the lock lasts until it is closed. `shared` ones may be several."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
