"""A Redis, its replica, and a Sentinel that puts one in the other's place, all real, for tests."""

import contextlib
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.support.redis_server import RedisServer
from tests.support.server import free_port
from tests.support.waiting import wait_until

SERVICE = "routing"


class WatchedRedis:
    """Context manager: `servers` are the master and its replica; the Sentinel notices within half a second.

    With a `password`, all of them have it.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        self._folder = folder
        self._password = password
        secured = {"requirepass": password, "masterauth": password} if password else {}
        master = RedisServer(folder / "master", **secured)
        replica = RedisServer(folder / "replica", **secured, replicaof=f"127.0.0.1 {master.port}")
        self.servers = (master, replica)
        self.port = free_port()
        credentials, auth = (f":{password}@", "?sentinel_auth=yes") if password else ("", "")
        self.url = f"redis+sentinel://{credentials}127.0.0.1:{self.port}/{SERVICE}/0{auth}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def master(self) -> RedisServer:
        """The one that the Sentinel tells of."""
        with self._client() as client:
            _, port = client.sentinel_get_master_addr_by_name(SERVICE)
        (found,) = (server for server in self.servers if server.port == port)
        return found

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        master = self.master
        (found,) = (server for server in self.servers if server is not master)
        return found

    def fail_over(self) -> RedisServer:
        """Kill the master, and wait until the other one is; the killed one."""
        lost = self.master
        lost.kill()
        wait_until(lambda: self.master is not lost and self._is_master(self.master), 60)
        return lost

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        self._folder.mkdir(parents=True, exist_ok=True)
        path, (master, _) = self._folder / "sentinel.conf", self.servers
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 4000",
        ]
        if self._password:
            lines += [
                f"requirepass {self._password}",
                f"sentinel sentinel-pass {self._password}",
                f"sentinel auth-pass {SERVICE} {self._password}",
            ]
        path.write_text("\n".join([*lines, ""]))
        with (self._folder / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", str(path), "--sentinel"], stdout=log, stderr=log)
        wait_until(self._knows_the_replica, 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        for server in self.servers:
            server.kill()

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self._password or None)

    def _knows_the_replica(self) -> bool:
        with contextlib.suppress(redis.RedisError), self._client() as client:
            found = client.sentinel_slaves(SERVICE)
            return bool([one["master-link-status"] for one in found] == ["ok"])
        return False

    @staticmethod
    def _is_master(server: RedisServer) -> bool:
        with contextlib.suppress(redis.RedisError), server.client() as client:
            return bool(client.role()[0] == b"master")
        return False
