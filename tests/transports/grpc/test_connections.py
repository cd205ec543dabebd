"""Sockets at a port, of which this process ends its own, and no others."""

import os
import socket

import pytest

from shokado.transports.grpc.connections import hang_up, stop_listening


def listener(family: socket.AddressFamily, host: str) -> socket.socket:
    made = socket.socket(family)
    made.bind((host, 0))
    made.listen()
    made.settimeout(20)
    return made


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_is_at_the_port_ends_and_nothing_else(family: socket.AddressFamily, host: str) -> None:
    with listener(family, host) as ending, listener(family, host) as staying:
        address = ending.getsockname()
        with (
            socket.create_connection(address[:2]) as client,
            ending.accept()[0] as accepted,
            socket.create_connection(staying.getsockname()[:2]) as other,
            staying.accept()[0] as other_accepted,
        ):
            stop_listening(address[1])
            with socket.socket(family) as late:
                assert late.connect_ex(address) != 0
            with pytest.raises(BlockingIOError):
                # A thread that is about to accept finds that there is nobody, which is no error.
                socket.socket(fileno=os.dup(ending.fileno())).accept()
            accepted.sendall(b"last words")
            hang_up(address[1])
            client.settimeout(20)
            assert client.recv(100) == b"last words"
            assert client.recv(100) == b"", "the connection has ended"
            other_accepted.sendall(b"still here")
            assert other.recv(100) == b"still here"
            with socket.create_connection(staying.getsockname()[:2]):
                staying.accept()[0].close()


def test_a_port_at_which_nothing_is() -> None:
    with listener(socket.AF_INET, "127.0.0.1") as gone:
        port = gone.getsockname()[1]
    stop_listening(port)
    hang_up(port)
