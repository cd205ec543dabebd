"""Lambda's runtime from outside: its Runtime API, over which AWS's own client runs a function in a process of its own.

The API is that of the Lambda developer guide, "Using the Lambda runtime API": the client asks for the next invocation,
and posts its response, or its error.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import ROOT

PACKAGES = ROOT / "var" / "test" / "clients" / "lambda"
PACKAGES_PYTHON = PACKAGES / "bin" / "python"
"""Has AWS's runtime client, and Mangum; `make clients` makes it."""
needs_lambda_packages = pytest.mark.skipif(
    not PACKAGES_PYTHON.exists(), reason="needs the client of Lambda's runtime; make clients"
)
_CLIENT = ("awslambdaric", "simplejson", "snapshot_restore_py.py", "runtime_client.*")
"""What AWS's runtime has beside the function, and nothing else of that environment."""
_API = "/2018-06-01/runtime"
_PATIENCE_S = 120


class FunctionError(Exception):
    """The function ended an invocation, or its own start, with an error; `args` are its type and message."""


@dataclass
class Runtime:
    """A function that runs; one invocation at a time, as Lambda has it."""

    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    events: "queue.Queue[tuple[str, bytes]]" = field(default_factory=queue.Queue)
    ended: "queue.Queue[tuple[str, Any]]" = field(default_factory=queue.Queue)
    asked: "queue.Queue[None]" = field(default_factory=queue.Queue)
    """Told each time that the function asks for the next invocation: then it stands still."""
    timeout_s: float = 30.0
    _number: int = 0

    def invoke(self, event: Any) -> Any:
        """What the function answers. Raises `FunctionError`."""
        self.send(event)
        return self.read()

    def send(self, event: Any) -> None:
        self._number += 1
        self.events.put((f"invocation-{self._number}", json.dumps(event).encode()))

    def read(self) -> Any:
        assert self.process is not None
        until = time.monotonic() + _PATIENCE_S
        while self.ended.empty():
            # One that tells of the error of its start, and then ends, has told it by then.
            ended = self.process.poll() is not None and self.ended.empty()
            assert not ended, f"the function ended with {self.process.poll()}:\n{self.log.read_text()}"
            assert time.monotonic() < until, f"no answer:\n{self.log.read_text()}"
            time.sleep(0.001)
        kind, content = self.ended.get()
        if kind != "response":
            raise FunctionError(content["errorType"], content["errorMessage"])
        return content

    def wait_until_it_stands_still(self) -> None:
        self.asked.get(timeout=_PATIENCE_S)

    def stop_time(self) -> None:
        """Freeze it, as Lambda does between invocations."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(task: Path, folder: Path, **variables: str) -> Iterator[Runtime]:
    """Run the function in the folder `task`, with its own packages and no others; keywords are its variables.

    `folder` is where the runtime is put, and what the function has as `/tmp`.
    """
    runtime = Runtime(folder / "function.log")
    api = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(runtime))
    threading.Thread(target=api.serve_forever, daemon=True).start()
    client = folder / "runtime"
    if not client.exists():
        _copy_client(client)
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_address[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": "shokado",
        "LAMBDA_TASK_ROOT": str(task),
        "PYTHONPATH": os.pathsep.join((str(task), str(client))),
        "PATH": os.defpath,
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        **variables,
    }
    # Without site, there are no other packages.
    command = [sys.executable, "-SB", "-m", "awslambdaric", "lambda_function.lambda_handler"]
    with runtime.log.open("ab") as log:
        runtime.process = subprocess.Popen(command, cwd=task, env=environment, stdout=log, stderr=log)
    try:
        yield runtime
    finally:
        runtime.go_on()
        runtime.process.kill()
        runtime.process.wait(20)
        api.shutdown()
        api.server_close()


def _copy_client(target: Path) -> None:
    (packages,) = (PACKAGES / "lib").glob("python*/site-packages")
    target.mkdir()
    for pattern in _CLIENT:
        for path in packages.glob(pattern):
            shutil.copytree(path, target / path.name) if path.is_dir() else shutil.copy(path, target)


def _handler_of(runtime: Runtime) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == f"{_API}/invocation/next", self.path
            runtime.asked.put(None)
            name, event = runtime.events.get()
            deadline_ms = int((time.time() + runtime.timeout_s) * 1000)
            self._answer(200, event, {
                "Lambda-Runtime-Aws-Request-Id": name,
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:shokado",
                # What it would say nothing in is sent all the same: the client's native part dereferences all of these.
                "Content-Type": "application/json",
                "Lambda-Runtime-Client-Context": "{}",
                "Lambda-Runtime-Cognito-Identity": "{}",
                "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
            })  # fmt: skip

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(202, b"", {})
            runtime.ended.put((self.path.rpartition("/")[2], content))

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
