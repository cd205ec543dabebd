"""Small files with secrets in them, whose content may change while the server runs."""

import errno
import os
import stat
from pathlib import Path


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """The file's content, up to `max_bytes`. Raises `OSError`, as for what is no regular file.

    Opening a named pipe would wait for somebody to write into it, and reading one, or a device, for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(max_bytes)
