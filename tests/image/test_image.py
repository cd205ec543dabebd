"""The image, built by the command that users run and started as they are told to: what it answers, what it may do,
what it takes, how it ends, and what is not in it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from runners.artefacts import repository
from shokado.access.keys import Role, add_key
from shokado.lifecycle.packaging import package_sources
from tests.end_to_end.closed_loop import load
from tests.image import podman as engine
from tests.image.podman import Container, podman, started
from tests.support import http
from tests.support.raw_http import rows_request
from tests.support.server import ROOT, ROW
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

IMAGE = "localhost/shokado-test:latest"
MEGABYTE = 1_000_000
SECRET = "an-index-that-nobody-may-know"


@dataclass(frozen=True)
class Built:
    """The image, what the command said, and what this host gave it for the build only."""

    output: str
    secrets: tuple[str, ...]
    network: str


@pytest.fixture(scope="module")
def built(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built with settings of this host's own: certificates, and a folder and an address that name themselves secret."""
    engine.check_tools()
    engine.configure()
    engine.make_base()
    network = engine.working_network()
    print(f"network: {network}")
    folder = tmp_path_factory.mktemp(SECRET)
    certificates = folder / "ca.pem"
    trusted = package_sources.of_this_host().certificates or Path("/etc/ssl/certs/ca-certificates.crt")
    certificates.write_text(f"# {SECRET}\n{trusted.read_text(encoding='utf-8')}", encoding="utf-8")
    own = {
        "PIP_CERT": str(certificates),
        "PIP_FIND_LINKS": f"{os.environ.get('PIP_FIND_LINKS', '')} {folder}".strip(),
        "PIP_TRUSTED_HOST": f"{SECRET}.invalid",
    }
    command = [sys.executable, "-m", "shokado", "image", "--engine", "podman", "--base-image", engine.BASE]
    command += ["--tag", IMAGE, *(["--network", network] if network == "host" else [])]
    finished = subprocess.run(command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    print(finished.stdout)
    return Built(finished.stdout, (SECRET, *_places_of_this_host()), network)


def _places_of_this_host() -> Iterator[str]:
    settings = package_sources.of_this_host().settings
    for name in ("index-url", "extra-index-url", "find-links"):
        yield from settings.get(name, "").split()


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A keys file that the container's user may read, and the key of an administrator in it."""
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    secret = add_key(path, "tests", Role.ADMIN)
    path.chmod(0o444)
    return path, secret


@pytest.fixture(scope="module")
def container(built: Built, admin: tuple[Path, str]) -> Iterator[Container]:
    """On one CPU with 512 MB, for tests that leave it as it was."""
    with started(IMAGE, admin[0], built.network) as running:
        yield running


@pytest.fixture
def key(admin: tuple[Path, str]) -> dict[str, str]:
    return {"X-API-Key": admin[1]}


def test_it_is_small_and_says_what_weighs_most(built: Built) -> None:
    found = re.search(r"(\d+)\.\d MB beyond its base", built.output)
    assert found
    assert int(found[1]) < 400
    assert len(re.findall(r"^ +\d+\.\d MB  /", built.output, re.MULTILINE)) == 10
    assert "site-packages/onnxruntime\n" in built.output


def test_it_has_no_tools_for_building_and_training(container: Container) -> None:
    names = ("mlflow", "sklearn", "onnx", "pandas", "pip", "locust", "nvidia")
    probe = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert container.run("/app/.venv/bin/python", "-c", probe) == "[]"
    assert container.run("sh", "-c", "for tool in gcc cc make; do command -v $tool; done; true") == ""


def test_it_is_ready_soon(built: Built, container: Container) -> None:
    """Processor time counts, which the neighbours of this machine do not lengthen; on one CPU it is a lower bound."""
    nanoseconds = container.figure("cpuacct/cpuacct.usage", "cpu.stat")
    used_s = nanoseconds[""] / 1e9 if "" in nanoseconds else nanoseconds["usage_usec"] / 1e6
    print(f"processor time until ready, and for the tests so far: {used_s:.1f} s")
    assert used_s < 10


def test_both_versions_answer_with_the_right_numbers(container: Container, key: dict[str, str]) -> None:
    for version in ("v1", "v2"):
        artefact = repository.look_up("customers", version)
        assert artefact is not None
        examples = artefact.card.examples
        body = {"instances": [list(row) for row in examples.rows], "version": version}
        answer = http.post(f"{container.url}/v1/models/predict", json=body, headers=key, timeout=20).json()
        assert answer["version"] == version
        assert answer["predictions"] == pytest.approx(list(examples.scores), abs=1e-4)


def test_it_is_healthy(container: Container) -> None:
    podman("healthcheck", "run", container.id)


def test_it_may_do_nothing_that_it_need_not(container: Container) -> None:
    assert container.run("id", "-u") == "1034"
    status = container.run("cat", "/proc/1/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    refused = "for d in / /app/.venv /home/bentoml/bento /etc; do touch $d/x 2>/dev/null && echo $d; done; true"
    assert container.run("sh", "-c", refused) == ""


def test_a_key_changes_the_split_and_nobody_else_does(built: Built, admin: tuple[Path, str]) -> None:
    key = {"X-API-Key": admin[1]}
    with started(IMAGE, admin[0], built.network) as container, httpx.Client(base_url=container.url) as client:
        change = {"v1": 0, "v2": 100}
        assert client.post("/v1/traffic-split", json=change).status_code == 401
        assert client.post("/v1/traffic-split", json=change, headers=key).status_code == 200
        answers = [client.post("/v1/models/predict", json={"instances": [ROW]}, headers=key).json() for _ in range(50)]
        assert {answer["version"] for answer in answers} == {"v2"}
        assert client.get("/readyz").json()["store"]["status"] == "ok"
        assert "customers.db" in container.run("ls", engine.STATE)


def test_it_serves_in_its_memory(built: Built, admin: tuple[Path, str]) -> None:
    """512 MB hold it with the largest requests that it takes."""
    with started(IMAGE, admin[0], built.network) as container:
        large = _with_key(rows_request(*[ROW] * 10_000), admin[1])
        small = _with_key(rows_request(), admin[1])
        with load(container, 8, lambda number: large if number % 20 == 0 else small) as clients:
            clients.wait_for_answers(100)
            held = container.figure("memory/memory.stat", "memory.stat")
        statuses = {answer.status for answer in clients.answers}
        resident = (held.get("total_rss", 0) + held.get("total_shmem", 0) or held["anon"] + held["shmem"]) / MEGABYTE
        peak = container.figure("memory/memory.max_usage_in_bytes", "memory.peak")[""] / MEGABYTE
        print(f"memory under load: {resident:.0f} MB, with cached files at most {peak:.0f} MB")
        assert statuses <= {200, 503}
        assert clients.lost == 0
        assert podman("inspect", "--format", "{{.State.OOMKilled}}", container.id) == "false"
        assert resident < 450


def test_a_stop_under_load_loses_nothing(built: Built, admin: tuple[Path, str]) -> None:
    with started(IMAGE, admin[0], built.network, SHOKADO_SHUTDOWN__PAUSE_S="2") as container:
        ask = _with_key(rows_request(), admin[1])
        with load(container, 16, lambda _: ask) as clients:
            clients.wait_for_answers(20)
            podman("kill", "--signal", "TERM", container.id)
            wait_until(lambda: http.get(f"{container.url}/readyz", timeout=5).status_code == 503, 10)
            clients.wait_for_answers(20)
            clients.join()
        assert clients.lost == 0
        assert {answer.status for answer in clients.answers} == {200}
        assert all(client.said_close for client in clients.clients)
        assert container.exit_code() == 0


def test_any_user_may_run_it(built: Built, admin: tuple[Path, str]) -> None:
    """As on platforms that give each container a user of its own."""
    with started(IMAGE, admin[0], built.network, "--user=123456:0") as container:
        body = {"instances": [ROW]}
        answer = http.post(f"{container.url}/v1/models/predict", json=body, headers={"X-API-Key": admin[1]}, timeout=20)
        assert answer.status_code == 200
        assert container.run("id", "-u") == "123456"


def test_the_archive_holds_no_secret_and_no_address_of_an_index(built: Built, tmp_path: Path) -> None:
    archive = tmp_path / "shokado.oci.tar"
    try:
        podman("save", "--quiet", "--format", "oci-archive", "--output", archive, IMAGE)
        inspected = subprocess.run(["skopeo", "inspect", f"oci-archive:{archive}"], capture_output=True, check=False)
        assert inspected.returncode == 0, inspected.stderr
        needles = [secret.encode() for secret in built.secrets]
        # The search finds what is there.
        assert _found_in(archive, [b"org.opencontainers.image.version", b"Shokado"]) == {
            b"org.opencontainers.image.version",
            b"Shokado",
        }
        assert _found_in(archive, needles) == set()
    finally:
        shutil.rmtree(tmp_path)


def _found_in(archive: Path, needles: list[bytes]) -> set[bytes]:
    """Which of the needles are in any layer, configuration or manifest of an OCI archive."""
    found: set[bytes] = set()
    overlap = max(len(needle) for needle in needles)
    with tarfile.open(archive) as blobs:
        for member in blobs:
            if (blob := blobs.extractfile(member)) is None:
                continue
            packed = blob.read(2) == b"\x1f\x8b"
            blob.seek(0)
            unpack = zlib.decompressobj(31)
            tail = b""
            while chunk := blob.read(1 << 20):
                text = tail + (unpack.decompress(chunk) if packed else chunk)
                found.update(needle for needle in needles if needle in text)
                tail = text[-overlap:]
    return found


def _with_key(request: bytes, key: str) -> bytes:
    return request.replace(b"\r\n", f"\r\nX-API-Key: {key}\r\n".encode(), 1)
