"""A receiver of CloudEvents: a real HTTP server that does as it is told, and keeps what it took."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What it takes, and what it answers; once its script is over, 202."""

    url: str = ""
    script: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    """Statuses and headers of the next answers; 0: none comes, until the receiver ends."""
    endless: bool = False
    """Whether a refusal's body never ends."""
    taken: list[list[dict[str, Any]]] = field(default_factory=list)
    """The batches that were answered with 202."""
    heads: list[dict[str, str]] = field(default_factory=list)
    """The headers of all posts."""
    bodies: list[bytes] = field(default_factory=list)
    """The same of their content."""
    sizes: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.taken for event in batch]

    def ids(self, kind: str) -> list[str]:
        return [event["id"] for event in self.events if event["type"].endswith(kind)]


@contextlib.contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            receiver.heads.append({name.lower(): value for name, value in self.headers.items()})
            receiver.bodies.append(content)
            receiver.sizes.append(len(content))
            status, headers = receiver.script.pop(0) if receiver.script else (202, {})
            if status == 0:
                receiver.ended.wait(60)
                return
            if status == 202:
                receiver.taken.append(json.loads(content))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if receiver.endless:
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not receiver.ended.is_set():
                        self.wfile.write(b"x" * 65536)
                return
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/events"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        server.server_close()
