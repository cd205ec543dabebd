"""Redis as its pods run it, on this machine: the StatefulSet's own command and configuration."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.k8s.cluster import Cluster, Pod
from tests.support.server import free_port
from tests.support.waiting import wait_until

PASSWORD = "0123456789abcdef"


class RunningRedis:
    """Where it listens, and its probes."""

    def __init__(self, pod: Pod) -> None:
        self.port = free_port()
        self._pod = pod

    def probe(self, name: str = "readinessProbe", password: str = PASSWORD) -> int:
        """Exit status of the command of a probe."""
        program, *arguments = self._pod.container[name]["exec"]["command"]
        command = [program, "-p", str(self.port), *arguments]
        environment = os.environ | {"REDISCLI_AUTH": password}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@contextlib.contextmanager
def running_redis(cluster: Cluster, folder: Path) -> Iterator[RunningRedis]:
    """Start it in `folder`, and stop it."""
    (pod,) = cluster.component("redis")
    ((path, text),) = cluster.configuration(pod).items()
    file = folder / "redis.conf"
    file.write_text(text.replace("dir /data", f"dir {folder}"))
    running = RunningRedis(pod)
    here = ["--port", str(running.port), "--bind", "127.0.0.1"]
    command = [part.replace(path, str(file)).replace("$(REDISCLI_AUTH)", PASSWORD) for part in pod.container["command"]]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([*command, *here], stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or running.probe() == 0)
        assert process.poll() is None, (folder / "redis.log").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(20)
