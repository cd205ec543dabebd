"""The end of what this process has at a port, which grpc has no calls for. In: the port. Out: its sockets are closed.

To grpc's threads, a listener has nothing more to accept, and a connection ends as if its client had ended it.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_OWN_FILES = Path("/proc/self/fd")


def stop_listening(port: int) -> None:
    """Take no more connections; those that are there stay."""
    for number, found in _sockets_at(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # A mere shutdown would be an error to grpc, which it would log, and so would a socket that does not listen
            # be to a thread that accepts just then. It closes what stands in the place later.
            with socket.socket(socket.AF_UNIX) as silent:
                # Of a name that the kernel chooses, and nobody knows.
                silent.bind("")
                silent.listen(1)
                silent.setblocking(False)
                os.dup2(silent.fileno(), number, inheritable=False)


def hang_up(port: int) -> None:
    """End all connections at once."""
    for _, found in _sockets_at(port):
        # Its client may have been faster.
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


def _sockets_at(port: int) -> Iterator[tuple[int, socket.socket]]:
    """File descriptors, and copies to look at: grpc may close one at any time, and its number then mean another."""
    for file in _OWN_FILES.iterdir():
        if file.is_socket():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                    yield int(file.name), found
