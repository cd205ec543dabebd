"""An object store that speaks S3, on this machine: moto's server, which anybody's credentials open."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.end_to_end.test_open_inference_clients import environment_of
from tests.support import http
from tests.support.server import ROOT, free_port
from tests.support.waiting import wait_until

SECRET = "nobodys-secret"


@dataclass(frozen=True)
class S3Server:
    """A running one, and the environment whose programs speak to it."""

    url: str
    bucket: str
    python: Path

    @property
    def variables(self) -> dict[str, str]:
        """By which programs find it."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def keys(self, folder: str) -> list[str]:
        """What is in a folder of the bucket, asked for without any library of Amazon's."""
        listed = http.get(f"{self.url}/{self.bucket}", params={"list-type": "2", "prefix": f"{folder}/"}, timeout=20)
        return re.findall("<Key>(.*?)</Key>", listed.text)

    def content(self, key: str) -> bytes:
        found = http.get(f"{self.url}/{self.bucket}/{key}", headers={"authorization": "AWS anybody:any"}, timeout=20)
        assert found.status_code == 200, key
        return found.content

    def run(self, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a program of Python there."""
        environment = {**os.environ, **self.variables, "COLUMNS": "200"}
        return subprocess.run(
            [str(self.python), *arguments], input=given, env=environment, capture_output=True, check=False, timeout=200
        )


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = "requests") -> Iterator[S3Server]:
    """One with a bucket; skips the test without its environment."""
    python = environment_of("sinks")
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def made() -> bool:
        assert process.poll() is None, (folder / "moto.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return http.request("PUT", f"{url}/{bucket}", timeout=20).status_code == 200
        return False

    try:
        wait_until(made, 120)
        yield S3Server(url, bucket, python)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
