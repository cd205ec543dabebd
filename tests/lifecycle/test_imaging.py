"""Which engine is taken, what it is asked for, and what is said when it fails. What it builds: tests/image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shokado import __version__
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.importing.version import Imported
from shokado.lifecycle.packaging import imaging
from shokado.lifecycle.packaging.imaging import ContainerEngine, Image, ImagePart
from tests.support.server import ROOT


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_first_engine_that_works_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", "exit 1")  # a client without its daemon
    program(tmp_path, "podman", "exit 0")
    program(tmp_path, "buildah", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert imaging.find_engine() is ContainerEngine.PODMAN
    assert imaging.find_engine(ContainerEngine.BUILDAH) is ContainerEngine.BUILDAH
    with pytest.raises(LifecycleError, match="docker is not installed, or its daemon does not run"):
        imaging.find_engine(ContainerEngine.DOCKER)


def test_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LifecycleError, match="docker, podman or buildah is needed") as caught:
        imaging.find_engine()
    assert caught.value.next_command == "apt-get install podman"


def test_the_sum_of_the_parts_and_the_largest() -> None:
    image = Image(
        "shokado:1", ContainerEngine.BUILDAH, 10, (ImagePart("/b", 7), ImagePart("/c", 5), ImagePart("/a", 1))
    )
    assert image.own_bytes == 13
    assert image.largest(2) == (ImagePart("/b", 7), ImagePart("/c", 5))
    assert image.command().startswith("podman run --rm --read-only")


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(ContainerEngine))
def test_an_engine_that_fails_is_quoted(engine: ContainerEngine, prepared: dict[str, Imported], tmp_path: Path) -> None:
    """And it was asked for the image with what the build may see, as far as it can show it."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    program(
        tmp_path / "bin",
        engine,
        'test "$1" = version && echo 28.2.2 && exit 0\n'
        f'printf "%s\\n" "$@" > {tmp_path}/arguments\n'
        'for argument; do case "$argument" in id=pip.conf,src=*) cp "${argument#id=pip.conf,src=}" '
        f"{tmp_path}/pip.conf;; esac; done\n"
        "echo no space left on device >&2\nexit 125",
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("UV_")},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PIP_FIND_LINKS": f"{wheels} https://wheels.invalid/",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "shokado", "image", "--engine", engine, "--base-image", "base:1", "-t", "made:2"]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 1, finished.stderr
    assert f"{engine} did not build made:2" in finished.stderr
    assert "Traceback" not in finished.stderr
    # Docker writes to the terminal itself.
    assert "no space left on device" in finished.stderr
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "BASE_IMAGE=base:1" in arguments
    assert "made:2" in arguments
    assert f"org.opencontainers.image.version={__version__}" in arguments
    configuration = (tmp_path / "pip.conf").read_text()
    assert "https://wheels.invalid/" in configuration
    mountable = engine is not ContainerEngine.DOCKER
    assert (f"{wheels}:{wheels}:ro" in arguments) == mountable
    assert (str(wheels) in configuration) == mountable
    assert ("docker" in arguments) == mountable  # the format that has health checks
