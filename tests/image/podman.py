"""Podman for the tests of the image, on a host without a registry: its configuration, a base image that is made from
Debian's packages, and containers that run as hardened as they are meant to."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.server import ROOT, free_port
from tests.support.waiting import wait_until

FOLDER = ROOT / "var" / "test" / "image"
BASE = "localhost/shokado-test-base:bookworm"
TOOLS = ("podman", "runc", "iptables", "mmdebstrap", "skopeo")
PACKAGES = "podman runc netavark iptables mmdebstrap skopeo"
KEYS = "/run/secrets/shokado/keys.yaml"
HARDENED = ("--cpus=1", "--memory=512m", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
STATE = "/var/lib/shokado"


def check_tools() -> None:
    """Fail with the command that helps where something is missing."""
    if os.geteuid() != 0:
        pytest.fail("the image is tested with podman as root: sudo make test-image", pytrace=False)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"needs {', '.join(missing)}; on Debian: apt-get install {PACKAGES}", pytrace=False)


def configure(folder: Path = FOLDER) -> None:
    """Make podman use runc, as crun refuses cgroups of both kinds at once, and ask for no more than the host allows."""
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 16_384)
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 4_096)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(
        "[containers]\n"
        f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        "[engine]\n"
        'runtime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        "[network]\n"
        'network_backend = "netavark"\n',
        encoding="utf-8",
    )
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")


def podman(*arguments: str | Path) -> str:
    """What the command prints. It must end well."""
    finished = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"podman {' '.join(map(str, arguments))}:\n{finished.stderr}"
    return finished.stdout.strip()


def make_base() -> None:
    """A minimal Debian with its Python, unless an earlier run made it."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0:
        return
    bootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    with subprocess.Popen([*bootstrap, "bookworm", "-"], stdout=subprocess.PIPE) as debian:
        subprocess.run(["podman", "import", "--quiet", "-", BASE], stdin=debian.stdout, check=True)
    assert debian.returncode == 0


def working_network() -> str:
    """`bridge`, or `host` on a kernel that has no bridges or no address translation."""
    command = ["podman", "run", "--rm", "-p", f"127.0.0.1:{free_port()}:3000", BASE, "true"]
    return "host" if subprocess.run(command, capture_output=True, check=False).returncode else "bridge"


@dataclass
class Container:
    """A running container, whose port 3000 is at `port` of this host."""

    id: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def run(self, *command: str) -> str:
        """What a command prints in it."""
        return podman("exec", self.id, *command)

    def figure(self, *names: str) -> dict[str, int]:
        """The figures of its cgroup in the first of these files that there is, by name; a lone one is called `""`."""
        for name in names:
            # Its own cgroup is the root of what it sees.
            path = f"/sys/fs/cgroup/{name}"
            found = subprocess.run(
                ["podman", "exec", self.id, "cat", path], capture_output=True, text=True, check=False
            )
            if found.returncode == 0:
                pairs = (line.split() for line in found.stdout.splitlines())
                return {" ".join(words[:-1]): int(words[-1]) for words in pairs}
        raise AssertionError(f"no {' or '.join(names)}")

    def ready(self) -> bool:
        assert self.running(), podman("logs", self.id)
        with contextlib.suppress(httpx.TransportError):
            return http.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    def running(self) -> bool:
        return podman("inspect", "--format", "{{.State.Running}}", self.id) == "true"

    def exit_code(self) -> int:
        wait_until(lambda: not self.running())
        return int(podman("inspect", "--format", "{{.State.ExitCode}}", self.id))


@contextlib.contextmanager
def started(image: str, keys: Path, network: str, *options: str, **environment: str) -> Iterator[Container]:
    """A container of the image, hardened, its state in memory; ready when the context begins, removed at its end."""
    port = free_port()
    began = time.monotonic()
    settings: Mapping[str, str] = {"SHOKADO_ACCESS__KEYS_FILE": KEYS, **environment}
    if network == "host":
        settings = {"BENTOML_HOST": "127.0.0.1", "BENTOML_PORT": str(port), **settings}
    container = Container(
        podman(
            "run",
            "--detach",
            *HARDENED,
            f"--tmpfs={STATE}",
            "--tmpfs=/tmp",
            f"--volume={keys}:{KEYS}:ro",
            *([f"--publish=127.0.0.1:{port}:3000"] if network == "bridge" else ["--network=host"]),
            *(f"--env={name}={value}" for name, value in settings.items()),
            *options,
            image,
        ),
        port,
    )
    try:
        wait_until(container.ready, 60)
        print(f"ready {time.monotonic() - began:.1f} s after its start")
        yield container
    finally:
        podman("rm", "--force", "--volumes", "--time=0", container.id)
