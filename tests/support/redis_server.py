"""A real redis-server for tests, on a free port, that can be killed or paused, and goes on with its data."""

import contextlib
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.server import free_port
from tests.support.waiting import wait_until
from tests.tools import needs

needs_redis = needs("redis-server")


class RedisServer:
    """Context manager; writes every change through to its disk, unless `settings` say otherwise.

    `settings` are lines of its configuration: `requirepass="word"`, `**{"rename-command": "MGET GETM"}`.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        """Without the password."""
        self._folder = folder
        self._settings = {"save": "", "appendonly": "yes", "appendfsync": "always", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what was written before; returns when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = [part for name, value in self._settings.items() for part in (f"--{name}", *value.split(" "))]
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *settings], stdout=log, stderr=log)
        wait_until(self._answers)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def pause(self) -> None:
        """It keeps its connections, accepts more, and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, password=self._settings.get("requirepass"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False
